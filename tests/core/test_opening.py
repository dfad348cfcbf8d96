"""Calls that open streams, and calls that were cancelled."""

from __future__ import annotations

from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from rpcstream.core.connection import Connection
from rpcstream.core.events import (
    ReplyFailed,
    ReplyReceived,
    StreamAborted,
    StreamFailed,
)
from rpcstream.core.states import StreamState
from rpcstream.errors import BadState, ResourceBusy, RPCFailed
from rpcstream.limits import DEFAULT_LIMITS
from rpcstream.wire.error import decode_error

from .support import (
    CONTINUE,
    ERROR,
    OK,
    PROCEDURE,
    PROGRAM,
    REPLY,
    STREAM,
    VERSION,
    Pair,
    frames,
    only,
    raw,
)


class ForgetTests(SynchronousTestCase):
    """Calls that were cancelled on this side."""

    def test_late_reply(self) -> None:
        """It is discarded without being put together, and is not counted as senseless."""
        for answer in ("reply", "error"):
            pair = Pair()
            header = pair.call().header
            pair.client.forget_call(0)
            self.assertEqual(pair.client.pending_call_count, 0)
            server = pair.server
            sent = (
                server.reply(header, bytes(99))
                if answer == "reply"
                else server.reply_error(header, RPCFailed())
            )
            pair.client.receive(sent[:50])
            self.assertEqual(pair.client.body_received_bytes, 0)
            self.assertEqual(pair.client.receive(sent[50:]), [])
            self.assertEqual((pair.client.dropped_count, pair.client.outgoing), (0, []))

    def test_serial_stays_taken(self) -> None:
        """A tombstone until the reply."""
        client = Connection(True)
        client.call(PROGRAM, VERSION, PROCEDURE, b"")
        client.forget_call(0)
        client._calling._next_serial = 0
        self.assertEqual(client.call(PROGRAM, VERSION, PROCEDURE, b"")[0], 1)
        client.receive(raw(REPLY))
        client._calling._next_serial = 0
        self.assertEqual(client.call(PROGRAM, VERSION, PROCEDURE, b"")[0], 0)

    def test_late_stream_is_aborted(self) -> None:
        """A late REPLY/OK of an opening call is answered by an abort; the server hears it."""
        pair = Pair()
        received = pair.call(opens_stream=True)
        pair.client.forget_call(0)
        stream, accepted = pair.server.accept(received.header, b"")
        self.assertEqual(pair.to_client(accepted, pair.server.send_data(stream, b"x")), [])
        ((header, payload),) = frames(pair.client.outgoing)
        self.assertEqual((header.type, header.status, payload), (STREAM, ERROR, b""))
        at_client, at_server = pair.settle()
        self.assertEqual((at_client, at_server), ([], [StreamAborted(stream, "")]))
        self.assertEqual((pair.client.stream_count, pair.server.stream_count), (0, 0))

    def test_late_refusal_of_a_stream(self) -> None:
        """A late REPLY/ERROR leaves nothing."""
        pair = Pair()
        received = pair.call(opens_stream=True)
        pair.client.forget_call(0)
        self.assertEqual(pair.to_client(pair.server.reply_error(received.header, RPCFailed())), [])
        self.assertEqual((pair.client.outgoing, pair.client.stream_count), ([], 0))

    def test_data_before_the_late_reply(self) -> None:
        """Data that came before (2.3) is dropped, from the moment of the cancel on."""
        client = Connection(True)
        client.call(PROGRAM, VERSION, PROCEDURE, b"", opens_stream=True)
        data = raw(STREAM, CONTINUE, b"abcd")
        self.assertEqual(len(client.receive(data[:30])), 1)
        client.forget_call(0)
        self.assertEqual(client.receive(data[30:] + data + raw(STREAM, CONTINUE) + raw(STREAM, ERROR)), [])
        self.assertEqual(client.receive(raw(REPLY)), [])
        self.assertEqual((client.outgoing, client.stream_count), ([], 0))

    def test_only_waiting_calls(self) -> None:
        """Twice, or one that is answered, is our mistake."""
        pair = Pair()
        header = pair.call().header
        pair.client.forget_call(0)
        self.assertRaises(BadState, pair.client.forget_call, 0)
        pair.to_client(pair.server.reply(header, b""))
        self.assertRaises(BadState, pair.client.forget_call, 0)
        self.assertRaises(BadState, pair.client.forget_call, 7)

    def test_forgotten_within_its_reply(self) -> None:
        """Cancelled while its reply comes: not delivered."""
        client = Connection(True)
        client.call(PROGRAM, VERSION, PROCEDURE, b"")
        reply = raw(REPLY, OK, bytes(10))
        client.receive(reply[:30])
        client.forget_call(0)
        self.assertEqual(client.receive(reply[30:]), [])


