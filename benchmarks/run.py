"""
Run all benchmarks: C{python benchmarks/run.py [--only NAME]... [--runs 5]}.

The same work by rpcstream and its peers, what has no peer, and C{rpcstream bench}, all in one run;
prints the tables, and rewrites docs/benchmarks.rst and its picture unless C{--only} or C{--no-docs}
is given.  Whatever fails is told in its place, and the rest goes on.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import time
import traceback
from pathlib import Path
from typing import Any

ROOT = Path(__file__).resolve().parent.parent
# Not this directory, whose modules would hide others of the same name.
sys.path[0] = str(ROOT)

from benchmarks.alone import NAMES, measure_alone  # noqa: E402
from benchmarks.amp_peer import AMP  # noqa: E402
from benchmarks.bare import BARE  # noqa: E402
from benchmarks.costs import answer, draw_picture  # noqa: E402
from benchmarks.groups import GROUPS, Group  # noqa: E402
from benchmarks.grpc_peer import GRPC  # noqa: E402
from benchmarks.libvirt_peer import LIBVIRT  # noqa: E402
from benchmarks.nbd_peer import NBD  # noqa: E402
from benchmarks.ours import OURS  # noqa: E402
from benchmarks.page import COSTS, PEERS, TARGETS, peers, rewrite, targets  # noqa: E402
from benchmarks.pairs import run_group  # noqa: E402
from benchmarks.ssh_peer import SSH  # noqa: E402
from benchmarks.versions import peer_versions  # noqa: E402
from benchmarks.work import Contestant  # noqa: E402
from benchmarks.workplace import Workplace, environment, file_system  # noqa: E402
from rpcstream.bench.machine import machine  # noqa: E402
from rpcstream.units import parse_size  # noqa: E402

PAGE = ROOT / "docs" / "benchmarks.rst"
PICTURE = ROOT / "docs" / "benchmarks.png"
BENCH_SECONDS = 1200.0
CONTESTANTS: tuple[type[Contestant], ...] = (*OURS, *BARE, *SSH, *NBD, *LIBVIRT, *GRPC, *AMP)


def _chosen(only: list[str]) -> dict[Group, list[type[Contestant]]]:
    """
    Who takes part in what.

    @param only: groups, or parts of the names of peers, which meet ours then; empty for all.
    """
    chosen: dict[Group, list[type[Contestant]]] = {}
    for group in GROUPS:
        here = [each for each in CONTESTANTS if group.name in each.groups]
        if only and group.name not in only:
            named = [each for each in here if any(word.lower() in each.name.lower() for word in only)]
            here = [each for each in here if named and (each.is_ours or each in named)]
        chosen[group] = here
    return chosen


def _bench(how: str) -> dict[str, Any]:
    """C{rpcstream bench}, in a process of its own: its results, or C{problem}."""
    sys.stderr.write(f"  rpcstream bench, {how}\n")
    command = (sys.executable, "-P", "-m", "rpcstream.cli.main", "bench", "--json")
    try:
        done = subprocess.run(
            [*command, *(["--quick"] if how == "quick" else [])], capture_output=True, env=environment(),
            timeout=BENCH_SECONDS, check=False,
        )  # fmt: skip
        last: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    except (OSError, ValueError, IndexError, subprocess.SubprocessError) as error:
        return {"problem": f"not measured: {type(error).__name__}: {str(error)[:160]}"}
    return last if last["event"] == "done" else {"problem": f"not measured: {last.get('message')}"}


class _Run:
    """
    One run, written down after each part.

    @ivar found: all that the page is made of.
    """

    def __init__(self, options: argparse.Namespace) -> None:
        self._options = options
        self._started = time.monotonic()
        self.found: dict[str, Any] = {
            "machine": {**machine(), "peers": ""},
            "size": parse_size(options.size),
            "calls": options.calls,
            "runs": options.runs,
            "seconds": 0.0,
            "place": "unknown",
            "groups": [],
            "alone": {},
            "bench": None,
        }

    def measure(self, chosen: dict[Group, list[type[Contestant]]]) -> None:
        """Everything that was asked for."""
        options, only = self._options, self._options.only or []
        self.found["machine"]["peers"] = _guarded(peer_versions) or "not known"
        place = Workplace(self.found["size"], options.calls)
        self.found["place"] = _guarded(lambda: file_system(place.folder.resolve())) or "unknown"
        try:
            for group, classes in chosen.items():
                if classes:
                    results = _guarded(lambda g=group, c=classes: run_group(g, c, place, options.runs)) or []
                    self.found["groups"] += [each.row() for each in results]
                    self._keep()
            for name in NAMES:
                if not only or name in only:
                    self.found["alone"][name] = measure_alone(name, place, options.runs)
                    self._keep()
        finally:
            place.close()
        if options.bench != "none" and (not only or "bench" in only):
            self.found["bench"] = _bench(options.bench)
            self._keep()

    def _keep(self) -> None:
        self.found["seconds"] = time.monotonic() - self._started
        if self._options.json is not None:
            self._options.json.write_text(json.dumps(self.found, indent=1), "utf-8")


def _guarded(work: Any) -> Any:
    """What goes wrong is told, and nothing else is lost."""
    try:
        return work()
    except Exception:
        traceback.print_exc()
        return None


def _tell(run: dict[str, Any], *, writes_docs: bool) -> None:
    """Print the parts of the page, and put them there."""
    for name, make in ((TARGETS, targets), (COSTS, answer), (PEERS, peers)):
        text = _guarded(lambda make=make: make(run))
        if text:
            print(text)
            if writes_docs:
                _guarded(lambda name=name, text=text: rewrite(PAGE, name, text))
    if writes_docs:
        _guarded(lambda: draw_picture(run, PICTURE))


def _failures(run: dict[str, Any]) -> int:
    parts = [*run["groups"], *run["alone"].values(), run["bench"] or {}]
    return sum("failed" in (each.get("problem") or "") for each in parts)


def main(words: list[str] | None = None) -> int:
    """
    @return: the exit status: 1 if anything that is installed could not be measured.
    """
    parser = argparse.ArgumentParser(description="The same work done by rpcstream and by its peers.")
    names = ", ".join([*(group.name for group in GROUPS), *NAMES, "bench"])
    parser.add_argument(
        "--only", action="append", metavar="NAME", help=f"a part ({names}) or a peer; may be repeated"
    )
    parser.add_argument("--runs", type=int, default=5, help="rounds, of which the medians count (5)")
    parser.add_argument("--size", default="1G", help="how much is moved (1G)")
    parser.add_argument("--calls", type=int, default=20_000, help="how many calls are made (20000)")
    parser.add_argument(
        "--bench",
        choices=("full", "quick", "none"),
        default="full",
        help="how much of rpcstream bench (full)",
    )
    parser.add_argument("--no-holds", action="store_true", help="do not look at how long reactors are held")
    parser.add_argument("--json", type=Path, help="write everything to this file, too, part by part")
    parser.add_argument(
        "--from", dest="given", type=Path, help="measure nothing: make the page of such a file"
    )
    parser.add_argument("--no-docs", action="store_true", help="leave docs/benchmarks.rst alone")
    options = parser.parse_args(words)
    if options.no_holds:
        os.environ["RPCSTREAM_BENCH_HOLDS"] = "0"
    if options.given is not None:
        found: dict[str, Any] = json.loads(options.given.read_text("utf-8"))
    else:
        own = {*NAMES, "bench"}
        peers_only = [word for word in options.only or [] if word not in own]
        chosen = _chosen(peers_only) if peers_only or not options.only else {}
        if not any(chosen.values()) and not set(options.only or []) & own:
            parser.error(f"--only: nothing is called {' or '.join(options.only)}")
        run = _Run(options)
        run.measure(chosen)
        found = run.found
    _tell(found, writes_docs=not options.no_docs and not options.only)
    return int(_failures(found) > 0)


if __name__ == "__main__":
    sys.exit(main())
