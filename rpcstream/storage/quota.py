"""
How much a pool may hold.
"""

from __future__ import annotations

import threading
from collections.abc import Callable

from rpcstream.errors import QuotaExceeded

__all__ = ["Quota"]


class Quota:
    """
    Counts what is added to a pool and refuses what is too much.  Thread-safe.

    What is removed is noticed when the quota seems to be used up: then, and
    only then, the pool is measured again.
    """

    def __init__(self, limit_bytes: int | None, measure: Callable[[], int]) -> None:
        """
        @param limit_bytes: C{None} for no limit; then nothing is ever measured.
        @param measure: bytes of disk that the pool uses now, partials included.
        """
        self._limit_bytes = limit_bytes
        self._measure = measure
        self._used_bytes: int | None = None
        self._lock = threading.Lock()

    def measured(self) -> tuple[int | None, int]:
        """The limit, C{None} for none, and what is used of it now."""
        return self._limit_bytes, 0 if self._limit_bytes is None else self._measure()

    def charge(self, byte_count: int, name: str) -> None:
        """
        Count bytes that are about to be written to C{name}.

        @raise QuotaExceeded: they would not fit; they are not counted.
        """
        if self._limit_bytes is None:
            return
        with self._lock:
            if self._used_bytes is None or self._used_bytes + byte_count > self._limit_bytes:
                self._used_bytes = self._measure()
            if self._used_bytes + byte_count > self._limit_bytes:
                raise QuotaExceeded(
                    f"the pool's quota of {self._limit_bytes} bytes has no room for {byte_count} more", name
                )
            self._used_bytes += byte_count
