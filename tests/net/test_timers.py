"""Keepalive, deadlines of calls and rate limits, with a clock that is told what time it is."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from rpcstream.errors import DeadlineExceeded
from rpcstream.net.keepalive import Keepalive
from rpcstream.net.pacing import Pace, TokenBucket
from rpcstream.net.pending import PendingCall, PendingCalls
from rpcstream.testing import ConnectedPair
from tests.net.files_program import FileServer, Size, Sleep


class KeepaliveTests(SynchronousTestCase):
    """PING after 5 s of silence, five of them, death after 30."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.activity = 0
        self.reading = True
        self.pings: list[float] = []
        self.deaths: list[float] = []
        self.keepalive = Keepalive(
            self.clock,
            5.0,
            5,
            activity=lambda: self.activity,
            is_reading=lambda: self.reading,
            send_ping=lambda: self.pings.append(self.clock.seconds()),
            dead=self.deaths.append,
        )
        self.keepalive.start()
        self.keepalive.start()

    def pass_time(self, seconds: int) -> None:
        for _ in range(seconds):
            self.clock.advance(1)

    def test_silence(self) -> None:
        """Pings at 5, 10, 15, 20, 25; dead at 30."""
        self.pass_time(100)
        self.assertEqual(self.pings, [5, 10, 15, 20, 25])
        self.assertEqual(self.deaths, [30.0])

    def test_any_message_is_life(self) -> None:
        """No ping while something comes often enough; a late answer resets the count."""
        for _ in range(10):
            self.activity += 1
            self.pass_time(4)
        self.assertEqual(self.pings, [])
        self.pass_time(25)
        self.assertEqual(len(self.pings), 5)
        self.activity += 1
        self.pass_time(28)
        self.assertEqual((len(self.pings), self.deaths), (10, []))

    def test_death_is_never_late(self) -> None:
        """Whenever the last message came, death comes within 30 s of it."""
        self.pass_time(7)
        self.clock.advance(0.1)
        self.activity += 1
        self.pass_time(28)
        self.assertEqual(self.deaths, [])
        self.pass_time(2)
        self.assertEqual(len(self.deaths), 1)

    def test_while_we_do_not_read(self) -> None:
        """Pings go on, no death is found; it is once we read again."""
        self.reading = False
        self.pass_time(300)
        self.assertEqual((len(self.pings), self.deaths), (60, []))
        self.reading = True
        self.pass_time(29)
        self.assertEqual(self.deaths, [])
        self.pass_time(2)
        self.assertEqual(len(self.deaths), 1)

    def test_stop(self) -> None:
        """Nothing after it; it may be stopped by its own ping, and started again."""
        self.keepalive.stop()
        self.keepalive.stop()
        self.pass_time(100)
        self.assertEqual((self.pings, self.clock.getDelayedCalls()), ([], []))
        self.keepalive._send_ping = self.keepalive.stop  # type: ignore[method-assign]
        self.keepalive.start()
        self.pass_time(100)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_both_ends(self) -> None:
        """Two ends that say nothing keep each other alive for a day; one that hears nothing ends."""
        pair = ConnectedPair(FileServer())
        for _ in range(2000):
            pair.clock.advance(1)
            pair.pump()
        self.assertFalse(pair.client.when_closed().called)
        pair.server_transport.peer = None  # what the server says gets lost from now on
        for _ in range(40):
            pair.clock.advance(1)
            pair.client_transport.deliver(1 << 20, None)
        self.assertIn("keepalive", self.successResultOf(pair.client.when_closed()))


