"""
How the credit of a receiving stream grows: by the measured round trip.

A grant is timed until the first packet comes that needed it.  If the sender had
used up all older credit and nothing came for a good part of that time, then the
window, not the line or the consumer, is what the stream waits for: it doubles, up
to C{limits.largest_credit_bytes} and as far as the process has credit to give.
QUIC and HTTP/2 stacks tune their windows alike (Chromium's QUIC doubles one that
was used up within two round trips).

No I/O here; who calls it writes the grants.
"""

from __future__ import annotations

from collections import deque

from rpcstream.core.streams import Stream
from rpcstream.limits import Limits

__all__ = ["CreditBudget", "Window"]

_IDLE_SHARE = 0.25
"""Of the round trip nothing came for so long: worth a wider window."""
_SLIVER_BYTES = 8 * 1024
"""A sender with less credit than that left may wait for more, rather than send a tiny packet."""
_TIMED_GRANTS = 8
"""Each is half a window: there are two or three under way."""


class CreditBudget:
    """
    The windows of all receiving streams of one process together.

    @ivar granted_bytes: their sum.
    """

    def __init__(self) -> None:
        self.granted_bytes = 0

    def room_for(self, byte_count: int, limit_bytes: int) -> bool:
        """Whether so much more may be granted."""
        return self.granted_bytes + byte_count <= limit_bytes


_process = CreditBudget()


class Window:
    """
    Watches the credit of one stream.

    @param stream: the core's; nothing is done for one without credit.
    @param limits: C{largest_credit_bytes} and C{credit_budget_bytes}.
    @param budget: default: the process's.  A first window is counted there and
        never refused; a wider one is.
    """

    __slots__ = (
        "_budget",
        "_counted_bytes",
        "_grants",
        "_limits",
        "_stream",
        "_used",
        "_used_at",
    )

    def __init__(self, stream: Stream, limits: Limits, budget: CreditBudget = _process) -> None:
        self._stream = stream
        self._limits = limits
        self._budget = budget
        self._counted_bytes = stream.receive_window or 0
        budget.granted_bytes += self._counted_bytes
        # Grants under way: all that had been granted before it, and when it was written.
        self._grants: deque[tuple[int, float]] = deque(maxlen=_TIMED_GRANTS)
        self._used = 0  # when data came last
        self._used_at = 0.0

    @property
    def edge(self) -> int:
        """All that has been granted so far."""
        credit = self._stream.receive_credit
        return 0 if credit is None else credit.granted

    def granted(self, edge: int, now: float) -> None:
        """A grant is written; C{edge} is all that had been granted before it."""
        self._grants.append((edge, now))

    @property
    def has_news(self) -> bool:
        """Whether a packet has begun since L{growth} was asked: else there is no need to."""
        credit = self._stream.receive_credit
        return credit is not None and credit.granted - credit.left != self._used

    def growth(self, is_drained: bool, now: float) -> int:
        """
        A packet has begun.

        @param is_drained: whether the consumer had taken all that came before it:
            else it is slower than the line, and never gets more.
        @return: by how much to widen the window now, mostly 0.
        """
        credit = self._stream.receive_credit
        if credit is None:
            return 0
        used = credit.granted - credit.left
        before, before_at = self._used, self._used_at
        self._used, self._used_at = used, now
        grants = self._grants
        if not grants or used <= grants[0][0]:
            return 0
        edge, granted_at = grants.popleft()
        while grants and used > grants[0][0]:
            grants.popleft()
        was_used_up = edge - before < _SLIVER_BYTES
        idle_seconds = now - max(before_at, granted_at)
        round_trip_seconds = now - granted_at
        if not (is_drained and was_used_up) or idle_seconds < _IDLE_SHARE * round_trip_seconds:
            return 0
        return self._widen(credit.window) if round_trip_seconds > 0 else 0

    def _widen(self, window: int) -> int:
        limits = self._limits
        more = min(window, limits.largest_credit_bytes - window)
        if more <= 0 or not self._budget.room_for(more, limits.credit_budget_bytes):
            return 0
        self._budget.granted_bytes += more
        self._counted_bytes += more
        return more

    def close(self) -> None:
        """The stream has ended: its credit is the others'."""
        self._budget.granted_bytes -= self._counted_bytes
        self._counted_bytes = 0
