"""Calls and replies that come whole take a short way, on which nothing is different."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from rpcstream.core.connection import Connection
from rpcstream.core.events import CallReceived, ReplyFailed, ReplyReceived
from rpcstream.errors import RPCFailed
from rpcstream.programs.keepalive import PING, PROGRAM, VERSION

from .support import CALL, CONTINUE, ERROR, MESSAGE, OK, REPLY, STREAM, Clock, raw

CALLS = b"".join(
    (
        raw(CALL, serial=1, payload=b"one"),
        raw(CALL, serial=2),
        raw(CALL, serial=1),  # in use
        raw(CALL, ERROR, serial=3, payload=b"odd status"),
        raw(CALL, serial=4, procedure=66, payload=b"refused"),
        raw(CALL, serial=5, payload=bytes(101)),  # longer than admitted
        raw(CALL, serial=6, payload=bytes(100)),
        raw(MESSAGE, program=PROGRAM, version=VERSION, procedure=PING),
        raw(CALL, serial=7),
        raw(REPLY, serial=8),  # dropped
        raw(CALL, serial=9),
    )
)

REPLIES = b"".join(
    (
        raw(REPLY, serial=0, payload=b"zero"),
        raw(REPLY, serial=2),
        raw(REPLY, serial=3, payload=b"of a forgotten call"),
        raw(REPLY, serial=4, payload=b"opens"),
        raw(STREAM, CONTINUE, serial=4, payload=b"data"),
        raw(REPLY, serial=5, payload=b"last"),
        raw(REPLY, serial=5),  # nobody waits: dropped
        raw(REPLY, serial=1),
    )
)


def _server() -> Connection:
    def admit(header: Any) -> Any:
        return RPCFailed("no") if header.procedure == 66 else 100

    return Connection(False, admit=admit, clock=Clock())


def _client() -> Connection:
    client = Connection(True, clock=Clock())
    for serial in range(6):
        client.call(0x2F11E500, 1, 7, b"", opens_stream=serial == 4)
    client.forget_call(3)
    return client


class WholeTests(SynchronousTestCase):
    def _both(self, make: Any, data: bytes, sizes: tuple[int, ...]) -> list[Any]:
        """In one piece, and in pieces, of which the smallest never hold a whole message."""
        outcomes = []
        for size in (len(data), *sizes):
            connection = make()
            events: list[Any] = []
            outgoing: list[bytes] = []
            for start in range(0, len(data), size):
                events += connection.receive(data[start : start + size])
                outgoing += connection.take_outgoing()
            told = [
                (type(event), getattr(event, "header", None), getattr(event, "payload", None))
                for event in events
            ]
            outcomes.append(
                (
                    told,
                    outgoing,
                    connection.message_count,
                    connection.dropped_count,
                    connection.state,
                    connection.pending_call_count,
                    sorted(connection._answering.unanswered),
                )
            )
        return outcomes

    def test_calls(self) -> None:
        """Delivered, refused, too long, with other messages between them."""
        whole, *others = self._both(_server, CALLS, (20, 27, 64, 200))
        for other in others:
            self.assertEqual(other, whole)
        told, outgoing = whole[:2]
        self.assertEqual([header.serial for kind, header, _ in told if kind is CallReceived], [1, 2, 6, 7, 9])
        self.assertEqual(len(outgoing), 5)  # four errors and a PONG

    def test_replies(self) -> None:
        """Waited for, forgotten, opening a stream, not waited for."""
        whole, *others = self._both(_client, REPLIES, (27,))
        told = whole[0]
        self.assertEqual(
            [header.serial for kind, header, _ in told if kind is ReplyReceived], [0, 2, 4, 5, 1]
        )
        for other in others:
            self.assertEqual([each for each in other[0] if each[1]], [each for each in told if each[1]])
            self.assertEqual(other[1:], whole[1:])

    def test_error(self) -> None:
        """A REPLY/ERROR between two results."""
        client = _client()
        data = raw(REPLY, serial=0) + raw(REPLY, ERROR, serial=1, payload=b"?") + raw(REPLY, serial=2)
        kinds = [type(event) for event in client.receive(data)]
        self.assertEqual(kinds, [ReplyReceived, ReplyFailed, ReplyReceived])

    def test_wrong_procedure(self) -> None:
        """What fails the connection fails it, and nothing is delivered behind it."""
        client = _client()
        data = raw(REPLY, serial=0) + raw(REPLY, serial=1, procedure=8) + raw(REPLY, serial=2)
        kinds = [type(event).__name__ for event in client.receive(data)]
        self.assertEqual(kinds, ["ReplyReceived", "ConnectionFailed"])

    def test_too_long(self) -> None:
        """The limit of one message holds for a whole one, too."""
        server = _server()
        server.max_message_bytes = 40
        kinds = [
            type(event).__name__
            for event in server.receive(raw(CALL, serial=1, payload=bytes(12)) + raw(CALL, payload=bytes(13)))
        ]
        self.assertEqual(kinds, ["CallReceived", "ConnectionFailed"])

    def test_closed_by_the_one_asked(self) -> None:
        """Whoever is asked about a call may close the connection: nothing is taken behind it."""
        server = Connection(False, clock=Clock())

        def admit(header: Any) -> int:
            server.close()
            return 100

        server._link.admit = admit
        self.assertEqual(server.receive(raw(CALL, OK, serial=1) + raw(CALL, OK, serial=2)), [])
        self.assertEqual(server.take_outgoing(), [])
        self.assertEqual(server.message_count, 1)
