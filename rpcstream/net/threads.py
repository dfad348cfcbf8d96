"""
Blocking work, away from the reactor.

Every thread of rpcstream is reached through a L{Runner}, so that tests can run
the work in line and a service can bound and stop its threads.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from functools import partial
from threading import Thread
from typing import Any, ParamSpec, Protocol, TypeVar

from twisted.internet.defer import Deferred, execute, maybeDeferred
from twisted.internet.interfaces import IReactorFromThreads
from twisted.internet.threads import deferToThreadPool
from twisted.python.failure import Failure
from twisted.python.threadpool import ThreadPool

__all__ = ["InlineRunner", "Runner", "SerialRunner", "ThreadRunner"]

P = ParamSpec("P")
T = TypeVar("T")


class Runner(Protocol):
    """Runs a function somewhere and tells its result."""

    def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        """Run C{function}; the Deferred fires with its result or its exception."""
        ...


class ThreadRunner:
    """
    A thread pool of its own, never the reactor's (which also resolves names).

    @param reactor: the reactor that results come back to.
    @param thread_count: most threads at once.
    """

    def __init__(self, reactor: Any, thread_count: int = 8, name: str = "rpcstream") -> None:
        self._reactor: IReactorFromThreads = reactor
        self._pool = ThreadPool(minthreads=0, maxthreads=thread_count, name=name)
        self._running = False
        self._stopped = False

    def start(self) -> None:
        """Start the pool; harmless when it runs."""
        if not self._running and not self._stopped:
            self._pool.start()
            self._running = True

    def stop(self) -> None:
        """
        Wait for the work that runs, then end the threads.

        What is asked for later still runs, each piece in a thread that ends with
        it: a clean-up must not fail for having come late.
        """
        self._stopped = True
        if self._running:
            self._running = False
            self._pool.stop()

    def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        """As L{Runner.run}; starts the pool at first use."""
        if self._stopped:
            return self._run_alone(partial(function, *args, **kwargs))
        self.start()
        return deferToThreadPool(self._reactor, self._pool, function, *args, **kwargs)

    def _run_alone(self, work: Callable[[], T]) -> Deferred[T]:
        result: Deferred[T] = Deferred(lambda _: None)

        def tell(value: T | Failure) -> None:
            if not result.called:
                result.callback(value)

        def thread() -> None:
            try:
                value: T | Failure = work()
            except BaseException:
                value = Failure()
            self._reactor.callFromThread(tell, value)

        Thread(target=thread, name="rpcstream-late").start()
        return result


class InlineRunner:
    """Runs the work at once, in the caller's thread: for tests."""

    def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        """As L{Runner.run}."""
        return execute(function, *args, **kwargs)


class SerialRunner:
    """
    Runs blocking work one piece after the other, for objects that are not
    thread-safe, such as an open partial.

    Cancelling a piece's Deferred abandons its result, not its order: what is
    asked for later, a clean-up above all, starts only when the thread is done.

    @param runner: where the work runs.
    """

    def __init__(self, runner: Runner) -> None:
        self._runner = runner
        self._queue: deque[Callable[[], Deferred[Any]]] = deque()
        self._busy = False

    def run(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> Deferred[T]:
        """As L{Runner.run}, after all that was asked for before."""
        result: Deferred[T] = Deferred(lambda _: None)

        def start() -> Deferred[Any]:
            return maybeDeferred(partial(self._runner.run, function, *args, **kwargs)).addBoth(tell)

        def tell(value: Any) -> None:
            if not result.called:
                result.callback(value)
            elif isinstance(value, Failure):
                value.cleanFailure()

        self._queue.append(start)
        self._next()
        return result

    def _next(self) -> None:
        if self._busy or not self._queue:
            return
        self._busy = True
        self._queue.popleft()().addBoth(self._ended)

    def _ended(self, _: Any) -> None:
        self._busy = False
        self._next()
