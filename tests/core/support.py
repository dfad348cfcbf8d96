"""
What the tests of the core share: frames made by hand, and two connections back to back.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator
from typing import Any, TypeVar

from rpcstream.core.connection import Connection
from rpcstream.core.events import CallReceived, ConnectionFailed, Event, ReplyReceived
from rpcstream.core.streams import Stream
from rpcstream.limits import DEFAULT_LIMITS, Limits
from rpcstream.programs.flow import FLOW, Credit
from rpcstream.wire.header import HEADER_BYTES, Header, MessageType, Status, decode_header, encode_header

PROGRAM, VERSION, PROCEDURE = 0x2F11E500, 1, 7

CALL, REPLY, MESSAGE, STREAM, HOLE = (
    MessageType.CALL,
    MessageType.REPLY,
    MessageType.MESSAGE,
    MessageType.STREAM,
    MessageType.STREAM_HOLE,
)
OK, ERROR, CONTINUE = Status.OK, Status.ERROR, Status.CONTINUE

E = TypeVar("E")


def raw(
    type: int,
    status: int = 0,
    payload: bytes = b"",
    *,
    serial: int = 0,
    program: int = PROGRAM,
    version: int = VERSION,
    procedure: int = PROCEDURE,
    length: int | None = None,
) -> bytes:
    """A frame as a peer without manners would make it."""
    if length is None:
        length = HEADER_BYTES + len(payload)
    return encode_header(Header(length, program, version, procedure, type, serial, status)) + payload


def credit(byte_count: int, serial: int = 0, *, procedure: int = PROCEDURE) -> bytes:
    """A credit message of the flow program."""
    info = Credit.__procedure__
    payload = info.arguments.encode(Credit(PROGRAM, VERSION, procedure, serial, byte_count))
    return raw(
        MESSAGE, OK, payload, program=FLOW.number, version=FLOW.version, procedure=info.number, serial=1
    )


def frames(data: bytes | Iterable[bytes]) -> list[tuple[Header, bytes]]:
    """Headers and payloads of whole frames."""
    rest = data if isinstance(data, bytes) else b"".join(data)
    found = []
    while rest:
        header = decode_header(rest)
        found.append((header, rest[HEADER_BYTES : header.length]))
        rest = rest[header.length :]
    return found


def only(events: list[Event], kind: type[E]) -> E:
    """The one event, of this kind."""
    assert len(events) == 1 and isinstance(events[0], kind), events
    return events[0]


def failure(events: list[Event]) -> str:
    """The code with which the connection failed; nothing comes after it."""
    last = events[-1]
    assert isinstance(last, ConnectionFailed), events
    return last.code


class Clock:
    """Seconds that pass when told to."""

    def __init__(self) -> None:
        self.now = 1000.0

    def __call__(self) -> float:
        return self.now


class Pair:
    """A client and a server; what one sends, the other receives at once."""

    def __init__(
        self, limits: Limits = DEFAULT_LIMITS, *, credit: int | None = None, slice_bytes: int | None = None
    ) -> None:
        self.clock = Clock()
        self.client = Connection(True, limits, clock=self.clock)
        self.server = Connection(False, limits, clock=self.clock)
        self.slice_bytes = slice_bytes
        if credit is not None:
            self.client.enable_credit(credit, credit)
            self.server.enable_credit(credit, credit)

    def _give(self, receiver: Connection, data: bytes) -> list[Event]:
        size = self.slice_bytes or max(1, len(data))
        return [
            event
            for start in range(0, len(data), size)
            for event in receiver.receive(data[start : start + size])
        ]

    def to_server(self, *data: bytes) -> list[Event]:
        """The client's bytes; the server's automatic answers stay in C{server.outgoing}."""
        return self._give(self.server, b"".join(data))

    def to_client(self, *data: bytes) -> list[Event]:
        """The server's bytes."""
        return self._give(self.client, b"".join(data))

    def settle(self) -> tuple[list[Event], list[Event]]:
        """Carry automatic answers to and fro until there are none: the client's and the server's events."""
        at_client: list[Event] = []
        at_server: list[Event] = []
        while self.client.outgoing or self.server.outgoing:
            at_server += self.to_server(*self.client.take_outgoing())
            at_client += self.to_client(*self.server.take_outgoing())
        return at_client, at_server

    def call(self, payload: bytes = b"args", **options: Any) -> CallReceived:
        """A call that has arrived."""
        _, sent = self.client.call(PROGRAM, VERSION, PROCEDURE, payload, **options)
        return only(self.to_server(sent), CallReceived)

    def open(self, *, sparse: bool = False, payload: bytes = b"args") -> tuple[Stream, Stream]:
        """A stream: the opener's end and the acceptor's."""
        received = self.call(payload, opens_stream=True, sparse=sparse)
        acceptor, sent = self.server.accept(received.header, b"ret", sparse=sparse)
        opener = only(self.to_client(sent), ReplyReceived).stream
        assert opener is not None
        return opener, acceptor


def server_with_stream(
    limits: Limits = DEFAULT_LIMITS, *, sparse: bool = False
) -> tuple[Connection, Stream, Clock]:
    """A server with one stream, serial 0, for bytes made by hand."""
    clock = Clock()
    server = Connection(False, limits, clock=clock)
    header = only(server.receive(raw(CALL)), CallReceived).header
    stream, _ = server.accept(header, b"", sparse=sparse)
    return server, stream, clock


def client_with_stream(
    limits: Limits = DEFAULT_LIMITS, *, sparse: bool = False
) -> tuple[Connection, Stream, Clock]:
    """A client with one stream, serial 0, for bytes made by hand."""
    clock = Clock()
    client = Connection(True, limits, clock=clock)
    client.call(PROGRAM, VERSION, PROCEDURE, b"", opens_stream=True, sparse=sparse)
    stream = only(client.receive(raw(REPLY)), ReplyReceived).stream
    assert stream is not None
    return client, stream, clock


def chunks(data: bytes, cuts: Iterable[int]) -> Iterator[bytes]:
    """C{data} cut at these offsets."""
    start = 0
    for cut in sorted({min(cut, len(data)) for cut in cuts}):
        yield data[start:cut]
        start = cut
    yield data[start:]
