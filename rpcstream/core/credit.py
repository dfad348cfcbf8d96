"""
Credit of one direction of one stream, as plain integers.

Between rpcstream peers a stream's sender may have only so much on the way: each
data or hole message costs its payload and its header (L{charge_of}), so that
tiny packets cannot exhaust the receiver's memory either.  End, finish, abort
and error cost nothing: a sender without credit can still end.  No I/O here, and
no messages: what comes out is how much to grant.
"""

from __future__ import annotations

from collections import deque

from rpcstream.errors import BadValue
from rpcstream.wire.header import HEADER_BYTES
from rpcstream.wire.hole import HOLE_BYTES

__all__ = ["CREDIT_MAXIMUM", "HOLE_CHARGE", "ReceiveCredit", "charge_of"]

CREDIT_MAXIMUM = 2**63 - 1
"""Credit never passes it; a grant that would is a fatal mistake of the granter (S22)."""

HOLE_CHARGE = HOLE_BYTES + HEADER_BYTES
"""What a hole costs, whatever its length."""

_BATCHED_WINDOW_BYTES = 8192
"""Below it credit goes back at once: half of a tiny window may be less than a message costs."""


def charge_of(payload_bytes: int) -> int:
    """The cost of a stream message."""
    return payload_bytes + HEADER_BYTES


class ReceiveCredit:
    """
    What we granted to the sender, and what of it has to go back.

    The header's share of a message goes back with the last byte of its payload,
    so what is unread here never costs more than the window.  A hole goes back
    when all data before it is consumed, at once if there is none: a run of
    holes is one hole to whoever holds it.

    @ivar window: bytes of charge that may be on the way or unread.
    @ivar left: what the sender may still send.
    @ivar granted: all that was ever granted, the first window included.
    """

    __slots__ = ("_free", "_unread", "granted", "left", "window")

    def __init__(self, window: int) -> None:
        self.window = window
        self.left = self.granted = window
        self._free = 0  # consumed, not yet granted again
        self._unread: deque[int] = deque()  # payloads of unread messages in order, 0 for a hole

    def take_data(self, payload_bytes: int) -> bool:
        """A data message has begun; false if there is no credit for it."""
        charge = payload_bytes + HEADER_BYTES
        if charge > self.left:
            return False
        self.left -= charge
        self._unread.append(payload_bytes)
        return True

    def take_hole(self) -> bool:
        """A hole has come; false if there is no credit for it.  Call C{consumed(0)} after it."""
        if self.left < HOLE_CHARGE:
            return False
        self.left -= HOLE_CHARGE
        self._unread.append(0)
        return True

    def consumed(self, byte_count: int) -> int:
        """
        The user is done with the next C{byte_count} bytes of data.

        @return: how much to grant to the sender now; 0 until half of the
            window is free, so that grants are few.
        @raise BadValue: more than was received.
        """
        unread = self._unread
        is_batched = self.window >= _BATCHED_WINDOW_BYTES and self._free + byte_count < self.window // 2
        if unread and is_batched and 0 < byte_count < unread[0]:
            # Within one packet, as most of it is.
            unread[0] -= byte_count
            self._free += byte_count
            return 0
        rest = byte_count
        free = 0
        while unread:
            first = unread[0]
            if rest < first:
                break
            unread.popleft()
            rest -= first
            free += HEADER_BYTES if first else HOLE_CHARGE
        if rest:
            if not unread or rest < 0:
                raise BadValue("byte_count", "more than was received")
            unread[0] -= rest
        self._free += byte_count + free
        batch = self.window // 2 if self.window >= _BATCHED_WINDOW_BYTES else 1
        return self._grant() if self._free >= batch else 0

    def grow(self, byte_count: int) -> int:
        """
        Widen the window.

        @return: how much to grant now: the growth and all that is free.
        @raise BadValue: not positive, or the window would pass L{CREDIT_MAXIMUM}.
        """
        if byte_count <= 0 or self.window + byte_count > CREDIT_MAXIMUM:
            raise BadValue("byte_count", f"{byte_count} cannot be added to a window of {self.window}")
        self.window += byte_count
        self._free += byte_count
        return self._grant()

    def _grant(self) -> int:
        free, self._free = self._free, 0
        self.left += free
        self.granted += free
        return free
