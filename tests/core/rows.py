"""
The catalogue of bad inputs: what its rows assert.

One test a row, one reaction each.  Rows that need arguments, files or time are
tested where those are.  D means dropped and counted, R a REPLY/ERROR, SE a
STREAM/ERROR, C(code) the end of the connection.
"""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from rpcstream.core.connection import Connection
from rpcstream.core.events import (
    CallReceived,
    StreamFailed,
)
from rpcstream.core.states import ConnectionState
from rpcstream.core.streams import Stream
from rpcstream.limits import DEFAULT_LIMITS
from rpcstream.programs import keepalive
from rpcstream.wire.error import decode_error
from rpcstream.wire.header import Header

from .support import (
    CALL,
    CONTINUE,
    ERROR,
    HOLE,
    MESSAGE,
    OK,
    REPLY,
    STREAM,
    failure,
    frames,
    only,
    raw,
)

GRACE = DEFAULT_LIMITS.ended_stream_seconds
DROPS = DEFAULT_LIMITS.dropped_messages


def hole(length: int, flags: int = 0) -> bytes:
    return raw(HOLE, CONTINUE, length.to_bytes(8, "big", signed=True) + flags.to_bytes(4, "big"))


def keep(procedure: int, type: int = MESSAGE, status: int = OK, **options: int) -> bytes:
    return raw(type, status, program=keepalive.PROGRAM, procedure=procedure, **options)  # type: ignore[arg-type]


class Rows(SynchronousTestCase):
    """What the rows assert."""

    def assert_failed(self, data: bytes, code: str, connection: Connection | None = None) -> None:
        """C(code), nothing delivered after it, and nothing taken."""
        connection = Connection(False) if connection is None else connection
        self.assertEqual(failure(connection.receive(data + raw(CALL))), code)
        self.assertEqual(connection.state, ConnectionState.CLOSED)
        self.assertEqual(connection.receive(raw(CALL)), [])

    def assert_dropped(self, data: bytes, connection: Connection | None = None) -> None:
        """D: a hundred are dropped, the next closes."""
        connection = Connection(False) if connection is None else connection
        for count in range(DROPS):
            self.assertEqual(connection.receive(data), [])
            self.assertEqual(connection.dropped_count, count + 1)
        self.assertEqual(connection.outgoing, [])
        self.assertEqual(failure(connection.receive(data)), "flood")

    def assert_ignored(self, data: bytes, connection: Connection) -> None:
        """Dropped without counting: the messages crossed."""
        for _ in range(DROPS + 1):
            self.assertEqual(connection.receive(data), [])
        self.assertEqual((connection.dropped_count, connection.outgoing), (0, []))

    def assert_refused(self, data: bytes, code: int, text: str, connection: Connection | None = None) -> None:
        """R: the numbers echoed, and the connection lives."""
        connection = Connection(False) if connection is None else connection
        self.assertEqual(connection.receive(data), [])
        ((header, payload),) = frames(connection.take_outgoing())
        asked = frames(data)[0][0]
        expected = Header(header.length, *asked[1:4], REPLY, asked.serial, ERROR)
        self.assertEqual(header, expected)
        error = decode_error(payload)
        self.assertEqual((error.code, error.message), (code, text))
        only(connection.receive(raw(CALL, serial=1000)), CallReceived)

    def assert_stream_error(self, data: bytes, code: str, connection: Connection, stream: Stream) -> None:
        """SE: told to both sides; the stream is dead, the connection lives."""
        event = only(connection.receive(data), StreamFailed)
        self.assertEqual((event.stream, event.code), (stream, code))
        ((header, payload),) = frames(connection.take_outgoing())
        self.assertEqual(header[1:], (*stream.key[:3], STREAM, stream.key.serial, ERROR))
        self.assertTrue(stream.ended)
        if not stream.opener:
            error = decode_error(payload)
            self.assertEqual((error.code, error.domain), (39, 38))
            self.assertEqual(event.error, error)
            only(connection.receive(raw(CALL, serial=1000)), CallReceived)
