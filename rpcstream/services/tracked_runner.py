"""
Knowing when the threads are done with something.

Cancelling a Deferred does not stop the thread behind it.  Whoever closes what
threads read or write (a file, a pool, a database) waits here first.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ParamSpec, TypeVar

from twisted.internet.defer import Deferred, succeed
from twisted.python.failure import Failure

from rpcstream.net.streams import Waiters
from rpcstream.net.threads import Runner

__all__ = ["TrackedRunner"]

P = ParamSpec("P")
T = TypeVar("T")


class TrackedRunner:
    """
    A L{Runner} that counts what runs.

    @param runner: where the work runs.
    """

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._count = 0
        self._idle = Waiters()

    def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        """
        As L{Runner.run}.

        Cancelling forgets the result only: the work counts until the thread is done with it.
        """
        result: Deferred[T] = Deferred(lambda _: None)
        self._count += 1

        def tell(value: Any) -> None:
            if not result.called:
                result.callback(value)
            elif isinstance(value, Failure):
                value.cleanFailure()
            # Only now: what the result led to was counted meanwhile.
            self._count -= 1
            if not self._count:
                self._idle.fire()

        self._runner.run(function, *args, **kwargs).addBoth(tell)
        return result

    def when_idle(self) -> Deferred[None]:
        """Fires when nothing runs, perhaps at once."""
        return self._idle.wait() if self._count else succeed(None)
