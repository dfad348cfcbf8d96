"""Streams as Twisted producers and consumers, every source, and files."""

from __future__ import annotations

import io
from typing import Any

from twisted.internet.interfaces import IConsumer
from twisted.internet.task import Clock
from twisted.protocols.basic import FileSender
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from rpcstream.errors import BadState, BufferFull, ConnectionClosed, StreamAborted
from rpcstream.net.pull import PullToPush
from tests.net.pair_case import CONTENT, PairTestCase, Pusher


@implementer(IConsumer)
class Taker:
    """A consumer that pauses its producer after so many writes."""

    def __init__(self, pause_after: int | None = None) -> None:
        self.pause_after = pause_after
        self.producer: Any = None
        self.data = b""
        self.writes = 0
        self.ended = 0

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        assert streaming
        self.producer = producer

    def unregisterProducer(self) -> None:
        self.ended += 1

    def write(self, data: bytes) -> None:
        self.data += data
        self.writes += 1
        if self.pause_after is not None and self.writes % self.pause_after == 0:
            self.producer.pauseProducing()


class PullToPushTests(SynchronousTestCase):
    """One piece each turn, none while paused."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.asked = 0
        self.stopped = 0
        self.pull = PullToPush(self, self.clock, self.failed)
        self.error: Exception | None = None
        self.failures: list[Exception] = []

    def resumeProducing(self) -> None:
        self.asked += 1
        if self.error is not None:
            raise self.error
        if self.asked == 3:
            self.pull.pauseProducing()
        if self.asked == 6:
            self.pull.stop()

    def stopProducing(self) -> None:
        self.stopped += 1

    def failed(self, error: Exception) -> None:
        self.failures.append(error)

    def test_turns(self) -> None:
        """Not at once, but from the next turn on; pausing within a turn holds; stop is for good."""
        self.pull.start()
        self.assertEqual(self.asked, 0)
        self.clock.advance(0)
        self.assertEqual(self.asked, 3)
        self.pull.resumeProducing()
        self.pull.resumeProducing()
        self.pull.pauseProducing()
        self.clock.advance(1)
        self.assertEqual(self.asked, 3)
        self.pull.resumeProducing()
        self.clock.advance(1)
        self.assertEqual(self.asked, 6)
        self.pull.resumeProducing()
        self.clock.advance(1)
        self.assertEqual((self.asked, self.clock.getDelayedCalls()), (6, []))

    def test_stopped_by_the_consumer(self) -> None:
        """The producer is told."""
        self.pull.start()
        self.pull.stopProducing()
        self.clock.advance(1)
        self.assertEqual((self.asked, self.stopped), (0, 1))

    def test_raises(self) -> None:
        """A producer that fails is asked no more; whoever drives it hears why."""
        self.error = OSError("disk")
        self.pull.start()
        self.clock.advance(1)
        self.assertEqual((self.asked, self.failures, self.clock.getDelayedCalls()), (1, [self.error], []))
        quiet = PullToPush(self, self.clock)
        quiet.start()
        self.clock.advance(1)


class FileSenderTests(PairTestCase):
    """Twisted's own FileSender, both ways."""

    def test_to_a_stream(self) -> None:
        """FileSender sends a file larger than every window; the file arrives."""
        stream = self.upload()
        sent = FileSender().beginFileTransfer(io.BytesIO(CONTENT), stream)
        self.pair.result_of(sent)
        self.assertEqual(self.finish(stream), CONTENT)

    def test_to_a_stream_that_is_not_read(self) -> None:
        """It is asked no further while the peer takes nothing, and hears of the abort."""
        stream = self.upload()
        self.pair.server_transport.pauseProducing()
        file = io.BytesIO(CONTENT)
        sent = FileSender().beginFileTransfer(file, stream)
        self.pair.pump()
        self.assertLess(file.tell(), 2 << 20)
        stream.abort("enough")
        self.assertIn("stop producing", str(self.failureResultOf(sent).value))
        self.pair.server_transport.resumeProducing()
        self.pair.pump()

    def test_to_a_stream_that_has_ended(self) -> None:
        """A producer registered too late is stopped at once."""
        stream = self.upload()
        stream.abort("enough")
        sent = FileSender().beginFileTransfer(io.BytesIO(CONTENT), stream)
        self.failureResultOf(sent)
        self.assertFalse(self.pair.clock.getDelayedCalls() == [])

    def test_file_that_fails(self) -> None:
        """A file that cannot be read aborts the stream with the reason."""

        class Broken(io.BytesIO):
            def read(self, size: int | None = -1, /) -> bytes:
                raise OSError("disk on fire")

        stream = self.upload()
        FileSender().beginFileTransfer(Broken(), stream).addErrback(lambda _: None)
        self.pair.pump()
        error = self.failureResultOf(stream.when_closed(), StreamAborted).value
        self.assertEqual(error.reason, "disk on fire")

    def test_from_a_stream_by_way_of_it(self) -> None:
        """A stream registered with a stream: bytes go through both, held back by the slower."""
        back = self.upload()
        stream = self.download()
        delivered = stream.deliver_to(back)
        self.assertEqual(self.pair.result_of(delivered).byte_count, len(CONTENT))
        self.assertEqual(self.finish(back), CONTENT)


