"""
How many answers wait for a peer that does not read them (K04 of the catalogue
of bad inputs).
"""

from __future__ import annotations

from rpcstream.limits import Limits

__all__ = ["ControlQueue"]


class ControlQueue:
    """
    Counts what was written while the transport's buffer is full.

    @ivar is_full: C{limits.control_queue_count} messages or
        C{limits.control_queue_bytes} wait: nothing more should be asked for.
    """

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._count = 0
        self._bytes = 0
        self._full_at = 0.0
        self.is_full = False

    def add(self, byte_count: int, now: float) -> bool:
        """
        One message more.

        @return: whether the queue has become full by it.
        """
        self._count += 1
        self._bytes += byte_count
        limits = self._limits
        if self.is_full or (
            self._count < limits.control_queue_count and self._bytes < limits.control_queue_bytes
        ):
            return False
        self.is_full = True
        self._full_at = now
        return True

    def clear(self) -> None:
        """The transport's buffer is empty."""
        self._count = self._bytes = 0
        self.is_full = False

    def is_stuck(self, now: float) -> bool:
        """Whether it has been full for C{limits.control_stuck_seconds}."""
        return self.is_full and now - self._full_at >= self._limits.control_stuck_seconds
