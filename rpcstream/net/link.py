"""
The Twisted Protocol: bytes between a transport and the sans-I/O core.

What lives here: writing in the right order (calls and messages at once, bulk
only while the transport takes it), pausing and resuming both ways, the timers
of one connection and its orderly end.  Who is called and what a call means is
the L{Session}'s.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any, Protocol

from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IDelayedCall, IHalfCloseableProtocol, IPushProducer
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from rpcstream.core import events
from rpcstream.core.connection import Connection
from rpcstream.errors import ConnectionClosed, RemoteError
from rpcstream.limits import DEFAULT_LIMITS, LEGACY_PAYLOAD_BYTES, Limits
from rpcstream.net.keepalive import Keepalive
from rpcstream.net.sockets import tune_socket
from rpcstream.net.threads import Runner
from rpcstream.wire.error import remote_error

__all__ = ["BulkSender", "Link", "Session", "StreamEvents"]


class BulkSender(Protocol):
    """Something with stream packets to send, one at a time."""

    def next_frame(self) -> bytes | None:
        """The next packet to write; C{None} when there is none now."""
        ...

    def frame_written(self) -> None:
        """The packet was handed to the transport."""
        ...


class StreamEvents(Protocol):
    """What a stream of the net layer is told; it is the C{tag} of its core stream."""

    errors: dict[int, type[RemoteError]]

    def data_received(self, data: bytes) -> None: ...

    def hole_received(self, length: int) -> None: ...

    def end_received(self) -> None: ...

    def finish_requested(self) -> None: ...

    def finish_confirmed(self) -> None: ...

    def peer_aborted(self, reason: str) -> None: ...

    def stream_failed(self, error: Exception) -> None: ...

    def credit_granted(self) -> None: ...

    def check_stall(self, now: float) -> None: ...


class Session(Protocol):
    """One end's meaning of a connection: the client's or the server's."""

    def link_made(self) -> None: ...

    def call_received(self, event: events.CallReceived) -> None: ...

    def reply_received(self, event: events.ReplyReceived) -> None: ...

    def reply_failed(self, event: events.ReplyFailed) -> None: ...

    def message_received(self, event: events.MessageReceived) -> None: ...

    def writable_again(self) -> None: ...

    def link_lost(self, reason: ConnectionClosed) -> None: ...


