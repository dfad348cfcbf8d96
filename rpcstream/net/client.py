"""
The connecting side: calls, streams and events.

Only this side calls and opens streams; messages and events go both ways.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING, Any, Self, TypeVar, overload

from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import Logger
from twisted.python.failure import Failure

from rpcstream.core.events import CallReceived, MessageReceived, ReplyFailed, ReplyReceived
from rpcstream.errors import CallCancelled, ConnectionClosed, PeerError, RemoteError, RPCStreamError
from rpcstream.limits import DEFAULT_LIMITS, MESSAGE_BYTES, Limits
from rpcstream.net.calls import Call
from rpcstream.net.duplex import DuplexStream
from rpcstream.net.incoming import IncomingStream
from rpcstream.net.lane.guarded import GuardedConnection
from rpcstream.net.link import Link
from rpcstream.net.opening import Opening
from rpcstream.net.outgoing import OutgoingStream
from rpcstream.net.pending import PendingCall, PendingCalls
from rpcstream.net.responders import Responders, run_event
from rpcstream.net.streams import Waiters
from rpcstream.net.subscriptions import EventQueue, Subscription
from rpcstream.net.threads import Runner
from rpcstream.programs import flow
from rpcstream.programs.base import Download, Duplex, Event, Kind, Procedure, Upload
from rpcstream.wire.error import remote_error
from rpcstream.wire.header import Header

if TYPE_CHECKING:
    from rpcstream.programs.base import ProcedureInfo

__all__ = ["CONNECTION_DEFAULT", "ClientConnection"]

CONNECTION_DEFAULT = -1.0
"""C{timeout_seconds} when none is given: C{limits.call_seconds}."""

R = TypeVar("R")
E = TypeVar("E", bound=Event)

_STREAMS: dict[Kind, Any] = {
    Kind.DOWNLOAD: IncomingStream,
    Kind.UPLOAD: OutgoingStream,
    Kind.DUPLEX: DuplexStream,
}


class ClientConnection:
    """
    One connection to a server, usable from the moment C{connect()} fires.

    @ivar link: the protocol below.
    @ivar features: what the server's HELLO offered.
    """

    log = Logger()

    def __init__(
        self,
        clock: Any,
        runner: Runner,
        limits: Limits = DEFAULT_LIMITS,
        responders: Responders | None = None,
    ) -> None:
        self.limits = limits
        self.clock = clock
        core = GuardedConnection(opener=True, limits=limits, clock=clock.seconds)
        self.link = Link(core, self, clock, runner, limits)
        self.features: tuple[str, ...] = ()
        self.server_software = ""
        core.admit_message = self._admit_message
        self._core = core
        self._pending = PendingCalls(clock, self._forget)
        self._responders = responders
        self._subscriptions: dict[tuple[int, int, int], list[Subscription[Any]]] = {}
        self._lost: ConnectionClosed | None = None
        self._closed = Waiters()
        self._made = Waiters()

    # --- calls ----------------------------------------------------------------------

    def call(
        self, request: Procedure[R], *, timeout_seconds: float | None = CONNECTION_DEFAULT
    ) -> Deferred[R]:
        """
        Call, and fire with the result.

        Cancelling tells an rpcstream peer to stop; a stock peer goes on and its
        late reply is dropped.

        @param timeout_seconds: C{None} = no limit.
        @raise RemoteError: the server answered with an error (as errback, as all).
        @raise DeadlineExceeded: no answer in time.
        @raise ConnectionClosed: the connection ended first.
        @raise BadValue: the request does not fit its layout.
        """
        return self._start(request, None, timeout_seconds)

    def _start(
        self, request: Any, options: dict[str, Any] | None, timeout_seconds: float | None
    ) -> Deferred[Any]:
        procedure: ProcedureInfo = request.__procedure__
        if not self.link.is_connected:
            return fail(ConnectionClosed(self._lost.reason if self._lost else "the connection is not open"))
        program = procedure.program
        sparse = None if options is None else options.pop("sparse")
        takes_holes = self._core.peer_is_rpcstream if sparse is None else sparse
        try:
            serial, frame = self._core.call(
                program.number,
                program.version,
                procedure.number,
                procedure.arguments.encode(request),
                opens_stream=options is not None,
                sparse=takes_holes,
            )
        except RPCStreamError as error:
            return fail(error)
        stream = None
        if options is not None:
            stream = _STREAMS[procedure.kind](self.link, self._core.streams[serial], **options)
            stream.errors = program.errors
        deferred: Deferred[Any] = Deferred(partial(self._cancel, serial))
        seconds = self.limits.call_seconds if timeout_seconds == CONNECTION_DEFAULT else timeout_seconds
        deadline = None if seconds is None else self.clock.seconds() + seconds
        self._pending.add(serial, PendingCall(procedure, deferred, stream, deadline, seconds or 0.0))
        self.link.write_control(frame)
        return deferred

    def _cancel(self, serial: int, deferred: Deferred[Any]) -> None:
        call = self._pending.pop(serial)
        if call is not None:
            error = CallCancelled(f"{call.procedure.name} was cancelled")
            self._forget(serial, call, error)
            deferred.errback(error)

    def _forget(self, serial: int, call: PendingCall, error: Exception) -> None:
        """Nobody waits for this reply any more, nor for what came of its stream before it."""
        if call.stream is not None:
            call.stream.stream_failed(error)
        if not self.link.is_connected:
            return
        self._core.forget_call(serial)
        if self._core.peer_is_rpcstream:
            self.emit(flow.Cancel(serial, ""))

    # --- streams -------------------------------------------------------------------

    @overload
    def open(
        self, request: Download[R], *, timeout_seconds: float | None = ..., sparse: bool | None = ...
    ) -> Opening[IncomingStream[R]]: ...

    @overload
    def open(
        self,
        request: Upload[R],
        *,
        timeout_seconds: float | None = ...,
        sparse: bool | None = ...,
        total_bytes: int | None = ...,
        packet_bytes: int | None = ...,
    ) -> Opening[OutgoingStream[R]]: ...

    @overload
    def open(
        self, request: Duplex[R], *, timeout_seconds: float | None = ..., sparse: bool | None = ...
    ) -> Opening[DuplexStream[R]]: ...

    def open(
        self,
        request: Any,
        *,
        timeout_seconds: float | None = CONNECTION_DEFAULT,
        sparse: bool | None = None,
        **options: Any,
    ) -> Opening[Any]:
        """
        Ask for a stream; fires with it when the server has decided for it.

        @param timeout_seconds: limit for the decision; the stream itself has none.
        @param sparse: whether it carries holes; default: to rpcstream peers.
        @keyword total_bytes: how much will be sent, for progress only.
        @keyword packet_bytes: payload of a packet; default: the connection's.
        @raise RemoteError: the server refuses (as errback; others as in L{call}).
        """
        return Opening.of(self._start(request, {"sparse": sparse, **options}, timeout_seconds))

    # --- events --------------------------------------------------------------------

    def events(self, kind: type[E]) -> EventQueue[E]:
        """Subscribe by C{async with}; iterate to get the events."""
        return EventQueue(self, kind, self.limits.event_queue)

    def subscribe(self, kind: type[E], callback: Callable[[E], None]) -> Subscription[E]:
        """Call C{callback} with each event of this kind, from the confirmation on."""
        return Subscription(self, kind, callback)

    def emit(self, event: Event) -> None:
        """Send an event to the server: fire and forget."""
        procedure = event.__procedure__
        program = procedure.program
        if self.link.is_connected:
            payload = procedure.arguments.encode(event)
            self.link.write_control(
                self._core.message(program.number, program.version, procedure.number, payload)
            )

    def _add_subscription(self, subscription: Subscription[Any]) -> Deferred[None]:
        key = _event_key(subscription.kind)
        self._subscriptions.setdefault(key, []).append(subscription)

        def failed(failure: Failure) -> Failure:
            if failure.check(RemoteError):
                self._forget_subscription(key, subscription)
            else:  # the server may have subscribed us all the same
                self._drop_subscription(subscription).addErrback(lambda _: None)
            return failure

        return self.call(flow.Subscribe(*key)).addErrback(failed)

    def _drop_subscription(self, subscription: Subscription[Any]) -> Deferred[None]:
        key = _event_key(subscription.kind)
        subscribed = self._subscriptions.get(key, [])
        if subscription not in subscribed:
            return succeed(None)
        subscribed.remove(subscription)
        if subscribed or not self.link.is_connected:
            return succeed(None)

        def done(result: Any) -> Any:
            self._forget_subscription(key, subscription)
            return result

        return self.call(flow.Unsubscribe(*key)).addBoth(done)

    def _forget_subscription(self, key: tuple[int, int, int], subscription: Subscription[Any]) -> None:
        """The server sends no more for it: events that come from now on make no sense."""
        subscribed = self._subscriptions.get(key, [])
        if subscription in subscribed:
            subscribed.remove(subscription)
        if not subscribed:
            self._subscriptions.pop(key, None)

    # --- what the link tells -----------------------------------------------------------

    def link_made(self) -> None:
        """The transport is there and verified."""
        self._made.fire()

    def reply_received(self, event: ReplyReceived) -> None:
        """The result of a call, or the decision for a stream."""
        call = self._pending.pop(event.header.serial)
        if call is None:
            return
        try:
            result = call.procedure.result.decode(event.payload)
        except PeerError as error:
            if call.stream is not None and call.stream.opened(None) is None:
                call.stream.abort("the reply cannot be decoded")
            call.deferred.errback(error)
            return
        if call.stream is None:
            call.deferred.callback(result)
            return
        failed = call.stream.opened(result)
        if failed is not None:
            call.deferred.errback(failed)
        else:
            call.deferred.callback(call.stream)

    def reply_failed(self, event: ReplyFailed) -> None:
        """The server's error for a call."""
        call = self._pending.pop(event.header.serial)
        if call is None:
            return
        error = remote_error(event.error, call.procedure.program.errors)
        if call.stream is not None:
            call.stream.stream_failed(error)
        call.deferred.errback(error)

    def call_received(self, event: CallReceived) -> None:
        """Never: the core refuses calls to the connecting side."""

    def message_received(self, event: MessageReceived) -> None:
        """An event of the server, or one of the flow program."""
        header = event.header
        key = (header.program, header.version, header.procedure)
        if key == _LOST_KEY:
            self._events_lost(event.payload)
            return
        subscribed = self._subscriptions.get(key)
        if not subscribed:
            self._respond(event)
            return
        try:
            value = subscribed[0].kind.__procedure__.arguments.decode(event.payload)
        except PeerError as error:
            self.link.fail("bad-event", str(error))
            return
        for subscription in list(subscribed):
            try:
                subscription.callback(value)
            except Exception:
                self.log.failure("a callback for {event} failed", event=key)

    def _admit_message(self, header: Header) -> int | None:
        """Only events that somebody here wants are read."""
        key = (header.program, header.version, header.procedure)
        if key == _LOST_KEY:
            return _LOST.arguments.max_bytes
        subscribed = self._subscriptions.get(key)
        if subscribed:
            procedure: ProcedureInfo = subscribed[0].kind.__procedure__
            return procedure.arguments.max_bytes
        responder = self._responders.find(*key) if self._responders is not None else None
        if subscribed is not None:  # being unsubscribed just now
            return MESSAGE_BYTES
        return None if responder is None else responder.procedure.arguments.max_bytes

    def _respond(self, event: MessageReceived) -> None:
        """An event for a responder given to C{connect()}; others were unsubscribed just now."""
        header = event.header
        key = (header.program, header.version, header.procedure)
        responder = self._responders.find(*key) if self._responders is not None else None
        if responder is not None:
            run_event(responder, Call(self, header, responder.procedure), event.payload)

    def _events_lost(self, payload: bytes) -> None:
        try:
            lost = _LOST.arguments.decode(payload)
        except PeerError as error:
            self.link.fail("bad-event", str(error))
            return
        for subscription in self._subscriptions.get((lost.program, lost.version, lost.number), ()):
            subscription.lost(lost.count)

    def writable_again(self) -> None:
        """Nothing waits for it on this side."""

    def link_lost(self, reason: ConnectionClosed) -> None:
        """Everything that waits hears of the end."""
        self._lost = reason
        for call in self._pending.clear():
            if call.stream is not None:
                call.stream.stream_failed(reason)
            call.deferred.errback(ConnectionClosed(reason.reason, may_have_run=True))
        for subscribed in list(self._subscriptions.values()):
            for subscription in list(subscribed):
                subscription.ended(reason)
        self._made.fail(reason)
        self._closed.fire()

    # --- the end ----------------------------------------------------------------------

    def close(self) -> Deferred[None]:
        """Close in order; fires when the connection is gone, at the latest after C{limits.close_seconds}."""
        self.link.close("closed by this side")
        return self.when_closed().addCallback(lambda _: None)

    def when_closed(self) -> Deferred[str]:
        """Fires with the reason when the connection has ended; never fails."""
        if self._lost is not None:
            return succeed(self._lost.reason)
        return self._closed.wait().addCallback(lambda _: self._lost.reason if self._lost else "")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        await self.close()
        return None


def _event_key(kind: type[Event]) -> tuple[int, int, int]:
    procedure = kind.__procedure__
    return procedure.program.number, procedure.program.version, procedure.number


_LOST = flow.Lost.__procedure__
_LOST_KEY = _event_key(flow.Lost)
