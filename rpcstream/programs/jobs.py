"""
The jobs program: how the command line gives work to a source service.

It is spoken over a UNIX socket on one machine, between processes of one user.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated

from rpcstream.errors import RemoteError
from rpcstream.limits import NAME_BYTES
from rpcstream.programs.base import Procedure, Program
from rpcstream.programs.parameters import Parameters
from rpcstream.programs.transfer import Digest
from rpcstream.wire import Hyper, Max, Struct, UHyper, UInt

__all__ = [
    "FOREVER",
    "JOBS",
    "JOB_COUNT",
    "CancelJob",
    "Job",
    "JobEnded",
    "JobListing",
    "JobState",
    "ListJobs",
    "Measured",
    "NoSuchJob",
    "SourceRefused",
    "Submit",
]

JOBS = Program("jobs", number=0x6A6F6273, version=1)

JOB_COUNT = 1000
"""Most jobs of one listing."""
FOREVER = 0xFFFFFFFF
"""C{retry} of a job that is never given up."""

SourcePath = Annotated[str, Max(4096)]
"""An absolute path (Linux PATH_MAX)."""
Name = Annotated[str, Max(NAME_BYTES)]


class JobState(IntEnum):
    """What has become of a job."""

    QUEUED = 0
    RUNNING = 1
    COMMITTING = 2
    DONE = 3
    FAILED = 4
    CANCELLED = 5


class Job(Struct):
    """
    A job as it stands.

    @ivar byte_count: bytes of the content that are at the destination.
    @ivar attempts: how often it was begun.
    @ivar message: why it failed or is being tried again.
    """

    job_id: UHyper
    source: SourcePath
    name: Name
    state: JobState
    byte_count: UHyper
    size: UHyper | None
    attempts: UInt
    message: Annotated[str, Max(4096)]
    digest: Digest | None
    submitted_ns: Hyper
    changed_ns: Hyper


class JobListing(Struct):
    """Jobs in the order of their ids; C{more} follow the last one."""

    jobs: Annotated[tuple[Job, ...], Max(JOB_COUNT)]
    more: bool


class Submit(Procedure[UHyper], program=JOBS, number=1, permission="jobs.submit"):
    """
    Send a file; the reply is the id of the job, which is on disk by then.

    @ivar retry: how often to begin again after what may pass; L{FOREVER} too.
    """

    source: SourcePath
    name: Name
    replace: bool = False
    sparse: bool = True
    mode: UInt | None = None
    retry: UInt = 0


class ListJobs(Procedure[JobListing], program=JOBS, number=2, permission="jobs.list", idempotent=True):
    """Jobs with ids above C{after}, at most C{limit} of them."""

    after: UHyper = 0
    limit: UInt = JOB_COUNT


class CancelJob(Procedure[Job], program=JOBS, number=3, permission="jobs.cancel"):
    """Give a job up; the reply is how it stands then."""

    job_id: UHyper


class Measured(Procedure[Parameters], program=JOBS, number=4, permission="jobs.list", idempotent=True):
    """
    What was measured of the transfer that finished a job: C{sent_bytes},
    C{written_bytes} and so on, see L{rpcstream.services.job_measures}.

    The reply is empty for a job that is not done, and after a restart of the
    service: numbers of interest, not of record.
    """

    job_id: UHyper


class NoSuchJob(RemoteError, program=JOBS, code=1001):
    """No job has this id."""


class SourceRefused(RemoteError, program=JOBS, code=1002):
    """The path is not absolute, not under an allowed root, or cannot be sent."""


class JobEnded(RemoteError, program=JOBS, code=1003):
    """The job has ended already."""
