"""
The keepalive timer: finds out that a peer is gone although TCP says nothing.

Wire: C{wire-protocol} section 6 (libvirt's program 0x6b656570).  The answer to
a PING is the core's; only the asking lives here.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime

__all__ = ["Keepalive"]


class Keepalive:
    """
    Sends PING after C{interval_seconds} of silence; after C{count} unanswered
    ones the peer is dead, that is after C{interval * (count + 1)} seconds.

    Any message counts as life.  While we do not read, silence proves nothing:
    then PINGs go on being sent (the peer's own timer needs them) and none is
    counted as missed.

    @param activity: a counter that every received message changes.
    @param is_reading: whether the transport is being read.
    """

    LOOKS = 5
    """How often in an interval it is looked whether something came: that is how exact the times are."""

    def __init__(
        self,
        clock: IReactorTime,
        interval_seconds: float,
        count: int,
        *,
        activity: Callable[[], int],
        is_reading: Callable[[], bool],
        send_ping: Callable[[], None],
        dead: Callable[[float], None],
    ) -> None:
        self._clock = clock
        self._count = count
        self._interval_seconds = interval_seconds
        self._activity = activity
        self._is_reading = is_reading
        self._send_ping = send_ping
        self._dead = dead
        self._seen = 0
        self._silent_looks = 0
        self._missed = 0
        self._timer: IDelayedCall | None = None

    def start(self) -> None:
        """Begin; harmless when it runs."""
        if self._timer is None:
            self._seen = self._activity()
            self._silent_looks = self._missed = 0
            self._look_later()

    def stop(self) -> None:
        """End; harmless when it does not run."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look_later(self) -> None:
        self._timer = self._clock.callLater(self._interval_seconds / self.LOOKS, self._look)

    def _look(self) -> None:
        self._timer = None
        activity = self._activity()
        if activity != self._seen:
            self._seen = activity
            # It came after the last look: the silence since may be one step long.
            self._silent_looks = 1
            self._missed = 0
        else:
            self._silent_looks += 1
        if self._silent_looks < self.LOOKS:
            self._look_later()
            return
        self._silent_looks = 0
        if not self._is_reading():
            self._missed = 0
        elif self._missed >= self._count:
            self._dead(self._interval_seconds * (self._count + 1))
            return
        else:
            self._missed += 1
        # Before the next look is asked for: it may be the end of the connection, which stops us.
        self._look_later()
        self._send_ping()
