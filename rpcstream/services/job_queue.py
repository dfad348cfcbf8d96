"""
The job store, asked from the reactor: one piece of work after the other, in a thread.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Concatenate, ParamSpec, TypeVar

from twisted.internet.defer import Deferred, fail, succeed

from rpcstream.errors import BadState
from rpcstream.net.threads import Runner, SerialRunner
from rpcstream.services.job_record import Job
from rpcstream.services.job_store import JobStore

__all__ = ["JobQueue", "take_due"]

P = ParamSpec("P")
T = TypeVar("T")


class JobQueue:
    """
    @param path: the store's file.
    @param runner: where its work runs.
    """

    def __init__(self, path: Path, runner: Runner) -> None:
        self._path = path
        self._serial = SerialRunner(runner)
        self._store: JobStore | None = None

    def open(self) -> None:
        """
        Open the store.  Blocks, so that a start fails where it is asked for.

        @raise ConfigurationError: it cannot be used, or another service uses it.
        """
        self._store = JobStore(self._path)

    def ask(
        self, method: Callable[Concatenate[JobStore, P], T], *args: P.args, **kwargs: P.kwargs
    ) -> Deferred[T]:
        """
        Run a method of L{JobStore}, after all that was asked for before.

        @return: fires with its result or its error; cancelling it changes nothing
            about what is done.
        """
        if self._store is None:
            return fail(BadState("the job queue is not open"))
        return self._serial.run(method, self._store, *args, **kwargs)

    def close(self) -> Deferred[None]:
        """Close the store, after all that was asked for before."""
        store, self._store = self._store, None
        return succeed(None) if store is None else self._serial.run(store.close)


def take_due(store: JobStore, now: float) -> Job | None:
    """
    Start the queued job that has been due for longest, in one piece of work, so
    that nothing comes between looking and starting.

    @param now: seconds since 1970.
    """
    job = store.next_due(now)
    return None if job is None else store.start(job.job_id)
