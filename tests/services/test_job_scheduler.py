"""Which jobs run when; attempts are made by the test, time by hand."""

from __future__ import annotations

import errno
from pathlib import Path
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from rpcstream.errors import BadState, ConnectRefused, OperationFailed, StorageError
from rpcstream.net.threads import InlineRunner, SerialRunner
from rpcstream.programs.jobs import FOREVER, JobState, SourceRefused
from rpcstream.services.backoff import Backoff
from rpcstream.services.job_queue import JobQueue
from rpcstream.services.job_record import Job
from rpcstream.services.job_scheduler import JobScheduler
from rpcstream.services.job_store import JobStore
from rpcstream.services.sending import Sent
from tests.services.test_tracked_runner import HeldRunner

DIGEST = b"\x07" * 32
SENT = Sent(5, 5, 0, 0, DIGEST, 1, 1.0, "shared")


class Attempt:
    """An attempt that ends when the test says so."""

    def __init__(self, job: Job) -> None:
        self.job = job
        self.is_committing = False
        self.is_given_up = False
        self.stops = 0
        self.end: Deferred[Sent] = Deferred()

    def start(self) -> Deferred[Sent]:
        return self.end

    def stop(self) -> None:
        self.stops += 1
        if not self.end.called:
            self.end.errback(CancelledError())

    async def give_up(self) -> None:
        self.stop()


