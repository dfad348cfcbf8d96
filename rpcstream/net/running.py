"""
The calls of one connection that are being answered, and those parked behind them.

At most C{limits.running_calls} run; more wait here while messages and streams
behind them are served, and past C{limits.parked_calls} reading pauses.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred

from rpcstream.errors import OperationAborted, RemoteError
from rpcstream.limits import Limits
from rpcstream.wire.header import Header

__all__ = ["RunningCalls"]


class RunningCalls:
    """
    @param run: answers one call; returns at once or keeps a slot until L{ended}.
    @param refuse: answers one call with an error.
    @param pause: stops reading; C{resume} goes on.
    """

    def __init__(
        self,
        limits: Limits,
        run: Callable[[Header, bytes], None],
        refuse: Callable[[Header, RemoteError], None],
        pause: Callable[[], None],
        resume: Callable[[], None],
    ) -> None:
        self._limits = limits
        self._run = run
        self._refuse = refuse
        self._pause = pause
        self._resume = resume
        self._slots = 0
        self._parked: dict[int, tuple[Header, bytes]] = {}
        self._parked_bytes = 0
        self._is_unparking = False
        self._deferreds: dict[int, Deferred[Any]] = {}

    @property
    def running_count(self) -> int:
        """Calls, and responders of streams, that are not done."""
        return len(self._deferreds)

    @property
    def parked_count(self) -> int:
        """Calls that wait for a slot."""
        return len(self._parked)

    def add(self, header: Header, payload: bytes) -> None:
        """Answer the call now, or park it."""
        if self._slots < self._limits.running_calls:
            self._run(header, payload)
            return
        self._parked[header.serial] = header, payload
        self._parked_bytes += len(payload)
        if self._is_full():
            self._pause()

    def _is_full(self) -> bool:
        limits = self._limits
        return len(self._parked) >= limits.parked_calls or self._parked_bytes >= limits.parked_bytes

    def take_slot(self) -> None:
        """A call goes on after C{run} has returned."""
        self._slots += 1

    def give_slot(self) -> None:
        """Its reply was sent: the next parked call may run."""
        self._slots -= 1
        # A call that is answered at once gives its slot while it is being unparked.
        if self._is_unparking:
            return
        self._is_unparking = True
        try:
            while self._parked and self._slots < self._limits.running_calls:
                self._run(*self._unpark(next(iter(self._parked))))
        finally:
            self._is_unparking = False
        if not self._is_full():
            self._resume()

    def _unpark(self, serial: int) -> tuple[Header, bytes]:
        header, payload = self._parked.pop(serial)
        self._parked_bytes -= len(payload)
        return header, payload

    def started(self, serial: int, deferred: Deferred[Any]) -> None:
        """Remember what to cancel: a call, or the stream that it opened."""
        self._deferreds[serial] = deferred

    def ended(self, serial: int) -> None:
        """The responder is done."""
        self._deferreds.pop(serial, None)

    def cancel(self, serial: int) -> bool:
        """Cancel a running or parked call; false when there is none with this serial."""
        deferred = self._deferreds.get(serial)
        if deferred is not None:
            deferred.cancel()
            return True
        if serial in self._parked:
            header, _ = self._unpark(serial)
            self._refuse(header, OperationAborted("cancelled before it ran"))
            if not self._is_full():
                self._resume()
            return True
        return False

    def cancel_all(self) -> None:
        """The connection is gone."""
        self._parked.clear()
        self._parked_bytes = 0
        for deferred in list(self._deferreds.values()):
            deferred.cancel()
