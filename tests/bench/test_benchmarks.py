"""
benchmarks/: turns, ratios, and the table.  Not in the wheel, so only where the sources are.
"""

from __future__ import annotations

import importlib.util
import sys
from contextlib import redirect_stderr
from io import StringIO
from pathlib import Path
from typing import Any, ClassVar
from unittest import TestCase, skipUnless

IS_HERE = importlib.util.find_spec("benchmarks") is not None

if IS_HERE:
    from benchmarks.groups import Group
    from benchmarks.page import BEGIN, END, rewrite, table
    from benchmarks.pairs import run_group
    from benchmarks.work import Contestant, Sample, needs

    TURNS: list[str] = []

    class Ours(Contestant):
        name, groups, is_ours = "ours", ("g",), True

        def run(self) -> Sample:
            TURNS.append(self.name)
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

    def test_page(self) -> None:
        """Between the marks everything is new, nobody is missing, and a busy machine is called so."""
        page = Path(self.id())
        self.addCleanup(page.unlink)
        page.write_text(f"head\n{BEGIN}\nold\n{END}\nfoot\n")
        rewrite(page, table(self.results(), self.MACHINE, 1 << 30, 1000, 2))
        text = page.read_text()
        self.assertTrue(text.startswith("head\n") and text.endswith("foot\n"))
        self.assertNotIn("old", text)
        for part in ("**ours**", "peer", "absent", "not measured: not installed", "busy machine", "--runs 5"):
            self.assertIn(part, text)
        self.assertNotIn("busy", table([], {**self.MACHINE, "load": 0.1}, 1, 1, 5))
        page.write_text("no marks")
        self.assertRaises(ValueError, rewrite, page, "")

    def test_all_have_groups(self) -> None:
        """Every contestant takes part in a group there is, and every group has one of ours."""
        first = sys.path[0]
        try:
            from benchmarks.run import CONTESTANTS, GROUPS, _chosen
        finally:
            sys.path[0] = first
        names = {group.name for group in GROUPS}
        for each in CONTESTANTS:
            self.assertLessEqual(set(each.groups), names)
        for classes in _chosen([]).values():
            self.assertEqual([each.is_ours for each in classes].count(True), 1)
        only_scp = {group.name: [each.name for each in found] for group, found in _chosen(["scp"]).items()}
        self.assertEqual(only_scp["files-tls"], ["rpcstream send", "scp"])
        self.assertEqual([name for name, found in only_scp.items() if found], ["files-tls"])
