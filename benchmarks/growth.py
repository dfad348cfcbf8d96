"""
How cost grows: C{python benchmarks/growth.py [sparse] [long] [counts] [--runs 5] [--json FILE]}.

C{sparse}: a file of 100 GiB with 1 GiB of data against that data alone, as paired
ratios.  C{long}: 20 GiB of random data, and whether the last quarter goes slower
than the first; needs 40 GiB of disk.  C{counts}: 1 to 256 streams, and sizes from
1 MiB to 100 GiB.  Everything is sent as every file is: digest, journal, fsync.
Rewrites its part of docs/benchmarks.rst unless C{--no-docs} is given.
"""

from __future__ import annotations

import argparse
import json
import os
import shutil
import sys
from collections.abc import Callable
from contextlib import ExitStack
from itertools import pairwise
from pathlib import Path
from statistics import median
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
# Not this directory, whose modules would hide others of the same name.
sys.path[0] = str(ROOT)

from benchmarks.ours import destination, send_command  # noqa: E402
from benchmarks.page import BUSY_LOAD, GROWTH, list_table, rewrite  # noqa: E402
from benchmarks.workplace import Workplace  # noqa: E402
from rpcstream.bench.files import make_file  # noqa: E402
from rpcstream.bench.machine import machine  # noqa: E402
from rpcstream.limits import GIB, MIB  # noqa: E402
from rpcstream.storage.reading import digest_file  # noqa: E402
from rpcstream.units import format_rate, format_size, parse_size  # noqa: E402

PAGE = ROOT / "docs" / "benchmarks.rst"
PARTS = ("sparse", "long", "counts")
SPARE_BYTES = 4 * GIB
"""Left free on the disk beside what is needed."""
MOST_RATIO = 1.3
LEAST_LAST_QUARTER = 0.9
"""Below that, the last quarter counts as slower: runs of the same vary by about as much."""
PIECE_BYTES = 4 * MIB
MOST_SECONDS = 3600.0


class NoRoom(Exception):
    """The disk is too small for it."""


class _Place:
    """A destination, a directory for sources, and the room for both."""

    def __init__(self, needed_bytes: int) -> None:
        self._stack = ExitStack()
        self.place = Workplace(1, 0)
        self._stack.callback(self.place.close)
        free = shutil.disk_usage(self.place.folder).free
        if free < needed_bytes + SPARE_BYTES:
            self._stack.close()
            raise NoRoom(
                f"{format_size(needed_bytes + SPARE_BYTES)} are needed, {format_size(free)} are free"
            )
        self.store = self.place.folder / "store"
        self.url = destination(self.place, self._stack, self.store, is_tls=True)

    def send(self, path: Path, *, shows_progress: bool = False) -> list[dict[str, Any]]:
        """
        Send one file, compare what was stored, and remove that.

        @return: what the command told.
        """
        os.sync()
        words = send_command(self.place, path, self.url + path.name, shows_progress=shows_progress)
        _, printed = self.place.timed(words, most_seconds=MOST_SECONDS)
        told: list[dict[str, Any]] = [json.loads(line) for line in printed.splitlines()]
        stored = self.store / path.name
        digest = digest_file(stored).hex()
        stored.unlink()
        if told[-1]["digest"] != digest:
            raise ValueError(f"{path.name}: the digests of both ends differ")
        return told

    def __enter__(self) -> _Place:
        return self

    def __exit__(self, *exception: object) -> None:
        self._stack.close()


