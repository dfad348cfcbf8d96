"""Calls, replies and messages between a client and a server."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from rpcstream.core.connection import Connection
from rpcstream.core.events import (
    CallReceived,
    MessageReceived,
    ReplyFailed,
    ReplyReceived,
)
from rpcstream.errors import AccessDenied, BadState, BadValue, RPCFailed
from rpcstream.limits import DEFAULT_LIMITS, MESSAGE_BYTES
from rpcstream.wire.error import decode_error
from rpcstream.wire.header import HEADER_BYTES, Header

from .support import (
    CALL,
    CONTINUE,
    ERROR,
    MESSAGE,
    OK,
    PROCEDURE,
    PROGRAM,
    REPLY,
    STREAM,
    VERSION,
    Pair,
    failure,
    frames,
    only,
    raw,
)

LARGEST = MESSAGE_BYTES - HEADER_BYTES


class CallTests(SynchronousTestCase):
    """Calls and their replies."""

    def test_call_and_reply(self) -> None:
        """Arguments there, results back; the numbers are echoed."""
        pair = Pair()
        received = pair.call(b"args")
        self.assertEqual(received.payload, b"args")
        self.assertEqual(received.header, Header(32, PROGRAM, VERSION, PROCEDURE, 0, 0, 0))
        self.assertEqual((pair.client.pending_call_count, pair.server.unanswered_call_count), (1, 1))
        reply = only(pair.to_client(pair.server.reply(received.header, b"ret")), ReplyReceived)
        self.assertEqual((reply.payload, reply.stream, reply.header.serial), (b"ret", None, 0))
        self.assertEqual((pair.client.pending_call_count, pair.server.unanswered_call_count), (0, 0))

    def test_error_reply(self) -> None:
        """An error arrives with its fields."""
        pair = Pair()
        received = pair.call()
        sent = pair.server.reply_error(received.header, AccessDenied("no", int1=5))
        error = only(pair.to_client(sent), ReplyFailed).error
        self.assertEqual((error.code, error.message, error.int1), (88, "no", 5))

    def test_out_of_order(self) -> None:
        """Replies may come in any order (1.5)."""
        pair = Pair()
        calls = [pair.call(bytes([n])) for n in range(3)]
        for call in reversed(calls):
            reply = only(pair.to_client(pair.server.reply(call.header, call.payload)), ReplyReceived)
            self.assertEqual(reply.payload, bytes([reply.header.serial]))

    def test_serials(self) -> None:
        """From 0 up; after 2**32 - 1 comes 0 again, but none that is alive (H19)."""
        client = Connection(True, first_serial=2**32 - 2)
        serials = [client.call(PROGRAM, VERSION, PROCEDURE, b"")[0] for _ in range(3)]
        self.assertEqual(serials, [2**32 - 2, 2**32 - 1, 0])
        client = Connection(True)
        client.call(PROGRAM, VERSION, PROCEDURE, b"", opens_stream=True)
        client.receive(raw(REPLY))  # stream 0 stays open
        client.call(PROGRAM, VERSION, PROCEDURE, b"")  # call 1 stays unanswered
        client._calling._next_serial = 0
        self.assertEqual(client.call(PROGRAM, VERSION, PROCEDURE, b"")[0], 2)

    def test_one_reply_each(self) -> None:
        """A second reply, and a reply to what nobody asked, are our mistakes."""
        pair = Pair()
        header = pair.call().header
        self.assertRaises(BadState, pair.server.reply, header._replace(procedure=9), b"")
        pair.server.reply(header, b"")
        self.assertRaises(BadState, pair.server.reply, header, b"")
        self.assertRaises(BadState, pair.server.reply_error, header, RPCFailed("x"))
        self.assertRaises(BadState, pair.server.accept, header, b"")

    def test_reply_too_large(self) -> None:
        """n fits, n + 1 is refused and the call can still be answered."""
        pair = Pair()
        self.assertEqual(len(pair.server.reply(pair.call().header, bytes(LARGEST))), MESSAGE_BYTES)
        header = pair.call().header
        self.assertRaises(BadValue, pair.server.reply, header, bytes(LARGEST + 1))
        self.assertRaises(BadValue, pair.server.accept, header, bytes(LARGEST + 1))
        self.assertEqual(len(pair.server.streams), 0)
        pair.server.reply_error(header, RPCFailed("Unable to encode message payload"))

    def test_call_too_large_or_of_no_number(self) -> None:
        """What does not fit takes no serial and leaves nothing behind."""
        client = Connection(True)
        self.assertRaises(BadValue, client.call, PROGRAM, VERSION, PROCEDURE, bytes(LARGEST + 1))
        self.assertRaises(BadValue, client.call, -1, VERSION, PROCEDURE, b"", opens_stream=True)
        self.assertEqual((client.pending_call_count, client.stream_count), (0, 0))
        self.assertEqual(client.call(PROGRAM, VERSION, PROCEDURE, b"")[0], 0)

    def test_roles(self) -> None:
        """Only the connecting side calls; only the other one replies."""
        pair = Pair()
        header = pair.call().header
        self.assertRaises(BadState, pair.server.call, PROGRAM, VERSION, PROCEDURE, b"")
        self.assertRaises(BadState, pair.client.reply, header, b"")
        self.assertRaises(BadState, pair.client.accept, header, b"")

    def test_body_in_single_bytes(self) -> None:
        """Put together from single bytes without an object per byte."""
        pair = Pair(slice_bytes=1)
        self.assertEqual(pair.call(b"0123456789" * 100).payload, b"0123456789" * 100)

    def test_views(self) -> None:
        """A body from memoryviews is bytes of its own."""
        buffer = bytearray(raw(CALL, payload=b"args"))
        received = only(Connection(False).receive(memoryview(buffer)), CallReceived)
        buffer[:] = bytes(len(buffer))
        self.assertEqual(received.payload, b"args")
        self.assertIs(type(received.payload), bytes)

    def test_counters(self) -> None:
        """pending, body_pending_bytes and activity while a call, then a packet, comes."""
        server = Connection(False)
        call = raw(CALL, payload=bytes(100))
        server.receive(call[:2])
        self.assertEqual((server.pending, server.body_pending_bytes), ("length", 0))
        server.receive(call[2:38])
        self.assertEqual(
            (server.pending, server.body_pending_bytes, server.body_received_bytes), ("body", 100, 10)
        )
        server.receive(call[38:50])
        self.assertEqual((server.body_received_bytes, server.activity), (22, 0))
        (received,) = server.receive(call[50:])
        assert isinstance(received, CallReceived)
        self.assertEqual(
            (server.pending, server.body_pending_bytes, server.body_received_bytes), (None, 0, 0)
        )
        self.assertEqual(server.activity, 1)
        server.accept(received.header, b"")
        server.receive(raw(STREAM, CONTINUE, b"abc")[:29])
        self.assertEqual((server.pending, server.activity), ("stream", 2))
        server.receive(b"b")
        self.assertEqual((server.pending, server.activity), ("stream", 3))
        self.assertTrue(server.is_within_stream_data)
        self.assertEqual((server.opener, server.message_count), (False, 2))


class AdmitTests(SynchronousTestCase):
    """Who may call what is decided on the header."""

    def test_limits(self) -> None:
        """A payload of n - 1 and n is read, of n + 1 is not."""
        for size, fits in ((9, True), (10, True), (11, False)):
            server = Connection(False, admit=lambda header: 10)
            events = server.receive(raw(CALL, payload=bytes(size)))
            self.assertEqual([type(event) for event in events], [CallReceived] if fits else [])
            if not fits:
                ((header, payload),) = frames(server.take_outgoing())
                self.assertEqual((header.type, header.status), (REPLY, ERROR))
                error = decode_error(payload)
                self.assertEqual((error.code, error.message), (39, "Unable to decode message payload"))

    def test_asked_before_the_body(self) -> None:
        """admit sees the header as soon as it is there; the answer waits for the body's end."""
        asked: list[Header] = []

        def admit(header: Header) -> AccessDenied:
            asked.append(header)
            return AccessDenied("not yours")

        server = Connection(False, admit=admit)
        call = raw(CALL, payload=bytes(1000), serial=3)
        server.receive(call[:28])
        self.assertEqual(len(asked), 1)
        server.receive(call[28:1000])
        self.assertEqual((server.body_pending_bytes, server.body_received_bytes, server.outgoing), (0, 0, []))
        self.assertEqual(server.receive(call[1000:]), [])
        ((header, payload),) = frames(server.take_outgoing())
        self.assertEqual(header[1:], (PROGRAM, VERSION, PROCEDURE, REPLY, 3, ERROR))
        self.assertEqual(decode_error(payload).code, 88)
        self.assertEqual(server.outgoing, [])

    def test_next_call_is_free_of_it(self) -> None:
        """A refusal does not stick."""
        answers: list[int | RPCFailed] = [RPCFailed("unknown procedure: 9"), 100]
        server = Connection(False, admit=lambda header: answers.pop(0))
        self.assertEqual(server.receive(raw(CALL, serial=1, procedure=9)), [])
        only(server.receive(raw(CALL, serial=1)), CallReceived)
        self.assertEqual(len(server.take_outgoing()), 1)


