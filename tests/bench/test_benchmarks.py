"""
benchmarks/: turns, ratios, and the table.  Not in the wheel, so only where the sources are.
"""

from __future__ import annotations

import importlib.util
import json
import sys
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any, ClassVar
from unittest import TestCase, skipUnless

IS_HERE = importlib.util.find_spec("benchmarks") is not None

if IS_HERE:
    from benchmarks.alone import NAMES
    from benchmarks.costs import answer
    from benchmarks.groups import Group
    from benchmarks.growth import quarters, text_of
    from benchmarks.page import PEERS, begin_mark, end_mark, peers, rewrite, targets
    from benchmarks.pairs import run_group
    from benchmarks.targets import TARGETS, verdicts
    from benchmarks.work import Contestant, Sample, needs

    TURNS: list[str] = []

    class Ours(Contestant):
        name, groups, is_ours = "ours", ("g",), True

        def run(self) -> Sample:
            TURNS.append(self.name)
            for longest in (3.0, 12.0):
                self.held("sends", {
                    "longest_hold_ms": longest, "processor_ms": 1.0, "taken_ms": 0.0, "over_count": 0,
                    "tick_count": 9, "causes": [],
                })  # fmt: skip
            return Sample(100, 1.0, 2.0)

    class Peer(Contestant):
        name, groups, note = "peer", ("g",), "does less"

        def run(self) -> Sample:
            TURNS.append(self.name)
            return Sample(100, None, 4.0)

    class Absent(Peer):
        name = "absent"

        def missing(self) -> str | None:
            return needs("python:json", "sh", "no-such-program")

    class Broken(Peer):
        name = "broken"
        closed: ClassVar[list[bool]] = []

        def prepare(self) -> None:
            self.stack.callback(self.closed.append, True)

        def run(self) -> Sample:
            raise ValueError("first\nlast line")


def costs_results() -> dict[str, Any]:
    """As C{rpcstream bench} tells them, in round figures."""
    seconds = {
        "wall time": 2.0, "processor time, both ends": 1.0, "framing": 0.1, "encryption": 0.4,
        "system calls: sockets": 0.1, "system calls: files": 0.1, "digest, both ends": 0.1,
        "Python, Twisted and the rest": 0.2, "file I/O, wall": 1.0, "context switches, voluntary": 0.01,
        "context switches, involuntary": 0.01, "idle waiting, both ends": 3.0,
    }  # fmt: skip
    rows = [
        {"what": what, "seconds_per_gib": found, "how": "h",
         "count_per_gib": 1000 if what.startswith("context") else None}
        for what, found in seconds.items()
    ]  # fmt: skip
    runs = [{"what": "w", "seconds_per_gib": found} for found in (0.5, 1.0, 2.0)]
    modes = [
        {"tls": True, "round_trip_ms": trip, "mode": mode, "bytes_per_second": (1 << 30) / took}
        for trip, mode, took in ((0, "stream", 1.0), (0, "call per 64 KiB", 2.0),
                                 (10, "stream", 1.0), (10, "call per 64 KiB", 10.0))
    ]  # fmt: skip
    lanes = [{"lane": name, "rows": rows, "runs": runs} for name in ("shared", "exclusive")]
    return {"costs": {"method": "m", "lanes": lanes}, "modes": {"rows": modes}}


