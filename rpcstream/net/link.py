"""
The Twisted Protocol: bytes between a transport and the sans-I/O core.

What lives here: writing in the right order (calls and messages at once, bulk
only while the transport takes it), pausing and resuming both ways, the timers
of one connection and its orderly end.  Who is called and what a call means is
the L{Session}'s.
"""

from __future__ import annotations

from collections.abc import Hashable
from typing import Any

from twisted.internet.abstract import FileDescriptor
from twisted.internet.error import ConnectionDone
from twisted.internet.interfaces import IDelayedCall, IHalfCloseableProtocol, IPushProducer
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from rpcstream.core import events
from rpcstream.core.connection import Connection
from rpcstream.core.states import ConnectionState
from rpcstream.errors import ConnectionClosed
from rpcstream.limits import DEFAULT_LIMITS, LEGACY_PAYLOAD_BYTES, Limits
from rpcstream.net.assembly import AssemblyBudget, MessageMemory
from rpcstream.net.bulk import BulkTurns, write_packet
from rpcstream.net.control import ControlQueue
from rpcstream.net.deadlines import MessageDeadline
from rpcstream.net.delivery import deliver_event
from rpcstream.net.interfaces import BulkSender, Session
from rpcstream.net.keepalive import Keepalive
from rpcstream.net.losses import reason_text
from rpcstream.net.records import separate_writer
from rpcstream.net.sockets import tune_socket
from rpcstream.net.threads import Runner

__all__ = ["Link"]

_PEER_CLOSED = "the peer closed the connection"
_GATHERED_BYTES = 32 * 1024
"""Gathered frames are written at the latest when they are so many: a full transport shall say so in time."""
_GATHERED_COUNT = 64
"""The same, counted: the peer can be at work on these while we go on with the rest."""


