"""How streams end: confirmed, early, half-closed, stalled, aborted, each with its cause."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.trial.unittest import SynchronousTestCase

from rpcstream.errors import (
    BadState,
    BufferFull,
    ConnectionClosed,
    OperationAborted,
    RemoteError,
    StreamAborted,
    StreamStalled,
)
from rpcstream.limits import Limits
from rpcstream.net.calls import Call, DownloadCall, DuplexCall, UploadCall
from rpcstream.net.spool import Hole
from rpcstream.programs.base import Download, Duplex, Procedure, Program, Upload
from rpcstream.testing import ConnectedPair

ENDS = Program("ends", number=0x2F11E503, version=1)


class Down(Download[None], program=ENDS, number=1, permission="ends"):
    pass


class Up(Upload[None], program=ENDS, number=2, permission="ends"):
    pass


class Both(Duplex[None], program=ENDS, number=3, permission="ends"):
    pass


class Plain(Procedure[None], program=ENDS, number=4, permission="ends"):
    pass


class Server:
    """Does what a test says."""

    def __init__(self, work: Callable[[Any], Awaitable[None] | None]) -> None:
        self.work = work
        self.error: BaseException | None = None

    async def _answer(self, call: Any) -> None:
        try:
            doing = self.work(call)
            if doing is not None:
                await doing
        except BaseException as error:
            self.error = error
            raise

    @Down.responder
    async def down(self, call: DownloadCall[None], request: Down) -> None:
        await self._answer(call)

    @Up.responder
    async def up(self, call: UploadCall[None], request: Up) -> None:
        await self._answer(call)

    @Both.responder
    async def both(self, call: DuplexCall[None], request: Both) -> None:
        await self._answer(call)

    @Plain.responder
    def plain(self, call: Call, request: Plain) -> None:
        self.work(call)


class EndsTestCase(SynchronousTestCase):
    limits = Limits()

    def serve(self, work: Callable[[Any], Awaitable[None] | None]) -> None:
        self.server = Server(work)
        self.pair = ConnectedPair(self.server, limits=self.limits)

    def open(self, request: Any, **options: Any) -> Any:
        return self.pair.result_of(self.pair.client.open(request, **options))

    def run_async(self, doing: Awaitable[Any]) -> Any:
        async def run() -> Any:
            return await doing

        return self.pair.result_of(Deferred.fromCoroutine(run()))

    def tearDown(self) -> None:
        """No stream is left at either end."""
        self.pair.pump()
        if self.pair.client.link.is_connected:
            for end in (self.pair.client, self.pair.server):
                self.assertEqual(end.link.core.stream_count, 0)
        self.assertEqual(self.pair.serving.stream_count, 0)
        self.assertEqual(self.pair.server._running.running_count, 0)

    def pass_hours(self, hours: float) -> None:
        for _ in range(int(hours * 360)):
            self.pair.clock.advance(10)
            self.pair.pump()


class ResponderTests(EndsTestCase):
    """What a responder does, or does not, with its stream."""

    def test_did_not_decide(self) -> None:
        """A responder that returns without a decision is an internal error."""
        self.serve(lambda call: None)
        error = self.assertRaises(RemoteError, self.open, Up())
        self.assertIn("no decision", str(error))

    def test_decided_twice(self) -> None:
        """A second decision is the responder's mistake; the first counts."""

        async def work(call: Any) -> None:
            stream = call.accept(None)
            self.assertRaises(BadState, call.accept, None)
            await stream.read(limit_bytes=10)

        self.serve(work)
        self.run_async(self.open(Up()).finish())

    def test_decided_too_late(self) -> None:
        """When the caller is gone there is nobody to accept for, and nothing is logged."""
        gate: Deferred[None] = Deferred(lambda _: None)

        async def work(call: Any) -> None:
            try:
                await gate
            finally:
                call.accept(None)

        self.serve(work)
        opening = self.pair.client.open(Up())
        self.pair.pump()
        self.pair.cut()
        self.failureResultOf(opening, ConnectionClosed)
        self.assertIsInstance(self.server.error, ConnectionClosed)

    def test_a_plain_function(self) -> None:
        """A responder need not be a coroutine."""
        self.serve(lambda call: call.accept(None) and None)
        stream = self.open(Up())
        self.run_async(stream.finish())
        self.assertEqual(stream.progress.byte_count, 0)

    def test_left_data_unread(self) -> None:
        """An upload that was not read to its end is never confirmed: data would be lost in silence."""

        async def work(call: Any) -> None:
            await call.accept(None).next_piece()

        self.serve(work)
        stream = self.open(Up())
        stream.send(b"first")
        self.pair.pump()
        stream.send(b"second")
        error = self.assertRaises(RemoteError, self.run_async, stream.finish())
        self.assertIn("did not take all", str(error))

    def test_left_data_in_the_spool(self) -> None:
        """The same if it had arrived already."""
        gate: Deferred[None] = Deferred()

        async def work(call: Any) -> None:
            call.accept(None)
            await gate

        self.serve(work)
        stream = self.open(Up())
        stream.send(b"first")
        finishing = stream.finish()
        self.pair.pump()
        gate.callback(None)
        self.assertRaises(RemoteError, self.pair.result_of, finishing)

    def test_aborted_while_it_waits_elsewhere(self) -> None:
        """L05: work for a stream that the caller aborts is cancelled."""
        cancelled: list[str] = []

        async def work(call: Any) -> None:
            call.accept(None)
            await Deferred(lambda _: cancelled.append("work"))

        self.serve(work)
        for request in (Up(), Down(), Both()):
            self.open(request).abort("enough")
            self.pair.pump()
        self.assertEqual(cancelled, ["work"] * 3)

    def test_fails_after_the_end(self) -> None:
        """What a responder raises when its stream has ended is not told to anyone twice."""

        async def work(call: Any) -> None:
            stream = call.accept(None)
            stream.fail_with(OperationAborted("first"))
            stream.fail_with(OperationAborted("second"))
            stream.abort()
            raise OperationAborted("third")

        self.serve(work)
        stream = self.open(Up())
        error = self.assertRaises(RemoteError, self.run_async, stream.finish())
        self.assertIn("first", str(error))


