"""
What has arrived on a stream and was not yet taken by its consumer.

Holds pieces in order: bytes, and holes as L{Hole}.  Bounded by its owner, which
stops the sender (by credit, or by TCP) when L{Spool.cost_bytes} is high.
"""

from __future__ import annotations

from collections import deque
from typing import NamedTuple

__all__ = ["ZERO_PIECE_BYTES", "Hole", "Piece", "Spool", "zeros"]

ZERO_PIECE_BYTES = 256 * 1024
_ZEROS = bytes(ZERO_PIECE_BYTES)
_SMALL_BYTES = 4096
_PIECE_BYTES = 128
"""What a piece costs besides its data: two objects and their place in the queue."""


class Hole(NamedTuple):
    """
    C{length} zero bytes that did not cross the wire.

    @ivar length: bytes, above 0.
    """

    length: int


Piece = bytes | Hole


def zeros(length: int) -> bytes:
    """C{length} zero bytes, at most L{ZERO_PIECE_BYTES}; without a copy for a full piece."""
    return _ZEROS if length == ZERO_PIECE_BYTES else _ZEROS[:length]


class Spool:
    """
    A queue of pieces.

    Small fragments are gathered: a peer that sends its packets in one-byte
    records must not cost a Python object per byte.

    @ivar byte_count: data bytes held; holes count nothing.
    """

    __slots__ = ("_gathered", "_pieces", "byte_count")

    def __init__(self) -> None:
        self._pieces: deque[bytes | bytearray | Hole] = deque()
        self._gathered: bytearray | None = None
        self.byte_count = 0

    def __bool__(self) -> bool:
        return bool(self._pieces)

    @property
    def cost_bytes(self) -> int:
        """Memory held: a peer that alternates holes and single bytes must not get it for nothing."""
        return self.byte_count + _PIECE_BYTES * len(self._pieces)

    def add(self, data: bytes) -> None:
        """Append data; the spool keeps the object."""
        self.byte_count += len(data)
        gathered = self._gathered
        if gathered is not None and len(gathered) < _SMALL_BYTES:
            gathered += data
        elif len(data) < _SMALL_BYTES:
            self._gathered = bytearray(data)
            self._pieces.append(self._gathered)
        else:
            self._gathered = None
            self._pieces.append(data)

    def add_hole(self, length: int) -> None:
        """Append a hole; neighbouring holes become one."""
        self._gathered = None
        last = self._pieces[-1] if self._pieces else None
        if isinstance(last, Hole):
            self._pieces[-1] = Hole(last.length + length)
        else:
            self._pieces.append(Hole(length))

    def take(self, limit_bytes: int | None = None) -> Piece:
        """
        Remove and return the first piece.

        @param limit_bytes: cut it to this length; the rest stays first.
        @raise IndexError: the spool is empty.
        """
        piece = self._pieces.popleft()
        if piece is self._gathered:
            self._gathered = None
        if isinstance(piece, Hole):
            if limit_bytes is not None and piece.length > limit_bytes:
                self._pieces.appendleft(Hole(piece.length - limit_bytes))
                piece = Hole(limit_bytes)
            return piece
        if limit_bytes is not None and len(piece) > limit_bytes:
            self._pieces.appendleft(bytes(piece[limit_bytes:]))
            piece = piece[:limit_bytes]
        self.byte_count -= len(piece)
        return bytes(piece)

    def clear(self) -> int:
        """Drop everything; returns the data bytes dropped."""
        dropped = self.byte_count
        self._pieces.clear()
        self._gathered = None
        self.byte_count = 0
        return dropped