@implementer(IPushProducer, IHalfCloseableProtocol)
class Link(TwistedProtocol):
    """
    One connection.  It is the transport's push producer for as long as it lives.

    @ivar core: the protocol's state.
    @ivar written_bytes: all bytes handed to the transport.
    @ivar is_lane_blocked: the lane that has the socket does not read now.
    @ivar is_writable: whether the transport takes bulk now.
    @ivar running_events: event responders of this connection that are not done.
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
        assembly: AssemblyBudget | None = None,
    ) -> None:
        """
        @param assembly: asked before a large message is put together.
        """
        self.core = core
        self.session = session
        self.clock = clock
        self.runner = runner
        self.limits = limits
        self.written_bytes = 0
        self.is_writable = True
        self.running_events = 0
        self.peer = ""
        self._memory = None if assembly is None else MessageMemory(assembly, self)
        self._is_up = False  # the transport is there
        self._is_open = False  # ... and its end has not begun
        self._is_half_closed = False
        self._bulk = BulkTurns(self)
        self._is_gathering = False  # acting on what was read
        self._gathered, self._gathered_bytes = list[bytes](), 0
        self._read_pauses: set[Hashable] = set()
        self.is_lane_blocked = False
        self._control = ControlQueue(limits)
        self._close_reason: ConnectionClosed | None = None
        self._end_timer: IDelayedCall | None = None
        self._tick_timer: IDelayedCall | None = None
        self._deadline = MessageDeadline(core, limits, 0.0, self.TICK_SECONDS)
        self._read_paused_at = 0.0
        self.received_bytes = 0
        self.keepalive = Keepalive(
            clock,
            limits.keepalive_seconds,
            limits.keepalive_count,
            activity=lambda: core.activity,
            is_reading=lambda: self.is_reading,
            send_ping=self._send_ping,
            dead=self._peer_is_dead,
        )

    @property
    def is_connected(self) -> bool:
        """Whether anything can be sent: false as soon as the end has begun, whoever began it."""
        return self._is_open and self.core.state is not ConnectionState.CLOSED

    # --- the transport -----------------------------------------------------------

    def connectionMade(self) -> None:
        """Called by Twisted: TLS and certificates, where used, are already verified."""
        transport: Any = self.transport
        self.peer = str(transport.getPeer())
        tune_socket(transport)
        self._write_alone = separate_writer(transport)
        self._is_up = self._is_open = True
        self._deadline = MessageDeadline(self.core, self.limits, self.clock.seconds(), self.TICK_SECONDS)
        transport.registerProducer(self, True)
        self._tick_timer = self.clock.callLater(self.TICK_SECONDS, self._tick)
        self.session.link_made()

    def dataReceived(self, data: bytes) -> None:
        """Called by Twisted with received bytes; what comes after the end has begun is nobody's."""
        if not self._is_open:
            return
        self.received_bytes += len(data)
        stream = self.core.take_fragment(data)
        if stream is not None:
            stream.tag.data_received(data)
            return
        received = self.core.receive(data)
        is_outermost = not self._is_gathering
        self._is_gathering = True
        try:
            if self.core.outgoing:
                for frame in self.core.take_outgoing():
                    self.write_control(frame)
            self.deliver(received)
        finally:
            if is_outermost:
                self._is_gathering = False
                if self._gathered:
                    self._flush_now()

    def deliver(self, received: list[events.Event]) -> None:
        """Tell streams and session what was received, here or by the lane that has the socket."""
        session = self.session
        for event in received:
            kind = type(event)
            if kind is events.StreamData:
                event.stream.tag.data_received(event.data)  # type: ignore[union-attr]
            elif not self._is_open:
                continue
            elif kind is events.CallReceived:
                session.call_received(event)  # type: ignore[arg-type]
            elif kind is events.ReplyReceived:
                session.reply_received(event)  # type: ignore[arg-type]
            else:
                deliver_event(self, event)
        if self._memory is not None:
            self._memory.ask(self._is_open)

    def readConnectionLost(self) -> None:
        """The peer will send no more (TCP FIN): what it asked is still answered, then we close."""
        for event in self.core.receive_eof():
            deliver_event(self, event)
        self._is_half_closed = True
        if self._is_open:
            self._end_timer = self.clock.callLater(self.limits.drain_seconds, self.close, _PEER_CLOSED)
            self._close_if_answered()

    def _close_if_answered(self) -> None:
        if self._is_half_closed and not self.core.unanswered_call_count:
            self.close(_PEER_CLOSED)

    def writeConnectionLost(self) -> None:
        """Our half was closed; nothing to do."""

    def connectionLost(self, reason: Failure = Failure(ConnectionDone())) -> None:  # noqa: B008
        """Called by Twisted, once: everything that waits hears of it."""
        self._is_up = False
        self._stop()
        for timer in (self._end_timer, self._tick_timer):
            if timer is not None and timer.active():
                timer.cancel()
        text = reason_text(reason)
        for event in self.core.receive_eof():
            text = f"{text}: {event.detail}" if isinstance(event, events.ConnectionFailed) else text
        closed = self._close_reason or ConnectionClosed(text)
        self._fail_streams(closed)
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
        if not frame or not self._is_open:
            return
        if self._is_gathering:
            self._gathered.append(frame)
            self._gathered_bytes += len(frame)
            if self._gathered_bytes >= _GATHERED_BYTES or len(self._gathered) >= _GATHERED_COUNT:
                self._flush_now()
        else:
            self._write(frame)
        if not self.is_writable and self._control.add(len(frame), self.clock.seconds()):
            self.pause_reading(self._control)
        if self._is_half_closed:
            self._close_if_answered()

    def _flush_now(self) -> None:
        """
        Write what was gathered, to the socket at once if it goes: no turn of the reactor
        to learn that it would.  What does not go it writes, and meets the error, if any.
        """
        self.flush()
        transport = self.transport  # not a lane's, nor TLS, which has a buffer of its own
        if isinstance(transport, FileDescriptor) and self.is_writable and self._is_open and not self._bulk:
            transport.doWrite()

    def flush(self) -> None:
        """Hand the transport what was gathered: all that one read has caused, together if it may be."""
        gathered = self._gathered
        if gathered:
            self._gathered, self._gathered_bytes = [], 0
            for frame in (b"".join(gathered),) if self.core.peer_is_rpcstream else gathered:
                self._write(frame)

    @property
    def is_control_full(self) -> bool:
        """Whether so many answers wait that no event should be added."""
        return self._control.is_full

    def want_write(self, sender: BulkSender) -> None:
        """Ask for C{sender.next_frame()} to be called when the transport takes bulk; all in turn."""
        if self.is_connected:
            self._bulk.add(sender)
            self._bulk.pump()

    def forget_sender(self, sender: BulkSender) -> None:
        """C{sender} has nothing to send any more."""
        self._bulk.remove(sender)

    def write_bulk(self, frame: bytes) -> None:
        """A stream packet of the sender whose turn it is; what was said before it goes before it."""
        self.flush()
        if self.core.peer_is_rpcstream:
            self.written_bytes += len(frame)
            write_packet(self.transport, frame)
        else:
            self._write(frame)

    def _write(self, frame: bytes) -> None:
        self.written_bytes += len(frame)
        # Others may overlook a message that is not the first of its TLS record.
        (self.transport.write if self.core.peer_is_rpcstream else self._write_alone)(frame)  # type: ignore[union-attr]

    def pauseProducing(self) -> None:
        """Called by the transport: its buffer is full."""
        self.is_writable = False

    def resumeProducing(self) -> None:
        """Called by the transport: its buffer is empty."""
        self.is_writable = True
        self._control.clear()
        self.resume_reading(self._control)
        self.session.writable_again()
        self._bulk.pump()

    def stopProducing(self) -> None:
        """Called by the transport when it is lost; C{connectionLost} follows."""
        self.is_writable = False

    # --- reading -------------------------------------------------------------------

    @property
    def is_reading(self) -> bool:
        """Whether silence of the peer means anything."""
        return not self._read_pauses and not self.is_lane_blocked

    def pause_reading(self, why: Hashable) -> None:
        """Stop reading the transport until every C{why} is resumed."""
        if not self._is_open:
            return
        if not self._read_pauses:
            self._read_paused_at = self.clock.seconds()
            transport: Any = self.transport
            transport.pauseProducing()
        self._read_pauses.add(why)

    def resume_reading(self, why: Hashable) -> None:
        """Take one reason back; harmless when it was not given."""
        if why not in self._read_pauses:
            return
        self._read_pauses.discard(why)
        if not self._read_pauses and self._is_open:
            self.core.add_pause(self.clock.seconds() - self._read_paused_at)
            if not self._is_half_closed:
                transport: Any = self.transport
                transport.resumeProducing()

    # --- the end --------------------------------------------------------------------

    def close(self, reason: str) -> None:
        """Write what waits, close in order; aborted after C{limits.close_seconds}."""
        self._end(ConnectionClosed(reason))

    def fail(self, code: str, detail: str) -> None:
        """The connection cannot go on: one log line, then as L{close}."""
        if self._is_open:
            text = "connection with {peer} closed: {code}: {detail} ({received} bytes received, {sent} sent)"
            counts = {"received": self.received_bytes, "sent": self.written_bytes}
            self.log.warn(text, peer=self.peer, code=code, detail=detail, **counts)
        self._end(ConnectionClosed(f"{code}: {detail}"))

    def abort(self, reason: str) -> None:
        """Close now, without waiting for anything to be written."""
        self._close_reason = self._close_reason or ConnectionClosed(reason)
        self._stop()
        if self._is_up:
            transport: Any = self.transport
            transport.abortConnection()

    def _end(self, reason: ConnectionClosed) -> None:
        """From here on nothing is taken or given; who waits for a stream hears of it now."""
        if not self._is_open:
            return
        self._close_reason = reason
        self.flush()
        self._stop()
        if self._end_timer is not None and self._end_timer.active():
            self._end_timer.cancel()
        self._end_timer = self.clock.callLater(self.limits.close_seconds, self.abort, reason.reason)
        transport: Any = self.transport
        # Without a reader the peer's close_notify would never be seen.
        transport.resumeProducing()
        transport.unregisterProducer()
        transport.loseConnection()
        self._fail_streams(reason)

    def _stop(self) -> None:
        """The end has begun; safe to call again."""
        self._is_open = False
        if self._close_reason is not None:
            self.core.close()  # else what was cut short is still to be told
        self.keepalive.stop()
        self._read_pauses.clear()
        self._bulk.clear()
        if self._memory is not None:
            self._memory.release()

    def _fail_streams(self, reason: ConnectionClosed) -> None:
        self.core.close()
        for stream in list(self.core.streams.values()):
            if stream.tag is not None:
                stream.tag.stream_failed(reason)

    # --- timers ---------------------------------------------------------------------

    def _tick(self) -> None:
        self._tick_timer = self.clock.callLater(self.TICK_SECONDS, self._tick)
        if not self._is_open:
            return
        now = self.clock.seconds()
        late = self._deadline.late(now, self.received_bytes, self.is_reading)
        if late is not None:
            self.fail(*late)
        elif self._control.is_stuck(now):
            self.fail("stuck", "the peer does not read its answers")
            self.abort("stuck")
        for stream in list(self.core.streams.values()):
            if stream.tag is not None:
                stream.tag.check_stall(now)

    def _send_ping(self) -> None:
        if self.is_connected:
            self.write_control(self.core.ping())

    def _peer_is_dead(self, seconds: float) -> None:
        code = "stuck" if self.core.stream_count else "keepalive"
        self.fail(code, f"the peer was silent for {seconds:g} s")