class PendingTests(SynchronousTestCase):
    """One timer for all deadlines."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.expired: list[int] = []
        self.pending = PendingCalls(self.clock, lambda serial, call, error: self.expired.append(serial))
        self.deferreds: dict[int, Deferred[Any]] = {}

    def add(self, serial: int, deadline: float | None) -> None:
        deferred: Deferred[Any] = Deferred()
        self.deferreds[serial] = deferred
        seconds = deadline or 0.0
        self.pending.add(serial, PendingCall(Size.__procedure__, deferred, None, deadline, seconds))

    def test_in_order_of_deadlines(self) -> None:
        """Each fails at its time, whatever the order of adding; those without one never."""
        for serial, deadline in ((1, 30.0), (2, 10.0), (3, 20.0), (4, None), (5, 10.0)):
            self.add(serial, deadline)
            self.assertLessEqual(len(self.clock.getDelayedCalls()), 1)
        found = []
        for _ in range(40):
            self.clock.advance(1)
            found += [(self.clock.seconds(), serial) for serial in self.expired]
            self.expired.clear()
        self.assertEqual(found, [(10, 2), (10, 5), (20, 3), (30, 1)])
        error = self.failureResultOf(self.deferreds[2], DeadlineExceeded).value
        self.assertEqual((error.seconds, str(error)), (10.0, "Size: no answer within 10 s"))
        for serial in (1, 3, 5):
            self.failureResultOf(self.deferreds[serial], DeadlineExceeded)
        self.assertNoResult(self.deferreds[4])
        self.assertEqual(len(self.pending), 1)

    def test_answered_and_cleared(self) -> None:
        """What was taken out does not expire; clearing stops the timer."""
        self.add(1, 10.0)
        self.assertIs(self.pending.pop(1).deferred, self.deferreds[1])  # type: ignore[union-attr]
        self.assertIsNone(self.pending.pop(1))
        self.clock.advance(10)
        self.add(2, 30.0)
        self.assertEqual([call.deferred for call in self.pending.clear()], [self.deferreds[2]])
        self.assertEqual(self.pending.clear(), [])
        self.assertEqual((self.clock.getDelayedCalls(), self.expired), ([], []))

    def test_a_callback_takes_others_out(self) -> None:
        """What one failure leads to may take out what would have expired with it, or add."""
        self.add(1, 10.0)
        self.add(2, 10.0)
        self.add(3, 10.0)

        def errback(_: object) -> None:
            self.pending.pop(2)
            self.add(9, 15.0)

        self.deferreds[1].addErrback(errback)
        self.deferreds[3].addErrback(lambda _: None)
        self.clock.advance(10)
        self.assertEqual(self.expired, [1, 3])
        self.assertNoResult(self.deferreds[2])
        self.deferreds[9].addErrback(lambda _: None)
        self.clock.advance(5)
        self.assertEqual(self.expired, [1, 3, 9])

    def test_reply_and_cancel_crossing(self) -> None:
        """Whichever comes first counts, the other does nothing; every order, one result each."""
        for cancel_first in (True, False):
            files = FileServer()
            pair = ConnectedPair(files)
            call = pair.client.call(Sleep())
            results: list[object] = []
            call.addBoth(results.append)
            pair.client_transport.deliver(1 << 20, None)
            if cancel_first:
                call.cancel()
                files.sleeping[0].callback(None)
            else:
                files.sleeping[0].callback(None)
                call.cancel()
            pair.pump()
            self.assertEqual(len(results), 1)
            self.assertEqual(pair.client.link.core.pending_call_count, 0)
            self.assertEqual(pair.server._running.running_count, 0)
            self.assertEqual(pair.client.link.core.dropped_count, 0)


class TokenBucketTests(SynchronousTestCase):
    """The average holds, a burst is a quarter second's worth."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.bucket = TokenBucket(1000.0, self.clock.seconds)

    def test_burst(self) -> None:
        """250 bytes at once, then as fast as time passes."""
        self.assertEqual(self.bucket.wait_seconds(), 0)
        self.bucket.spend(250)
        self.assertGreater(self.bucket.wait_seconds(), 0)
        self.clock.advance(0.01)
        self.assertEqual(self.bucket.wait_seconds(), 0)

    def test_debt(self) -> None:
        """A packet larger than the burst is waited off."""
        self.bucket.spend(5250)
        self.assertAlmostEqual(self.bucket.wait_seconds(), 5, places=2)
        self.clock.advance(self.bucket.wait_seconds())
        self.assertEqual(self.bucket.wait_seconds(), 0)

    def test_idle_time_is_not_saved_up(self) -> None:
        """After an hour's pause there still is one burst."""
        self.clock.advance(3600)
        self.bucket.wait_seconds()
        self.bucket.spend(1250)
        self.assertAlmostEqual(self.bucket.wait_seconds(), 1, places=2)

    def test_average(self) -> None:
        """A minute's sending is a minute's worth."""
        sent = 0
        while self.clock.seconds() < 60:
            wait = self.bucket.wait_seconds()
            if wait:
                self.clock.advance(wait)
            else:
                self.bucket.spend(100)
                sent += 100
        self.assertLess(abs(sent / 60 - 1000), 20)

    def test_nothing(self) -> None:
        """A limit of nothing is a mistake."""
        self.assertRaises(ValueError, TokenBucket, 0, self.clock.seconds)

    def test_pace(self) -> None:
        """Who takes data waits until its share has passed, and says that it does."""
        told: list[bool] = []
        pace = Pace(TokenBucket(1000.0, self.clock.seconds), self.clock, told.append)
        self.assertEqual(pace.batch_bytes, 250)
        self.successResultOf(Deferred.fromCoroutine(pace.spend(100)))
        waiting = Deferred.fromCoroutine(pace.spend(1150))
        self.clock.advance(0.9)
        self.assertNoResult(waiting)
        self.clock.advance(0.2)
        self.successResultOf(waiting)
        self.assertEqual(told, [True, False])
