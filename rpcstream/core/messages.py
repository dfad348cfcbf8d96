"""
MESSAGEs: keepalive and credit are dealt with here, the rest is delivered.

The serial of a MESSAGE means nothing (C{wire-protocol.md} section 0.4).
"""

from __future__ import annotations

from rpcstream.core.credit import CREDIT_MAXIMUM
from rpcstream.core.events import CreditGranted, MessageReceived
from rpcstream.core.flood import PingMeter
from rpcstream.core.frames import PONG
from rpcstream.core.link import Link
from rpcstream.core.outbound import CREDIT_CODEC, CREDIT_PROCEDURE
from rpcstream.core.streams import StreamTable
from rpcstream.errors import DecodeError
from rpcstream.programs import keepalive
from rpcstream.programs.flow import FLOW
from rpcstream.wire.header import HEADER_BYTES, Header, Status

__all__ = ["Messages"]

_OK = int(Status.OK)


class Messages:
    """Takes MESSAGEs."""

    __slots__ = ("_link", "_pings", "_table")

    def __init__(self, link: Link, table: StreamTable) -> None:
        self._link = link
        self._table = table
        self._pings = PingMeter(link.limits, link.clock)

    def begins(self, header: Header) -> None:
        """A MESSAGE has begun."""
        link = self._link
        if header.program == keepalive.PROGRAM:
            self._keepalive(header)
        elif header.status != _OK:  # 1.4
            link.drop(header)
        elif header[1:4] == (FLOW.number, FLOW.version, CREDIT_PROCEDURE):
            self._credit_begins(header)
        else:
            limit = self._limit(header)
            if limit is None or header.length - HEADER_BYTES > limit:
                link.drop(header)  # H09
            else:
                link.intake.assemble(header, self._done)

    def _limit(self, header: Header) -> int | None:
        admit = self._link.admit_message
        return header.length if admit is None else admit(header)

    def _done(self, header: Header, payload: bytes) -> None:
        self._link.events.append(MessageReceived(header, payload))

    def _keepalive(self, header: Header) -> None:
        """Section 6: payload and serial are ignored; a PONG answers nothing in particular."""
        link = self._link
        known = header.version == keepalive.VERSION and header.status == _OK
        if known and header.procedure == keepalive.PING:
            link.intake.discard(header)
            if self._pings.flooded_by_ping():
                link.fail("flood", "more PINGs than keepalive needs")  # K04
            else:
                link.outgoing.append(PONG)  # K01
        elif known and header.procedure == keepalive.PONG:
            link.intake.discard(header)
        else:
            link.drop(header)  # K02

    # --- credit -----------------------------------------------------------------------

    def _credit_begins(self, header: Header) -> None:
        if not self._table.has_credit:
            self._link.drop(header)  # nobody agreed on it
        elif header.length - HEADER_BYTES > CREDIT_CODEC.max_bytes:
            self._link.fail("credit", "a credit message of the wrong size")
        else:
            self._link.intake.assemble(header, self._credit_done)

    def _credit_done(self, header: Header, payload: bytes) -> None:
        """S22."""
        link = self._link
        try:
            credit = CREDIT_CODEC.decode(payload)
        except DecodeError as error:
            link.fail("credit", f"a credit message that cannot be decoded: {error}")
            return
        if not credit.byte_count:
            link.fail("credit", "a credit of zero bytes")
            return
        stream = self._table.live.get(credit.serial)
        if stream is None or stream.key != (
            credit.program,
            credit.version,
            credit.procedure,
            credit.serial,
        ):
            return  # the stream ended while it was under way
        if stream.send_credit is None:
            link.drop(header)
        elif stream.send_credit + credit.byte_count > CREDIT_MAXIMUM:
            link.fail("credit", "the credit of a stream overflows")
        else:
            stream.send_credit += credit.byte_count
            if not stream.ended:
                link.events.append(CreditGranted(stream))
