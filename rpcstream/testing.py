"""
Tools to test programs built on rpcstream: no reactor, no network, no thread.

::

    pair = ConnectedPair(FileServer(folder), principal="alice")
    stream = pair.result_of(pair.client.open(Fetch("disk")))
    pair.cut()

Time is C{pair.clock} (a C{task.Clock}); C{pair.set_path} makes the way slow or
chops it into small pieces.
"""

from __future__ import annotations

from collections import deque
from typing import Any, TypeVar

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionAborted, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IConsumer, IPushProducer, ITransport
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from rpcstream.limits import DEFAULT_LIMITS, Limits
from rpcstream.net.client import ClientConnection
from rpcstream.net.connect import hello
from rpcstream.net.identity import Principal
from rpcstream.net.responders import Responders
from rpcstream.net.server import ServerConnection
from rpcstream.net.service import Decides, Serving
from rpcstream.net.threads import InlineRunner, Runner
from rpcstream.services.policy import any_authenticated
from rpcstream.wire.header import HEADER_BYTES, Header, MessageType, Status, decode_header, encode_header

__all__ = ["ConnectedPair", "Deadlock", "FrameFactory", "MemoryTransport", "RecordingPeer"]

T = TypeVar("T")


class Deadlock(AssertionError):
    """Nothing moves any more, and the awaited result is not there."""


@implementer(ITransport, IConsumer, IPushProducer)
class MemoryTransport:
    """
    One end of an in-memory connection, with the buffering of a real one: above
    C{BUFFER_BYTES} unsent, the registered producer is paused.

    @ivar written: everything written so far, for assertions on the wire.
    """

    BUFFER_BYTES = 64 * 1024
    disconnecting = False

    def __init__(self, name: str) -> None:
        self.protocol: Any = None
        self.peer: MemoryTransport | None = None
        self.written = bytearray()
        self.keep_written = False
        self.written_bytes = 0
        self._name = name
        self._queue: deque[bytes] = deque()
        self._queued_bytes = 0
        self._producer: Any = None
        self._producer_paused = False
        self._reading = True
        self._connected = True

    def write(self, data: bytes) -> None:
        """Queue data for the other end."""
        if not self._connected or self.disconnecting:
            return
        self.written_bytes += len(data)
        if self.keep_written:
            self.written += data
        self._queue.append(bytes(data))
        self._queued_bytes += len(data)
        if (
            self._producer is not None
            and self._queued_bytes > self.BUFFER_BYTES
            and not self._producer_paused
        ):
            self._producer_paused = True
            self._producer.pauseProducing()

    def writeSequence(self, data: Any) -> None:
        """Queue several pieces."""
        self.write(b"".join(data))

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """As ITransport."""
        self._producer = producer

    def unregisterProducer(self) -> None:
        """As ITransport."""
        self._producer = None

    def pauseProducing(self) -> None:
        """Stop reading."""
        self._reading = False

    def resumeProducing(self) -> None:
        """Read again."""
        self._reading = True

    def stopProducing(self) -> None:
        """Close."""
        self.loseConnection()

    def loseConnection(self) -> None:
        """Close once what is queued has been delivered."""
        self.disconnecting = True

    def abortConnection(self) -> None:
        """Close now."""
        self._queue.clear()
        self._queued_bytes = 0
        self._end(ConnectionAborted(), ConnectionLost())

    def getPeer(self) -> IPv4Address:
        """A made-up address."""
        return IPv4Address("TCP", "127.0.0.1", 1)

    def getHost(self) -> IPv4Address:
        """A made-up address."""
        return IPv4Address("TCP", "127.0.0.1", 2)

    def deliver(self, limit_bytes: int, slice_bytes: int | None) -> int:
        """Hand up to C{limit_bytes} to the other end; returns how many."""
        peer = self.peer
        delivered = 0
        while self._queue and peer is not None and peer._reading and delivered < limit_bytes:
            data = self._queue.popleft()
            room = limit_bytes - delivered
            size = min(len(data), room if slice_bytes is None else min(room, slice_bytes))
            if size < len(data):
                self._queue.appendleft(data[size:])
            self._queued_bytes -= size
            delivered += size
            if peer._connected and peer.protocol is not None:
                peer.protocol.dataReceived(data[:size])
        if not self._queue:
            if self._producer_paused:
                self._producer_paused = False
                if self._producer is not None:
                    self._producer.resumeProducing()
            if self.disconnecting and not self._queue:
                self._end(ConnectionDone(), ConnectionDone())
        return delivered

    def _end(self, here: Exception, there: Exception) -> None:
        for transport, error in ((self, here), (self.peer, there)):
            if transport is not None and transport._connected:
                transport._connected = False
                if transport.protocol is not None:
                    transport.protocol.connectionLost(Failure(error))

    @property
    def is_idle(self) -> bool:
        """Whether nothing can move from here."""
        can_deliver = bool(self._queue) and self.peer is not None and self.peer._reading
        return not can_deliver and not (self.disconnecting and self._connected)


