"""The end of a connection, and its switch to a data stream."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from rpcstream.core.connection import Connection
from rpcstream.core.events import (
    CallReceived,
    ReplyReceived,
)
from rpcstream.core.states import ConnectionState
from rpcstream.errors import BadState, RPCFailed
from rpcstream.wire.error import decode_error
from rpcstream.wire.header import Header

from .support import (
    CALL,
    OK,
    PROCEDURE,
    PROGRAM,
    VERSION,
    Pair,
    failure,
    frames,
    only,
    raw,
)


class EndTests(SynchronousTestCase):
    """The end of the connection."""

    def test_half_close(self) -> None:
        """F15: a call, then end of input: it can still be answered."""
        pair = Pair()
        header = pair.call().header
        self.assertEqual(pair.server.receive_eof(), [])
        self.assertEqual(pair.server.receive_eof(), [])
        self.assertEqual(pair.server.receive(raw(CALL)), [])
        only(pair.to_client(pair.server.reply(header, b"")), ReplyReceived)

    def test_truncation(self) -> None:
        """Within a message, with a stream open, with a call unanswered."""
        server = Connection(False)
        server.receive(raw(CALL)[:5])
        self.assertEqual(failure(server.receive_eof()), "truncated")
        self.assertEqual(server.receive_eof(), [])
        pair = Pair()
        pair.open()
        self.assertEqual(failure(pair.server.receive_eof()), "truncated")
        pair = Pair()
        pair.call()
        self.assertEqual(failure(pair.client.receive_eof()), "truncated")

    def test_closed(self) -> None:
        """Afterwards nothing is taken; what crosses the end has nothing to write; the rest is our mistake."""
        pair = Pair(credit=1000)
        opener, acceptor = pair.open()
        sparse, _ = pair.open(sparse=True)
        header = pair.call().header
        pair.client.close()
        pair.server.close()
        self.assertEqual(pair.server.state, ConnectionState.CLOSED)
        self.assertEqual(pair.server.receive(raw(CALL)), [])
        for nothing in (
            pair.server.reply(header, b""),
            pair.server.reply_error(header, RPCFailed()),
            pair.server.fail(acceptor, RPCFailed()),
            pair.client.abort(opener),
            pair.server.grow_credit(acceptor, 5000),
        ):
            self.assertEqual(nothing, b"")
        self.assertEqual(pair.client.sendable_bytes(opener), 0)
        self.assertIn("closed", str(self.assertRaises(BadState, pair.client.send_hole, sparse, 5)))
        for send in (pair.client.end, pair.client.finish):
            self.assertRaises(BadState, send, opener)
        self.assertRaises(BadState, pair.server.confirm, acceptor)
        self.assertRaises(BadState, pair.client.send_data, opener, b"x")
        self.assertRaises(BadState, pair.client.call, PROGRAM, VERSION, PROCEDURE, b"")
        self.assertRaises(BadState, pair.client.ping)
        self.assertRaises(BadState, pair.client.message, PROGRAM, VERSION, 4, b"")
        self.assertRaises(BadState, pair.server.accept, header, b"")


class SwitchTests(SynchronousTestCase):
    """One stream takes the connection."""

    CONTROL = 9

    def setUp(self) -> None:
        self.pair = Pair()
        for connection in (self.pair.client, self.pair.server):
            connection.allowed_calls = {(PROGRAM, self.CONTROL)}
        self.assertEqual(self.pair.client.allowed_calls, {(PROGRAM, self.CONTROL)})
        self.opener, self.acceptor = self.pair.open()

    def switch(self) -> None:
        for connection, stream in ((self.pair.server, self.acceptor), (self.pair.client, self.opener)):
            connection.propose_switch(stream)
            self.assertEqual(connection.state, ConnectionState.SWITCHING)
            connection.complete_switch(stream)
            self.assertEqual(connection.state, ConnectionState.DATA_STREAM)

    def test_data_and_control(self) -> None:
        """Data, finish, keepalive and the control call go on; other calls are our mistake."""
        pair = self.pair
        self.switch()
        pair.to_server(
            pair.client.send_data(self.opener, b"x"), pair.client.ping(), pair.client.finish(self.opener)
        )
        pair.settle()
        pair.to_client(pair.server.confirm(self.acceptor))
        self.assertRaises(BadState, pair.client.call, PROGRAM, VERSION, PROCEDURE, b"")
        _, sent = pair.client.call(PROGRAM, VERSION, self.CONTROL, b"")
        header = only(pair.to_server(sent), CallReceived).header
        only(pair.to_client(pair.server.reply(header, b"")), ReplyReceived)

    def test_other_calls_are_refused(self) -> None:
        """While switching and after it, by an error to try another connection."""
        server = self.pair.server
        server.propose_switch(self.acceptor)
        self.assertEqual(server.receive(raw(CALL, serial=50)), [])
        only(server.receive(raw(CALL, serial=51, procedure=self.CONTROL)), CallReceived)
        self.assertRaises(BadState, server.complete_switch, self.acceptor)
        server.reply(Header(28, PROGRAM, VERSION, self.CONTROL, CALL, 51, OK), b"")
        server.complete_switch(self.acceptor)
        self.assertEqual(server.receive(raw(CALL, serial=52)), [])
        errors = [decode_error(payload).code for _, payload in frames(server.take_outgoing())]
        self.assertEqual(errors, [87, 87])

    def test_not_now(self) -> None:
        """Other streams, unanswered calls, no proposal, twice, an ended stream."""
        pair = self.pair
        self.assertRaises(BadState, pair.client.complete_switch, self.opener)
        header = pair.call().header
        pair.client.propose_switch(self.opener)
        self.assertRaises(BadState, pair.client.complete_switch, self.opener)
        pair.to_client(pair.server.reply(header, b""))
        pair.client.complete_switch(self.opener)
        self.assertRaises(BadState, pair.client.propose_switch, self.opener)
        other = Pair()
        first, _ = other.open()
        other.open()
        self.assertRaises(BadState, other.client.propose_switch, first)
        ended = Pair()
        stream, _ = ended.open()
        ended.client.propose_switch(stream)
        ended.client.abort(stream)
        self.assertRaises(BadState, ended.client.complete_switch, stream)
