"""
Drives a pull producer as if it were a push producer.

Twisted's own C{FileSender} is a pull producer; without this it hangs on a
consumer that only pauses and resumes.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IPullProducer, IPushProducer, IReactorTime
from zope.interface import implementer

__all__ = ["PullToPush"]


@implementer(IPushProducer)
class PullToPush:
    """
    Asks C{producer} for one piece each reactor turn while not paused.

    @param failed: called once with what the producer raised instead of writing.
    """

    def __init__(
        self,
        producer: Any,
        clock: IReactorTime,
        failed: Callable[[Exception], None] = lambda error: None,
    ) -> None:
        self._producer: IPullProducer = producer
        self._clock = clock
        self._failed = failed
        self._timer: IDelayedCall | None = None
        self._paused = False
        self._stopped = False

    def start(self) -> None:
        """Begin asking, from the next turn on."""
        self._schedule()

    def _schedule(self) -> None:
        if self._timer is None and not self._stopped and not self._paused:
            self._timer = self._clock.callLater(0, self._ask)

    def _ask(self) -> None:
        self._timer = None
        try:
            self._producer.resumeProducing()
        except Exception as error:
            self.stop()
            self._failed(error)
        self._schedule()

    def pauseProducing(self) -> None:
        """Ask no more for now."""
        self._paused = True
        self._cancel()

    def resumeProducing(self) -> None:
        """Go on asking."""
        self._paused = False
        self._schedule()

    def stop(self) -> None:
        """Ask no more; the producer has unregistered itself."""
        self._stopped = True
        self._cancel()

    def stopProducing(self) -> None:
        """Ask no more, and tell the producer."""
        self.stop()
        self._producer.stopProducing()

    def _cancel(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
