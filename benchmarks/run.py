"""
Run all benchmarks against peers: C{python benchmarks/run.py [--only NAME]... [--runs 5]}.

Prints the table, and rewrites it in docs/benchmarks.rst unless C{--only} or C{--no-docs} is given.
"""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
# Not this directory, whose modules would hide others of the same name.
sys.path[0] = str(ROOT)

from benchmarks.amp_peer import AMP  # noqa: E402
from benchmarks.bare import BARE  # noqa: E402
from benchmarks.groups import GROUPS, Group  # noqa: E402
from benchmarks.grpc_peer import GRPC  # noqa: E402
from benchmarks.libvirt_peer import LIBVIRT  # noqa: E402
from benchmarks.nbd_peer import NBD  # noqa: E402
from benchmarks.ours import OURS  # noqa: E402
from benchmarks.page import rewrite, table  # noqa: E402
from benchmarks.pairs import Result, run_group  # noqa: E402
from benchmarks.ssh_peer import SSH  # noqa: E402
from benchmarks.versions import peer_versions  # noqa: E402
from benchmarks.work import Contestant  # noqa: E402
from benchmarks.workplace import Workplace  # noqa: E402
from rpcstream.bench.machine import machine  # noqa: E402
from rpcstream.units import parse_size  # noqa: E402

PAGE = ROOT / "docs" / "benchmarks.rst"
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


def main(words: list[str] | None = None) -> int:
    """
    @return: the exit status: 1 if anything that is installed could not be measured.
    """
    parser = argparse.ArgumentParser(description="The same work done by rpcstream and by its peers.")
    names = ", ".join(group.name for group in GROUPS)
    parser.add_argument(
        "--only", action="append", metavar="NAME", help=f"a group ({names}) or a peer; may be repeated"
    )
    parser.add_argument("--runs", type=int, default=5, help="rounds, of which the medians count (5)")
    parser.add_argument("--size", default="1G", help="how much is moved (1G)")
    parser.add_argument("--calls", type=int, default=20_000, help="how many calls are made (20000)")
    parser.add_argument("--json", type=Path, help="write all samples to this file, too")
    parser.add_argument("--no-docs", action="store_true", help="leave docs/benchmarks.rst alone")
    options = parser.parse_args(words)
    chosen = _chosen(options.only or [])
    if not any(chosen.values()):
        parser.error(f"--only: nothing is called {' or '.join(options.only)}")
    about = machine()
    place = Workplace(parse_size(options.size), options.calls)
    results: list[Result] = []
    try:
        for group in GROUPS:
            results += run_group(group, chosen[group], place, options.runs)
    finally:
        place.close()
    about["peers"] = peer_versions()
    text = table(results, about, place.size, place.call_count, options.runs)
    print(text)
    if options.json is not None:
        rows = [{**asdict(each), "group": each.group.name} for each in results]
        options.json.write_text(json.dumps({"machine": about, "size": place.size, "results": rows}, indent=1))
    if not options.only and not options.no_docs:
        rewrite(PAGE, text)
    return int(any("failed" in each.problem for each in results))


if __name__ == "__main__":
    sys.exit(main())
