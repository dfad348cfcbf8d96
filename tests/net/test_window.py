"""Credit that grows by measured round trip."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from rpcstream.core.streams import Stream, StreamKey
from rpcstream.limits import MIB, Limits
from rpcstream.net.window import CreditBudget, Window
from tests.net.files_program import Fetch
from tests.net.pair_case import PairTestCase

ROUND_TRIP_SECONDS = 0.05


class LatencyTests(PairTestCase):
    """A long way between the two, as wide as the line may be."""

    def setUp(self) -> None:
        super().setUp()
        self.files.files["disk"] = bytes(192 * MIB)
        # What is on the way is bounded by credit alone.
        self.pair.server_transport.BUFFER_BYTES = 1 << 30

    def _far(self, seconds: float = ROUND_TRIP_SECONDS) -> Any:
        stream = self.download()
        self.pair.set_path(latency_seconds=seconds)
        self.started = self.pair.clock.seconds()
        return stream

    def _round_trips(self) -> float:
        return (self.pair.clock.seconds() - self.started) / ROUND_TRIP_SECONDS

    def test_grows(self) -> None:
        """192 MiB with 4 MiB of credit take 48 round trips at least; the window grows to its limit."""
        stream = self._far()
        data = self.pair.result_of(stream.read(limit_bytes=1 << 30))
        self.assertEqual(len(data), 192 * MIB)
        self.assertEqual(stream.core_stream.receive_window, 12 * MIB)
        self.assertLess(self._round_trips(), 24)

    def test_no_latency(self) -> None:
        """Where the way is short, credit stays what it was."""
        stream = self._far(0.0)
        self.pair.result_of(stream.read(limit_bytes=1 << 30))
        self.assertEqual(stream.core_stream.receive_window, 4 * MIB)

    def test_paused_consumer(self) -> None:
        """A reader that stops gets no more than its credit, however long the sender waits for it."""
        stream = self._far()
        self.pair.pump()
        self.pair.result_of(stream.next_piece())
        self.pair.pump()
        self.assertEqual(stream.core_stream.receive_window, 4 * MIB)
        self.assertLessEqual(stream.core_stream.received_bytes, 4 * MIB + 256 * 1024)
        stream.abort()

    def test_slow_consumer(self) -> None:
        """Nor does one that is slower than the line, although the sender waits for credit all the time."""
        stream = self._far()
        taken = 0
        while taken < 32 * MIB:
            self.pair.pump()
            for _ in range(8):
                taken += len(self.pair.result_of(stream.next_piece()))
        self.assertEqual(stream.core_stream.receive_window, 4 * MIB)
        stream.abort()

    def test_consumer_slows_down(self) -> None:
        """What has grown bounds what is held for a reader that stops later."""
        stream = self._far()
        taken = 0
        while taken < 128 * MIB:
            taken += len(self.pair.result_of(stream.next_piece()))
        for _ in range(10):
            self.pair.pump()
        held = stream.core_stream.received_bytes - taken
        self.assertLessEqual(held, stream.core_stream.receive_window)
        self.assertLessEqual(stream.core_stream.receive_window, 12 * MIB)
        stream.abort()

    def test_two_streams(self) -> None:
        """Each stream has a window of its own."""
        fast = self._far()
        slow = self.pair.result_of(self.pair.client.open(Fetch("disk")))
        self.pair.result_of(fast.read(limit_bytes=1 << 30))
        self.assertEqual(fast.core_stream.receive_window, 12 * MIB)
        self.assertEqual(slow.core_stream.receive_window, 4 * MIB)
        slow.abort()


class WindowTests(SynchronousTestCase):
    """The rule by itself: a window of 4 MiB, of which half goes back at a time."""

    def setUp(self) -> None:
        self.budget = CreditBudget()
        self.window = self._window()

    def _window(self, **limits: int) -> Window:
        self.stream = Stream(StreamKey(1, 1, 1, 1), opener=True, sparse=False, receive_window=4 * MIB)
        return Window(self.stream, Limits(**limits), self.budget)

    def _take(self, byte_count: int, now: float, is_drained: bool = True) -> int:
        credit: Any = self.stream.receive_credit
        self.assertTrue(credit.take_data(byte_count - 28))
        return self.window.growth(is_drained, now)

    def _give(self, byte_count: int, now: float) -> None:
        credit: Any = self.stream.receive_credit
        edge = self.window.edge
        if credit.consumed(byte_count):
            self.window.granted(edge, now)

    def _round(self, *, left: int = 0, waits: float = 1.0, is_drained: bool = True) -> int:
        """Half of the window and a little more, a grant, the rest but C{left}, then what needed the grant."""
        self._take(3 * MIB, 10.0)
        self._give(3 * MIB - 28, 10.0)
        self._take(1 * MIB - left, 11.0 - waits)
        return self._take(MIB + left, 11.0, is_drained)

    def test_used_up(self) -> None:
        """The sender had nothing left and waited: twice as much."""
        self.assertEqual(self._round(), 4 * MIB)

    def test_not_used_up(self) -> None:
        """It had credit left: it waited for something else."""
        self.assertEqual(self._round(left=64 * 1024), 0)

    def test_did_not_wait(self) -> None:
        """The grant came in time."""
        self.assertEqual(self._round(waits=0.125), 0)

    def test_waited_a_quarter(self) -> None:
        """A quarter of the round trip is enough."""
        self.assertEqual(self._round(waits=0.25), 4 * MIB)

    def test_not_drained(self) -> None:
        """The consumer had not taken what was there."""
        self.assertEqual(self._round(is_drained=False), 0)

    def test_largest(self) -> None:
        """Not past the limit."""
        self.window = self._window(largest_credit_bytes=6 * MIB)
        self.assertEqual(self._round(), 2 * MIB)

    def test_at_largest(self) -> None:
        """Nor at it."""
        self.window = self._window(largest_credit_bytes=4 * MIB)
        self.assertEqual(self._round(), 0)

    def test_budget(self) -> None:
        """The first window is given always, a wider one while the process has credit for all of it."""
        self.budget.granted_bytes = 0
        for budget_bytes, more in ((8 * MIB - 1, 0), (8 * MIB, 4 * MIB)):
            self.window = self._window(credit_budget_bytes=budget_bytes)
            self.assertEqual(self._round(), more)
            self.assertEqual(self.budget.granted_bytes, 4 * MIB + more)
            self.window.close()
            self.assertEqual(self.budget.granted_bytes, 0)

    def test_no_credit(self) -> None:
        """With a stock peer there is nothing to watch."""
        self.stream = Stream(StreamKey(1, 1, 1, 1), opener=True, sparse=False)
        window = Window(self.stream, Limits(), self.budget)
        self.assertEqual((window.edge, window.growth(True, 1.0)), (0, 0))
