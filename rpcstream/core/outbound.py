"""
What this side does with its streams: the frames for it, and what may be sent when.
"""

from __future__ import annotations

from rpcstream.core.credit import HOLE_CHARGE
from rpcstream.core.events import StreamFailed
from rpcstream.core.frames import error_info, frame
from rpcstream.core.link import Link
from rpcstream.core.states import STREAM, Reaction, StreamInput
from rpcstream.core.streams import Stream, StreamTable
from rpcstream.errors import BadState, BadValue, OperationAborted, RemoteError, RPCFailed
from rpcstream.limits import MESSAGE_BYTES
from rpcstream.programs.flow import FLOW, Credit
from rpcstream.wire.error import encode_error
from rpcstream.wire.header import HEADER_BYTES, MessageType, Status
from rpcstream.wire.hole import encode_hole

__all__ = ["CREDIT_CODEC", "CREDIT_PROCEDURE", "STREAM_DOMAIN", "Outbound", "stream_error"]

STREAM_DOMAIN = 38
"""libvirt's error domain of streams (wire-protocol.md section 2.6)."""

CREDIT_PROCEDURE = Credit.__procedure__.number
CREDIT_CODEC = Credit.__procedure__.arguments
_LARGEST_PAYLOAD = MESSAGE_BYTES - HEADER_BYTES
_MAY_RECEIVE = frozenset(
    state
    for state, row in STREAM.items()
    if StreamInput.RECEIVE_DATA in row and row[StreamInput.RECEIVE_DATA].reaction is Reaction.DELIVER
)


def stream_error(text: str) -> RemoteError:
    """The error for a broken rule of streams."""
    return RPCFailed(text, domain=STREAM_DOMAIN)


class Outbound:
    """Sends on streams, and ends them."""

    __slots__ = ("_link", "_table")

    def __init__(self, link: Link, table: StreamTable) -> None:
        self._link = link
        self._table = table

    # --- data ---------------------------------------------------------------------

    def data_header(self, stream: Stream, byte_count: int) -> bytes:
        """The header of a data message; charges credit and counts."""
        self._link.require_open()
        if not 0 < byte_count <= _LARGEST_PAYLOAD:
            # Never send empty data (wire-protocol.md section 15): it would be the end.
            raise BadValue("data", f"a packet cannot carry {byte_count} bytes")
        self._charge(stream, byte_count + HEADER_BYTES)
        stream.sent_bytes += byte_count
        return (byte_count + HEADER_BYTES).to_bytes(4, "big") + stream.data_tail

    def hole(self, stream: Stream, length_bytes: int) -> bytes:
        """A hole; charges credit and counts."""
        self._link.require_open()
        if not stream.sparse:
            raise BadState("holes were not agreed on for this stream")
        payload = encode_hole(length_bytes)
        self._charge(stream, HOLE_CHARGE)
        stream.sent_hole_bytes += length_bytes
        return self._frame(stream, Status.CONTINUE, payload, MessageType.STREAM_HOLE)

    def _charge(self, stream: Stream, charge: int) -> None:
        self._table.advance(stream, StreamInput.SEND_DATA)
        credit = stream.send_credit
        if credit is not None:
            if charge > credit:
                raise BadState(f"{charge} bytes of credit needed, {credit} left")
            stream.send_credit = credit - charge
        stream.sent_packet_count += 1

    # --- the end ------------------------------------------------------------------

    def end(self, stream: Stream) -> bytes:
        """Our end of data."""
        self._link.require_open()
        self._table.advance(stream, StreamInput.SEND_END)
        return self._frame(stream, Status.CONTINUE)

    def finish(self, stream: Stream) -> bytes:
        """The opener's finish; what data still comes is dropped."""
        self._link.require_role(True, "finish")
        self._table.advance(stream, StreamInput.SEND_FINISH)
        self._link.intake.leave(stream)
        return self._frame(stream, Status.OK)

    def confirm(self, stream: Stream) -> bytes:
        """The acceptor's answer to it."""
        self._link.require_role(False, "confirm")
        self._table.advance(stream, StreamInput.SEND_CONFIRM)
        return self._frame(stream, Status.OK)

    def abort(self, stream: Stream, reason: str) -> bytes:
        """The opener's abort; empty if there is nothing to abort any more."""
        if stream.ended or self._link.closed:
            return b""
        self._link.require_role(True, "abort")
        self._table.advance(stream, StreamInput.SEND_ABORT)
        self._link.intake.leave(stream)
        return self.abort_frame(stream, reason)

    def abort_frame(self, stream: Stream, reason: str) -> bytes:
        """STREAM/ERROR of the opener, with the reason if the peer can take it."""
        # A stock peer expects no payload (wire-protocol.md section 1.2).
        with_reason = reason and self._link.peer_is_rpcstream
        payload = encode_error(OperationAborted(reason, domain=STREAM_DOMAIN)) if with_reason else b""
        return self._frame(stream, Status.ERROR, payload)

    def fail(self, stream: Stream, error: RemoteError) -> bytes:
        """The acceptor's error; empty if there is nothing to end any more."""
        if stream.ended or self._link.closed:
            return b""
        self._link.require_role(False, "fail")
        self._table.advance(stream, StreamInput.SEND_FAIL, error)
        self._link.intake.leave(stream)
        return self._frame(stream, Status.ERROR, encode_error(error))

    def object(self, stream: Stream, code: str, text: str) -> None:
        """
        The peer broke a rule of this stream: tell both sides.

        If the stream is closed (by the very message that broke the rule), the
        peer is done with it and is told nothing.
        """
        error = stream_error(text)
        sent = self.abort(stream, text) if stream.opener else self.fail(stream, error)
        if sent:
            self._link.outgoing.append(sent)
        self._link.events.append(StreamFailed(stream, error_info(error), code))

    def _frame(
        self, stream: Stream, status: Status, payload: bytes = b"", type: MessageType = MessageType.STREAM
    ) -> bytes:
        program, version, procedure, serial = stream.key
        return frame(program, version, procedure, type, serial, status, payload)

    # --- credit -------------------------------------------------------------------

    def consumed(self, stream: Stream, byte_count: int) -> bytes:
        """Give credit back; empty if there is none to give, or nothing to give it for."""
        credit = stream.receive_credit
        if credit is None:
            return b""
        return self.grant(stream, credit.consumed(byte_count))

    def grow(self, stream: Stream, byte_count: int) -> bytes:
        """Widen the window."""
        credit = stream.receive_credit
        if credit is None:
            raise BadState("no credit was agreed on for this stream")
        return self.grant(stream, credit.grow(byte_count))

    def grant(self, stream: Stream, byte_count: int) -> bytes:
        """Tell of credit that was counted already; empty if nobody wants it any more."""
        if not byte_count or stream.state not in _MAY_RECEIVE or self._link.closed:
            return b""
        program, version, procedure, serial = stream.key
        payload = CREDIT_CODEC.encode(Credit(program, version, procedure, serial, byte_count))
        return frame(FLOW.number, FLOW.version, CREDIT_PROCEDURE, MessageType.MESSAGE, 0, Status.OK, payload)
