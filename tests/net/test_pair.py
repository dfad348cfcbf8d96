"""Calls, streams and events between a client and a server in memory."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from rpcstream.errors import (
    AccessDenied,
    CallCancelled,
    ConnectionClosed,
    DeadlineExceeded,
    InternalError,
    OperationAborted,
    StreamAborted,
)
from rpcstream.limits import Limits
from rpcstream.services.policy import allow
from rpcstream.testing import ConnectedPair
from tests.net.files_program import (
    Echo,
    Fetch,
    FileServer,
    NoSuchFile,
    Noted,
    Size,
    Sleep,
    Store,
    Stored,
)


class CallTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.files = FileServer()
        self.files.files["disk"] = b"x" * 1000
        self.pair = ConnectedPair(self.files)

    def test_call(self) -> None:
        """A call is answered with its result."""
        self.assertEqual(self.pair.result_of(self.pair.client.call(Size("disk"))), 1000)

    def test_typed_error(self) -> None:
        """A responder's typed error arrives as its class, with its fields."""
        error = self.assertRaises(NoSuchFile, self.pair.result_of, self.pair.client.call(Size("absent")))
        self.assertEqual((error.message, error.str1), ("no file absent", "absent"))

    def test_internal_error(self) -> None:
        """A bug in a responder tells the caller an id and nothing else."""
        error = self.assertRaises(InternalError, self.pair.result_of, self.pair.client.call(Size("bug")))
        self.assertIn("internal error", error.message)
        self.assertNotIn("secret", error.message)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_deadline(self) -> None:
        """A call without an answer fails when its time is over, and the responder is cancelled."""
        call = self.pair.client.call(Sleep(), timeout_seconds=5)
        self.pair.pump()
        self.pair.clock.advance(4)
        self.assertNoResult(call)
        self.pair.clock.advance(2)
        self.failureResultOf(call, DeadlineExceeded)
        self.pair.pump()
        self.assertEqual(self.files.cancelled, 1)

    def test_cancel(self) -> None:
        """Cancelling a call cancels its responder; the connection goes on."""
        call = self.pair.client.call(Sleep())
        self.pair.pump()
        call.cancel()
        self.failureResultOf(call, CallCancelled)
        self.pair.pump()
        self.assertEqual(self.files.cancelled, 1)
        self.assertEqual(self.pair.result_of(self.pair.client.call(Size("disk"))), 1000)

    def test_cut_tells_all(self) -> None:
        """A lost connection fails every pending call, saying that it may have run."""
        calls = [self.pair.client.call(Sleep()) for _ in range(3)]
        self.pair.pump()
        self.pair.cut()
        for call in calls:
            self.assertTrue(self.failureResultOf(call, ConnectionClosed).value.may_have_run)
        self.failureResultOf(self.pair.client.call(Size("disk")), ConnectionClosed)
        self.assertEqual(self.files.cancelled, 3)

    def test_parked_calls(self) -> None:
        """More calls than may run wait, and run when others end."""
        pair = ConnectedPair(self.files, limits=Limits(running_calls=2))
        calls = [pair.client.call(Sleep()) for _ in range(5)]
        pair.pump()
        self.assertEqual(len(self.files.sleeping), 2)
        for sleeping in list(self.files.sleeping):
            sleeping.callback(None)
        pair.pump()
        self.assertEqual(len(self.files.sleeping), 4)
        self.assertEqual([call.called for call in calls], [True, True, False, False, False])

    def test_denied(self) -> None:
        """What the policy does not allow is refused before the arguments are looked at."""
        pair = ConnectedPair(self.files, principal="eve", policy=allow(alice={"files.read"}))
        self.assertRaises(AccessDenied, pair.result_of, pair.client.call(Size("disk")))

    def test_message_to_server(self) -> None:
        """Events go to the server too."""
        self.pair.client.emit(Noted("hello"))
        self.pair.pump()
        self.assertEqual(self.files.noted, ["hello"])

    def test_close(self) -> None:
        """A closed connection says so, once, and never fails."""
        closed = self.pair.client.when_closed()
        self.pair.result_of(self.pair.client.close())
        self.assertEqual(self.successResultOf(closed), "closed by this side")


class StreamTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.files = FileServer()
        self.content = bytes(range(256)) * 40_000
        self.files.files["disk"] = self.content
        self.pair = ConnectedPair(self.files)

    def test_download(self) -> None:
        """A download delivers everything, past the credit of one window."""
        stream = self.pair.result_of(self.pair.client.open(Fetch("disk")))
        self.assertEqual(stream.reply, len(self.content))
        self.assertEqual(self.pair.result_of(stream.read(limit_bytes=1 << 30)), self.content)
        self.assertEqual(self.pair.client.link.core.stream_count, 0)
        self.assertEqual(self.pair.server.link.core.stream_count, 0)

    def test_upload(self) -> None:
        """An upload is confirmed when the responder has returned."""

        async def upload() -> None:
            async with self.pair.client.open(Store("up", len(self.content))) as stream:
                await stream.send(self.content)

        self.pair.result_of(Deferred.fromCoroutine(upload()))
        self.assertEqual(self.files.files["up"], self.content)
        self.assertEqual(self.pair.server.link.core.stream_count, 0)

    def test_upload_in_small_slices(self) -> None:
        """The cut of the bytes on their way makes no difference."""
        self.pair.set_path(slice_bytes=7)

        async def upload() -> None:
            async with self.pair.client.open(Store("up", 100_000)) as stream:
                for start in range(0, 100_000, 999):
                    await stream.send(self.content[start : min(start + 999, 100_000)])

        self.pair.result_of(Deferred.fromCoroutine(upload()))
        self.assertEqual(self.files.files["up"], self.content[:100_000])

    def test_hole(self) -> None:
        """A hole costs 40 bytes on the wire and arrives as zeros."""

        async def upload() -> None:
            async with self.pair.client.open(Store("up", 1 << 20)) as stream:
                await stream.send(b"a")
                await stream.send_hole(1000)
                await stream.send(b"b")

        before = self.pair.client_transport.written_bytes
        self.pair.result_of(Deferred.fromCoroutine(upload()))
        self.assertEqual(self.files.files["up"], b"a" + bytes(1000) + b"b")
        self.assertLess(self.pair.client_transport.written_bytes - before, 300)

    def test_refused(self) -> None:
        """A responder that raises before it accepts refuses the stream."""
        self.assertRaises(NoSuchFile, self.pair.result_of, self.pair.client.open(Fetch("absent")))

    def test_upload_aborted(self) -> None:
        """Leaving by an exception aborts, and the responder hears the reason."""

        async def upload() -> None:
            async with self.pair.client.open(Store("up", 100)) as stream:
                await stream.send(b"half")
                raise ValueError("changed my mind")

        self.assertRaises(ValueError, self.pair.result_of, Deferred.fromCoroutine(upload()))
        self.pair.pump()
        self.assertNotIn("up", self.files.files)
        (error,) = self.files.ended_with
        assert isinstance(error, StreamAborted)
        self.assertEqual((error.reason, error.by), ("changed my mind", "peer"))

    def test_upload_refused_late(self) -> None:
        """A responder that fails in mid-stream fails the sender with its reason."""

        async def upload() -> None:
            async with self.pair.client.open(Store("up", 10)) as stream:
                await stream.send(b"much too long for this")

        error = self.assertRaises(OperationAborted, self.pair.result_of, Deferred.fromCoroutine(upload()))
        self.assertIn("longer than 10 bytes", error.message)
        self.assertNotIn("up", self.files.files)

    def test_reader_leaves(self) -> None:
        """A reader that leaves early ends the stream on both sides."""

        async def download() -> bytes:
            async with self.pair.client.open(Fetch("disk")) as stream:
                async for data in stream:
                    return data
            return b""

        self.assertTrue(self.pair.result_of(Deferred.fromCoroutine(download())))
        self.pair.pump()
        self.assertEqual(self.pair.server.link.core.stream_count, 0)

    def test_duplex(self) -> None:
        """Both directions of a duplex stream work, and half-close."""

        async def talk() -> bytes:
            async with self.pair.client.open(Echo()) as stream:
                await stream.send(b"hello")
                stream.end()
                return b"".join([data async for data in stream])

        self.assertEqual(self.pair.result_of(Deferred.fromCoroutine(talk())), b"hello")
        self.assertEqual(self.pair.server.link.core.stream_count, 0)

    def test_cut(self) -> None:
        """A cut fails the reader of a stream, and nothing hangs."""
        stream = self.pair.result_of(self.pair.client.open(Fetch("disk")))
        self.pair.cut()

        async def read() -> None:
            async for _ in stream:
                pass

        self.assertRaises(ConnectionClosed, self.pair.result_of, Deferred.fromCoroutine(read()))

    def test_slow_reader_stalls_nobody(self) -> None:
        """A stream whose reader waits holds one window, and calls are answered."""
        stream = self.pair.result_of(self.pair.client.open(Fetch("disk")))
        self.pair.pump()
        held = stream._spool.byte_count
        self.assertLessEqual(held, self.pair.client.limits.initial_credit_bytes)
        self.assertGreater(held, self.pair.client.limits.initial_credit_bytes // 2)
        self.assertEqual(self.pair.result_of(self.pair.client.call(Size("disk"))), len(self.content))
        self.assertEqual(self.pair.result_of(stream.read(limit_bytes=1 << 30)), self.content)


class EventTests(SynchronousTestCase):
    def test_events(self) -> None:
        """A subscriber gets events in order, and none after it left."""
        pair = ConnectedPair(FileServer())

        async def follow() -> list[str]:
            names = []
            async with pair.client.events(Stored) as events:
                for name in ("a", "b"):
                    async with pair.client.open(Store(name, 0)):
                        pass
                async for event in events:
                    names.append(event.name)
                    if len(names) == 2:
                        break
            return names

        self.assertEqual(pair.result_of(Deferred.fromCoroutine(follow())), ["a", "b"])
        self.assertEqual(pair.server.subscriptions, set())
