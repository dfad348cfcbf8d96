"""
One job of the queue, and what its fields may be.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from rpcstream.errors import BadValue, StorageError
from rpcstream.programs import jobs as wire_jobs
from rpcstream.programs.jobs import FOREVER, JobState
from rpcstream.services.job_states import ENDED

__all__ = [
    "INTEGER_LIMIT",
    "TEXT_BYTES",
    "TRANSFER_ID_BYTES",
    "Job",
    "JobNotFound",
    "check_integer",
    "check_text",
    "clamped",
    "cut",
    "job_of_row",
    "nanoseconds",
]

TRANSFER_ID_BYTES = 16
TEXT_BYTES = 4096
"""A source's path, and the message of a failed job."""
INTEGER_LIMIT = 2**63
"""SQLite's integers have 64 bits and a sign; a larger one raises OverflowError."""


class JobNotFound(StorageError):
    """There is no job of that number (any more)."""


class Job(NamedTuple):
    """
    One job, as it was when it was read.

    @ivar job_id: its number, never used again.
    @ivar source: absolute path of the file to send.
    @ivar name: its name at the destination.
    @ivar replace: whether an existing name may be replaced.
    @ivar mode: permission bits at the destination, L{None} for the pool's.
    @ivar retry: how often to try again what can succeed later; see L{may_retry}.
    @ivar byte_count: bytes of content that the destination is known to have.
    @ivar size: bytes of content, L{None} while it is not known.
    @ivar attempts: how often it was started.
    @ivar message: why it failed last, C{""} if it did not.
    @ivar digest: content digest, once done.
    @ivar transfer_id: the same for all attempts, so that they resume and COMMIT is idempotent.
    @ivar submitted_ns: nanoseconds since 1970, as are C{changed_ns} and C{due_ns}.
    @ivar due_ns: not to be started before; of no meaning unless queued.
    """

    job_id: int
    source: str
    name: str
    replace: bool
    sparse: bool
    mode: int | None
    retry: int
    state: JobState
    byte_count: int
    size: int | None
    attempts: int
    message: str
    digest: bytes | None
    transfer_id: bytes
    submitted_ns: int
    changed_ns: int
    due_ns: int

    @property
    def may_retry(self) -> bool:
        """Whether C{retry} permits an attempt after those that were begun."""
        return self.retry == FOREVER or self.attempts <= self.retry

    @property
    def has_ended(self) -> bool:
        """Whether it is done, failed or cancelled."""
        return self.state in ENDED

    def as_listed(self) -> wire_jobs.Job:
        """The job as the jobs program tells it."""
        return wire_jobs.Job(
            job_id=self.job_id,
            source=self.source,
            name=self.name,
            state=self.state,
            byte_count=self.byte_count,
            size=self.size,
            attempts=self.attempts,
            message=self.message,
            digest=self.digest,
            submitted_ns=self.submitted_ns,
            changed_ns=self.changed_ns,
        )


def job_of_row(row: tuple[Any, ...]) -> Job:
    """The job in a row whose columns are in the order of its fields."""
    job = Job._make(row)
    return job._replace(replace=bool(job.replace), sparse=bool(job.sparse), state=JobState[row[7]])


def nanoseconds(seconds: float) -> int:
    """Seconds as SQLite holds them."""
    return clamped(int(seconds * 1e9))


def clamped(value: int) -> int:
    """The nearest that SQLite can hold."""
    return max(-INTEGER_LIMIT, min(value, INTEGER_LIMIT - 1))


def cut(message: str) -> str:
    """The first 4 KiB, as text that can be encoded."""
    return message.encode("utf-8", "backslashreplace")[:TEXT_BYTES].decode("utf-8", "ignore")


def check_integer(field: str, value: int, limit: int) -> None:
    """
    @raise BadValue: not from 0 to C{limit - 1}.
    """
    if not 0 <= value < limit:
        raise BadValue(field, f"must be between 0 and {limit - 1}")


def check_text(field: str, value: str, least: int, most: int) -> None:
    """
    @raise BadValue: not C{least} to C{most} bytes of UTF-8 without NUL.
    """
    try:
        encoded = value.encode()
    except UnicodeEncodeError:
        raise BadValue(field, "is not valid Unicode text") from None
    if not least <= len(encoded) <= most or b"\0" in encoded:
        raise BadValue(field, f"must have {least} to {most} bytes and no NUL")
