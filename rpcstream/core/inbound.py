"""
What the peer does with streams: STREAM and STREAM_HOLE messages.
"""

from __future__ import annotations

from collections.abc import Container

from rpcstream.core.events import (
    FinishConfirmed,
    FinishRequested,
    StreamAborted,
    StreamEnded,
    StreamFailed,
    StreamHole,
)
from rpcstream.core.frames import error_frame, error_info, frame, read_error
from rpcstream.core.link import Link
from rpcstream.core.outbound import STREAM_DOMAIN, Outbound, stream_error
from rpcstream.core.states import Reaction, StreamInput
from rpcstream.core.streams import Stream, StreamTable
from rpcstream.errors import DecodeError, RemoteError
from rpcstream.limits import ERROR_TEXT_BYTES
from rpcstream.wire.header import HEADER_BYTES, Header, MessageType, Status
from rpcstream.wire.hole import HOLE_BYTES, decode_hole

__all__ = ["Inbound"]

_REASON_BYTES = 64 * 1024
"""Largest abort payload that is read; its text is at most 4 KiB when one of ours sends it."""

_STREAM = int(MessageType.STREAM)
_OK, _ERROR, _CONTINUE = int(Status.OK), int(Status.ERROR), int(Status.CONTINUE)
_DATA = StreamInput.RECEIVE_DATA