class SchedulerTests(SynchronousTestCase):
    """The life of jobs."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.clock.advance(1000.0)
        self.queue = JobQueue(Path(self.mktemp()) / "jobs.sqlite", InlineRunner())
        self.queue.open()
        self.addCleanup(lambda: self.queue.close())
        self.attempts: list[Attempt] = []
        self.scheduler = self.make()

    def make(self, **options: Any) -> JobScheduler:
        """A scheduler on the queue."""
        return JobScheduler(
            self.queue,
            self.attempt,  # type: ignore[arg-type]
            self.clock,
            backoff=Backoff(10.0, 60.0, random=lambda: 1.0),
            now=self.clock.seconds,
            **options,
        )

    def attempt(self, job: Job) -> Attempt:
        """Called for each job that starts."""
        self.attempts.append(Attempt(job))
        return self.attempts[-1]

    def run_now(self, coroutine: Any) -> Any:
        """The result of something that does not wait."""
        return self.successResultOf(Deferred.fromCoroutine(coroutine))

    def store(self, method: Any, *args: Any, **kwargs: Any) -> Any:
        """Ask the store."""
        return self.successResultOf(self.queue.ask(method, *args, **kwargs))

    def submit(self, **options: Any) -> int:
        """A new job; the scheduler hears of it."""
        # The store's clock is the wall's: due in the past of no test.
        job = self.store(JobStore.submit, "/f", "n", **options)
        self.clock.advance(max(0.0, job.due_ns / 1e9 - self.clock.seconds()) + 0.001)
        self.scheduler.wake()
        return job.job_id  # type: ignore[no-any-return]

    def job(self, job_id: int) -> Job:
        """As it is in the store."""
        return self.store(JobStore.get, job_id)  # type: ignore[no-any-return]

    def test_one_after_the_other(self) -> None:
        """The next starts when the last has ended."""
        first, second = self.submit(), self.submit()
        self.assertEqual([a.job.job_id for a in self.attempts], [first])
        self.attempts[0].end.callback(SENT)
        self.assertEqual([a.job.job_id for a in self.attempts], [first, second])
        self.assertEqual((self.job(first).state, self.job(first).digest), (JobState.DONE, DIGEST))

    def test_again(self) -> None:
        """After what may pass, later and later; after the last time it has failed."""
        job_id = self.submit(retry=2)
        for number, seconds in ((1, 10.0), (2, 20.0)):
            self.attempts[-1].end.errback(ConnectRefused("no\none\x1b there"))
            job = self.job(job_id)
            self.assertEqual((job.state, job.message), (JobState.QUEUED, "no\\none\\x1b there"))
            self.clock.advance(seconds - 0.1)
            self.assertEqual(len(self.attempts), number)
            self.clock.advance(0.2)
            self.assertEqual(len(self.attempts), number + 1)
        self.attempts[-1].end.errback(ConnectRefused("no one there"))
        self.assertEqual(self.job(job_id).state, JobState.FAILED)

    def test_final(self) -> None:
        """What stays so ends the job; its text has no code and no traceback."""
        for error, text in (
            (SourceRefused("not yours"), "not yours"),
            (OperationFailed("that way"), "that way"),
            (OSError(errno.EACCES, "Permission denied", "/f"), "/f: Permission denied"),
            (OSError(errno.EIO, "Input/output error"), "Input/output error"),
        ):
            job_id = self.submit(retry=FOREVER)
            self.attempts[-1].end.errback(error)
            job = self.job(job_id)
            self.assertEqual((job.state, job.message), (JobState.FAILED, text))

    def test_fault(self) -> None:
        """A fault of ours fails the job and is logged with its traceback."""
        job_id = self.submit(retry=FOREVER)
        self.attempts[-1].end.errback(ZeroDivisionError("oh"))
        self.assertEqual(self.job(job_id).state, JobState.FAILED)
        self.assertIn("ZeroDivisionError; the service's log", self.job(job_id).message)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_recovered(self) -> None:
        """What an earlier process was doing is done first."""
        job_id = self.submit()
        self.attempts.clear()
        self.scheduler = self.make()
        self.run_now(self.scheduler.start())
        # It is due by the wall's clock, which went on.
        self.clock.advance(1.0)
        self.assertEqual([a.job.job_id for a in self.attempts], [job_id])
        self.assertEqual(self.attempts[0].job.attempts, 2)

    def test_cancelled(self) -> None:
        """A running job is stopped, and the next starts."""
        job_id, following = self.submit(), self.submit()
        job = self.run_now(self.scheduler.cancel(job_id))
        self.assertEqual(job.state, JobState.CANCELLED)
        self.assertEqual(self.attempts[0].stops, 1)
        self.assertTrue(self.attempts[0].is_given_up)
        self.assertEqual(self.attempts[1].job.job_id, following)
        self.assertEqual(self.job(job_id).state, JobState.CANCELLED)

    def test_committing_is_too_late(self) -> None:
        """A job whose COMMIT may be under way is not cancelled."""
        job_id = self.submit()
        self.attempts[0].is_committing = True
        self.failureResultOf(Deferred.fromCoroutine(self.scheduler.cancel(job_id)), BadState)
        self.attempts[0].end.callback(SENT)
        self.assertEqual(self.job(job_id).state, JobState.DONE)

    def test_cancel_that_cannot_be_written(self) -> None:
        """A job goes on if its cancellation could not be noted."""
        job_id = self.submit()
        self.patch(JobStore, "cancel", self.full_disk)
        self.failureResultOf(Deferred.fromCoroutine(self.scheduler.cancel(job_id)), StorageError)
        self.assertFalse(self.attempts[0].is_given_up)
        self.assertEqual(self.attempts[0].stops, 0)

    def full_disk(self, *args: object) -> Any:
        """In place of a method of the store."""
        raise StorageError("job queue: database or disk is full")

    def test_end_that_cannot_be_written(self) -> None:
        """An end is written down as soon as there is room."""
        job_id = self.submit()
        patch = self.patch(JobStore, "_change", self.full_disk)
        self.attempts[0].end.callback(SENT)
        self.assertEqual(self.job(job_id).state, JobState.RUNNING)
        patch.restore()
        self.clock.advance(5.0)
        self.assertEqual(self.job(job_id).state, JobState.DONE)

    def test_queue_that_cannot_be_read(self) -> None:
        """A queue that fails is asked again."""
        patch = self.patch(JobStore, "next_due", self.full_disk)
        self.submit()
        self.assertEqual(self.attempts, [])
        patch.restore()
        self.clock.advance(5.0)
        self.assertEqual(len(self.attempts), 1)

    def test_stopped(self) -> None:
        """What runs is aborted and stays running in the store, for the next start; nothing follows."""
        job_id = self.submit()
        waiting = self.submit()
        self.run_now(self.scheduler.stop())
        self.assertEqual(self.attempts[0].stops, 1)
        self.assertEqual(self.job(job_id).state, JobState.RUNNING)
        self.assertEqual(self.job(waiting).state, JobState.QUEUED)
        self.scheduler.wake()
        self.assertEqual(len(self.attempts), 1)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stopped_while_an_end_cannot_be_written(self) -> None:
        """Stopping does not wait for room on the disk."""
        self.submit()
        self.patch(JobStore, "_change", self.full_disk)
        self.attempts[0].end.callback(SENT)
        self.run_now(self.scheduler.stop())
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_done_at_the_last_moment(self) -> None:
        """What ends well while the service stops is noted."""
        job_id = self.submit()
        self.attempts[0].stop = lambda: self.attempts[0].end.callback(SENT)  # type: ignore[method-assign]
        self.run_now(self.scheduler.stop())
        self.assertEqual(self.job(job_id).state, JobState.DONE)

    def held(self) -> tuple[HeldRunner, int]:
        """A job that is being started: the thread has not answered yet."""
        job_id = self.store(JobStore.submit, "/f", "n").job_id
        self.clock.advance(self.job(job_id).due_ns / 1e9 - self.clock.seconds() + 0.001)
        threads = HeldRunner()
        self.queue._serial = SerialRunner(threads)
        self.scheduler.wake()
        return threads, job_id

    def test_cancelled_while_it_starts(self) -> None:
        """A job is not begun when it was cancelled in the very moment."""
        threads, _ = self.held()
        cancelling = Deferred.fromCoroutine(self.scheduler.cancel(1))
        while threads.pieces:
            threads.finish()
        self.assertEqual(self.successResultOf(cancelling).state, JobState.CANCELLED)
        self.assertEqual(self.attempts, [])

    def test_stopped_while_one_starts(self) -> None:
        """A job that was started in the last moment is left to the next start."""
        threads, job_id = self.held()
        self.run_now(self.scheduler.stop())
        while threads.pieces:
            threads.finish()
        self.assertEqual(self.attempts, [])
        self.queue._serial = SerialRunner(InlineRunner())
        self.assertEqual(self.job(job_id).state, JobState.RUNNING)

    def test_queue_not_open(self) -> None:
        """Asking a queue that is closed is an error, not a crash."""
        self.successResultOf(self.queue.close())
        self.failureResultOf(self.queue.ask(JobStore.next_due_at), BadState)
