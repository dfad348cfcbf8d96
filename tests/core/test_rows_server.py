"""The catalogue of bad inputs: a hostile server (B)."""

from __future__ import annotations

from dataclasses import replace

from rpcstream.core.connection import Connection
from rpcstream.core.events import (
    MessageReceived,
    ReplyFailed,
    ReplyReceived,
    StreamAborted,
    StreamFailed,
)
from rpcstream.core.states import StreamState
from rpcstream.errors import RPCFailed
from rpcstream.limits import DEFAULT_LIMITS
from rpcstream.wire.error import encode_error

from .rows import Rows
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
    client_with_stream,
    failure,
    only,
    raw,
    server_with_stream,
)


class HostileServerRows(Rows):
    """B."""

    def test_b01_reply_to_nothing(self) -> None:
        """D."""
        self.assert_dropped(raw(REPLY, OK, b"x", serial=9), Connection(True))
        self.assert_dropped(raw(REPLY, ERROR, serial=9), Connection(True))

    def test_b02_two_replies(self) -> None:
        """The second: D; also when the call opened a stream, which lives."""
        client = Connection(True)
        client.call(PROGRAM, VERSION, PROCEDURE, b"")
        only(client.receive(raw(REPLY)), ReplyReceived)
        self.assert_dropped(raw(REPLY), client)
        client, stream, _ = client_with_stream()
        self.assertEqual(client.receive(raw(REPLY)), [])
        self.assertEqual((client.dropped_count, stream.state), (1, StreamState.OPEN))

    def test_b03_wrong_procedure(self) -> None:
        """C(reply-mismatch)."""
        for wrong in ({"procedure": 8}, {"program": 1}, {"version": 2}):
            client = Connection(True)
            client.call(PROGRAM, VERSION, PROCEDURE, b"")
            self.assert_failed(raw(REPLY, OK, b"", **wrong), "reply-mismatch", client)

    def test_b03_wrong_status(self) -> None:
        """C(bad-status)."""
        for status in (CONTINUE, 77, -1):
            client = Connection(True)
            client.call(PROGRAM, VERSION, PROCEDURE, b"")
            self.assert_failed(raw(REPLY, status), "bad-status", client)

    def test_b04_reply_for_stream_error(self) -> None:
        """The stream's error: see test_s08_quirk_of_libvirtd; a refused open is not."""
        client = Connection(True)
        client.call(PROGRAM, VERSION, PROCEDURE, b"", opens_stream=True)
        only(client.receive(raw(REPLY, ERROR)), ReplyFailed)

    def test_b05_event_flood(self) -> None:
        """Events that nobody wants: D; wanted ones are delivered, for the user to bound."""
        client = Connection(True)
        client.admit_message = lambda header: None
        self.assert_dropped(raw(MESSAGE), client)
        events = Connection(True).receive(raw(MESSAGE) * 1000)
        self.assertEqual([type(event) for event in events], [MessageReceived] * 1000)

    def test_b06_call_to_a_client(self) -> None:
        """C(call-to-client)."""
        self.assert_failed(raw(CALL), "call-to-client", Connection(True))

    def test_b09_confirmed_early(self) -> None:
        """The stream fails, unpublished; nothing is sent, for the server is done with it."""
        client, stream, _ = client_with_stream()
        event = only(client.receive(raw(STREAM, OK)), StreamFailed)
        self.assertEqual((event.code, event.stream, stream.state), ("early-ok", stream, StreamState.CLOSED))
        self.assertEqual(client.outgoing, [])

    def test_b09_confirmed_before_the_reply(self) -> None:
        """The same, told after the REPLY."""
        client = Connection(True)
        client.call(PROGRAM, VERSION, PROCEDURE, b"", opens_stream=True)
        self.assertEqual(client.receive(raw(STREAM, OK)), [])
        reply, failed = client.receive(raw(REPLY))
        self.assertIsInstance(reply, ReplyReceived)
        assert isinstance(failed, StreamFailed)
        self.assertEqual((failed.code, client.outgoing), ("early-ok", []))

    def test_b10_error_texts(self) -> None:
        """4 MiB of text arrive as an error; garbled ones as well; abort reasons are cut."""
        client = Connection(True)
        client.call(PROGRAM, VERSION, PROCEDURE, b"")
        only(client.receive(raw(REPLY, ERROR, b"\xff" * (4 << 20))), ReplyFailed)
        client, _, _ = client_with_stream()
        event = only(client.receive(raw(STREAM, ERROR, b"\x1b[2J")), StreamFailed)
        self.assertEqual(event.error.code, 39)
        text = "\x1b[31m" * 4000
        server, _, _ = server_with_stream()
        payload = encode_error(RPCFailed("x"))[:12]
        length = len(text).to_bytes(4, "big")
        payload = (
            payload + length + text.encode() + (2).to_bytes(4, "big") + bytes(16) + b"\xff" * 8 + bytes(4)
        )
        reason = only(server.receive(raw(STREAM, ERROR, payload)), StreamAborted).reason
        self.assertEqual(reason, text[: 4 * 1024])

    def test_b_limits_are_settings(self) -> None:
        """The limits are those that were given."""
        server = Connection(False, replace(DEFAULT_LIMITS, dropped_messages=0))
        self.assertEqual(failure(server.receive(raw(REPLY))), "flood")
