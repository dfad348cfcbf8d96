"""How streams end: confirmed, early, half-closed, stalled, aborted, each with its cause."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from rpcstream.errors import (
    BadState,
    BufferFull,
    ConnectionClosed,
    OperationAborted,
    RemoteError,
    StreamAborted,
)
from rpcstream.net.spool import Hole
from tests.net.ends_case import Both, Down, EndsTestCase, Up


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