class Inbound:
    """
    Receives on streams.

    @param unanswered: serials of the peer's calls that wait for our reply.
    """

    __slots__ = ("_link", "_outbound", "_table", "_unanswered")

    def __init__(
        self, link: Link, table: StreamTable, outbound: Outbound, unanswered: Container[int]
    ) -> None:
        self._link = link
        self._table = table
        self._outbound = outbound
        self._unanswered = unanswered

    def begins(self, header: Header) -> None:
        """A STREAM or STREAM_HOLE message has begun."""
        stream = self._table.live.get(header.serial)
        if stream is None:
            self._not_live(header)
        elif header[1:4] != stream.route:
            # S15: the serial of one stream, the procedure of another.
            self._link.fail("stream-mismatch", f"serial {header.serial} belongs to another procedure")
        elif header.type != _STREAM:
            self._hole_begins(header, stream)
        elif header.status == _CONTINUE:
            self._data_begins(header, stream)
        elif header.status == _OK:
            self._ok(header, stream)
        elif header.status == _ERROR:
            self._error_begins(header, stream)
        else:  # S14
            self._link.intake.discard(header)
            self._bad(stream, "status", f"stream aborted with unexpected status {header.status}")

    # --- data ---------------------------------------------------------------------

    def _data_begins(self, header: Header, stream: Stream) -> None:
        link = self._link
        payload_bytes = header.length - HEADER_BYTES
        if not payload_bytes:
            link.intake.discard(header)
            if self._table.advance(stream, StreamInput.RECEIVE_END) is Reaction.DELIVER:
                link.events.append(StreamEnded(stream))
            return
        reaction = self._table.advance(stream, _DATA)
        if reaction is Reaction.DELIVER:
            credit = stream.receive_credit
            if credit is None or credit.take_data(payload_bytes):
                stream.received_packet_count += 1
                link.intake.cut_through(header, stream)
                return
            link.intake.discard(header)
            self._bad(stream, "window", "more data than the receiver granted")  # S21
            return
        link.intake.discard(header)
        self._refuse(stream, reaction, "after-end", "data after the end of data")

    def _hole_begins(self, header: Header, stream: Stream) -> None:
        """S07, S08: a bad hole costs the stream, never the connection."""
        intake = self._link.intake
        payload_bytes = header.length - HEADER_BYTES
        if not stream.sparse:
            code, text = "hole", "a hole on a stream that was not opened sparse"
        elif header.status != _CONTINUE:
            code, text = "status", f"stream aborted with unexpected status {header.status}"
        elif payload_bytes != HOLE_BYTES:
            code, text = "hole", f"a hole of {payload_bytes} bytes of payload"
        else:
            intake.assemble(header, self._hole_done)
            return
        intake.discard(header)
        self._bad(stream, code, text)

    def _hole_done(self, header: Header, payload: bytes) -> None:
        stream = self._table.live.get(header.serial)
        if stream is None:  # ended by us in the meantime
            return
        try:
            length_bytes = decode_hole(payload)
        except DecodeError as error:
            self._bad(stream, "hole", f"bad hole: {error}")
            return
        reaction = self._table.advance(stream, _DATA)
        if reaction is not Reaction.DELIVER:
            self._refuse(stream, reaction, "after-end", "a hole after the end of data")
        elif stream.receive_credit is not None and not stream.receive_credit.take_hole():
            self._bad(stream, "window", "more holes than the receiver granted")
        else:
            stream.received_packet_count += 1
            stream.received_hole_bytes += length_bytes
            self._link.events.append(StreamHole(stream, length_bytes))
            granted = self._outbound.consumed(stream, 0)
            if granted:
                self._link.outgoing.append(granted)

    # --- the end ------------------------------------------------------------------

    def _ok(self, header: Header, stream: Stream) -> None:
        """Finish at the acceptor, confirmation at the opener."""
        self._link.intake.discard(header)
        event = StreamInput.RECEIVE_CONFIRM if stream.opener else StreamInput.RECEIVE_FINISH
        reaction = self._table.advance(stream, event)
        if reaction is Reaction.DELIVER:
            self._link.events.append(FinishConfirmed(stream) if stream.opener else FinishRequested(stream))
        else:  # B09: a confirmation that nobody asked for
            self._refuse(stream, reaction, "early-ok", "the stream was confirmed before it was finished")

    def _error_begins(self, header: Header, stream: Stream) -> None:
        intake = self._link.intake
        if stream.opener:
            intake.assemble(header, self.error_done)
        elif header.length - HEADER_BYTES <= _REASON_BYTES:
            intake.assemble(header, self._abort_done)
        else:
            intake.discard(header, self._abort_done)

    def _abort_done(self, header: Header, payload: bytes) -> None:
        stream = self._table.live.get(header.serial)
        if stream is None:
            return
        self._table.advance(stream, StreamInput.RECEIVE_ABORT)
        program, version, procedure, serial = stream.key
        self._link.outgoing.append(frame(program, version, procedure, MessageType.STREAM, serial, Status.OK))
        self._link.events.append(StreamAborted(stream, _reason(payload)))

    def error_done(self, header: Header, payload: bytes) -> None:
        """The acceptor's STREAM/ERROR, or the REPLY/ERROR that libvirtd sends in its place (S08)."""
        # Nothing that an opener does while the error comes takes the stream out of the table.
        stream = self._table.live[header.serial]
        reaction = self._table.advance(stream, StreamInput.RECEIVE_FAIL)
        if reaction is Reaction.DELIVER:
            self._link.events.append(StreamFailed(stream, read_error(payload)))
        elif reaction is Reaction.HOLD:
            stream.early_error = (read_error(payload), "")

    # --- what should not be ---------------------------------------------------------

    def _bad(self, stream: Stream, code: str, text: str) -> None:
        """A message that breaks a rule of streams."""
        self._refuse(stream, self._table.advance(stream, StreamInput.RECEIVE_BAD), code, text)

    def _refuse(self, stream: Stream, reaction: Reaction, code: str, text: str) -> None:
        """Carry out a reaction other than delivering."""
        if reaction is Reaction.FAIL:
            self._outbound.object(stream, code, text)
        elif reaction is Reaction.HOLD:
            stream.early_error = (error_info(stream_error(text)), code)

    def _not_live(self, header: Header) -> None:
        link = self._link
        if header.serial in self._unanswered:
            # 0.1: libvirtd loses such data and confirms it all the same; nobody shall rely on it here.
            link.fail("stream-early", f"stream message before the reply to call {header.serial}")
            return
        ended = self._table.ended.get(header.serial)
        if ended is not None:  # S02, S03, S05, S06: they crossed, or the peer has not noticed yet
            link.intake.discard(header)
            if ended.error is not None and header.type == _STREAM and header.status == _OK:
                self._fail_again(header, *ended.error)
                ended.error = None  # once: it shall not serve as an amplifier
        elif link.programs is not None and header[1:3] not in link.programs:
            link.drop(header)  # H20
        else:  # S01 to S04
            link.fail("unknown-stream", f"stream message for serial {header.serial}, which is no stream")

    def _fail_again(self, header: Header, code: int, message: str) -> None:
        """A finish that comes after our STREAM/ERROR gets it again (S08): nobody shall wait in vain."""
        error = RemoteError(message, code=code, domain=STREAM_DOMAIN)
        self._link.outgoing.append(error_frame(header, error, MessageType.STREAM))


def _reason(payload: bytes) -> str:
    """The text of an abort; stock peers send none."""
    if not payload:
        return ""
    return (read_error(payload).message or "")[:ERROR_TEXT_BYTES]
