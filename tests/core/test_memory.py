"""What is remembered of ended streams, and how PINGs are metered."""

from __future__ import annotations

from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from rpcstream.core.ended import EndedStreams
from rpcstream.core.flood import PingMeter
from rpcstream.errors import RPCFailed
from rpcstream.limits import DEFAULT_LIMITS

from .support import Clock


class EndedStreamsTests(SynchronousTestCase):
    """A bounded memory."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.ended = EndedStreams(
            replace(DEFAULT_LIMITS, ended_stream_seconds=60.0, ended_streams=3), self.clock
        )

    def test_time(self) -> None:
        """Remembered for exactly so long."""
        self.ended.add(1)
        self.clock.now += 60.0
        self.assertIsNotNone(self.ended.get(1))
        self.clock.now += 0.001
        self.assertIsNone(self.ended.get(1))

    def test_in_time(self) -> None:
        """What is remembered to the very second is not removed in that second."""
        self.ended.add(1)
        self.clock.now += 60.0
        self.ended.add(2)
        self.assertIsNotNone(self.ended.get(1))

    def test_pause(self) -> None:
        """The time in which we do not read does not count."""
        self.ended.add(1)
        self.clock.now += 3600.0
        self.ended.add_pause(3600.0)
        self.assertIsNotNone(self.ended.get(1))

    def test_count(self) -> None:
        """n are remembered, the n+1st replaces the oldest."""
        for serial in range(3):
            self.ended.add(serial)
        self.assertIsNotNone(self.ended.get(0))
        self.ended.add(3)
        self.assertIsNone(self.ended.get(0))
        self.assertIsNotNone(self.ended.get(1))
        self.assertEqual(len(self.ended), 3)

    def test_old_ones_leave(self) -> None:
        """Adding removes what has become old; adding again renews."""
        self.ended.add(1)
        self.clock.now += 61.0
        self.ended.add(2)
        self.assertEqual(len(self.ended), 1)
        self.clock.now += 30.0
        self.ended.add(2)
        self.clock.now += 31.0
        self.assertIsNotNone(self.ended.get(2))

    def test_error_is_cut(self) -> None:
        """Only a little of the error is kept."""
        self.ended.add(1, RPCFailed("x" * 5000))
        entry = self.ended.get(1)
        assert entry is not None and entry.error is not None
        self.assertEqual((entry.error[0], len(entry.error[1])), (39, 256))

    def test_forget(self) -> None:
        """A serial used again is no longer over."""
        self.ended.add(1)
        self.ended.forget(1)
        self.ended.forget(2)
        self.assertIsNone(self.ended.get(1))


class PingMeterTests(SynchronousTestCase):
    """Three strikes."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.meter = PingMeter(replace(DEFAULT_LIMITS, ping_burst_count=20), self.clock)

    def burst(self, count: int) -> bool:
        return [self.meter.flooded_by_ping() for _ in range(count)][-1]

    def test_limits_in_one_second(self) -> None:
        """Twenty are no strike, twenty-one are; the third strike is a flood."""
        self.assertFalse(self.burst(62))
        self.assertTrue(self.burst(1))

    def test_three_seconds(self) -> None:
        """Three seconds with 21 each are a flood; with 20 each they never are."""
        for flooded in (False, False, True):
            self.assertEqual(self.burst(21), flooded)
            self.clock.now += 1.0
        self.setUp()
        for _ in range(50):
            self.assertFalse(self.burst(20))
            self.clock.now += 1.0

    def test_strikes_are_cleared(self) -> None:
        """A second without a strike between them, and they count anew."""
        for _ in range(5):
            self.assertFalse(self.burst(42))
            self.clock.now += 1.0
            self.assertFalse(self.burst(1))
            self.clock.now += 1.0

    def test_silence_clears(self) -> None:
        """Two strikes, then two seconds of silence, then two strikes: no flood."""
        self.assertFalse(self.burst(42))
        self.clock.now += 2.0
        self.assertFalse(self.burst(42))

    def test_backlog_of_a_pause(self) -> None:
        """An hour of unread keepalive comes at once, and is no flood; a day's worth is."""
        self.clock.now += 3600.0
        self.assertFalse(self.burst(720))
        self.clock.now += 86400.0
        self.assertTrue(self.burst(17280))