@implementer(IPushProducer, IHalfCloseableProtocol)
class Link(TwistedProtocol):
    """
    One connection.  It is the transport's push producer for as long as it lives.

    @ivar core: the protocol's state.
    @ivar written_bytes: all bytes handed to the transport.
    @ivar is_writable: whether the transport takes bulk now.
    """

    log = Logger()
    TICK_SECONDS = 1.0

    def __init__(
        self,
        core: Connection,
        session: Session,
        clock: Any,
        runner: Runner,
        limits: Limits = DEFAULT_LIMITS,
    ) -> None:
        self.core = core
        self.session = session
        self.clock = clock
        self.runner = runner
        self.limits = limits
        self.written_bytes = 0
        self.is_writable = True
        self.is_connected = False
        self.peer = ""
        self._senders: dict[BulkSender, None] = {}
        self._is_pumping = False
        self._read_pauses: set[Hashable] = set()
        self._control_bytes = 0
        self._control_count = 0
        self._control_since = 0.0
        self._close_reason: ConnectionClosed | None = None
        self._abort_timer: IDelayedCall | None = None
        self._tick_timer: IDelayedCall | None = None
        self._made_at = 0.0
        self._begun_at = 0.0
        self._begun_message: tuple[int, str | None] = (-1, None)
        self._read_paused_at = 0.0
        self._received_bytes = 0
        self._received_seen = 0
        self.keepalive = Keepalive(
            clock,
            limits.keepalive_seconds,
            limits.keepalive_count,
            activity=lambda: core.activity,
            is_reading=lambda: not self._read_pauses,
            send_ping=lambda: self.write_control(core.ping()),
            dead=lambda seconds: self.fail("keepalive", f"the peer was silent for {seconds:g} s"),
        )

    # --- the transport -----------------------------------------------------------

    def connectionMade(self) -> None:
        """Called by Twisted: TLS and certificates, where used, are already verified."""
        transport: Any = self.transport
        self.peer = str(transport.getPeer())
        tune_socket(transport)
        self.is_connected = True
        self._made_at = self.clock.seconds()
        transport.registerProducer(self, True)
        self._tick_timer = self.clock.callLater(self.TICK_SECONDS, self._tick)
        self.session.link_made()

    def dataReceived(self, data: bytes) -> None:
        """Called by Twisted with received bytes."""
        self._received_bytes += len(data)
        received = self.core.receive(data)
        for frame in self.core.take_outgoing():
            self.write_control(frame)
        for event in received:
            if type(event) is events.StreamData:
                event.stream.tag.data_received(event.data)
            else:
                self._deliver(event)

    def _deliver(self, event: Any) -> None:
        match event:
            case events.CallReceived():
                self.session.call_received(event)
            case events.ReplyReceived():
                self.session.reply_received(event)
            case events.ReplyFailed():
                self.session.reply_failed(event)
            case events.MessageReceived():
                self.session.message_received(event)
            case events.StreamHole(stream=stream, length_bytes=length):
                stream.tag.hole_received(length)
            case events.StreamEnded(stream=stream):
                stream.tag.end_received()
            case events.FinishRequested(stream=stream):
                stream.tag.finish_requested()
            case events.FinishConfirmed(stream=stream):
                stream.tag.finish_confirmed()
            case events.StreamAborted(stream=stream, reason=reason):
                stream.tag.peer_aborted(reason)
            case events.StreamFailed(stream=stream, error=error):
                stream.tag.stream_failed(remote_error(error, stream.tag.errors))
            case events.CreditGranted(stream=stream):
                stream.tag.credit_granted()
            case events.ConnectionFailed(code=code, detail=detail):
                self.fail(code, detail)

    def readConnectionLost(self) -> None:
        """The peer will send no more (TCP FIN): what it asked is still answered, then we close."""
        self.close("the peer closed the connection")

    def writeConnectionLost(self) -> None:
        """Our half was closed; nothing to do."""

    def connectionLost(self, reason: Failure = Failure(ConnectionDone())) -> None:  # noqa: B008
        """Called by Twisted, once: everything that waits hears of it."""
        self.is_connected = False
        for timer in (self._abort_timer, self._tick_timer):
            if timer is not None and timer.active():
                timer.cancel()
        self.keepalive.stop()
        ended = self.core.receive_eof()
        self.core.close()
        text = _reason_text(reason)
        for event in ended:
            text = f"{text}: {event.detail}" if isinstance(event, events.ConnectionFailed) else text
        closed = self._close_reason or ConnectionClosed(text)
        self._senders.clear()
        for stream in list(self.core.streams.values()):
            if stream.tag is not None:
                stream.tag.stream_failed(closed)
        self.session.link_lost(closed)

    @property
    def packet_bytes(self) -> int:
        """Payload of a stream packet to this peer."""
        return self.limits.packet_bytes if self.core.peer_is_rpcstream else LEGACY_PAYLOAD_BYTES

    # --- writing -------------------------------------------------------------------

    def write_control(self, frame: bytes) -> None:
        """
        Write a call, reply, message or a stream's finish or abort, ahead of bulk.

        A peer that makes us answer and does not read is no longer read itself.
        """
        if not frame or not self.is_connected:
            return
        self.written_bytes += len(frame)
        self._write(frame)
        if self.is_writable:
            return
        if not self._control_count:
            self._control_since = self.clock.seconds()
        self._control_count += 1
        self._control_bytes += len(frame)
        if (
            self._control_count >= self.limits.control_queue_count
            or self._control_bytes >= self.limits.control_queue_bytes
        ):
            self.pause_reading("control queue")

    @property
    def is_control_full(self) -> bool:
        """Whether so many answers wait that no event should be added."""
        return "control queue" in self._read_pauses

    def want_write(self, sender: BulkSender) -> None:
        """Ask for C{sender.next_frame()} to be called when the transport takes bulk; in turn with others."""
        self._senders[sender] = None
        self._pump()

    def forget_sender(self, sender: BulkSender) -> None:
        """C{sender} has nothing to send any more."""
        self._senders.pop(sender, None)

    def _pump(self) -> None:
        # What a sender lets in may ask for more at once: that waits for its turn.
        if self._is_pumping:
            return
        self._is_pumping = True
        try:
            while self.is_writable and self._senders and self.is_connected:
                sender = next(iter(self._senders))
                del self._senders[sender]
                frame = sender.next_frame()
                if frame is None:
                    continue
                self._senders[sender] = None
                self.written_bytes += len(frame)
                self._write(frame)
                sender.frame_written()
        finally:
            self._is_pumping = False

    def _write(self, frame: bytes) -> None:
        transport: Any = self.transport
        transport.write(frame)

    def pauseProducing(self) -> None:
        """Called by the transport: its buffer is full."""
        self.is_writable = False

    def resumeProducing(self) -> None:
        """Called by the transport: its buffer is empty."""
        self.is_writable = True
        self._control_bytes = self._control_count = 0
        self.resume_reading("control queue")
        self.session.writable_again()
        self._pump()

    def stopProducing(self) -> None:
        """Called by the transport when it is lost; C{connectionLost} follows."""
        self.is_writable = False

    # --- reading -------------------------------------------------------------------

    def pause_reading(self, why: Hashable) -> None:
        """Stop reading the transport until every C{why} is resumed."""
        if not self._read_pauses and self.is_connected:
            self._read_paused_at = self.clock.seconds()
            transport: Any = self.transport
            transport.pauseProducing()
        self._read_pauses.add(why)

    def resume_reading(self, why: Hashable) -> None:
        """Take one reason back; harmless when it was not given."""
        if why not in self._read_pauses:
            return
        self._read_pauses.discard(why)
        if not self._read_pauses and self.is_connected:
            self.core.add_pause(self.clock.seconds() - self._read_paused_at)
            transport: Any = self.transport
            transport.resumeProducing()

    # --- the end --------------------------------------------------------------------

    def close(self, reason: str) -> None:
        """Write what waits, close in order; aborted after C{limits.close_seconds}."""
        self._end(ConnectionClosed(reason))

    def fail(self, code: str, detail: str) -> None:
        """The connection cannot go on: one log line, then as L{close}."""
        if self._close_reason is None:
            self.log.warn(
                "connection with {peer} closed: {code}: {detail} ({received} bytes received, {sent} sent)",
                peer=self.peer,
                code=code,
                detail=detail,
                received=self._received_bytes,
                sent=self.written_bytes,
            )
        self._end(ConnectionClosed(f"{code}: {detail}"))

    def abort(self, reason: str) -> None:
        """Close now, without waiting for anything to be written."""
        self._close_reason = self._close_reason or ConnectionClosed(reason)
        if self.is_connected:
            transport: Any = self.transport
            transport.abortConnection()

    def _end(self, reason: ConnectionClosed) -> None:
        if self._close_reason is not None or not self.is_connected:
            return
        self._close_reason = reason
        transport: Any = self.transport
        # Without a reader the peer's close_notify would never be seen.
        self._read_pauses.clear()
        transport.resumeProducing()
        transport.unregisterProducer()
        transport.loseConnection()
        self._abort_timer = self.clock.callLater(self.limits.close_seconds, self._abort_late)

    def _abort_late(self) -> None:
        transport: Any = self.transport
        transport.abortConnection()

    # --- timers ---------------------------------------------------------------------

    def _tick(self) -> None:
        self._tick_timer = self.clock.callLater(self.TICK_SECONDS, self._tick)
        now = self.clock.seconds()
        self._check_message(now)
        if self.is_control_full and now - self._control_since > self.limits.control_stuck_seconds:
            self.fail("stuck", "the peer does not read its answers")
            self.abort("stuck")
            return
        for stream in list(self.core.streams.values()):
            if stream.tag is not None:
                stream.tag.check_stall(now)

    def _check_message(self, now: float) -> None:
        """A message once begun must end: F06, F12 and F13 of the catalogue of bad inputs."""
        pending = self.core.pending
        message = (self.core.message_count, pending)
        moved = self._received_bytes != self._received_seen
        self._received_seen = self._received_bytes
        if not self.core.message_count and now - self._made_at > self.limits.first_message_seconds:
            self.fail("idle", f"no message within {self.limits.first_message_seconds:g} s")
            return
        in_stream = self.core.is_within_stream_data
        if pending is None or message != self._begun_message or (in_stream and moved):
            self._begun_message = message
            self._begun_at = now
            return
        if self._read_pauses:  # the clock runs only while we read
            self._begun_at += self.TICK_SECONDS
        elif now - self._begun_at > self.limits.message_seconds:
            code = "idle" if pending == "length" else "too-slow" if moved else "msg-timeout"
            self.fail(code, f"a message was not completed within {self.limits.message_seconds:g} s")


def _reason_text(reason: Failure) -> str:
    """Say in one line why the transport was lost."""
    if reason.check(ConnectionDone):
        return "the peer closed the connection"
    if reason.check(ConnectionLost):
        return "the connection was lost"
    return reason.getErrorMessage() or repr(reason.value)
