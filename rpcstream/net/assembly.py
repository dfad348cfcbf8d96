"""
Memory for large messages, shared by the connections of one server.

A CALL, REPLY or MESSAGE is put together in memory before it is acted on; a
large one asks here first, and its connection is not read until it may (F14 of
the catalogue of bad inputs).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable

__all__ = ["AssemblyBudget"]


class AssemblyBudget:
    """
    Grants bytes, in order of asking.

    @param limit_bytes: granted at once; one alone may have more than that.
    """

    def __init__(self, limit_bytes: int) -> None:
        self._limit_bytes = limit_bytes
        self._granted: dict[Hashable, int] = {}
        self._waiting: dict[Hashable, tuple[int, Callable[[], None]]] = {}
        self._granted_bytes = 0

    @property
    def granted_bytes(self) -> int:
        """What is granted now."""
        return self._granted_bytes

    def ask(self, owner: Hashable, byte_count: int, granted: Callable[[], None]) -> bool:
        """
        Ask for C{byte_count}; C{owner} has nothing and waits for nothing.

        @param granted: called when they can be had, if not at once.
        @return: whether they are granted already.
        """
        if not self._waiting and self._fits(byte_count):
            self._grant(owner, byte_count)
            return True
        self._waiting[owner] = byte_count, granted
        return False

    def release(self, owner: Hashable) -> None:
        """Give back what C{owner} has, or stop waiting; harmless when it has nothing."""
        self._waiting.pop(owner, None)
        self._granted_bytes -= self._granted.pop(owner, 0)
        while self._waiting:
            first = next(iter(self._waiting))
            byte_count, granted = self._waiting[first]
            if not self._fits(byte_count):
                return
            del self._waiting[first]
            self._grant(first, byte_count)
            granted()

    def _fits(self, byte_count: int) -> bool:
        return not self._granted or self._granted_bytes + byte_count <= self._limit_bytes

    def _grant(self, owner: Hashable, byte_count: int) -> None:
        self._granted[owner] = byte_count
        self._granted_bytes += byte_count
