"""
The accepting side: from a received call to its responder and back.

Permission is decided on the header and the identity, before the arguments are
decoded, and again for the named resource.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from types import CoroutineType
from typing import TYPE_CHECKING, Any

from twisted.internet.address import IPv4Address
from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from rpcstream.core import events
from rpcstream.errors import (
    AccessDenied,
    ConnectionClosed,
    InternalError,
    OperationAborted,
    PeerError,
    RemoteError,
    ResourceBusy,
    RPCFailed,
    RPCStreamError,
)
from rpcstream.net.answers import as_remote_error
from rpcstream.net.calls import Call, DownloadCall, DuplexCall, StreamCall, UploadCall
from rpcstream.net.identity import ANONYMOUS, Principal
from rpcstream.net.lane.guarded import GuardedConnection
from rpcstream.net.link import Link
from rpcstream.net.responders import Responder, run_event
from rpcstream.net.running import RunningCalls
from rpcstream.programs import flow
from rpcstream.programs.base import Event, Kind
from rpcstream.wire.header import Header

if TYPE_CHECKING:
    from rpcstream.net.service import Serving

__all__ = ["ServerConnection"]

_CALLS: dict[Kind, Any] = {
    Kind.DOWNLOAD: DownloadCall,
    Kind.UPLOAD: UploadCall,
    Kind.DUPLEX: DuplexCall,
}


class ServerConnection:
    """
    One client of a server.

    @ivar principal: who it is, as verified by TLS or the kernel.
    @ivar link: the protocol below.
    @ivar features: what the client's HELLO offered.
    """

    log = Logger()

    def __init__(self, serving: Serving) -> None:
        self.serving = serving
        self.limits = serving.limits
        core = GuardedConnection(
            opener=False, limits=serving.limits, admit=self._admit, clock=serving.clock.seconds
        )
        core.admit_message = self._admit_message
        core.programs = serving
        self._core = core
        self.link = Link(core, self, serving.clock, serving.runner, serving.limits, serving.assembly)
        self.principal: Principal = Principal(ANONYMOUS, "anonymous", None, IPv4Address("TCP", "", 0))
        self.features: tuple[str, ...] = ()
        self.subscriptions: set[tuple[int, int, int]] = set()
        self._lost_events: dict[tuple[int, int, int], int] = {}
        self._stream_count = 0
        self._no_room: str | None = None
        self._no_room_timer: IDelayedCall | None = None
        self._when_lost: dict[Hashable, Callable[[], object]] = {}
        self._running = RunningCalls(
            serving.limits,
            self._run,
            self._refuse,
            pause=lambda: self.link.pause_reading("parked calls"),
            resume=lambda: self.link.resume_reading("parked calls"),
        )

    # --- what the link tells -----------------------------------------------------------

    def link_made(self) -> None:
        """The transport is verified: who is it, and is there room?"""
        self.principal = self.serving.identify(self.link.transport)
        self._no_room = self.serving.add(self)
        if self._no_room is not None:
            # Its first call, mostly HELLO, is answered with the reason; without one it is closed, too.
            self._close_for_want_of_room(self.limits.close_seconds)

    def _close_for_want_of_room(self, seconds: float) -> None:
        self._stop_no_room_timer()
        fail = self.link.fail
        self._no_room_timer = self.link.clock.callLater(seconds, fail, "too-many-connections", self._no_room)

    def _stop_no_room_timer(self) -> None:
        if self._no_room_timer is not None and self._no_room_timer.active():
            self._no_room_timer.cancel()

    def link_lost(self, reason: ConnectionClosed) -> None:
        """Cancel what runs for this client."""
        self._stop_no_room_timer()
        self._running.cancel_all()
        when_lost, self._when_lost = self._when_lost, {}
        for callback in when_lost.values():
            try:
                callback()
            except Exception:
                self.log.failure("a callback for a lost connection failed")
        self.serving.remove(self)

    def when_lost(self, key: Hashable, callback: Callable[[], object]) -> None:
        """Run C{callback} when this connection has ended; one callback for each C{key}."""
        self._when_lost[key] = callback

    def forget_lost(self, key: Hashable) -> None:
        """Take the callback of C{key} back."""
        self._when_lost.pop(key, None)

    def reply_received(self, event: events.ReplyReceived) -> None:
        """Never: this side does not call."""

    def reply_failed(self, event: events.ReplyFailed) -> None:
        """Never: this side does not call."""

    def _admit(self, header: Header) -> int | RemoteError:
        if self._no_room is not None:
            self._close_for_want_of_room(0)
            return ResourceBusy(self._no_room)
        try:
            return self._judge(header)
        except Exception as error:  # a policy's mistake: nobody gets in by it
            return as_remote_error(error, self.log)

    def _judge(self, header: Header) -> int | RemoteError:
        """May this caller call this procedure, and how long may its arguments be?"""
        guard = self.serving.guard_of(header.program, header.version)
        objection = None if guard is None else guard(self, header.procedure)
        if objection is not None:
            return objection
        responder = self._find(header)
        if responder is None:
            if self.serving.responders_of(header.program, header.version) is None:
                return RPCFailed(f"Cannot find program {header.program} version {header.version}")
            return RPCFailed(f"unknown procedure: {header.procedure}")
        procedure = responder.procedure
        if procedure.kind is Kind.EVENT:
            return RPCFailed(f"unknown procedure: {header.procedure}")
        refusal = self._refusal(responder, None)
        return refusal if refusal is not None else procedure.arguments.max_bytes

    def _find(self, header: Header) -> Responder | None:
        return self.serving.find(header.program, header.version, header.procedure)

    def _refusal(
        self, responder: Responder, resource: str | None, pool: str | None = None
    ) -> AccessDenied | None:
        procedure = responder.procedure
        if procedure.program is flow.FLOW:
            return None
        decision = self.serving.policy.decide(self.principal.name, procedure.permission, resource, pool)
        if decision.allowed:
            return None
        self.log.info(
            "{principal} may not {procedure} {resource}: {reason}",
            principal=self.principal.name,
            procedure=procedure.name,
            resource=resource,
            reason=decision.reason,
        )
        return AccessDenied(f"access denied: {decision.reason}")

    def call_received(self, event: events.CallReceived) -> None:
        """A complete call that L{_admit} has let in."""
        self._running.add(event.header, event.payload)

    # --- running a responder -----------------------------------------------------------

    def _run(self, header: Header, payload: bytes) -> None:
        if not self.link.is_connected:
            return
        try:
            self._dispatch(header, payload)
        except Exception as error:  # a mistake of ours, or of a policy
            self._refuse(header, as_remote_error(error, self.log))

    def _dispatch(self, header: Header, payload: bytes) -> None:
        responder = self._find(header)
        if responder is None:
            self._refuse(header, RPCFailed(f"unknown procedure: {header.procedure}"))
            return
        procedure = responder.procedure
        try:
            request = procedure.arguments.decode(payload)
        except PeerError as error:
            self._refuse(header, RPCFailed(f"Unable to decode message payload: {error}"))
            return
        pool = getattr(request, "pool", None)
        # A libvirt program's pool is more than a name, and its responders' affair.
        pool = pool if isinstance(pool, str) else None
        if procedure.resource is not None or pool is not None:
            resource = None if procedure.resource is None else str(getattr(request, procedure.resource))
            refusal = self._refusal(responder, resource, pool)
            if refusal is not None:
                self._refuse(header, refusal)
                return
        if procedure.kind is Kind.CALL:
            self._run_call(Call(self, header, procedure), responder, request)
        else:
            self._run_stream(_CALLS[procedure.kind](self, header, procedure), responder, request)

    def _refuse(self, header: Header, error: RemoteError) -> None:
        if self.link.is_connected:
            self.link.write_control(self._core.reply_error(header, error))

    def _run_call(self, call: Call, responder: Responder, request: Any) -> None:
        try:
            result = responder.method(call, request)
        except Exception as error:
            self._refuse(call.header, as_remote_error(error, call.log))
            return
        if type(result) is CoroutineType:
            result = Deferred.fromCoroutine(result)
        if not isinstance(result, Deferred):
            self._answer(call, result)
            return
        if result.called and not isinstance(result.result, Deferred):
            # Answered at once: no slot, and no recursion when many such calls were parked.
            result.addCallbacks(
                lambda value: self._answer(call, value),
                lambda failure: self._refuse(call.header, as_remote_error(failure.value, call.log)),
            )
            return
        serial = call.serial
        self._running.take_slot()
        self._running.started(serial, result)

        def answered(value: Any) -> None:
            self._running.ended(serial)
            self._answer(call, value)

        def failed(failure: Failure) -> None:
            self._running.ended(serial)
            self._refuse(call.header, as_remote_error(failure.value, call.log))

        result.addCallbacks(answered, failed)
        result.addErrback(lambda failure: call.log.failure("a call could not be answered", failure=failure))
        result.addBoth(lambda _: self._running.give_slot())

    def _answer(self, call: Call, value: Any) -> None:
        if not self.link.is_connected:
            return
        try:
            reply = self._core.reply(call.header, call.procedure.result.encode(value))
        except RPCStreamError as error:
            call.log.error(
                "{procedure}: its result does not fit: {error}", procedure=call.procedure.name, error=error
            )
            self._refuse(call.header, InternalError("internal error: the result does not fit its layout"))
            return
        self.link.write_control(reply)

    def _run_stream(self, call: StreamCall[Any], responder: Responder, request: Any) -> None:
        refusal = self._too_many_streams()
        if refusal is not None:
            self._refuse(call.header, refusal)
            return
        self._stream_count += 1
        self.serving.stream_count += 1

        async def run() -> None:
            result = responder.method(call, request)
            if result is not None:
                await result

        running = Deferred.fromCoroutine(run())
        self._running.started(call.serial, running)
        running.addCallbacks(
            lambda _: self._stream_done(call), lambda failure: self._stream_raised(call, failure.value)
        )
        running.addErrback(lambda failure: call.log.failure("a stream could not be ended", failure=failure))
        running.addBoth(lambda _: self._stream_left(call))

    def _too_many_streams(self) -> RemoteError | None:
        if self._stream_count >= self.limits.streams:
            return ResourceBusy(f"too many streams: {self.limits.streams} are open on this connection")
        if self.serving.stream_count >= self.limits.process_streams:
            return ResourceBusy(f"too many streams: {self.limits.process_streams} are open in this process")
        return None

    def _stream_left(self, call: StreamCall[Any]) -> None:
        self._running.ended(call.serial)
        self._stream_count -= 1
        self.serving.stream_count -= 1

    def _stream_done(self, call: StreamCall[Any]) -> Deferred[Any] | None:
        """The responder returned: a download ends, an upload is confirmed; it counts until it has ended."""
        stream = call.stream
        if stream is None:
            call.log.error("{procedure}: its responder did not accept", procedure=call.procedure.name)
            self._refuse(call.header, InternalError("internal error: no decision was made"))
            return None
        stream.responder_done()
        ended: Deferred[Any] = stream.when_closed()

        def told(failure: Failure) -> None:
            if failure.check(CancelledError):
                stream.fail_with(OperationAborted("cancelled"))
            else:  # the stream has told its peer, or was told by it
                failure.trap(RPCStreamError)

        return ended.addErrback(told)

    def _stream_raised(self, call: StreamCall[Any], error: BaseException) -> None:
        remote = as_remote_error(error, call.log)
        if call.stream is None:
            self._refuse(call.header, remote)
        else:
            call.stream.fail_with(remote)

    # --- messages ----------------------------------------------------------------------

    def message_received(self, event: events.MessageReceived) -> None:
        """An event of the client that L{_admit_message} has let in."""
        responder = self._find(event.header)
        if responder is not None:
            run_event(responder, Call(self, event.header, responder.procedure), event.payload)

    def _admit_message(self, header: Header) -> int | None:
        """An event that nobody serves, or that this client may not send, is dropped and counted."""
        responder = self._find(header)
        if self._no_room is not None or responder is None or responder.procedure.kind is not Kind.EVENT:
            return None
        try:
            refusal = self._refusal(responder, None)
        except Exception as error:  # as in L{_admit}
            refusal = AccessDenied(as_remote_error(error, self.log).message)
        return None if refusal is not None else responder.procedure.arguments.max_bytes

    def cancel_call(self, serial: int) -> None:
        """The caller has lost interest."""
        self._running.cancel(serial)

    # --- events ------------------------------------------------------------------------

    def is_subscribed(self, kind: type[Event]) -> bool:
        """Whether this client has asked for events of this kind."""
        procedure = kind.__procedure__
        program = procedure.program
        return (program.number, program.version, procedure.number) in self.subscriptions

    def emit(self, event: Event) -> None:
        """
        Send an event to this client, subscribed or not: fire and forget.

        A client that does not read loses events; it is told how many.  One that
        has not subscribed, and has no responder for them, ends the connection after 100.
        """
        procedure = event.__procedure__
        program = procedure.program
        key = (program.number, program.version, procedure.number)
        if not self.link.is_connected:
            return
        if self.link.is_control_full or key in self._lost_events:
            self._lost_events[key] = self._lost_events.get(key, 0) + 1
            return
        payload = procedure.arguments.encode(event)
        self.link.write_control(self._core.message(*key, payload))

    def writable_again(self) -> None:
        """The client reads again: tell what it has lost."""
        lost, self._lost_events = self._lost_events, {}
        for (program, version, number), count in lost.items():
            self.emit(flow.Lost(program, version, number, count))