class DownloadTests(EndsTestCase):
    def test_reader_finishes_early(self) -> None:
        """The responder's send fails with who left; an early finish is answered."""

        async def work(call: Any) -> None:
            stream = call.accept(None)
            while True:
                await stream.send(bytes(1 << 20))

        self.serve(work)
        stream = self.open(Down())
        self.pair.pump()
        stream._send_finish()
        self.pair.pump()
        self.assertIsInstance(self.server.error, StreamAborted)
        self.assertTrue(stream.is_closed)

    def test_responder_finishes_itself(self) -> None:
        """Waiting for the confirmation in the responder is the same as returning."""
        finished: list[int] = []

        async def work(call: Any) -> None:
            stream = call.accept(None)
            await stream.send(b"abc")
            finished.append((await stream.finish()).byte_count)
            self.failureResultOf(stream.send(b"more"), BadState)
            self.assertEqual((await stream.finish()).byte_count, 3)

        self.serve(work)
        self.assertEqual(self.run_async(self.open(Down()).read(limit_bytes=10)), b"abc")
        self.assertEqual(finished, [3])

    def test_pieces(self) -> None:
        """Holes are told apart, data is cut as asked for, batches are whole."""

        async def work(call: Any) -> None:
            stream = call.accept(None)
            for _ in range(3):
                await stream.send(b"abcde")
                await stream.send_hole(7)
            await stream.send_hole(0)
            await stream.send(b"")

        self.serve(work)
        stream = self.open(Down())
        self.assertEqual(self.run_async(stream.next_piece(2)), b"ab")
        self.assertEqual(self.run_async(stream.next_batch(6)), [b"cde", Hole(7), b"abcde"])

        async def rest() -> list[Any]:
            return [piece async for piece in stream.pieces()]

        self.assertEqual(self.run_async(rest()), [Hole(7), b"abcde", Hole(7)])
        self.assertEqual(self.run_async(stream.next_batch(6)), [])
        self.assertEqual(stream.progress.hole_bytes, 21)
        self.run_async(stream.when_closed())

    def test_dense(self) -> None:
        """Holes cannot be sent where they were not agreed on."""

        async def work(call: Any) -> None:
            self.assertRaises(BadState, call.accept(None, sparse=False).send_hole, 5)

        self.serve(work)
        self.assertEqual(self.run_async(self.open(Down(), sparse=False).read(limit_bytes=1)), b"")

    def test_longer_than_wanted(self) -> None:
        """Reading with a limit aborts past it."""

        async def work(call: Any) -> None:
            await call.accept(None).send(bytes(100))

        self.serve(work)
        stream = self.open(Down())
        self.assertRaises(BufferFull, self.run_async, stream.read(limit_bytes=99))
        self.assertTrue(stream.is_closed)

    def test_leaving_the_block(self) -> None:
        """At the end of data C{async with} ends well, before it it aborts; errors are raised."""

        async def work(call: Any) -> None:
            await call.accept(None).send(b"abc")

        self.serve(work)

        async def whole() -> bytes:
            async with self.pair.client.open(Down()) as stream:
                return b"".join([data async for data in stream])

        async def part() -> Any:
            async with self.pair.client.open(Down()) as stream:
                return stream

        async def failing() -> None:
            async with self.pair.client.open(Down()) as stream:
                b"".join([data async for data in stream])
                stream._error = ValueError("found later")

        self.assertEqual(self.run_async(whole()), b"abc")
        self.assertTrue(self.run_async(part()).is_closed)
        self.assertRaises(ValueError, self.run_async, failing())


