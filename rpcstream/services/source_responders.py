"""
The jobs program's responders: what a source service answers on its UNIX socket.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from functools import wraps
from typing import Any, TypeVar

from rpcstream.errors import BadState, BadValue, InvalidArgument, NameRefused, OperationFailed, StorageError
from rpcstream.net.calls import Call
from rpcstream.net.threads import Runner
from rpcstream.programs import jobs
from rpcstream.programs.parameters import Parameter
from rpcstream.services.job_queue import JobQueue
from rpcstream.services.job_record import JobNotFound
from rpcstream.services.job_scheduler import JobScheduler
from rpcstream.services.job_store import JobStore
from rpcstream.services.source_files import SourceRoots
from rpcstream.storage.names import check_name

__all__ = ["JobResponders"]

F = TypeVar("F", bound=Callable[..., Awaitable[Any]])


def _told(method: F) -> F:
    """What the queue raises reaches the caller as an error of the jobs program."""

    @wraps(method)
    async def told(*args: Any) -> Any:
        try:
            return await method(*args)
        except JobNotFound as error:
            raise jobs.NoSuchJob(str(error)) from error
        except (BadValue, NameRefused) as error:
            raise InvalidArgument(str(error)) from error
        except BadState as error:
            raise jobs.JobEnded(str(error)) from error
        except StorageError as error:
            raise OperationFailed(str(error)) from error

    return told  # type: ignore[return-value]


class JobResponders:
    """
    @param roots: what may be sent.
    @param runner: where blocking work runs.
    """

    def __init__(self, queue: JobQueue, scheduler: JobScheduler, roots: SourceRoots, runner: Runner) -> None:
        self._queue = queue
        self._scheduler = scheduler
        self._roots = roots
        self._runner = runner

    @jobs.Submit.responder
    @_told
    async def submit(self, call: Call, request: jobs.Submit) -> int:
        """Refuse now what would fail later; what is answered is on disk."""
        check_name(request.name)
        await self._runner.run(self._roots.check, request.source)
        job = await self._queue.ask(
            JobStore.submit,
            request.source,
            request.name,
            replace=request.replace,
            sparse=request.sparse,
            mode=request.mode,
            retry=request.retry,
        )
        self._scheduler.wake()
        return job.job_id

    @jobs.ListJobs.responder
    @_told
    async def list_jobs(self, call: Call, request: jobs.ListJobs) -> jobs.JobListing:
        """Jobs in the order of submission, a page at a time."""
        limit = min(request.limit or jobs.JOB_COUNT, jobs.JOB_COUNT)
        found = await self._queue.ask(JobStore.list, request.after, limit + 1)
        return jobs.JobListing(tuple(job.as_listed() for job in found[:limit]), len(found) > limit)

    @jobs.CancelJob.responder
    @_told
    async def cancel_job(self, call: Call, request: jobs.CancelJob) -> jobs.Job:
        """Give a job up; one that is being committed goes on."""
        job = await self._scheduler.cancel(request.job_id)
        return job.as_listed()

    @jobs.Measured.responder
    @_told
    async def measured(self, call: Call, request: jobs.Measured) -> tuple[Parameter, ...]:
        """What the transfer of a job was like."""
        await self._queue.ask(JobStore.get, request.job_id)
        return self._scheduler.measures.get(request.job_id)
