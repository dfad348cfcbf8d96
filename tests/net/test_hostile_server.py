"""Rows B of the catalogue: what a client of ours does with a server without manners."""

from __future__ import annotations

from rpcstream.errors import (
    CallCancelled,
    ConnectionClosed,
    DeadlineExceeded,
    DecodeError,
    RemoteError,
    RPCFailed,
)
from rpcstream.limits import DEFAULT_LIMITS, ERROR_TEXT_BYTES
from rpcstream.wire.error import decode_error, encode_error
from rpcstream.wire.header import Status
from tests.net.files_program import Echo, Fetch, Size, Store, Stored
from tests.net.hostile import FILE
from tests.net.hostile_server import FLOW, REPLY, SIZE, STREAM, ClientTestCase


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