class ProducerTests(PairTestCase):
    """Push producers on a stream."""

    def test_paused_and_resumed(self) -> None:
        """It is paused above the mark, resumed below, and all arrives."""
        stream = self.upload()
        pusher = Pusher(stream, 200)
        self.pair.result_of(stream.send_from(pusher))
        self.assertGreater(pusher.pauses, 1)
        self.assertEqual(len(self.finish(stream)), 200 * 50_000)

    def test_another_one_while_it_is_full(self) -> None:
        """A second producer on a full stream begins paused."""
        stream = self.upload()
        self.pair.client_transport._producer.pauseProducing()
        first = Pusher(stream, 6)
        stream.registerProducer(first, True)
        self.assertRaises(RuntimeError, stream.registerProducer, first, True)
        first.resumeProducing()
        stream.unregisterProducer()
        second = Pusher(stream, 6)
        stream.registerProducer(second, True)
        self.assertTrue(second.paused)
        self.pair.client_transport._producer.resumeProducing()
        self.pair.pump()
        self.assertEqual(second.count, 0)
        self.assertEqual(len(self.finish(stream)), 50_000 * (12 - first.count))

    def test_ignores_the_pause(self) -> None:
        """One that does not stop gets BufferFull at the mark of C{write()}."""
        stream = self.upload()
        self.pair.client_transport._producer.pauseProducing()
        for _ in range(84):
            stream.write(bytes(50_000))
        self.assertRaises(BufferFull, stream.write, b"x")
        stream.abort()

    def test_fails_when_it_is_stopped(self) -> None:
        """A producer that raises when told of the end keeps nobody else from hearing of it."""

        class Rude:
            def stopProducing(self) -> None:
                raise ZeroDivisionError

            def resumeProducing(self) -> None:
                pass

        stream = self.upload()
        stream.registerProducer(Rude(), True)
        waiting = [stream.when_unregistered(), stream.when_closed()]
        self.pair.cut()
        for deferred in waiting:
            self.failureResultOf(deferred, ConnectionClosed)
        self.failureResultOf(stream.when_unregistered(), ConnectionClosed)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)


