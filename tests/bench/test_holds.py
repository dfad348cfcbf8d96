"""
How long the reactor was held: what is planted is seen, and nothing else.
"""

from __future__ import annotations

import os
import time
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock, deferLater
from twisted.trial.unittest import SynchronousTestCase, TestCase

from rpcstream.bench import holds
from rpcstream.bench.holds import Holds, holds_wanted, read_report, worst_of


def _sleep_in_the_reactor(seconds: float) -> None:
    time.sleep(seconds)


class CountingTests(SynchronousTestCase):
    """With a clock of its own: what the figures are made of."""

    def setUp(self) -> None:
        self.now_ns = 1_000_000_000
        self.patch(holds.time, "perf_counter_ns", lambda: self.now_ns)
        self.scheduled = (0, 0)
        self.patch(holds._Schedule, "ns", lambda schedule: self.scheduled)
        self.clock = Clock()
        self.holds = Holds(self.clock)
        self.holds.start()
        self.addCleanup(self.holds.stop)

    def turn(self, milliseconds: int, processor_ms: int = 0, waited_ms: int = 0) -> None:
        """The reactor comes to its next tick after so long."""
        self.now_ns += milliseconds * 1_000_000
        ran, waited = self.scheduled
        self.scheduled = ran + processor_ms * 1_000_000, waited + waited_ms * 1_000_000
        self.clock.advance(milliseconds / 1000)

    def test_idle(self) -> None:
        """Ticks in time are no holds."""
        for _ in range(20):
            self.turn(5)
        report = self.holds.report()
        self.assertEqual((report.longest_seconds, report.over_count, report.tick_count), (0.005, 0, 20))

    def test_limit(self) -> None:
        """Up to the limit, and past it."""
        self.turn(20)
        self.assertEqual(self.holds.report().over_count, 0)
        self.turn(21)
        self.assertEqual(self.holds.report().over_count, 1)
        self.assertEqual(self.holds.report().longest_seconds, 0.021)

    def test_taken(self) -> None:
        """What the kernel gave to others meanwhile is subtracted, and told."""
        self.turn(50, processor_ms=8, waited_ms=40)
        self.turn(5, processor_ms=5)
        report = self.holds.report()
        self.assertEqual((report.longest_seconds, report.processor_seconds), (0.010, 0.008))
        self.assertEqual((report.taken_seconds, report.over_count), (0.040, 0))

    def test_stop(self) -> None:
        """What holds it when the looking ends counts; then nothing ticks any more."""
        self.now_ns += 30_000_000
        self.holds.stop()
        self.holds.stop()
        self.assertEqual(self.holds.report().over_count, 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_worst(self) -> None:
        """Several reports as one; those in which nothing was looked at do not count."""
        self.turn(30, processor_ms=7)
        first = self.holds.report().fields()
        second = {
            **first,
            "longest_hold_ms": 90.0,
            "processor_ms": 1.0,
            "causes": [{"where": "x", "count": 3}],
        }
        nothing = {**second, "tick_count": 0, "longest_hold_ms": 900.0}
        worst = worst_of([first, second, nothing])
        self.assertIsNone(worst_of([nothing]))
        self.assertEqual(worst and (worst["longest_hold_ms"], worst["processor_ms"]), (90.0, 1.0))
        self.assertEqual(worst and worst["over_count"], 2)
        self.assertEqual(worst and worst["causes"][0], {"where": "x", "count": 3})

    def test_file(self) -> None:
        """A report as a file, and none."""
        path = Path(self.mktemp())
        self.assertIsNone(read_report(path))
        self.turn(30)
        self.holds.write(path)
        found = read_report(path)
        self.assertEqual(found and found["longest_hold_ms"], 30.0)

    def test_switch(self) -> None:
        """The environment switches it off."""
        self.assertTrue(holds_wanted())
        self.patch(os, "environ", {**os.environ, "RPCSTREAM_BENCH_HOLDS": "0"})
        self.assertFalse(holds_wanted())


class ReactorTests(TestCase):
    """With the real reactor, thread and kernel."""

    async def test_planted(self) -> None:
        """A hold is seen in its length, and with what ran in it."""
        clock: Any = reactor
        found = Holds(clock)
        with found.watched():
            clock.callLater(0, _sleep_in_the_reactor, 0.3)
            await deferLater(clock, 0.01)
        report = found.report()
        self.assertGreaterEqual(report.longest_seconds, 0.3)
        self.assertLess(report.processor_seconds, 0.3)
        self.assertGreaterEqual(report.over_count, 1)
        self.assertIn("_sleep_in_the_reactor", " ".join(where for where, _ in report.causes))

    async def test_short(self) -> None:
        """One of 50 ms is too long already."""
        clock: Any = reactor
        found = Holds(clock)
        with found.watched():
            clock.callLater(0, _sleep_in_the_reactor, 0.05)
            await deferLater(clock, 0.01)
        self.assertGreaterEqual(found.report().longest_seconds, 0.05)
        self.assertGreaterEqual(found.report().over_count, 1)

    async def test_idle(self) -> None:
        """An idle reactor is not held; a busy machine may disturb, but not each of twenty times."""
        clock: Any = reactor

        async def look() -> bool:
            found = Holds(clock)
            with found.watched():
                await deferLater(clock, 0.06)
            report = found.report()
            self.assertGreater(report.tick_count, 0)
            return report.over_count == 0 and report.longest_seconds < 0.020

        for _ in range(20):
            if await Deferred.fromCoroutine(look()):
                return
        self.fail("held in each of twenty tries")
