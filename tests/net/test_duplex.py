"""Streams with both directions, and several who wait for one thing."""

from __future__ import annotations

from collections.abc import Awaitable
from typing import Any

from twisted.internet.defer import fail

from rpcstream.errors import (
    OperationAborted,
    RemoteError,
    StreamAborted,
)
from tests.net.ends_case import Both, Down, EndsTestCase, Up


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
