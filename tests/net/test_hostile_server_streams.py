"""Rows B04 and B09, and the order of a stream's messages, at a client of ours."""

from __future__ import annotations

from pathlib import Path

from twisted.internet.defer import Deferred

from rpcstream.errors import (
    CallCancelled,
    RemoteError,
    RPCFailed,
    StreamAborted,
    Unsupported,
)
from rpcstream.limits import DEFAULT_LIMITS
from rpcstream.programs import flow
from rpcstream.wire.error import encode_error
from rpcstream.wire.header import Status
from tests.net.files_program import Echo, Fetch, Store
from tests.net.hostile import FILE, hole, ping
from tests.net.hostile_server import FLOW, MESSAGE, REPLY, SIZE, STREAM, ClientTestCase


class StreamRows(ClientTestCase):
    """B04, B09 and the order of a stream's messages."""

    def setUp(self) -> None:
        super().setUp()
        self.error = encode_error(RPCFailed("the server's own words"))

    def stream_error(self, procedure: int, kind: int = STREAM) -> bytes:
        return FILE.frame(procedure, self.error, kind=kind, serial=self.serial, status=Status.ERROR)

    def test_b04_reply_in_place_of_a_stream_error(self) -> None:
        """libvirtd's way to refuse a hole is understood as the stream's error."""
        stream = self.open(Store("x", 10))
        self.send(self.stream_error(3, REPLY))
        error = self.failureResultOf(stream.finish(), RPCFailed).value
        self.assertEqual(error.message, "the server's own words")
        self.assert_lives()

    def test_b09_finish_before_it_was_asked(self) -> None:
        """A confirmation that nobody asked for fails the stream: nothing was confirmed."""
        for request, procedure, reply in (
            (Store("x", 10), 3, b""),
            (Fetch("x"), 2, bytes(8)),
            (Echo(), 5, b""),
        ):
            stream = self.open(request, reply)
            self.send(FILE.finish(procedure, self.serial))
            self.failureResultOf(stream.when_closed(), RemoteError)
            self.assert_lives()

    def test_b09_save_to(self) -> None:
        """... and a file that was being saved is not published."""
        path = Path(self.mktemp())
        stream = self.open(Fetch("x"), bytes(8))
        saving = stream.save_to(path)
        self.send(FILE.data(2, self.serial, b"half"), FILE.finish(2, self.serial))
        self.failureResultOf(saving, RemoteError)
        self.assertFalse(path.exists())
        self.assertEqual([p for p in path.parent.iterdir() if p.name.startswith(".rpcstream")], [])

    def test_data_before_the_reply(self) -> None:
        """Data, holes and the end may come before the REPLY: nothing is lost."""
        opening = self.client.open(Fetch("x"))
        serial = self.serial
        self.send(FILE.data(2, serial, b"abc"), hole(2, serial, 3), FILE.data(2, serial, b""))
        self.assertNoResult(opening)
        self.assertEqual(self.sent(STREAM, Status.OK), [])
        self.send(self.reply(2, SIZE))
        reading = self.successResultOf(opening).read(limit_bytes=100)
        self.assertEqual(len(self.sent(STREAM, Status.OK)), 1)
        self.send(FILE.finish(2, serial))
        self.assertEqual(self.successResultOf(reading), b"abc\0\0\0")
        self.assert_lives()

    def test_error_before_the_reply(self) -> None:
        """An error may, too."""
        opening = self.client.open(Fetch("x"))
        self.send(self.stream_error(2), self.reply(2, SIZE))
        self.failureResultOf(self.successResultOf(opening).read(limit_bytes=9), RPCFailed)
        self.assert_lives()

    def test_data_on_an_upload_before_the_reply(self) -> None:
        """Data in the wrong direction fails the opening, and the stream is aborted once it is open."""
        opening = self.client.open(Store("x", 1))
        self.send(FILE.data(3, self.serial, b"abc"), hole(3, self.serial, 7))
        self.assertEqual(self.sent(STREAM, Status.ERROR), [])
        self.send(self.reply(3))
        self.failureResultOf(opening, StreamAborted)
        self.assertEqual(len(self.sent(STREAM, Status.ERROR)), 1)
        self.send(FILE.finish(3, self.serial))
        self.assert_lives()

    def test_data_on_an_upload(self) -> None:
        """The same after it."""
        stream = self.open(Store("x", 1))
        self.send(FILE.data(3, self.serial, b"abc"), FILE.data(3, self.serial, b""))
        self.failureResultOf(stream.finish(), StreamAborted)
        self.assertEqual(len(self.sent(STREAM, Status.ERROR)), 1)

    def test_cancelled_before_the_reply(self) -> None:
        """A late REPLY to a cancelled opening is answered by an abort."""
        opening = self.client.open(Fetch("x"))
        serial = self.serial
        opening.cancel()
        self.failureResultOf(opening, CallCancelled)
        self.send(FILE.data(2, serial, b"abc"), self.reply(2, SIZE), FILE.data(2, serial, b"abc"))
        self.assertEqual(len(self.sent(STREAM, Status.ERROR)), 1)
        self.send(FILE.finish(2, serial))
        self.assertEqual(self.client.link.core.stream_count, 0)
        self.assert_lives()

    def test_cancelled_and_refused(self) -> None:
        """Cancel and refusal crossing leave nothing."""
        opening = self.client.open(Fetch("x"))
        opening.cancel()
        self.failureResultOf(opening, CallCancelled)
        self.send(self.reply(2, self.error, status=Status.ERROR))
        self.assertEqual(
            (self.client.link.core.stream_count, self.client.link.core.pending_call_count), (0, 0)
        )
        self.assert_lives()

    def test_cancelled_after_the_reply(self) -> None:
        """Once it is open, cancelling the opening does nothing: the stream is the caller's."""
        opening = self.client.open(Fetch("x"))
        self.send(self.reply(2, SIZE))
        opening.cancel()
        stream = self.successResultOf(opening)
        self.assertFalse(stream.is_closed)
        stream.abort("enough")
        self.failureResultOf(stream.when_closed(), StreamAborted)

    def test_never_confirmed(self) -> None:
        """A finish or abort that is never answered holds nobody: the stall limit does."""
        stream = self.open(Store("x", 1))
        finishing = stream.finish()
        for _ in range(370):
            self.clock.advance(10)
            self.send(ping(2))
        self.failureResultOf(finishing)
        self.assertIn("peer socket", str(self.failureResultOf(stream.when_closed()).value))

    def test_more_than_the_window(self) -> None:
        """A server that ignores credit loses the stream."""
        stream = self.open(Fetch("x"), SIZE)
        self.send(FILE.data(2, self.serial, bytes(DEFAULT_LIMITS.initial_credit_bytes)))
        self.failureResultOf(stream.read(limit_bytes=1 << 30), RemoteError)
        self.assert_lives()

    def test_hole_where_none_was_agreed_on(self) -> None:
        """The stream fails, the connection lives."""
        stream = self.open(Fetch("x"), SIZE, sparse=False)
        self.send(hole(2, self.serial, 5))
        self.failureResultOf(stream.read(limit_bytes=9), RemoteError)
        self.assert_lives()

    def test_hole_of_all_bytes_there_are(self) -> None:
        """Counting the zeros of a hole of 2^63 holds the reactor for 4 MiB at a time."""
        stream = self.open(Fetch("x"), SIZE)
        counted = [0]

        async def count() -> None:
            async for data in stream:
                counted[0] += len(data)

        counting = Deferred.fromCoroutine(count())
        serial = self.serial
        self.send(hole(2, serial, 2**63 - 1), time=False)
        self.assertLess(counted[0], 64 << 20)
        error = FILE.frame(2, self.error, kind=STREAM, serial=serial, status=Status.ERROR)
        self.send(error, time=False)
        self.clock.advance(0)
        self.failureResultOf(counting, RPCFailed)

    def test_hole_of_all_bytes_to_a_consumer(self) -> None:
        """The same for a consumer that never pauses."""
        stream = self.open(Fetch("x"), SIZE)

        class Counter:
            count = 0

            def registerProducer(self, producer: object, streaming: bool) -> None:
                pass

            def unregisterProducer(self) -> None:
                pass

            def write(self, data: bytes) -> None:
                self.count += len(data)

        counter = Counter()
        delivered = stream.deliver_to(counter)
        serial = self.serial
        self.send(hole(2, serial, 2**63 - 1), time=False)
        self.assertLess(counter.count, 64 << 20)
        self.send(FILE.data(2, serial, b"behind it"), time=False)
        stream.abort("enough")
        self.failureResultOf(delivered, StreamAborted)

    def test_credit_of_a_hostile_server(self) -> None:
        """Credit that overflows is C(credit) here, too."""
        self.open(Store("x", 1))
        payload = flow.Credit.__procedure__.arguments.encode(
            flow.Credit(FILE.program, 1, 3, self.serial, 2**63)
        )
        self.send(FLOW.frame(2, payload, kind=MESSAGE))
        self.assert_closed("credit")


class StockStreamRows(ClientTestCase):
    """Streams of a server that knows no credit."""

    greets = False

    def test_early_data_past_the_spool(self) -> None:
        """Early data that stopped our reading does not do so for ever."""
        opening = self.client.open(Fetch("x"))
        serial = self.serial
        for _ in range(25):
            self.send(FILE.data(2, serial, bytes(200_000)))
        self.assertFalse(self.transport._reading)
        opening.cancel()
        self.failureResultOf(opening, CallCancelled)
        self.assertTrue(self.transport._reading)
        self.send(FILE.frame(2, SIZE, kind=REPLY, serial=serial))
        self.assert_lives()

    def test_half_close(self) -> None:
        """Nothing is sent to a stock peer that would do harm."""
        stream = self.open(Echo())
        self.assertRaises(Unsupported, stream.end)
        stream.abort()
        self.pump()
        self.assertEqual([p for _, p in self.sent(STREAM, Status.ERROR)], [b""])
