"""
Which part of a content goes next: the extents that are missing, in order, in pieces.

Nothing is assigned in advance: whichever connection is free takes the next part,
so that a slow one holds nothing up.  Parts begin large, for each costs two round
trips, and become small towards the end, where all are to finish together.
"""

from __future__ import annotations

from typing import Final

from rpcstream.limits import EXTENT_BYTES
from rpcstream.programs.parts import PartRequest
from rpcstream.storage.extents import LARGEST_BYTES, extent_count, flags_of_bitmap

__all__ = ["ALL", "Division"]

LEAST_COUNT: Final = 4
"""Extents of a part when several connections share the work: 16 MiB."""
ALL: Final = LARGEST_BYTES // EXTENT_BYTES
"""As many extents as content can have."""


class Division:
    """
    The parts of one attempt.

    @param worker_count: how many connections take parts at the same time.
    @param size_bytes: of the content, C{None} if it is not known.
    """

    def __init__(self, worker_count: int, size_bytes: int | None) -> None:
        self._worker_count = worker_count
        self._flags = bytearray()
        self._next = 0
        self._missing_count: int | None = None
        self._stop = ALL
        if size_bytes is not None:
            self.settle(size_bytes, b"")

    def settle(self, size_bytes: int | None, held: bytes) -> None:
        """The other side has answered: the size, and the bitmap of what it holds."""
        self._flags = flags_of_bitmap(held)
        self._stop = ALL if size_bytes is None else extent_count(size_bytes)
        del self._flags[self._stop :]
        if size_bytes is not None:
            self._missing_count = self._stop - self._next - self._flags.count(1, self._next)

    def take(self, most_count: int = ALL) -> PartRequest | None:
        """
        The next part.

        @param most_count: so many extents its connection may still carry, at least 1.
        @return: C{None} when all parts are taken; never the first time.
        """
        if self._next >= self._stop and self._next > 0:
            return None
        if self._next > 0 and not self._missing_count and self._missing_count is not None:
            return None
        wanted = min(most_count, self._wanted_count())
        first = self._next
        position, found = first, 0
        while found < wanted and position < self._stop:
            held = self._flags.find(1, position)
            run_stop = self._stop if held < 0 else held
            step = min(wanted - found, run_stop - position)
            found += step
            position += step
            if position == held:
                missing = self._flags.find(0, held)
                position = len(self._flags) if missing < 0 else missing
        self._next = max(position, 1)
        if self._missing_count is not None:
            self._missing_count -= found
        return PartRequest(first, max(1, position - first))

    def _wanted_count(self) -> int:
        if self._worker_count == 1:
            return ALL
        if self._missing_count is None:
            # How much there is comes with the answer to the first.
            return LEAST_COUNT
        return max(LEAST_COUNT, self._missing_count // (2 * self._worker_count))
