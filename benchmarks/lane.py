"""
The exclusive lane alone: C{python benchmarks/lane.py [--runs 5] [--size 1G] [--place DIR]...}.

In one run, as medians of ratios within rounds: against a bare blocking pyOpenSSL
loop and against the shared lane, memory to memory, and file to file in each
C{--place} (by default a file system in memory and one on a disk).
"""

from __future__ import annotations

import argparse
import os
import sys
import tempfile
from pathlib import Path
from statistics import median

ROOT = Path(__file__).resolve().parent.parent
# Not this directory, whose modules would hide others of the same name.
sys.path[0] = str(ROOT)

from benchmarks.bare import TLSFiles, TLSFilesDigested, TLSFilesUnsynced, TLSLoop  # noqa: E402
from benchmarks.groups import GROUPS, Group  # noqa: E402
from benchmarks.ours import Exclusive, Send, Shared, destination  # noqa: E402
from benchmarks.pairs import Result, run_group  # noqa: E402
from benchmarks.work import Contestant  # noqa: E402
from benchmarks.workplace import Workplace  # noqa: E402
from rpcstream.units import parse_size  # noqa: E402


class _SharedMemory(Shared):
    groups = ("memory-worker",)
    is_ours = False

    def prepare(self) -> None:
        self.group = "memory-shared"  # a directory of its own
        super().prepare()


class _SharedFiles(Send):
    """The same command, to a destination that has lanes switched off."""

    name = "rpcstream send, shared lane"
    is_ours = False

    def prepare(self) -> None:
        config = self.place.folder / "shared.toml"
        config.write_text("[limits]\nexclusive_lanes = 0\n")
        self.store = self.place.folder / "store-shared"
        self.url = destination(self.place, self.stack, self.store, True, "--config", str(config))


def _group(name: str) -> Group:
    return next(group for group in GROUPS if group.name == name)


def _rate(result: Result) -> float:
    return median(each.rate for each in result.samples) / 2**20


def _print(results: list[Result], where: str) -> None:
    ours = results[0]
    if ours.problem:
        print(f"{where}: {ours.problem}")
        return
    print(f"{where}: {ours.name}: {_rate(ours):.0f} MiB/s")
    for other in results[1:]:
        if other.problem:
            print(f"    {other.name}: {other.problem}")
        else:
            low, high = min(other.ratios), max(other.ratios)
            print(
                f"    {median(other.ratios):.2f} x {other.name} "
                f"({_rate(other):.0f} MiB/s; {low:.2f} to {high:.2f})"
            )


def main() -> int:
    """Print the ratios."""
    parser = argparse.ArgumentParser(description="The exclusive lane against a bare loop.")
    parser.add_argument("--runs", type=int, default=5)
    parser.add_argument("--size", default="1G")
    parser.add_argument("--place", action="append")
    options = parser.parse_args()
    size = parse_size(options.size)
    memory: tuple[type[Contestant], ...] = (Exclusive, TLSLoop, _SharedMemory)
    files: tuple[type[Contestant], ...] = (Send, TLSFiles, TLSFilesUnsynced, TLSFilesDigested, _SharedFiles)
    for number, where in enumerate(options.place or ("/dev/shm", tempfile.gettempdir())):
        tempfile.tempdir = where
        place = Workplace(size, 0)
        try:
            if not number:
                _print(run_group(_group("memory-worker"), memory, place, options.runs), "memory to memory")
            _print(run_group(_group("files-tls"), files, place, options.runs), f"file to file in {where}")
        finally:
            place.close()
    print(f"load average before the last run: {os.getloadavg()[0]:.1f}, processors: {os.cpu_count()}")
    return 0


if __name__ == "__main__":
    sys.exit(main())