class MessageTests(SynchronousTestCase):
    """Messages, both ways."""

    def test_both_ways(self) -> None:
        """Events go either way; the serial means nothing."""
        pair = Pair()
        event = only(
            pair.to_server(pair.client.message(PROGRAM, VERSION, 4, b"x", serial=1)), MessageReceived
        )
        self.assertEqual((event.payload, event.header.procedure), (b"x", 4))
        only(pair.to_client(pair.server.message(PROGRAM, VERSION, 4, b"")), MessageReceived)

    def test_admit_message(self) -> None:
        """n is read, n + 1 and what is not wanted are dropped and counted."""
        server = Connection(False)
        server.admit_message = lambda header: 10 if header.procedure == 4 else None
        assert server.admit_message is not None
        only(server.receive(raw(MESSAGE, OK, bytes(10), procedure=4)), MessageReceived)
        self.assertEqual(server.receive(raw(MESSAGE, OK, bytes(11), procedure=4)), [])
        self.assertEqual(server.receive(raw(MESSAGE, OK, procedure=5)), [])
        self.assertEqual(server.dropped_count, 2)

    def test_count_dropped(self) -> None:
        """What the user cannot use counts as well; one too many fails what comes next."""
        server = Connection(False)
        for _ in range(DEFAULT_LIMITS.dropped_messages):
            server.count_dropped()
        only(server.receive(raw(MESSAGE)), MessageReceived)
        server.count_dropped()
        self.assertEqual(failure(server.receive(raw(MESSAGE))), "flood")
