"""
Peers without manners, at the level of a whole server, and what is asserted of each.

The catalogue's reactions: L{R} a REPLY/ERROR, L{SE} a STREAM/ERROR, L{C} the end
of the connection with one log line, L{D} dropped and counted, L{OK} served.
L{rows} makes one named test of each row of a table.
"""

from __future__ import annotations

import tracemalloc
from collections.abc import Callable, Mapping
from typing import Any, NamedTuple

from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from rpcstream.core.states import ConnectionState
from rpcstream.limits import DEFAULT_LIMITS, Limits
from rpcstream.net.server import ServerConnection
from rpcstream.net.service import Serving
from rpcstream.programs.keepalive import PING, PROGRAM
from rpcstream.testing import ConnectedPair, FrameFactory, MemoryTransport, RecordingPeer
from rpcstream.wire.error import ErrorInfo, decode_error
from rpcstream.wire.header import HEADER_BYTES, Header, MessageType, Status
from tests.net.files_program import FILES, FileServer, Size
from tests.net.shapes_program import SHAPES, ShapesServer

__all__ = [
    "FILE",
    "OK",
    "SE",
    "C",
    "D",
    "HostileTestCase",
    "R",
    "RawPeer",
    "Reaction",
    "hole",
    "ping",
    "rows",
]

FILE = FrameFactory(FILES.number)
SHAPE = FrameFactory(SHAPES.number)

CONTENT = bytes(range(256)) * 40_000
MEMORY_BYTES = 2 * 1024 * 1024


def name(text: str) -> bytes:
    """An XDR string."""
    data = text.encode()
    return len(data).to_bytes(4, "big") + data + bytes(-len(data) % 4)


def ping(procedure: int = PING, kind: int = MessageType.MESSAGE) -> bytes:
    """A keepalive message."""
    return FrameFactory(PROGRAM).frame(procedure, kind=kind)


def hole(procedure: int, serial: int, length: int, flags: int = 0, program: FrameFactory = FILE) -> bytes:
    """A hole of any length, legal or not."""
    payload = length.to_bytes(8, "big", signed=True) + flags.to_bytes(4, "big")
    return program.frame(
        procedure, payload, kind=MessageType.STREAM_HOLE, serial=serial, status=Status.CONTINUE
    )


def word(length: int) -> bytes:
    """A length word alone."""
    return length.to_bytes(4, "big")


class RawPeer:
    """
    Bytes to and from one connection of a server.

    @ivar recorder: what came back.
    """

    def __init__(self, serving: Serving, clock: Clock) -> None:
        self.clock = clock
        self.server = ServerConnection(serving)
        self.recorder = RecordingPeer()
        self.transport, self.server_transport = MemoryTransport("raw"), MemoryTransport("server")
        self.transport.peer, self.server_transport.peer = self.server_transport, self.transport
        self.transport.protocol, self.server_transport.protocol = self.recorder, self.server.link
        self.server.link.makeConnection(self.server_transport)  # type: ignore[no-untyped-call]

    def send(self, *data: bytes, slice_bytes: int | None = None) -> None:
        """Send, and let both ends act on it."""
        self.transport.write(b"".join(data))
        self.pump(slice_bytes)

    def pump(self, slice_bytes: int | None = None) -> None:
        """Move bytes until nothing moves; timers due now run."""
        moved = 1
        while moved:
            moved = self.transport.deliver(1 << 40, slice_bytes) + self.server_transport.deliver(
                1 << 40, None
            )
            self.clock.advance(0)

    @property
    def frames(self) -> list[tuple[Header, bytes]]:
        """What has come back."""
        return self.recorder.frames

    @property
    def is_closed(self) -> bool:
        """Whether the connection has ended."""
        return self.recorder.lost is not None

    def open(self, procedure: int, payload: bytes, serial: int) -> None:
        """A call that opens a stream."""
        self.send(FILE.frame(procedure, payload, serial=serial))

    def store(self, size: int = 1 << 20, serial: int = 0) -> None:
        """Open an upload."""
        self.open(3, name("up") + size.to_bytes(8, "big"), serial)

    def fetch(self, serial: int = 0) -> None:
        """Open a download of C{CONTENT}."""
        self.open(2, name("disk") + bytes(8), serial)


class Reaction:
    """What a row expects; C{__call__} asserts it."""

    def check(self, case: HostileTestCase, raw: RawPeer, asked: Header | None) -> None:
        raise NotImplementedError


class R(NamedTuple):
    """A REPLY/ERROR with the same program, version, procedure and serial; the connection lives."""

    text: str = ""
    code: int = 39

    def check(self, case: HostileTestCase, raw: RawPeer, asked: Header | None) -> None:
        case.assertTrue(raw.frames, "no answer")
        header, payload = raw.frames[-1]
        assert asked is not None
        case.assertEqual(header[1:], (*asked[1:4], MessageType.REPLY, asked.serial, Status.ERROR))
        case.assert_error(decode_error(payload), self.code, self.text)
        case.assert_lives(raw)


class SE(NamedTuple):
    """A STREAM/ERROR with the stream's numbers; the connection lives."""

    text: str = ""
    code: int = 39

    def check(self, case: HostileTestCase, raw: RawPeer, asked: Header | None) -> None:
        found = [(h, p) for h, p in raw.frames if (h.type, h.status) == (MessageType.STREAM, Status.ERROR)]
        case.assertEqual(len(found), 1, [header for header, _ in raw.frames])
        case.assert_error(decode_error(found[0][1]), self.code, self.text)
        case.assert_lives(raw)
        case.assertEqual(raw.server.link.core.stream_count, 0)