class DeliverTests(PairTestCase):
    """A stream pushed to a consumer."""

    def test_all(self) -> None:
        """Everything, then the end, once."""
        taker = Taker()
        progress = self.pair.result_of(self.download().deliver_to(taker))
        self.assertEqual((taker.data, taker.ended, progress.byte_count), (CONTENT, 1, len(CONTENT)))

    def test_pauses(self) -> None:
        """Nothing is written while paused, nothing is lost; calls are answered meanwhile."""
        taker = Taker(pause_after=1)
        stream = self.download()
        delivered = stream.deliver_to(taker)
        self.failureResultOf(stream.deliver_to(taker), BadState)
        self.failureResultOf(stream.next_piece(), BadState)
        while not delivered.called:
            writes = taker.writes
            self.pair.pump()
            self.assertLessEqual(taker.writes, writes + 1)
            taker.producer.resumeProducing()
        self.assertEqual((taker.data, taker.ended), (CONTENT, 1))

    def test_resumes_within_a_write(self) -> None:
        """A consumer that pauses and resumes in one breath sees everything once, in order."""

        class Nervous(Taker):
            def write(self, data: bytes) -> None:
                super().write(data)
                self.producer.pauseProducing()
                self.producer.resumeProducing()

        taker = Nervous()
        stream = self.download()
        self.pair.pump()
        self.pair.result_of(stream.deliver_to(taker))
        self.assertEqual((taker.data, taker.ended), (CONTENT, 1))

    def holes(self, stream: Any) -> None:
        stream.send(b"ab")
        stream.send_hole(600_000)
        stream.send(b"c")

    def relay(self, taker: Taker) -> Any:
        """An upload with holes whose receiving end is given to C{taker}."""
        delivered: list[Any] = []

        async def store(call: Any, request: Any) -> None:
            stream = call.accept(None)
            delivered.append(stream.deliver_to(taker))
            await delivered[0]

        responder = self.pair.serving.find(0x2F11E500, 1, 3)
        assert responder is not None
        table = self.pair.serving._responders
        table[(0x2F11E500, 1, 3)] = responder._replace(method=store)
        stream = self.upload()
        self.holes(stream)
        return stream

    def test_holes(self) -> None:
        """Holes are written as zeros, in pieces, also when the consumer pauses between them."""
        for pause_after in (None, 1, 2):
            taker = Taker(pause_after)
            stream = self.relay(taker)
            finishing = stream.finish()
            for _ in range(10):
                self.pair.pump()
                taker.producer.resumeProducing()
            self.pair.result_of(finishing)
            self.assertEqual(taker.data, b"ab" + bytes(600_000) + b"c")

    def test_data_behind_paused_zeros(self) -> None:
        """What arrives while zeros still wait comes after them."""
        taker = Taker(pause_after=2)
        stream = self.relay(taker)
        self.pair.pump()
        stream.send(b"later")
        self.pair.pump()
        finishing = stream.finish()
        for _ in range(10):
            self.pair.pump()
            taker.producer.resumeProducing()
        self.pair.result_of(finishing)
        self.assertEqual(taker.data, b"ab" + bytes(600_000) + b"clater")

    def test_consumer_goes(self) -> None:
        """A consumer that stops aborts the stream, whatever has arrived, and nothing is written to it."""
        taker = Taker(pause_after=1)
        stream = self.download()
        delivered = stream.deliver_to(taker)
        self.pair.pump()
        taker.producer.stopProducing()
        taker.producer.stopProducing()
        self.failureResultOf(delivered, StreamAborted)
        self.pair.pump()
        self.assertEqual((taker.writes, self.pair.server.link.core.stream_count), (1, 0))

    def test_consumer_goes_at_the_end(self) -> None:
        """The same when all had arrived: what it did not take was not delivered."""
        self.files.files["disk"] = b"x" * 300_000
        taker = Taker(pause_after=1)
        stream = self.download()
        delivered = stream.deliver_to(taker)
        self.pair.pump()
        self.assertTrue(stream.is_closed)
        taker.producer.stopProducing()
        self.failureResultOf(delivered, StreamAborted)

    def test_consumer_stops_within_a_write(self) -> None:
        """... or in the midst of taking."""

        class Quitter(Taker):
            def write(self, data: bytes) -> None:
                super().write(data)
                self.producer.stopProducing()

        stream = self.download()
        self.pair.pump()
        taker = Quitter()
        self.failureResultOf(stream.deliver_to(taker), StreamAborted)
        self.assertEqual(taker.writes, 1)

    def test_stream_fails(self) -> None:
        """The consumer is unregistered, and whoever waits hears why."""
        taker = Taker(pause_after=1)
        delivered = self.download().deliver_to(taker)
        self.pair.cut()
        self.failureResultOf(delivered, ConnectionClosed)
        self.assertEqual(taker.ended, 1)
