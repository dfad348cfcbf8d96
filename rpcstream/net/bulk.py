"""
Who sends in bulk, in turn, a packet each; and how a packet is written.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.protocols.tls import BufferingTLSTransport, TLSMemoryBIOProtocol

from rpcstream.net.interfaces import BulkSender
from rpcstream.net.lane import takeover

if TYPE_CHECKING:
    from rpcstream.net.link import Link

__all__ = ["BulkTurns", "write_packet"]


def write_packet(transport: Any, frame: bytes) -> None:
    """
    Write a whole packet.

    Twisted's TLS cuts what it writes into records, each a copy, unless it is a view;
    and its aggregator of small writes, which takes no views, has to be passed by.
    """
    if isinstance(transport, BufferingTLSTransport) and takeover.is_supported():
        takeover.flush(transport)
        TLSMemoryBIOProtocol.write(transport, memoryview(frame))
    else:
        transport.write(frame)


class BulkTurns:
    """
    The senders of one connection that have something to send.

    @param link: asked whether it takes bulk; it gets the packets.
    """

    __slots__ = ("_is_pumping", "_link", "_senders")

    def __init__(self, link: Link) -> None:
        self._link = link
        self._senders: dict[BulkSender, None] = {}
        self._is_pumping = False

    def __bool__(self) -> bool:
        return bool(self._senders)

    def add(self, sender: BulkSender) -> None:
        """It has something to send; behind the others, if it is not among them."""
        self._senders[sender] = None

    def remove(self, sender: BulkSender) -> None:
        """It has nothing to send any more."""
        self._senders.pop(sender, None)

    def clear(self) -> None:
        """Nothing more is sent."""
        self._senders.clear()

    def pump(self) -> None:
        """Write while the transport takes it."""
        # What a sender lets in may ask for more at once: that waits for its turn.
        if self._is_pumping:
            return
        self._is_pumping = True
        link, senders = self._link, self._senders
        try:
            while link.is_writable and senders and link.is_connected:
                sender = next(iter(senders))
                del senders[sender]
                frame = sender.next_frame()
                if frame is None:
                    continue
                senders[sender] = None
                link.write_bulk(frame)
                sender.frame_written()
        finally:
            self._is_pumping = False