class C(NamedTuple):
    """The end of the connection, with one log line that has this reason code."""

    reason: str

    def check(self, case: HostileTestCase, raw: RawPeer, asked: Header | None) -> None:
        case.assertTrue(raw.is_closed, "still connected")
        case.assertEqual(case.closed_codes(), [self.reason])


class D(NamedTuple):
    """Dropped without an answer, and counted; C{times} of them are fatal."""

    counted: bool = True

    def check(self, case: HostileTestCase, raw: RawPeer, asked: Header | None) -> None:
        case.assertEqual(case.answers(raw), [])
        case.assertEqual(raw.server.link.core.dropped_count, int(self.counted))
        case.assert_lives(raw)


class OK(NamedTuple):
    """Served: as many REPLY/OK as calls."""

    count: int = 1

    def check(self, case: HostileTestCase, raw: RawPeer, asked: Header | None) -> None:
        good = [h for h, _ in raw.frames if (h.type, h.status) == (MessageType.REPLY, Status.OK)]
        case.assertEqual(len(good), self.count)
        case.assert_lives(raw)


class HostileTestCase(SynchronousTestCase):
    """
    A server with one good client; rows are sent by others.

    After each test: the good client is served at once, no stream, call or memory of
    the others is left, and nothing was logged but what the row says.
    """

    limits: Limits = DEFAULT_LIMITS

    def setUp(self) -> None:
        self.files, self.shapes = FileServer(), ShapesServer()
        self.files.files["disk"] = CONTENT
        self.pair = ConnectedPair(self.files, self.shapes, limits=self.limits)
        self.raws: list[RawPeer] = []
        self.lines: list[dict[str, Any]] = []
        globalLogPublisher.addObserver(self.lines.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.lines.append)

    def connect(self) -> RawPeer:
        """One more connection, with nothing sent on it."""
        raw = RawPeer(self.pair.serving, self.pair.clock)
        self.raws.append(raw)
        return raw

    def tearDown(self) -> None:
        self.assert_good_client_served()
        for raw in self.raws:
            raw.transport.abortConnection()
        for raw in self.raws:
            self.assertEqual(raw.server._running.running_count, 0)
            self.assertEqual(raw.server._running.parked_count, 0)
        serving = self.pair.serving
        self.assertEqual((serving.stream_count, serving.assembly.granted_bytes), (0, 0))
        self.assertEqual(serving.connections, {self.pair.server})

    def assert_good_client_served(self) -> None:
        """A call of a second connection works meanwhile, without any time passing."""
        result = self.pair.result_of(self.pair.client.call(Size("disk")))
        self.assertEqual(result, len(CONTENT))

    def pass_time(self, seconds: float, step: float = 0.5) -> None:
        """Let time pass while bytes go both ways, everywhere."""
        for _ in range(int(seconds / step)):
            self.pair.clock.advance(step)
            self.pair.pump()
            for raw in self.raws:
                raw.pump()

    # --- what the reactions need ---------------------------------------------------------

    def closed_codes(self) -> list[str]:
        """The reason codes logged."""
        return [line["code"] for line in self.lines if line.get("code") is not None]

    def answers(self, raw: RawPeer) -> list[Header]:
        """What came back, but for PONGs."""
        return [header for header, _ in raw.frames if header.program != PROGRAM]

    def assert_lives(self, raw: RawPeer) -> None:
        """A call on the same connection is answered."""
        before = len(raw.frames)
        raw.send(FILE.frame(1, name("disk"), serial=0xABCDEF))
        header, _ = raw.frames[-1]
        self.assertEqual((len(raw.frames) - before, header.serial), (1, 0xABCDEF))
        self.assertEqual(raw.server.link.core.state, ConnectionState.RPC)

    def assert_error(self, error: ErrorInfo, code: int, text: str) -> None:
        self.assertEqual(error.code, code, error.message)
        self.assertIn(text, error.message or "")

    def try_row(self, sent: bytes | Callable[[RawPeer], bytes | None], reaction: Any) -> None:
        """Send one row's bytes on a connection of its own and check what comes of it."""
        raw = self.connect()
        # Not the first thing on the connection: the row is about what it says, not about silence.
        raw.send(ping())
        raw.frames.clear()
        tracemalloc.start()
        try:
            data = sent(raw) if callable(sent) else sent
            if data is not None:
                raw.send(data)
            _, peak = tracemalloc.get_traced_memory()
        finally:
            tracemalloc.stop()
        crossed = raw.transport.written_bytes + raw.server_transport.written_bytes
        self.assertLess(peak - 4 * crossed, MEMORY_BYTES, "more memory than the bytes that crossed")
        asked = None
        if data is not None and len(data) >= HEADER_BYTES:
            recorder = RecordingPeer()
            recorder.dataReceived(data)
            asked = recorder.frames[0][0] if recorder.frames else None
        reaction.check(self, raw, asked)
        self.assertLess(raw.server.link.core.body_received_bytes, MEMORY_BYTES)


def rows(case: type[HostileTestCase], table: Mapping[str, tuple[Any, Any]]) -> None:
    """Give C{case} a test for each row: name -> (bytes, or what makes them; reaction)."""
    for row, (sent, reaction) in table.items():

        def test(self: HostileTestCase, sent: Any = sent, reaction: Any = reaction) -> None:
            self.try_row(sent, reaction)

        test.__doc__ = f"{row.replace('_', ' ')}: {reaction!r}"
        test.__name__ = f"test_{row}"
        setattr(case, f"test_{row}", test)