class UploadTests(EndsTestCase):
    def test_confirmed_after_the_responder(self) -> None:
        """The confirmation waits for the responder, however long after the finish."""
        gate: Deferred[None] = Deferred()

        async def work(call: Any) -> None:
            await call.accept(None).read(limit_bytes=10)
            await gate

        self.serve(work)
        stream = self.open(Up())
        finishing = stream.finish()
        self.pair.pump()
        self.assertNoResult(finishing)
        gate.callback(None)
        self.assertEqual(self.pair.result_of(finishing).byte_count, 0)
        self.failureResultOf(stream.send(b"late"), BadState)
        stream.write(b"ignored")
        self.assertEqual(self.successResultOf(stream.when_closed()), None)

    def test_finish_of_what_never_began(self) -> None:
        """Finishing a stream that somebody else has ended fails."""

        async def work(call: Any) -> None:
            await call.accept(None).read(limit_bytes=10)

        self.serve(work)
        stream = self.open(Up())
        stream._close(None)
        self.failureResultOf(stream.finish(), StreamAborted)
        self.failureResultOf(stream.send(b"x"), BadState)
        self.pair.client.link.write_control(self.pair.client.link.core.abort(stream._core))

    def test_wrong_type(self) -> None:
        """Text is refused where it is given, not where it would be sent."""

        async def work(call: Any) -> None:
            await call.accept(None).read(limit_bytes=10)

        self.serve(work)
        stream = self.open(Up())
        self.assertRaises(TypeError, stream.send, "text")
        self.run_async(stream.finish())

    def test_write_past_the_mark(self) -> None:
        """C{write()} cannot wait: past its mark it raises; C{send()} waits."""

        async def work(call: Any) -> None:
            await call.accept(None).read(limit_bytes=1 << 30)

        self.serve(work)
        stream = self.open(Up())
        self.pair.client_transport._producer.pauseProducing()
        waiting = [stream.send(bytes(1 << 20)) for _ in range(3)]
        stream.write(b"")
        stream.write(bytes(1 << 20))
        self.assertRaises(BufferFull, stream.write, b"x")
        for deferred in waiting:
            self.assertNoResult(deferred)
        self.assertEqual(stream.progress.stalled_by, "peer socket")
        self.pair.client_transport._producer.resumeProducing()
        self.pair.pump()
        for deferred in waiting:
            self.successResultOf(deferred)
        self.run_async(stream.finish())

    def test_waiting_send_cancelled(self) -> None:
        """Cancelling a waiting send forgets the wait; the data goes out all the same."""
        received: list[bytes] = []

        async def work(call: Any) -> None:
            received.append(await call.accept(None).read(limit_bytes=1 << 30))

        self.serve(work)
        stream = self.open(Up())
        self.pair.client_transport._producer.pauseProducing()
        waiting = stream.send(b"x" * (1 << 20))
        waiting.cancel()
        waiting.addErrback(lambda _: None)
        self.pair.client_transport._producer.resumeProducing()
        self.run_async(stream.finish())
        self.assertEqual(len(received[0]), 1 << 20)

    def test_connection_closes_under_it(self) -> None:
        """A large send does not outlive C{close()}: nothing more is written, all hear of it at once."""

        async def work(call: Any) -> None:
            await call.accept(None).read(limit_bytes=1 << 30)

        self.serve(work)
        stream = self.open(Up())
        waiting = stream.send(bytes(64 << 20))
        self.pair.client.close()
        written = self.pair.client_transport.written_bytes
        self.failureResultOf(waiting, ConnectionClosed)
        self.failureResultOf(stream.finish(), ConnectionClosed)
        self.pair.pump()
        self.assertEqual(self.pair.client_transport.written_bytes, written)

    def test_packet_sizes(self) -> None:
        """Packets are as large as asked for; nonsense is put right."""

        async def work(call: Any) -> None:
            await call.accept(None).read(limit_bytes=1 << 30)

        self.serve(work)
        for asked, expected in ((1, 100), (50, 2), (1 << 40, 1), (-5, 100)):
            stream = self.open(Up(), packet_bytes=asked)
            stream.send(bytes(100))
            self.run_async(stream.finish())
            self.assertEqual(stream.progress.packet_count, expected)


