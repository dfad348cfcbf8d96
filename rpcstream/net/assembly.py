"""
Memory for large messages, shared by the connections of one server.

A CALL, REPLY or MESSAGE is put together in memory before it is acted on; a
large one asks here first, and its connection is not read until it may (F14 of
the catalogue of bad inputs).
"""

from __future__ import annotations

from collections.abc import Callable, Hashable
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rpcstream.net.link import Link

__all__ = ["AssemblyBudget", "MessageMemory"]


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


class MessageMemory:
    """
    The asking of one connection.

    @param link: it is not read while its message must wait.
    """

    def __init__(self, budget: AssemblyBudget, link: Link) -> None:
        self._budget = budget
        self._link = link
        self._asked_for = 0  # number of the message

    def ask(self, is_open: bool) -> None:
        """F14: nothing more of a large body is read until there is room for it."""
        link, budget = self._link, self._budget
        size = link.core.body_pending_bytes
        wanted = link.core.message_number if size > link.limits.assembly_free_bytes else 0
        if wanted == self._asked_for or not is_open:
            return
        if self._asked_for:
            budget.release(self)
        self._asked_for = wanted
        if wanted and not budget.ask(self, size, lambda: link.resume_reading(budget)):
            link.pause_reading(budget)

    def release(self) -> None:
        """The connection is over."""
        self._budget.release(self)