class ConnectedPair:
    """
    A client and a server, connected in memory, HELLO exchanged.

    @param responders: objects with C{@X.responder} methods, for the server.
    @param principal: who the client is to the server.
    @ivar client: the L{ClientConnection}.
    @ivar server: the L{ServerConnection}.
    @ivar clock: advance it to let time pass.
    """

    def __init__(
        self,
        *responders: object,
        principal: str = "tester",
        policy: Decides | None = None,
        limits: Limits = DEFAULT_LIMITS,
        runner: Runner | None = None,
        client_responders: tuple[object, ...] = (),
        greet: bool = True,
    ) -> None:
        self.clock = Clock()
        run = runner or InlineRunner()
        who = Principal(principal, "tls", None, IPv4Address("TCP", "127.0.0.1", 1), names=(principal,))
        self.serving = Serving(
            Responders(*responders, partial=True),
            policy or any_authenticated,
            self.clock,
            run,
            limits,
            identify=lambda _: who,
        )
        self.server = ServerConnection(self.serving)
        table = Responders(*client_responders, partial=True) if client_responders else None
        self.client = ClientConnection(self.clock, run, limits, table)
        self._slice_bytes: int | None = None
        self._latency_seconds = 0.0
        self._bytes_per_second: float | None = None
        self.client_transport, self.server_transport = MemoryTransport("client"), MemoryTransport("server")
        self.client_transport.peer, self.server_transport.peer = self.server_transport, self.client_transport
        self.client_transport.protocol = self.client.link
        self.server_transport.protocol = self.server.link
        self.server.link.makeConnection(self.server_transport)  # type: ignore[no-untyped-call]
        self.client.link.makeConnection(self.client_transport)  # type: ignore[no-untyped-call]
        if greet:
            self.result_of(Deferred.fromCoroutine(hello(self.client)))

    def set_path(
        self,
        *,
        latency_seconds: float = 0.0,
        bytes_per_second: float | None = None,
        slice_bytes: int | None = None,
    ) -> None:
        """Make the way slow, narrow, or chop it into pieces of C{slice_bytes}."""
        self._latency_seconds = latency_seconds
        self._bytes_per_second = bytes_per_second
        self._slice_bytes = slice_bytes

    def pump(self) -> None:
        """Move bytes both ways until nothing moves; timers due now run."""
        budget = 10_000_000
        while budget:
            self.clock.advance(self._latency_seconds)
            limit = 1 << 40
            if self._bytes_per_second is not None:
                self.clock.advance(0.001)
                limit = max(1, int(self._bytes_per_second * 0.001))
            moved = 0
            for transport in (self.client_transport, self.server_transport):
                moved += transport.deliver(limit, self._slice_bytes)
            self.clock.advance(0)
            if not moved and self.client_transport.is_idle and self.server_transport.is_idle:
                return
            budget -= 1

    def result_of(self, deferred: Deferred[T]) -> T:
        """
        Pump until C{deferred} has fired; returns its result or raises its error.

        @raise Deadlock: nothing moves and it has not fired.
        """
        results: list[Any] = []
        deferred.addBoth(results.append)
        self.pump()
        if not results:
            raise Deadlock("nothing moves any more and there is no result")
        if isinstance(results[0], Failure):
            results[0].raiseException()
        return results[0]  # type: ignore[no-any-return]

    def cut(self) -> None:
        """The connection is lost, for both, without a word."""
        self.client_transport._queue.clear()
        self.server_transport._queue.clear()
        self.client_transport._end(ConnectionLost(), ConnectionLost())


class FrameFactory:
    """
    Builds frames of one program, legal or not, byte by byte.

    @param program: its number; C{version} likewise.
    """

    def __init__(self, program: int, version: int = 1) -> None:
        self.program = program
        self.version = version

    def frame(
        self,
        procedure: int,
        payload: bytes = b"",
        *,
        kind: int = MessageType.CALL,
        serial: int = 0,
        status: int = Status.OK,
        length: int | None = None,
    ) -> bytes:
        """A whole message; C{length} overrides the length word."""
        header = Header(
            HEADER_BYTES + len(payload) if length is None else length,
            self.program,
            self.version,
            procedure,
            kind,
            serial,
            status,
        )
        return encode_header(header) + payload

    def data(self, procedure: int, serial: int, payload: bytes) -> bytes:
        """A stream packet; an empty payload is the end of data."""
        return self.frame(procedure, payload, kind=MessageType.STREAM, serial=serial, status=Status.CONTINUE)

    def finish(self, procedure: int, serial: int) -> bytes:
        """STREAM/OK."""
        return self.frame(procedure, kind=MessageType.STREAM, serial=serial)


class RecordingPeer:
    """
    A Protocol-like object that records the frames it receives.

    @ivar frames: (header, payload) of each complete message.
    """

    def __init__(self) -> None:
        self.frames: list[tuple[Header, bytes]] = []
        self.lost: Failure | None = None
        self._buffer = b""

    def dataReceived(self, data: bytes) -> None:
        """Split and record."""
        self._buffer += data
        while len(self._buffer) >= HEADER_BYTES:
            header = decode_header(self._buffer)
            if len(self._buffer) < header.length:
                return
            self.frames.append((header, self._buffer[HEADER_BYTES : header.length]))
            self._buffer = self._buffer[header.length :]

    def connectionLost(self, reason: Failure) -> None:
        """Record the end."""
        self.lost = reason
