"""
Telling keepalive from a flood of PINGs (C{docs/bad-inputs.md}, K04).
"""

from __future__ import annotations

from collections.abc import Callable

from rpcstream.limits import Limits

__all__ = ["PingMeter"]

_STRIKES = 3
_WINDOW_SECONDS = 1.0
_LARGEST_BACKLOG = 3600
"""No more than an hour of PINGs is forgiven: the longest that a stalled stream may stop our reading."""


class PingMeter:
    """
    Counts PINGs in windows of a second.  Each time that there are too many is a
    strike; three strikes are a flood; a window without one clears them.

    While we do not read, an honest peer may go on sending a PING now and then;
    they come at once when we read again.  So a second's silence before a window
    allows one PING more in it.

    @param limits: C{ping_burst_count}.
    @param clock: seconds, monotonic.
    """

    __slots__ = ("_allowed", "_burst_count", "_clock", "_count", "_started", "_strikes", "_struck")

    def __init__(self, limits: Limits, clock: Callable[[], float]) -> None:
        self._clock = clock
        self._burst_count = self._allowed = limits.ping_burst_count
        self._started = clock()
        self._count = 0
        self._strikes = 0
        self._struck = False

    def flooded_by_ping(self) -> bool:
        """A PING has come: whether it is one too many."""
        now = self._clock()
        silence = now - self._started
        if silence >= _WINDOW_SECONDS:
            if not self._struck or silence >= 2 * _WINDOW_SECONDS:
                self._strikes = 0
            self._started, self._count, self._struck = now, 0, False
            self._allowed = self._burst_count + min(int(silence) - 1, _LARGEST_BACKLOG)
        self._count += 1
        if self._count > self._allowed:
            self._strikes += 1
            self._struck = True
            self._count = 0
            self._allowed = self._burst_count
        return self._strikes >= _STRIKES
