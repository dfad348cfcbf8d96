"""
Which jobs run when: so many at once, in order, again after what may pass.
"""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure

from rpcstream.errors import BadState, RemoteError, RPCStreamError, StorageError
from rpcstream.net.identity import printable
from rpcstream.services.backoff import Backoff, is_retryable
from rpcstream.services.job_attempt import JobAttempt
from rpcstream.services.job_measures import JobMeasures
from rpcstream.services.job_queue import JobQueue, take_due
from rpcstream.services.job_record import Job
from rpcstream.services.job_store import JobStore
from rpcstream.services.sending import Sent

__all__ = ["JobScheduler"]

STORE_SECONDS = 5.0
"""After an error of the queue itself (a full disk) it is asked again."""


class JobScheduler:
    """
    @param attempt: makes an attempt at a job that was started.
    @param clock: the reactor, or a L{twisted.internet.task.Clock}.
    @param concurrent: how many jobs run at once.
    @param now: seconds since 1970.
    @ivar measures: what the transfers of this process were like.
    """

    log = Logger()

    def __init__(
        self,
        queue: JobQueue,
        attempt: Callable[[Job], JobAttempt],
        clock: Any,
        *,
        concurrent: int = 1,
        backoff: Backoff | None = None,
        now: Callable[[], float] = time.time,
    ) -> None:
        self._queue = queue
        self._attempt = attempt
        self._clock = clock
        self._concurrent = concurrent
        self._backoff = backoff or Backoff()
        self._now = now
        self.measures = JobMeasures()
        self._running: dict[int, JobAttempt] = {}
        self._ends: set[Deferred[None]] = set()
        self._cancelling: set[int] = set()
        self._waiting: set[Deferred[None]] = set()
        self._timer: IDelayedCall | None = None
        self._is_filling = False
        self._is_wanted = False
        self._is_stopping = False

    async def start(self) -> None:
        """Queue again what an earlier process left running, and begin."""
        for job in await self._queue.ask(JobStore.recover):
            self.log.info("job {id}: was interrupted; it goes on", id=job.job_id)
        self.wake()

    def wake(self) -> None:
        """Something is due, or there is room for another job."""
        self._is_wanted = True
        if not self._is_filling and not self._is_stopping:
            self._is_filling = True
            filling = Deferred.fromCoroutine(self._fill())
            filling.addErrback(lambda failure: self.log.failure("the job queue stands still", failure))

    async def cancel(self, job_id: int) -> Job:
        """
        Give a job up.  The destination is told to remove what it has of one that runs.

        @return: the job as it is then.
        @raise JobNotFound: there is none.
        @raise BadState: it has ended, or is being committed.
        """
        attempt = self._running.get(job_id)
        if attempt is not None:
            if attempt.is_committing:
                raise BadState("a job that is committing cannot be cancelled")
            # From this moment on it cannot be committed any more, whatever the threads do.
            attempt.is_given_up = True
        self._cancelling.add(job_id)
        try:
            job = await self._queue.ask(JobStore.cancel, job_id)
        except BaseException:
            if attempt is not None:
                attempt.is_given_up = False
            raise
        finally:
            self._cancelling.discard(job_id)
        if attempt is not None:
            await attempt.give_up()
        return job

    async def stop(self) -> None:
        """
        End what runs; returns when it has ended.

        The queue is not told: what it takes for running is queued again by the next L{start}.
        """
        self._is_stopping = True
        self._stop_timer()
        for waiting in list(self._waiting):
            waiting.cancel()
        for attempt in list(self._running.values()):
            attempt.stop()
        await DeferredList(list(self._ends), consumeErrors=True)

    # --- starting what is due -----------------------------------------------------------

    async def _fill(self) -> None:
        try:
            while self._is_wanted and not self._is_stopping:
                self._is_wanted = False
                await self._start_due()
        finally:
            self._is_filling = False

    async def _start_due(self) -> None:
        try:
            while len(self._running) < self._concurrent:
                job = await self._queue.ask(take_due, self._now())
                if self._is_stopping:
                    return
                if job is None:
                    due_at = await self._queue.ask(JobStore.next_due_at)
                    if due_at is not None:
                        self._wake_after(max(0.0, due_at - self._now()))
                    return
                self._begin(job)
        except (StorageError, BadState) as error:
            self.log.error("the job queue cannot be read, trying again: {error}", error=error)
            self._wake_after(STORE_SECONDS)

    def _wake_after(self, seconds: float) -> None:
        self._stop_timer()
        if not self._is_stopping:
            # An hour is short enough for a wall clock that was set.
            self._timer = self._clock.callLater(min(seconds, 3600.0), self._due)

    def _due(self) -> None:
        self._timer = None
        self.wake()

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    # --- one job ------------------------------------------------------------------------

    def _begin(self, job: Job) -> None:
        if job.job_id in self._cancelling:
            return
        self.log.info(
            "job {id}: sending {source} as {name}, attempt {attempts}",
            id=job.job_id,
            source=job.source,
            name=job.name,
            attempts=job.attempts,
        )
        attempt = self._attempt(job)
        self._running[job.job_id] = attempt
        end = Deferred.fromCoroutine(self._run(attempt))
        self._ends.add(end)
        end.addErrback(lambda failure: self.log.failure("job {id}", failure, id=job.job_id))
        end.addBoth(lambda _: self._ended(job.job_id, end))

    def _ended(self, job_id: int, end: Deferred[None]) -> None:
        self._ends.discard(end)
        del self._running[job_id]
        self.wake()

    async def _run(self, attempt: JobAttempt) -> None:
        job_id = attempt.job.job_id
        try:
            sent = await attempt.start()
        except Exception as error:
            if attempt.is_given_up:
                self.log.info("job {id}: cancelled", id=job_id)
            elif self._is_stopping:
                self.log.info("job {id}: interrupted; it goes on at the next start", id=job_id)
            else:
                await self._failed(attempt.job, error)
        else:
            await self._done(job_id, sent)

    async def _done(self, job_id: int, sent: Sent) -> None:
        self.log.info(
            "job {id}: done: {size} bytes, {sent} sent, digest {digest}",
            id=job_id,
            size=sent.size,
            sent=sent.sent_bytes,
            digest=sent.digest.hex(),
        )
        self.measures.put(job_id, sent)
        await self._record(JobStore.done, job_id, sent.digest, sent.size)

    async def _failed(self, job: Job, error: Exception) -> None:
        if not isinstance(error, RPCStreamError | OSError):
            self.log.failure("job {id}: a fault of this program", Failure(error), id=job.job_id)
        message = _one_line(error)
        if is_retryable(error) and job.may_retry:
            seconds = self._backoff.delay_seconds(job.attempts)
            self.log.info(
                "job {id}: {message}; again in {seconds:.1f} s",
                id=job.job_id,
                message=message,
                seconds=seconds,
            )
            await self._record(JobStore.failed, job.job_id, message, self._now() + seconds)
        else:
            self.log.warn("job {id}: failed: {message}", id=job.job_id, message=message)
            await self._record(JobStore.failed, job.job_id, message)

    async def _record(self, method: Callable[..., Job], *args: Any) -> None:
        """Write down how it ended, as soon as the queue can be written."""
        while True:
            try:
                await self._queue.ask(method, *args)
                return
            except BadState:
                # It was cancelled in the meantime, and stays so.
                return
            except StorageError as error:
                if self._is_stopping:
                    # Queued again by the next start; its transfer id makes that harmless.
                    return
                self.log.error("the job queue cannot be written, trying again: {error}", error=error)
            await self._wait(STORE_SECONDS)

    async def _wait(self, seconds: float) -> None:
        waiting: Deferred[None] = deferLater(self._clock, seconds)
        waiting.addErrback(lambda _: None)
        self._waiting.add(waiting)
        await waiting
        self._waiting.discard(waiting)


def _one_line(error: Exception) -> str:
    """Why it failed, for who looks at the job: printable, without a traceback."""
    if isinstance(error, RemoteError):
        text = error.message
    elif isinstance(error, OSError):
        text = f"{error.filename}: {error.strerror}" if error.filename else str(error.strerror or error)
    elif isinstance(error, RPCStreamError):
        text = str(error)
    else:
        text = f"internal error: {type(error).__name__}; the service's log has more"
    return printable(text, limit=1000)
