"""An hour without a byte ends a stream, and says what it waited for."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

from twisted.internet.defer import Deferred

from rpcstream.errors import (
    RemoteError,
    StreamStalled,
)
from tests.net.ends_case import Both, Down, EndsTestCase, Up


class StallTests(EndsTestCase):
    """An hour without a byte ends a stream, and says what it waited for."""

    def waiting(self, call: Any) -> Awaitable[None]:
        async def work() -> None:
            self.stream = call.accept(None)
            try:
                await self.stream.when_closed()
            except BaseException as error:
                self.heard = error
                raise

        return work()

    def assert_stalled(self, stream: Any, cause: str) -> None:
        self.assertEqual(stream.progress.stalled_by, cause)
        self.pass_hours(0.99)
        self.assertFalse(stream.is_closed)
        self.pass_hours(0.02)
        error = self.failureResultOf(stream.when_closed(), StreamStalled).value
        self.assertEqual((error.cause, error.seconds), (cause, 3600))

    def test_local_disk(self) -> None:
        """A sender to whom nobody gives data."""
        self.serve(self.waiting)
        self.assert_stalled(self.open(Up()), "local disk")
        self.assertIsInstance(self.heard, Exception)

    def test_local_disk_of_a_receiver(self) -> None:
        """A receiver that has everything and does not say so."""
        self.serve(self.waiting)
        stream = self.open(Up())
        finishing = stream.finish()
        self.pair.pump()
        self.assertEqual(self.stream.progress.stalled_by, "local disk")
        self.assertEqual(stream.progress.stalled_by, "peer socket")
        self.pass_hours(1.1)
        self.failureResultOf(finishing)

    def test_paused_consumer(self) -> None:
        """A peer that grants nothing any more, and one here that takes nothing."""
        self.serve(self.waiting)
        stream = self.open(Up())
        waiting = stream.send(bytes(20 << 20))
        self.pair.pump()
        self.assertEqual(self.stream.progress.stalled_by, "paused consumer")
        self.assert_stalled(stream, "paused consumer")
        self.failureResultOf(waiting)

    def test_peer_socket(self) -> None:
        """A sender that sends nothing."""
        self.serve(self.waiting)
        stream = self.open(Down())
        reading = stream.next_piece()
        self.assert_stalled(stream, "peer socket")
        self.failureResultOf(reading, StreamStalled)

    def test_rate_limit(self) -> None:
        """A limit next to nothing; lifting it in time goes on at once."""
        self.serve(lambda call: call.accept(None).read(limit_bytes=1 << 20))
        for lift in (True, False):
            stream = self.open(Up())
            stream.limit_rate(0.01)
            stream.send(bytes(10_000))
            self.pair.pump()
            if lift:
                self.assertEqual(stream.progress.stalled_by, "rate limit")
                stream.limit_rate(None)
                self.run_async(stream.finish())
            else:
                self.assert_stalled(stream, "rate limit")
                stream.limit_rate(5.0)

    def test_slow_is_not_stalled(self) -> None:
        """A kilobyte a second is slow, moves every second, and arrives."""
        self.serve(lambda call: call.accept(None).read(limit_bytes=1 << 30))
        stream = self.open(Up())
        stream.limit_rate(1000)
        stream.send(bytes(100_000))
        finishing = stream.finish()
        moved = 0
        for second in range(1, 100):
            for _ in range(5):
                self.pair.clock.advance(0.2)
                self.pair.pump()
            self.assertGreater(stream.progress.byte_count, moved)
            moved = stream.progress.byte_count
            self.assertLess(abs(moved - second * 950), 1000 + second * 60)
        self.pass_hours(0.1)
        self.assertEqual(self.successResultOf(finishing).byte_count, 100_000)

    def test_held_back(self) -> None:
        """A receiver that is limited on purpose says so."""
        self.serve(self.waiting)
        stream = self.open(Down())
        stream.hold_back(True)
        self.assertEqual(stream.progress.stalled_by, "rate limit")
        stream.hold_back(False)
        self.assertEqual(stream.progress.stalled_by, "peer socket")
        stream.abort()

    def test_console(self) -> None:
        """Silence on a console is no stall; data that nobody takes is."""
        self.serve(self.waiting)
        stream = self.open(Both())
        self.pass_hours(30)
        self.assertFalse(stream.is_closed)
        stream.send(b"hello")
        self.pass_hours(1.1)
        self.failureResultOf(stream.when_closed(), RemoteError)

    def test_console_that_is_not_read(self) -> None:
        """... and so is data that the peer does not take."""
        self.serve(self.waiting)
        stream = self.open(Both())
        stream.send(bytes(20 << 20)).addErrback(lambda _: None)
        self.pair.pump()
        self.assertEqual(stream.progress.stalled_by, "paused consumer")
        self.pair.client.link.is_writable = False
        stream._core.send_credit = 1 << 30
        self.assertEqual(stream.progress.stalled_by, "peer socket")
        self.pair.client.link.is_writable = True
        stream.abort()

    def test_decision_has_its_own_time(self) -> None:
        """A stream that is not open yet does not stall."""
        gate: Deferred[None] = Deferred()

        async def work(call: Any) -> None:
            await gate
            call.accept(None)

        self.serve(work)
        opening = self.pair.client.open(Up(), timeout_seconds=None)
        self.pass_hours(3)
        gate.callback(None)
        self.run_async(self.pair.result_of(opening).finish())
