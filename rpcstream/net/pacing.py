"""
A rate limit as a token bucket.

Time is injected; the bucket only says how long to wait.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

from twisted.internet.task import deferLater

__all__ = ["Pace", "TokenBucket"]


class TokenBucket:
    """
    Lets C{bytes_per_second} through on average, a quarter second's worth at once.

    Spending may overdraw by one packet: the debt is waited off before the next.
    Several streams may share one, also from several threads: then each may overdraw.

    @param clock: seconds, monotonic.
    """

    BURST_SECONDS = 0.25

    def __init__(self, bytes_per_second: float, clock: Callable[[], float]) -> None:
        if bytes_per_second <= 0:
            raise ValueError("a rate limit must be above 0 bytes per second")
        self.bytes_per_second = bytes_per_second
        self._clock = clock
        self._tokens = bytes_per_second * self.BURST_SECONDS
        self._at = clock()
        self._lock = threading.Lock()

    def wait_seconds(self) -> float:
        """Seconds until something may be sent again; 0 when it may be now."""
        ceiling = self.bytes_per_second * self.BURST_SECONDS
        with self._lock:
            now = self._clock()
            self._tokens = min(ceiling, self._tokens + (now - self._at) * self.bytes_per_second)
            self._at = now
            return 0.0 if self._tokens > 0 else -self._tokens / self.bytes_per_second + 0.001

    def spend(self, byte_count: int) -> None:
        """Take C{byte_count} bytes out."""
        with self._lock:
            self._tokens -= byte_count


class Pace:
    """
    A rate limit for whoever takes data: spend, and wait.

    @param bucket: perhaps shared with other streams.
    @param clock: the reactor, or a L{twisted.internet.task.Clock}.
    @param waiting: called with true before it waits and with false after.
    @ivar batch_bytes: how much to take at once, so that it goes smoothly.
    """

    def __init__(self, bucket: TokenBucket, clock: Any, waiting: Callable[[bool], None]) -> None:
        self.batch_bytes = max(1, int(bucket.bytes_per_second * TokenBucket.BURST_SECONDS))
        self._bucket = bucket
        self._clock = clock
        self._waiting = waiting

    async def spend(self, byte_count: int) -> None:
        """C{byte_count} bytes were taken: returns when more may be."""
        self._bucket.spend(byte_count)
        seconds = self._bucket.wait_seconds()
        if seconds <= 0:
            return
        self._waiting(True)
        try:
            await deferLater(self._clock, seconds)
        finally:
            self._waiting(False)
