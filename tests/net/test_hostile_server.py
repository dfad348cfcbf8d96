"""Rows B of the catalogue: what a client of ours does with a server without manners."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from rpcstream.errors import (
    CallCancelled,
    ConnectionClosed,
    DeadlineExceeded,
    DecodeError,
    EventsLost,
    NameRefused,
    RemoteError,
    RPCFailed,
    StreamAborted,
    Unsupported,
)
from rpcstream.limits import DEFAULT_LIMITS, ERROR_TEXT_BYTES, Limits
from rpcstream.net.calls import Call, DownloadCall
from rpcstream.net.client import ClientConnection
from rpcstream.net.connect import hello
from rpcstream.net.threads import InlineRunner
from rpcstream.programs import flow, transfer
from rpcstream.services.receiving import ReceiveOptions, receive
from rpcstream.storage.pool import Pool
from rpcstream.testing import ConnectedPair, FrameFactory, MemoryTransport, RecordingPeer
from rpcstream.wire.error import decode_error, encode_error
from rpcstream.wire.header import Header, MessageType, Status
from tests.net.files_program import Echo, Fetch, Size, Store, Stored
from tests.net.hostile import FILE, hole, ping

REPLY, STREAM, MESSAGE = MessageType.REPLY, MessageType.STREAM, MessageType.MESSAGE
FLOW = FrameFactory(flow.FLOW.number, flow.FLOW.version)
EVENT = FILE.frame(4, b"\0\0\0\1a\0\0\0", kind=MESSAGE, serial=1)
SIZE = (7).to_bytes(8, "big")


class ClientTestCase(SynchronousTestCase):
    """A client of ours and a server made of frames."""

    limits = Limits(event_queue=5)
    greets = True

    def setUp(self) -> None:
        self.clock = Clock()
        self.client = ClientConnection(self.clock, InlineRunner(), self.limits)
        self.peer = RecordingPeer()
        self.transport, self.server = MemoryTransport("client"), MemoryTransport("raw")
        self.transport.peer, self.server.peer = self.server, self.transport
        self.transport.protocol, self.server.protocol = self.client.link, self.peer
        self.client.link.makeConnection(self.transport)  # type: ignore[no-untyped-call]
        self.lines: list[dict[str, Any]] = []
        globalLogPublisher.addObserver(self.lines.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.lines.append)
        if self.greets:
            greeting = Deferred.fromCoroutine(hello(self.client))
            self.pump()
            welcome = flow.Welcome(1, "raw", 1 << 20, (), ())
            payload = flow.Hello.__procedure__.result.encode(welcome)
            self.send(FLOW.frame(1, payload, kind=REPLY, serial=self.peer.frames[-1][0].serial))
            self.successResultOf(greeting)
        self.peer.frames.clear()

    def tearDown(self) -> None:
        """Nothing that waits is left, and nothing was logged but what the test expects."""
        self.transport.abortConnection()
        self.assertEqual(len(self.client._pending), 0)
        self.assertEqual([call for call in self.clock.getDelayedCalls() if call.active()], [])

    def pump(self, *, time: bool = True) -> None:
        while self.transport.deliver(1 << 40, None) + self.server.deliver(1 << 40, None):
            if time:
                self.clock.advance(0)

    def send(self, *data: bytes, time: bool = True) -> None:
        """Send; without C{time}, what is put off to the next turn of the reactor does not run."""
        self.pump(time=time)
        self.server.write(b"".join(data))
        self.pump(time=time)

    @property
    def serial(self) -> int:
        """Of the last call."""
        self.pump()
        return [header.serial for header, _ in self.peer.frames if header.type == MessageType.CALL][-1]

    def reply(self, procedure: int, payload: bytes = b"", status: int = Status.OK) -> bytes:
        return FILE.frame(procedure, payload, kind=REPLY, serial=self.serial, status=status)

    def sent(self, kind: int, status: int) -> list[tuple[Header, bytes]]:
        return [(h, p) for h, p in self.peer.frames if (h.type, h.status) == (kind, status)]

    def assert_closed(self, code: str) -> None:
        """C(code)."""
        self.assertEqual([line["code"] for line in self.lines if line.get("code") is not None], [code])
        self.assertIn(code, self.successResultOf(self.client.when_closed()))

    def assert_lives(self) -> None:
        call = self.client.call(Size("x"))
        self.send(self.reply(1, SIZE))
        self.assertEqual(self.successResultOf(call), 7)

    def open(self, request: Any, reply: bytes = b"", **options: Any) -> Any:
        """A stream that the server has accepted."""
        opening = self.client.open(request, **options)
        self.send(self.reply(request.__procedure__.number, reply))
        return self.successResultOf(opening)


class ReplyRows(ClientTestCase):
    """B01 to B03, B10: replies."""

    def test_b01_unknown_serial(self) -> None:
        """D, and C(flood) after a hundred."""
        stray = FILE.frame(1, SIZE, kind=REPLY, serial=999)
        self.send(stray * DEFAULT_LIMITS.dropped_messages)
        self.assert_lives()
        self.send(stray)
        self.assert_closed("flood")

    def test_b02_two_replies(self) -> None:
        """The first counts, the second is dropped and counted."""
        call = self.client.call(Size("x"))
        self.send(self.reply(1, SIZE), self.reply(1, bytes(8)))
        self.assertEqual(self.successResultOf(call), 7)
        self.assertEqual(self.client.link.core.dropped_count, 1)
        self.assert_lives()

    def test_b03_wrong_procedure(self) -> None:
        """C(reply-mismatch), and the call fails at once."""
        call = self.client.call(Size("x"))
        self.send(self.reply(2, SIZE))
        self.assertIn("reply-mismatch", str(self.failureResultOf(call, ConnectionClosed).value))
        self.assert_closed("reply-mismatch")

    def test_reply_with_a_status(self) -> None:
        """C(bad-status)."""
        call = self.client.call(Size("x"))
        self.send(self.reply(1, SIZE, status=77))
        self.failureResultOf(call, ConnectionClosed)
        self.assert_closed("bad-status")

    def test_undecodable_result(self) -> None:
        """The call fails with what is wrong, the connection lives."""
        call = self.client.call(Size("x"))
        self.send(self.reply(1, b"abc"))
        self.failureResultOf(call, DecodeError)
        self.assert_lives()

    def test_undecodable_decision(self) -> None:
        """The same for a stream, which is aborted."""
        opening = self.client.open(Fetch("x"))
        self.send(self.reply(2, b"abc"))
        self.failureResultOf(opening, DecodeError)
        self.assertEqual(len(self.sent(STREAM, Status.ERROR)), 1)
        self.assert_lives()

    def test_undecodable_error(self) -> None:
        """An error that cannot be read is an error all the same."""
        call = self.client.call(Size("x"))
        self.send(self.reply(1, b"abc", status=Status.ERROR))
        self.failureResultOf(call, RemoteError)
        self.assert_lives()

    def test_b10_huge_error_text(self) -> None:
        """4 MiB of text are cut to 4 KiB."""
        info = encode_error(RPCFailed("x"))
        text = b"\x1b[2J" * (1 << 20)
        call = self.client.call(Size("x"))
        huge = info[:12] + len(text).to_bytes(4, "big") + text + info[20:]
        self.assertEqual(len(decode_error(huge).message or ""), 4 << 20)
        self.send(self.reply(1, huge, status=Status.ERROR))
        error = self.failureResultOf(call, RemoteError).value
        self.assertLessEqual(len(error.message.encode()), ERROR_TEXT_BYTES)

    def test_call_to_a_client(self) -> None:
        """C(call-to-client)."""
        self.send(FILE.frame(1, b""))
        self.assert_closed("call-to-client")

    def test_garbage_behind_a_reply(self) -> None:
        """The reply counts, then C."""
        call = self.client.call(Size("x"))
        self.send(self.reply(1, SIZE) + bytes(4))
        self.assertEqual(self.successResultOf(call), 7)
        self.assert_closed("len-short")

    def test_garbage_behind_streams(self) -> None:
        """What a stream was told before the garbage is acted on without a traceback."""
        for request, behind in (
            (Fetch("x"), FILE.data(2, 0, b"")),
            (Store("x", 1), FILE.data(3, 0, b"abc")),
            (Echo(), FILE.finish(5, 0)),
        ):
            with self.subTest(request=request):
                case = type(self)("assert_lives")
                case.setUp()
                stream = case.open(request, bytes(8) if isinstance(request, Fetch) else b"")
                serial = case.serial
                case.send(behind[:20] + serial.to_bytes(4, "big") + behind[24:] + bytes(4))
                self.failureResultOf(stream.when_closed())
                self.failureResultOf(case.client.call(Size("x")), ConnectionClosed)
                case.client.emit(Stored("nobody hears it"))
                case.tearDown()

    def test_deadline(self) -> None:
        """A reply that comes too late is dropped; so is that of a cancelled call."""
        late, cancelled = self.client.call(Size("a"), timeout_seconds=5), self.client.call(Size("b"))
        first = self.serial - 1
        cancelled.cancel()
        self.clock.advance(5)
        self.failureResultOf(late, DeadlineExceeded)
        self.failureResultOf(cancelled, CallCancelled)
        self.pump()
        cancels = [p for h, p in self.peer.frames if (h.program, h.procedure) == (FLOW.program, 3)]
        self.assertEqual(len(cancels), 2)
        self.send(*(FILE.frame(1, SIZE, kind=REPLY, serial=serial) for serial in (first, first + 1)))
        self.assertEqual(self.client.link.core.dropped_count, 0)
        self.assert_lives()


class StockReplyRows(ReplyRows):
    """The same before HELLO, as to a stock server: nothing that it does not know is sent."""

    greets = False

    def test_deadline(self) -> None:
        """A cancelled call sends nothing."""
        call = self.client.call(Size("a"))
        serial = self.serial
        call.cancel()
        self.failureResultOf(call, CallCancelled)
        self.pump()
        self.assertEqual(len(self.peer.frames), 1)
        self.send(FILE.frame(1, SIZE, kind=REPLY, serial=serial))
        self.assert_lives()


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


class EventRows(ClientTestCase):
    """B05: events."""

    def test_b05_nobody_asked(self) -> None:
        """D, and C(flood) after a hundred."""
        self.send(EVENT * DEFAULT_LIMITS.dropped_messages)
        self.assert_lives()
        self.send(EVENT)
        self.assert_closed("flood")

    def subscribe(self) -> Any:
        entering = Deferred.fromCoroutine(self.client.events(Stored).__aenter__())
        self.send(FLOW.frame(4, kind=REPLY, serial=self.serial))
        return self.successResultOf(entering)

    def test_b05_more_than_the_queue_holds(self) -> None:
        """The queue is bounded; what was lost is told where it was lost, with the count."""
        events = self.subscribe()
        self.send(EVENT * 1000)
        got = [self.successResultOf(events.__anext__()) for _ in range(5)]
        self.assertEqual(got, [Stored("a")] * 5)
        self.assertEqual(self.failureResultOf(events.__anext__(), EventsLost).value.count, 995)
        waiting = events.__anext__()
        self.send(EVENT)
        self.assertEqual(self.successResultOf(waiting), Stored("a"))

    def test_lost_before_what_came_later(self) -> None:
        """Events that come after a loss are behind it."""
        events = self.subscribe()
        self.send(EVENT * 7)
        self.successResultOf(events.__anext__())
        self.send(EVENT)
        for _ in range(4):
            self.successResultOf(events.__anext__())
        self.assertEqual(self.failureResultOf(events.__anext__(), EventsLost).value.count, 2)
        self.successResultOf(events.__anext__())

    def test_lost_at_the_server(self) -> None:
        """What the server lost is told the same way."""
        events = self.subscribe()
        lost = flow.Lost.__procedure__.arguments.encode(flow.Lost(FILE.program, 1, 4, 42))
        waiting = events.__anext__()
        self.send(FLOW.frame(6, lost, kind=MESSAGE))
        self.assertEqual(self.failureResultOf(waiting, EventsLost).value.count, 42)

    def test_bad_event(self) -> None:
        """C(bad-event), and whoever waits for events hears of it."""
        events = self.subscribe()
        waiting = events.__anext__()
        self.send(FILE.frame(4, b"abc", kind=MESSAGE))
        self.assert_closed("bad-event")
        self.failureResultOf(waiting, ConnectionClosed)
        self.failureResultOf(events.__anext__(), ConnectionClosed)
        self.successResultOf(Deferred.fromCoroutine(events.__aexit__(None, None, None)))

    def test_bad_lost(self) -> None:
        """The same for the message that tells of losses."""
        self.send(FLOW.frame(6, b"abc", kind=MESSAGE))
        self.assert_closed("bad-event")

    def test_after_unsubscribing(self) -> None:
        """Events that cross the unsubscription are fine; those after it make no sense."""
        got: list[Stored] = []
        subscription = self.client.subscribe(Stored, got.append)
        self.send(FLOW.frame(4, kind=REPLY, serial=self.serial))
        self.successResultOf(subscription.confirmed)
        leaving = subscription.cancel()
        self.successResultOf(subscription.cancel())
        self.send(EVENT * 300)
        self.assertEqual((got, self.client.link.core.dropped_count), ([], 0))
        self.send(FLOW.frame(5, kind=REPLY, serial=self.serial))
        self.successResultOf(leaving)
        self.send(EVENT)
        self.assertEqual(self.client.link.core.dropped_count, 1)

    def test_refused(self) -> None:
        """A subscription that is refused leaves nothing."""
        entering = Deferred.fromCoroutine(self.client.events(Stored).__aenter__())
        refusal = encode_error(RPCFailed("no"))
        self.send(FLOW.frame(4, refusal, kind=REPLY, serial=self.serial, status=Status.ERROR))
        self.failureResultOf(entering, RPCFailed)
        self.assertEqual(self.client._subscriptions, {})

    def test_cancelled(self) -> None:
        """One that is cancelled is taken back at the server, which may have heard of it."""
        subscription = self.client.subscribe(Stored, lambda event: None)
        subscription.confirmed.cancel()
        self.failureResultOf(subscription.confirmed, CallCancelled)
        unsubscribe = self.serial
        self.send(FLOW.frame(5, kind=REPLY, serial=unsubscribe))
        self.assertEqual(self.client._subscriptions, {})

    def test_two_of_a_kind(self) -> None:
        """Two subscribers get the same events; one that fails does not harm the other."""
        got: list[Stored] = []

        def fail(event: Stored) -> None:
            raise ZeroDivisionError

        for callback in (fail, got.append):
            self.client.subscribe(Stored, callback)
            self.send(FLOW.frame(4, kind=REPLY, serial=self.serial))
        self.send(EVENT)
        self.assertEqual(got, [Stored("a")])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)


class LostTests(ClientTestCase):
    """After the end."""

    def test_all_fails(self) -> None:
        """Everything asked for on a closed connection fails at once with the reason."""
        subscription = self.client.subscribe(Stored, lambda event: None)
        pending = self.client.call(Size("x"))
        stream = self.open(Echo())
        closing = self.client.close()
        self.assertTrue(stream.is_closed)
        self.failureResultOf(self.client.call(Size("x")), ConnectionClosed)
        self.pump()
        self.successResultOf(closing)
        for deferred in (
            pending,
            subscription.confirmed,
            self.client.call(Size("x")),
            self.client.open(Echo()),
        ):
            self.assertIn("closed by this side", str(self.failureResultOf(deferred, ConnectionClosed).value))
        self.client.emit(Stored("nobody hears it"))
        self.assertEqual(self.successResultOf(self.client.close()), None)

    def test_peer_never_closes(self) -> None:
        """A peer that does not read is given C{close_seconds}, then the connection is aborted."""
        self.server.pauseProducing()
        self.client.call(Size("x")).addErrback(lambda _: None)
        closing = self.client.close()
        self.transport.deliver(1 << 20, None)
        self.clock.advance(self.limits.close_seconds - 0.1)
        self.assertNoResult(closing)
        self.clock.advance(0.2)
        self.successResultOf(closing)

    def test_half_closed(self) -> None:
        """A server that sends no more has ended the connection for its client."""
        call = self.client.call(Size("x"))
        self.pump()
        self.client.link.readConnectionLost()
        self.client.link.writeConnectionLost()
        self.pump()
        self.failureResultOf(call, ConnectionClosed)
        self.assert_closed("truncated")

    def test_before_there_is_a_transport(self) -> None:
        """A connection that is none yet fails calls and closes."""
        client = ClientConnection(self.clock, InlineRunner())
        self.failureResultOf(client.call(Size("x")), ConnectionClosed)
        client.link.close("never mind")
        client.link.abort("never mind")


ID = bytes(range(16))


class Offering:
    """A source that offers one thing and sends another."""

    def __init__(self, size: int, *pieces: bytes | int, digest: bytes | None = bytes(32)) -> None:
        self.size, self.pieces, self.digest = size, pieces, digest

    @transfer.Outgoing.responder
    async def outgoing(self, call: DownloadCall[transfer.Offer], request: transfer.Outgoing) -> None:
        offer = transfer.Offer(
            self.size, transfer.SourceKind.FILE, True, 0o600, 1 << 16, transfer.Lane.SHARED
        )
        stream = call.accept(offer, sparse=True)
        for piece in self.pieces:
            await (stream.send_hole(piece) if isinstance(piece, int) else stream.send(piece))

    @transfer.Commit.responder
    def commit(self, call: Call, request: transfer.Commit) -> transfer.Committed:
        return transfer.Committed(True, self.digest, b"")


class TransferRows(SynchronousTestCase):
    """B06 to B08: a server that serves something else than it says; nothing is published here."""

    def assert_unpublished(self, server: Offering, target: str = "here") -> Exception:
        folder = Path(self.mktemp())
        folder.mkdir()
        pool = Pool(folder)
        self.addCleanup(pool.close)
        pair = ConnectedPair(server)
        fetching = Deferred.fromCoroutine(
            receive(pair.client, pool, ReceiveOptions("there", target, ID), InlineRunner())
        )
        results: list[Failure] = []
        fetching.addErrback(results.append)
        pair.pump()
        error = results[0].value
        self.assertEqual([path.name for path in folder.iterdir()], [".rpcstream"])
        self.assertEqual(pair.client.link.core.stream_count, 0)
        self.flushLoggedErrors(StreamAborted)
        return error  # type: ignore[no-any-return]

    def test_b06_huge_sizes(self) -> None:
        """A size that no file can have is an error, not an allocation."""
        for size in (2**64 - 1, 2**63, 2**62):
            self.assert_unpublished(Offering(size, b"abc"))

    def test_b07_names(self) -> None:
        """A target that is no plain name is refused here, before anything is asked."""
        for name in ("../x", "/etc/x", ".hidden", "a/b"):
            self.assertIsInstance(self.assert_unpublished(Offering(1, b"a"), name), NameRefused)

    def test_b08_more_than_offered(self) -> None:
        """One byte more, or a hole past the end."""
        self.assert_unpublished(Offering(3, b"abcd"))
        self.assert_unpublished(Offering(3, b"abc", 1))
        self.assert_unpublished(Offering(3, 1 << 40))

    def test_less_than_offered(self) -> None:
        """One byte less."""
        self.assert_unpublished(Offering(3, b"ab"))

    def test_another_digest(self) -> None:
        """The digest of something else, or none."""
        self.assert_unpublished(Offering(3, b"abc"))
        self.assert_unpublished(Offering(3, b"abc", digest=None))