class OpeningTests(SynchronousTestCase):
    """Calls that open streams."""

    def test_open(self) -> None:
        """The stream is there from the call on, and comes with the reply."""
        pair = Pair()
        received = pair.call(opens_stream=True)
        self.assertEqual(pair.client.streams[0].state, StreamState.OPENING)
        stream, sent = pair.server.accept(received.header, b"ret")
        reply = only(pair.to_client(sent), ReplyReceived)
        assert reply.stream is not None
        self.assertIs(reply.stream, pair.client.streams[0])
        self.assertEqual(stream.key, pair.client.streams[0].key)
        self.assertEqual((stream.opener, reply.stream.opener), (False, True))
        self.assertIn("serial", repr(stream.key))
        self.assertIn("acceptor OPEN", repr(stream))

    def test_refused(self) -> None:
        """No stream."""
        pair = Pair()
        received = pair.call(opens_stream=True)
        stream = pair.client.streams[0]
        only(pair.to_client(pair.server.reply_error(received.header, RPCFailed("no"))), ReplyFailed)
        self.assertEqual((pair.client.stream_count, stream.state), (0, StreamState.CLOSED))

    def test_nothing_is_sent_before_the_reply(self) -> None:
        """Fact 0.1: our own data before REPLY is impossible to write."""
        client = Connection(True)
        client.call(PROGRAM, VERSION, PROCEDURE, b"", opens_stream=True)
        stream = client.streams[0]
        self.assertEqual(client.sendable_bytes(stream), 0)
        for send in (client.end, client.finish, client.abort):
            self.assertRaises(BadState, send, stream)
        self.assertRaises(BadState, client.send_data, stream, b"x")

    def test_stream_limit(self) -> None:
        """S19: n streams, and the n + 1st is ResourceBusy, which the call can be answered with."""
        pair = Pair(replace(DEFAULT_LIMITS, streams=2))
        streams = [pair.open() for _ in range(2)]
        received = pair.call(opens_stream=True)
        error = self.assertRaises(ResourceBusy, pair.server.accept, received.header, b"")
        self.assertIn("too many streams", str(error))
        pair.to_client(pair.server.reply_error(received.header, error))
        pair.to_server(pair.client.abort(streams[0][0]))
        pair.settle()
        pair.open()

    def test_failed_before_the_reply(self) -> None:
        """A STREAM/ERROR that overtakes the REPLY is told after it."""
        client = Connection(True)
        client.call(PROGRAM, VERSION, PROCEDURE, b"", opens_stream=True)
        self.assertEqual(client.receive(raw(STREAM, ERROR, b"?") + raw(STREAM, CONTINUE, b"late")), [])
        reply, failed = client.receive(raw(REPLY))
        assert isinstance(reply, ReplyReceived) and isinstance(failed, StreamFailed)
        self.assertIs(reply.stream, failed.stream)
        self.assertEqual((failed.code, failed.stream.state), ("", StreamState.CLOSED))
        self.assertEqual(client.outgoing, [])

    def test_broken_before_the_reply(self) -> None:
        """A rule broken before the REPLY is answered after it, by an abort."""
        for bad, code, text in (
            (raw(STREAM, 77), "status", "unexpected status 77"),
            (raw(STREAM, CONTINUE) + raw(STREAM, CONTINUE, b"x"), "after-end", "after the end of data"),
        ):
            client = Connection(True)
            client.peer_is_rpcstream = True
            client.call(PROGRAM, VERSION, PROCEDURE, b"", opens_stream=True)
            client.receive(bad + raw(STREAM, CONTINUE, b"more"))
            self.assertEqual(client.outgoing, [])
            reply, failed = client.receive(raw(REPLY))
            assert isinstance(reply, ReplyReceived) and isinstance(failed, StreamFailed)
            self.assertEqual(failed.code, code)
            ((header, payload),) = frames(client.take_outgoing())
            self.assertEqual((header.type, header.status), (STREAM, ERROR))
            self.assertIn(text, decode_error(payload).message or "")
            self.assertEqual(client.receive(raw(STREAM, OK)), [])
            self.assertEqual(client.stream_count, 0)

    def test_broken_and_refused(self) -> None:
        """... and is forgotten if the call is refused."""
        client = Connection(True)
        client.call(PROGRAM, VERSION, PROCEDURE, b"", opens_stream=True)
        client.receive(raw(STREAM, 77))
        only(client.receive(raw(REPLY, ERROR)), ReplyFailed)
        self.assertEqual((client.outgoing, client.stream_count), ([], 0))