def spread(path: Path, data_bytes: int, size: int, piece_bytes: int = PIECE_BYTES) -> Path:
    """A sparse file whose random data is in many places, evenly."""
    count = max(1, data_bytes // piece_bytes)
    step = size // count // piece_bytes * piece_bytes
    with path.open("wb") as file:
        for number in range(count):
            file.seek(number * step)
            file.write(os.urandom(piece_bytes))
        file.truncate(size)
        file.flush()
        os.fsync(file.fileno())
    return path


def sparse(options: argparse.Namespace) -> dict[str, Any]:
    """The sparse ones against the same data alone."""
    data, size = parse_size(options.data), parse_size(options.sparse_size)
    with _Place(6 * data) as here:
        folder = here.place.folder
        sources = {
            "alone": make_file(folder / "alone", data),
            "in front": make_file(folder / "front", data, size),
            "in 4 MiB pieces all over": spread(folder / "spread", data, size),
            "in 1 MiB pieces all over": spread(folder / "fine", data, size, MIB),
        }
        seconds: dict[str, list[float]] = {name: [] for name in sources}
        for number in range(-1, options.runs):
            for name in list(sources) if number % 2 else reversed(list(sources)):
                took = here.send(sources[name])[-1]["seconds"]
                if number >= 0:
                    seconds[name].append(took)
                sys.stderr.write(f"  sparse {number + 1}/{options.runs}: {name}: {took:.2f} s\n")
    rows = [
        {
            "what": f"data {name}",
            "seconds": median(took),
            "ratio": median(one / alone for one, alone in zip(took, seconds["alone"], strict=True)),
            "samples": took,
        }
        for name, took in seconds.items()
    ]
    return {"size": size, "data_bytes": data, "rows": rows}


def long(options: argparse.Namespace) -> dict[str, Any]:
    """One long file: the rate of each quarter of what was sent, by the sender's own progress."""
    size = parse_size(options.long_size)
    with _Place(2 * size) as here:
        source = make_file(here.place.folder / "long", size)
        told = here.send(source, shows_progress=True)
    points = [(0.0, 0)] + [(each["seconds"], each["bytes"]) for each in told if each["event"] == "progress"]
    rates = quarters(points, size)
    return {
        "size": size,
        "seconds": told[-1]["seconds"],
        "bytes_per_second_by_quarter": rates,
        "last_to_first": rates[-1] / rates[0],
    }


def quarters(points: list[tuple[float, int]], size: int) -> list[float]:
    """
    The rate within each quarter.

    @param points: seconds and bytes, ascending; those between are interpolated.
    """

    def when(byte_count: float) -> float:
        for (early, few), (late, many) in pairwise(points):
            if many >= byte_count and many > few:
                return early + (late - early) * (byte_count - few) / (many - few)
        return points[-1][0]

    # What follows the last word of progress is not known; it is less than a second.
    last = points[-1][1]
    if last < size * 0.75:
        raise ValueError("too short a transfer: its progress was not told often enough")
    marks = [when(last * number / 4) for number in range(5)]
    return [last / 4 / (end - begin) for begin, end in pairwise(marks)]


def counts(options: argparse.Namespace) -> dict[str, Any]:
    """Streams and sizes, by the memory part of C{rpcstream bench}."""
    place = Workplace(1, 0)
    try:
        words = ("growth", "quick" if options.quick else "full")
        return place.timed_python("benchmarks.alone_end", *words, most_seconds=MOST_SECONDS)[1]
    finally:
        place.close()


def _sparse_lines(found: dict[str, Any]) -> list[str]:
    title = f"{format_size(found['size'])} sparse, of which {format_size(found['data_bytes'])} are data"
    rows = [
        (
            each["what"],
            f"{each['seconds']:.2f} s",
            f"{each['ratio']:.2f}",
            _verdict(each["ratio"] <= MOST_RATIO),
        )
        for each in found["rows"]
    ]
    head = ("what", "median", "÷ the data alone", f"at most {MOST_RATIO}")
    return list_table(title, head, rows)


def _long_lines(found: dict[str, Any]) -> list[str]:
    rates = [format_rate(rate) for rate in found["bytes_per_second_by_quarter"]]
    head = ("first quarter", "second", "third", "last", "last ÷ first", f"at least {LEAST_LAST_QUARTER}")
    verdict = _verdict(found["last_to_first"] >= LEAST_LAST_QUARTER)
    title = f"{format_size(found['size'])} of random data, {found['seconds']:.0f} s"
    return list_table(title, head, [(*rates, f"{found['last_to_first']:.2f}", verdict)])


def _counts_lines(found: dict[str, Any]) -> list[str]:
    streams = [
        (str(each["streams"]), format_rate(each["bytes_per_second"]), format_size(each["growth_bytes"]))
        for each in found["streams"]
    ]
    sizes = [
        (format_size(each["size"]), format_size(each["data_bytes"]), f"{each['seconds']:.3f} s",
         f"{each['processor_seconds']:.3f} s", format_size(each["growth_bytes"]))
        for each in found["sizes"]
    ]  # fmt: skip
    return [
        *list_table("Streams at once", ("streams", "rate of all", "memory of the server"), streams),
        *list_table(
            "Sizes", ("sparse size", "data", "time", "processor time", "memory of the server"), sizes
        ),
    ]


def _verdict(is_met: bool) -> str:
    return "met" if is_met else "**missed**"


_LINES: dict[str, Callable[[dict[str, Any]], list[str]]] = {
    "sparse": _sparse_lines, "long": _long_lines, "counts": _counts_lines,
}  # fmt: skip
_MEASURES: dict[str, Callable[[argparse.Namespace], dict[str, Any]]] = {
    "sparse": sparse, "long": long, "counts": counts,
}  # fmt: skip


def text_of(results: dict[str, Any]) -> str:
    """The part of the page."""
    lines: list[str] = []
    about = results.get("machine")
    if about:
        busy = " **on a busy machine**" if about["load"] > BUSY_LOAD * about["cores"] else ""
        text = f"{about['processor']}, {about['cores']} cores, {about['kernel']}; load {about['load']} before"
        lines += [f"Measured on {about['date']}{busy}: {text}.", ""]
    for name in PARTS:
        found = results.get(name)
        if found is not None:
            lines += (
                [f"Not measured ({name}): {found['problem']}.", ""]
                if "problem" in found
                else _LINES[name](found)
            )
    return "\n".join(lines)


def main(words: list[str] | None = None) -> int:
    """@return: the exit status: 1 if anything failed."""
    parser = argparse.ArgumentParser(description="How cost grows with size and number.")
    parser.add_argument(
        "parts", nargs="*", metavar="PART", help=f"of {', '.join(PARTS)}; all of them if none is named"
    )
    parser.add_argument("--runs", type=int, default=5, help="rounds of the sparse part (5)")
    parser.add_argument("--data", default="1G", help="data in the sparse file (1G)")
    parser.add_argument("--sparse-size", default="100G", help="size of the sparse file (100G)")
    parser.add_argument("--long-size", default="20G", help="size of the long file (20G)")
    parser.add_argument("--quick", action="store_true", help="fewer counts and sizes")
    parser.add_argument(
        "--json", type=Path, help="write the results to this file, too, as soon as there are any"
    )
    parser.add_argument(
        "--from", dest="given", type=Path, help="measure nothing, take the results of this file"
    )
    parser.add_argument("--no-docs", action="store_true", help="leave docs/benchmarks.rst alone")
    options = parser.parse_args(words)
    unknown = set(options.parts) - set(PARTS)
    if unknown:
        parser.error(f"there is no part {', '.join(sorted(unknown))}")
    results: dict[str, Any] = json.loads(options.given.read_text("utf-8")) if options.given else {}
    results.setdefault("machine", machine())
    failed = False
    for name in () if options.given else options.parts or PARTS:
        try:
            results[name] = _MEASURES[name](options)
        except Exception as error:
            failed = True
            results[name] = {"problem": str(error) or type(error).__name__}
            sys.stderr.write(f"{name}: {results[name]['problem']}\n")
        if options.json is not None:
            options.json.write_text(json.dumps(results, indent=1), "utf-8")
    text = text_of(results)
    print(text)
    if not options.no_docs:
        rewrite(PAGE, GROWTH, text)
    return int(failed)


if __name__ == "__main__":
    sys.exit(main())