@skipUnless(IS_HERE, "there is no benchmarks/ beside this package")
class BenchmarksTests(TestCase):
    MACHINE: ClassVar[dict[str, Any]] = {
        "processor": "p", "cores": 2, "memory_bytes": 1 << 30, "kernel": "k", "python": "3", "openssl": "o",
        "twisted": "t", "load": 5.0, "date": "2000-01-01", "peers": "none",
    }  # fmt: skip

    def results(self) -> list[Any]:
        place: Any = None
        with redirect_stderr(StringIO()):
            return run_group(Group("g", "work"), [Ours, Peer, Absent, Broken], place, 2)

    def test_turns(self) -> None:
        """Rounds go forwards and backwards, after one that does not count; ratios are paired."""
        TURNS.clear()
        ours, peer, absent, broken = self.results()
        self.assertEqual(TURNS, ["peer", "ours", "ours", "peer", "peer", "ours"])
        self.assertEqual((len(ours.samples), len(peer.samples)), (2, 2))
        self.assertEqual((peer.ratios, peer.wall_ratios), ([4, 4], [2, 2]))
        self.assertEqual(absent.problem, "not measured: not installed: no-such-program")
        self.assertEqual(broken.problem, "not measured: failed: last line")
        self.assertEqual(Broken.closed[-1:], [True])

    def run_of(self, results: list[Any]) -> dict[str, Any]:
        """As run.py writes it to its JSON."""
        return {
            "machine": self.MACHINE, "size": 1 << 30, "calls": 1000, "runs": 2, "seconds": 60.0,
            "place": "ext4",
            "groups": json.loads(json.dumps([each.row() for each in results])), "alone": {}, "bench": None,
        }  # fmt: skip

    def test_page(self) -> None:
        """Between the marks everything is new, nobody is missing, and a busy machine is called so."""
        page = Path(self.id())
        self.addCleanup(page.unlink)
        page.write_text(f"head\n{begin_mark(PEERS)}\nof before\n{end_mark(PEERS)}\nfoot\n")
        run = self.run_of(self.results())
        rewrite(page, PEERS, peers(run))
        rewrite(page, PEERS, peers(run))
        text = page.read_text()
        self.assertTrue(text.startswith("head\n") and text.endswith("foot\n"))
        self.assertEqual(text.count(begin_mark(PEERS)), 1)
        self.assertNotIn("of before", text)
        for part in ("**ours**", "peer", "absent", "not measured: not installed", "12 ms (sends)"):
            self.assertIn(part, text)
        for part in ("busy machine", "--runs 5", "12.0 ms"):
            self.assertIn(part, targets(run))
        quiet = {**run, "machine": {**self.MACHINE, "load": 0.1}}
        self.assertNotIn("busy", targets(quiet))
        page.write_text("no marks")
        self.assertRaises(ValueError, rewrite, page, PEERS, "")

    def test_verdicts(self) -> None:
        """Met, short by how much and never rounded up, and not measured: each is said to be so."""
        rows = [
            {"group": group, "name": name, "title": "t", "is_ours": False, "problem": problem,
             "ratios": ratios, "wall_ratios": ratios, "holds": []}
            for group, name, problem, ratios in (
                ("calls-one", "Twisted AMP", "", [1.4, 1.5, 1.6]),
                ("calls-many", "Twisted AMP", "", [3.99, 3.99, 9.0]),
                ("files-tls", "scp", "not measured: failed: x", []),
            )
        ]  # fmt: skip
        narrow = {
            "group": "files-narrow",
            "name": "n",
            "title": "t",
            "is_ours": True,
            "problem": "",
            "holds": [],
        }
        rows.append({**narrow, "samples": [{"amount": 190_000_000, "seconds": 1.0, "wall_seconds": 9.0}]})
        alone = {
            "load": {"p99s_ms": [50.0, None], "keeps": [0.9], "holds": [{"longest_hold_ms": 7.0}]},
            "memory-idle": {"bytes_per_connection": 1024},
            "memory-transfer": {"rows": [{"growth_bytes": {"sender": 1, "receiver": 64 << 20}}]},
            "stream-0": {"problem": "not measured: failed: y"},
            "stream-10": {"ratios": {"exclusive": [49.0, 50.0, 99.0], "shared": [25.0]}},
        }
        found = {
            target.figure: verdict
            for target, _, verdict in verdicts({"groups": rows, "alone": alone, "bench": None})
        }
        self.assertEqual(found["calls-one/Twisted AMP"], "met")
        self.assertEqual(found["calls-many/Twisted AMP"], "**0.99 of the target**")
        self.assertEqual(found["files-tls/scp"], "not measured: failed: x")
        self.assertEqual(found["rate/files-narrow"], "**0.50 of the target**")
        self.assertEqual(found["load-p99"], "**0.50 of the target**")
        self.assertEqual((found["load-keeps"], found["memory-idle"], found["holds"]), ("met",) * 3)
        self.assertEqual(found["memory-transfer"], "**0.50 of the target**")
        self.assertEqual(found["stream-0-shared"], "not measured: failed: y")
        self.assertEqual(found["stream-10-exclusive"], "met")
        self.assertEqual(found["stream-10-shared"], "**0.50 of the target**")
        self.assertEqual(found["memory-spool"], "not measured in this run")

    def test_targets_are_measured(self) -> None:
        """Every target looks at something that a run measures."""
        contestants = {f"{group}/{each.name}" for each in self.contestants() for group in each.groups}
        lanes = {f"stream-{trip}-{lane}" for trip in (0, 10) for lane in ("exclusive", "shared")}
        alone = {"load-p99", "load-keeps", "holds", *NAMES, *lanes}
        # Measured where it is worked on.
        elsewhere = {"rate/files-narrow"}
        self.assertEqual({each.figure for each in TARGETS} - contestants - alone - elsewhere, set())

    @staticmethod
    def contestants() -> Any:
        first = sys.path[0]
        try:
            from benchmarks.run import CONTESTANTS
        finally:
            sys.path[0] = first
        return CONTESTANTS

    def test_answer(self) -> None:
        """The question is answered with the figures of the run; without them it is said so."""
        run = {**self.run_of([]), "bench": costs_results()}
        text = answer(run)
        for part in (
            "encryption 40%",
            "encoding 10%",
            "16,384",
            "9.00 s with a round trip of 10 ms",
            "benchmarks.png",
        ):
            self.assertIn(part, text)
        self.assertIn("Not measured", answer(self.run_of([])))
        self.assertIn("broken", answer({**run, "bench": {"problem": "broken"}}))

    def test_growth(self) -> None:
        """The rate of each quarter, from words of progress that come when they come."""
        even = [(0.0, 0), (1.0, 400), (1.5, 600), (4.0, 1600)]
        self.assertEqual([round(rate) for rate in quarters(even, 1600)], [400] * 4)
        slow = [(0.0, 0), (3.0, 1200), (5.0, 1600)]
        self.assertEqual([round(rate) for rate in quarters(slow, 1600)], [400, 400, 400, 200])
        self.assertRaises(ValueError, quarters, [(0.0, 0), (1.0, 400)], 1600)
        text = text_of(
            {
                "sparse": {
                    "size": 1 << 30, "data_bytes": 1 << 20,
                    "rows": [{"what": "data alone", "seconds": 1.0, "ratio": 1.0},
                             {"what": "data in front", "seconds": 2.0, "ratio": 2.0}],
                },
                "long": {"problem": "no room"},
            }
        )  # fmt: skip
        for part in ("met", "**missed**", "Not measured (long): no room"):
            self.assertIn(part, text)

    def test_all_have_groups(self) -> None:
        """Every contestant takes part in a group there is, and every group has one of ours."""
        first = sys.path[0]
        try:
            from benchmarks.run import GROUPS, _chosen
        finally:
            sys.path[0] = first
        names = {group.name for group in GROUPS}
        for each in self.contestants():
            self.assertLessEqual(set(each.groups), names)
        for classes in _chosen([]).values():
            self.assertEqual([each.is_ours for each in classes].count(True), 1)
        only_scp = {group.name: [each.name for each in found] for group, found in _chosen(["scp"]).items()}
        self.assertEqual(only_scp["files-tls"], ["rpcstream send", "scp"])
        self.assertEqual([name for name, found in only_scp.items() if found], ["files-tls"])