class DuplexTests(EndsTestCase):
    def echo(self, call: Any) -> Awaitable[None]:
        async def work() -> None:
            stream = call.accept(None)
            async for data in stream:
                await stream.send(data)

        return work()

    def test_half_close_and_read_on(self) -> None:
        """After C{end()} the other side's data still comes; a responder that returns ends its side."""
        self.serve(self.echo)

        async def talk() -> bytes:
            async with self.pair.client.open(Both()) as stream:
                await stream.send(b"hello")
                stream.end()
                stream.end()
                return b"".join([data async for data in stream])

        self.assertEqual(self.run_async(talk()), b"hello")

    def test_finish_after_end_waits_for_the_data(self) -> None:
        """A finish never overtakes what is still to be sent."""
        received: list[bytes] = []

        async def work(call: Any) -> None:
            received.append(await call.accept(None).read(limit_bytes=1 << 30))

        self.serve(work)
        stream = self.open(Both())
        stream.send(bytes(20 << 20))
        stream.end()
        self.pair.result_of(stream.finish())
        self.assertEqual(len(received[0]), 20 << 20)

    def test_finish_after_end_was_sent(self) -> None:
        """... and goes out when the end went out long ago; twice is once."""
        self.serve(self.echo)
        stream = self.open(Both())
        stream.end()
        self.pair.pump()
        first = stream.finish()
        self.pair.result_of(stream.finish())
        self.successResultOf(first)

    def test_finish_unread(self) -> None:
        """The opener may finish while the acceptor still waits for it to read."""

        async def work(call: Any) -> None:
            stream = call.accept(None)
            stream.registerProducer(Silent(), True)
            for _ in range(30):
                await stream.send(bytes(1 << 20))

        self.serve(work)
        stream = self.open(Both())
        self.pair.pump()
        self.pair.result_of(stream.finish())
        self.assertIsNone(self.server.error)

    def test_acceptor_finishes(self) -> None:
        """C{finish()} of the acceptor is its end of data; the opener's finish is the answer."""

        async def work(call: Any) -> None:
            async with call.accept(None) as stream:
                await stream.send(b"bye")

        self.serve(work)

        async def talk() -> bytes:
            async with self.pair.client.open(Both()) as stream:
                await stream.send(b"nobody reads this")
                said = b"".join([data async for data in stream])
                await stream.send(b"nor this")
                await stream.send_hole(9)
                return said

        self.assertEqual(self.run_async(talk()), b"bye")
        self.assertIsNone(self.server.error)

    def test_responder_fails(self) -> None:
        """An error reaches reader, sender and whoever leaves the block."""

        async def work(call: Any) -> None:
            call.accept(None)
            raise OperationAborted("no more")

        self.serve(work)

        async def talk() -> None:
            async with self.pair.client.open(Both()) as stream:
                await stream.next_piece()

        self.assertRaises(OperationAborted, self.run_async, talk())

        async def leave() -> None:
            async with self.pair.client.open(Both()) as stream:
                await stream.when_closed().addErrback(lambda _: None)

        self.assertRaises(OperationAborted, self.run_async, leave())

    def test_aborted_by_either(self) -> None:
        """Both directions fail at the other end, with the reason."""
        self.serve(self.echo)
        stream = self.open(Both())
        stream.abort("enough")
        self.pair.pump()
        self.assertIn("enough", str(self.server.error))
        self.assertRaises(StreamAborted, self.run_async, stream.next_piece())


class Silent:
    """A producer that produces nothing and notes what it is told."""

    def __init__(self) -> None:
        self.told: list[str] = []

    def pauseProducing(self) -> None:
        self.told.append("pause")

    def resumeProducing(self) -> None:
        self.told.append("resume")

    def stopProducing(self) -> None:
        self.told.append("stop")


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


class WaiterTests(EndsTestCase):
    """Several who wait for one thing."""

    def test_many(self) -> None:
        """All hear of the end; one that is cancelled does not harm the others."""

        async def work(call: Any) -> None:
            call.accept(None)
            await fail(OperationAborted("enough"))

        self.serve(work)
        stream = self.open(Up())
        waiting = [stream.when_closed() for _ in range(3)] if not stream.is_closed else []
        if waiting:
            waiting[1].cancel()
            waiting[1].addErrback(lambda _: None)
        self.pair.pump()
        for deferred in waiting[::2]:
            self.failureResultOf(deferred, RemoteError)
        self.failureResultOf(stream.when_closed(), RemoteError)

    def test_two_readers(self) -> None:
        """Two who read get a piece each, in order of asking."""

        async def work(call: Any) -> None:
            self.stream = call.accept(None)
            await self.stream.when_closed()

        self.serve(work)
        stream = self.open(Down())
        first, second = stream.next_piece(), stream.next_piece()
        self.stream.send(b"one")
        self.pair.pump()
        self.assertEqual(self.successResultOf(first), b"one")
        self.assertNoResult(second)
        self.stream.send(b"two")
        self.pair.pump()
        self.assertEqual(self.successResultOf(second), b"two")
        stream.abort()
