"""
Calls of ours that wait for their reply, and their deadlines.

One timer sweeps the table, at the time of its earliest deadline, instead of
one timer a call.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime

from rpcstream.errors import DeadlineExceeded
from rpcstream.programs.base import ProcedureInfo

__all__ = ["PendingCall", "PendingCalls"]


class PendingCall(NamedTuple):
    """
    @ivar deferred: fires with the decoded result, or the stream.
    @ivar stream: the stream that the reply opens, C{None} for a plain call.
    @ivar deadline: clock time, C{None} = none.
    @ivar seconds: the limit that C{deadline} came from.
    """

    procedure: ProcedureInfo
    deferred: Deferred[Any]
    stream: Any
    deadline: float | None
    seconds: float


class PendingCalls:
    """
    The table, by serial.

    @param clock: a reactor.
    @param expired: called with the serial, the call whose deadline has passed, and
        the L{DeadlineExceeded} with which its Deferred fails then.
    """

    def __init__(self, clock: IReactorTime, expired: Callable[[int, PendingCall, Exception], None]) -> None:
        self._clock = clock
        self._expired = expired
        self._calls: dict[int, PendingCall] = {}
        self._timer: IDelayedCall | None = None
        self._timer_at = 0.0

    def __len__(self) -> int:
        return len(self._calls)

    def add(self, serial: int, call: PendingCall) -> None:
        """Wait for the reply with this serial."""
        self._calls[serial] = call
        if call.deadline is not None and (self._timer is None or call.deadline < self._timer_at):
            self._schedule(call.deadline)

    def pop(self, serial: int) -> PendingCall | None:
        """Take a call out: its reply came, or it was cancelled."""
        return self._calls.pop(serial, None)

    def clear(self) -> list[PendingCall]:
        """Take all out, and stop the timer."""
        calls, self._calls = list(self._calls.values()), {}
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        return calls

    def _schedule(self, at: float) -> None:
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = at
        self._timer = self._clock.callLater(max(0.0, at - self._clock.seconds()), self._sweep)

    def _sweep(self) -> None:
        self._timer = None
        now = self._clock.seconds()
        late = [s for s, c in self._calls.items() if c.deadline is not None and c.deadline <= now]
        for serial in late:
            call = self._calls.pop(serial, None)
            if call is not None:
                error = DeadlineExceeded(call.procedure.name, call.seconds)
                self._expired(serial, call, error)
                call.deferred.errback(error)
        deadlines = [c.deadline for c in self._calls.values() if c.deadline is not None]
        if deadlines and self._timer is None:
            self._schedule(min(deadlines))
