"""
The opener's calls: serials, what waits for a reply, the replies.
"""

from __future__ import annotations

from rpcstream.core.events import ReplyFailed, ReplyReceived, StreamFailed
from rpcstream.core.frames import frame, read_error
from rpcstream.core.inbound import Inbound
from rpcstream.core.link import Link
from rpcstream.core.outbound import Outbound
from rpcstream.core.states import ConnectionInput, ConnectionState, Reaction, StreamInput
from rpcstream.core.streams import Stream, StreamKey, StreamTable
from rpcstream.errors import BadState
from rpcstream.wire.header import Header, MessageType, Status

__all__ = ["Calling"]

_SERIALS = 2**32
_OK, _ERROR = int(Status.OK), int(Status.ERROR)
_CALL = int(MessageType.CALL)
_RPC = ConnectionState.RPC


class _Call:
    """
    A call that waits for its reply.

    @ivar route: program, version, procedure.
    @ivar stream: the stream that the reply will open.
    @ivar forgotten: cancelled; the serial stays taken until the reply comes.
    """

    __slots__ = ("forgotten", "route", "stream")

    def __init__(self, route: tuple[int, int, int], stream: Stream | None) -> None:
        self.route = route
        self.stream = stream
        self.forgotten = False


class Calling:
    """Makes calls and takes REPLYs."""

    __slots__ = ("_calls", "_forgotten_count", "_inbound", "_link", "_next_serial", "_outbound", "_table")

    def __init__(
        self, link: Link, table: StreamTable, inbound: Inbound, outbound: Outbound, first_serial: int
    ) -> None:
        self._link = link
        self._table = table
        self._inbound = inbound
        self._outbound = outbound
        self._next_serial = first_serial
        self._calls: dict[int, _Call] = {}
        self._forgotten_count = 0

    def __len__(self) -> int:
        """Calls whose reply somebody waits for."""
        return len(self._calls) - self._forgotten_count

    def call(
        self, program: int, version: int, procedure: int, payload: bytes, opens_stream: bool, sparse: bool
    ) -> tuple[int, bytes]:
        """A CALL; the stream it is to open exists from here on, in state OPENING."""
        link = self._link
        if link.state is not _RPC or not link.opener:
            self._advance(program, procedure)
        serial = self._next_serial
        if serial in self._calls or serial in self._table.live:
            serial = self._free_serial()
        sent = frame(program, version, procedure, _CALL, serial, _OK, payload)
        self._next_serial = (serial + 1) % _SERIALS
        stream = None
        if opens_stream:
            key = StreamKey(program, version, procedure, serial)
            stream = self._table.open(key, opener=True, sparse=sparse)
        self._table.ended.forget(serial)
        self._calls[serial] = _Call((program, version, procedure), stream)
        return serial, sent

    def _advance(self, program: int, procedure: int) -> None:
        """Where not every call may be made; in state RPC all may, and it stays RPC."""
        link = self._link
        link.require_role(True, "call")
        control = (program, procedure) in link.allowed_calls
        link.advance(ConnectionInput.SEND_CONTROL_CALL if control else ConnectionInput.SEND_CALL)

    def _free_serial(self) -> int:
        """1.5: never reuse a serial while a call or stream with it lives."""
        serial = self._next_serial
        while serial in self._calls or serial in self._table.live:
            serial = (serial + 1) % _SERIALS
        return serial

    def forget(self, serial: int) -> None:
        """Cancel on this side; nothing is sent."""
        call = self._calls.get(serial)
        if call is None or call.forgotten:
            raise BadState(f"call {serial} does not wait for a reply")
        call.forgotten = True
        self._forgotten_count += 1
        if call.stream is not None:
            self._table.advance(call.stream, StreamInput.FORGET)
            self._link.intake.leave(call.stream)

    # --- replies --------------------------------------------------------------------

    def begins(self, header: Header) -> None:
        """A REPLY has begun."""
        call = self._calls.get(header.serial)
        if call is None:
            self._not_waited_for(header)
        elif header[1:4] != call.route:  # B03
            self._link.fail("reply-mismatch", f"reply to call {header.serial} names another procedure")
        elif header.status not in (_OK, _ERROR):
            self._link.fail("bad-status", f"reply with status {header.status}")
        elif call.forgotten:
            self._link.intake.discard(header, self._done)
        else:
            self._link.intake.assemble(header, self._done)

    def take(self, header: Header, payload: bytes) -> bool:
        """
        A REPLY that came whole; what is plain is done here, as L{begins} and the end of the body do it.

        @return: false, with nothing done, for what is not plain: an error, a stream, a mistake.
        """
        serial = header.serial
        call = self._calls.get(serial)
        if (
            call is None
            or call.stream is not None
            or call.forgotten
            or header.status != _OK
            or call.route != header[1:4]
        ):
            return False
        del self._calls[serial]
        self._link.events.append(ReplyReceived(header, payload, None))
        return True

    def _not_waited_for(self, header: Header) -> None:
        stream = self._table.live.get(header.serial)
        if stream is None or header.status != _ERROR:
            self._link.drop(header)  # B01, B02
        elif header[1:4] != stream.route:
            self._link.fail("reply-mismatch", f"reply to call {header.serial} names another procedure")
        else:  # 2.7, S08: libvirtd answers a bad hole with a REPLY; it is the stream's error
            self._link.intake.assemble(header, self._inbound.error_done)

    def _done(self, header: Header, payload: bytes) -> None:
        call = self._calls.pop(header.serial)
        self._forgotten_count -= call.forgotten
        if header.status == _OK:
            self._answered(header, payload, call)
            return
        if call.stream is not None:
            self._table.advance(call.stream, StreamInput.REFUSED)
        if not call.forgotten:
            self._link.events.append(ReplyFailed(header, read_error(payload)))

    def _answered(self, header: Header, payload: bytes, call: _Call) -> None:
        link, stream = self._link, call.stream
        if not call.forgotten:
            link.events.append(ReplyReceived(header, payload, stream))
        if stream is None:
            return
        reaction = self._table.advance(stream, StreamInput.OPENED)
        if reaction is Reaction.ABORT:  # cancelled here, opened too late
            link.outgoing.append(self._outbound.abort_frame(stream, "cancelled"))
        elif stream.early_error is not None and not call.forgotten:
            error, code = stream.early_error
            if reaction is Reaction.FAIL:
                link.outgoing.append(self._outbound.abort(stream, error.message or code))
            link.events.append(StreamFailed(stream, error, code))
