"""
A bounded memory of streams that ended and calls that were refused.

Messages for them may still be under way; for a while they are dropped in
silence, without a limit of bytes (reliability S01 to S06: stock virsh sent 5.7
MiB after our STREAM/ERROR).  A serial that is not remembered was never seen.
"""

from __future__ import annotations

from collections.abc import Callable

from rpcstream.errors import RemoteError
from rpcstream.limits import Limits

__all__ = ["Ended", "EndedStreams"]

_REASON_CHARACTERS = 256


class Ended:
    """
    One serial that is over.

    @ivar until: the clock's time up to which late messages are fine.
    @ivar error: code and text of our STREAM/ERROR, for a finish that comes after it; else None.
    """

    __slots__ = ("error", "until")

    def __init__(self, until: float, error: tuple[int, str] | None) -> None:
        self.until = until
        self.error = error


class EndedStreams:
    """
    Serials by the time of their end; the oldest are forgotten first.

    @param limits: C{ended_stream_seconds} and C{ended_streams}.
    @param clock: seconds, monotonic.
    """

    __slots__ = ("_clock", "_entries", "_limits", "_paused_seconds")

    def __init__(self, limits: Limits, clock: Callable[[], float]) -> None:
        self._limits = limits
        self._clock = clock
        self._paused_seconds = 0.0
        self._entries: dict[int, Ended] = {}  # in order of time

    def __len__(self) -> int:
        return len(self._entries)

    def add_pause(self, seconds: float) -> None:
        """Nothing was read for so long: late messages had no chance to arrive."""
        self._paused_seconds += seconds

    def add(self, serial: int, error: RemoteError | None = None) -> None:
        """Remember C{serial}; with C{error}, that this was its end."""
        entries = self._entries
        now = self._now()
        entries.pop(serial, None)
        entries[serial] = Ended(
            now + self._limits.ended_stream_seconds,
            None if error is None else (error.code, error.message[:_REASON_CHARACTERS]),
        )
        # Amortised: each addition removes what has become old.
        while True:
            oldest = next(iter(entries))
            if len(entries) <= self._limits.ended_streams and entries[oldest].until >= now:
                break
            del entries[oldest]

    def forget(self, serial: int) -> None:
        """The serial is used again."""
        self._entries.pop(serial, None)

    def get(self, serial: int) -> Ended | None:
        """The entry, if the serial is remembered and its time has not passed."""
        entry = self._entries.get(serial)
        if entry is None or entry.until < self._now():
            return None
        return entry

    def _now(self) -> float:
        return self._clock() - self._paused_seconds
