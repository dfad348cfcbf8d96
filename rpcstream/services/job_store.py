"""
The durable queue of the source service: an SQLite file.

What was submitted is on disk before C{submit()} returns, and so is each change
of state (write-ahead log, C{synchronous=FULL}); only the byte counts of
C{progress()} may be lost, since the destination's journal is what counts.

Nothing of Twisted here: the store blocks, and is meant to be called through an
executor.  It has one connection and must be used from one thread at a time;
which thread may change.  A second call meanwhile raises L{BadState}.  Open it
after C{twistd} has forked: locks do not survive that.
"""

from __future__ import annotations

import os
import sqlite3
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from rpcstream.errors import BadState, BadValue, StorageError
from rpcstream.limits import DIGEST_BYTES, NAME_BYTES
from rpcstream.programs.jobs import FOREVER, JobState
from rpcstream.services.job_file import open_job_file
from rpcstream.services.job_record import (
    INTEGER_LIMIT,
    TEXT_BYTES,
    TRANSFER_ID_BYTES,
    Job,
    JobNotFound,
    check_integer,
    check_text,
    clamped,
    cut,
    job_of_row,
    nanoseconds,
)
from rpcstream.services.job_states import JobInput, advance

__all__ = ["Job", "JobNotFound", "JobStore"]

_COLUMNS = (
    "id, source, name, replace_existing, sparse, mode, retry, state, byte_count, size, attempts, "
    "message, digest, transfer_id, submitted_ns, changed_ns, due_ns"
)


class JobStore:
    """
    The queue.  Each method blocks, for a fsync where it changes anything.

    Errors of SQLite and of the disk become L{StorageError}; the change was then
    not made.

    @param path: the file; made, with its directory, if missing.
    @param clock: seconds since 1970.
    @param random_bytes: as L{os.urandom}.
    @raise ConfigurationError: the file or its directory cannot be used, or
        another process uses it; the text names the remedy.
    """

    def __init__(
        self,
        path: Path,
        *,
        clock: Callable[[], float] = time.time,
        random_bytes: Callable[[int], bytes] = os.urandom,
    ) -> None:
        self._clock = clock
        self._random_bytes = random_bytes
        self._busy = threading.Lock()
        self._connection = open_job_file(path)

    def close(self) -> None:
        """Close the file; again is harmless.  Any other method then raises L{StorageError}."""
        with self._exclusive():
            self._connection.close()

    def submit(
        self,
        source: str,
        name: str,
        *,
        replace: bool = False,
        sparse: bool = True,
        mode: int | None = None,
        retry: int = 0,
    ) -> Job:
        """
        Put a job into the queue, due at once.

        @raise BadValue: a field does not fit; whether the source may be sent is not asked here.
        """
        check_text("source", source, 1, TEXT_BYTES)
        check_text("name", name, 1, NAME_BYTES)
        if not os.path.isabs(source):
            raise BadValue("source", "must be an absolute path")
        if mode is not None:
            check_integer("mode", mode, 0o7777 + 1)
        check_integer("retry", retry, FOREVER + 1)
        transfer_id = self._random_bytes(TRANSFER_ID_BYTES)
        now_ns = self._now_ns()
        with self._transaction() as connection:
            cursor = connection.execute(
                "INSERT INTO jobs (source, name, replace_existing, sparse, mode, retry, state, transfer_id,"
                " submitted_ns, changed_ns, due_ns) VALUES (?, ?, ?, ?, ?, ?, ?, ?, ?, ?, ?)",
                (
                    *(source, name, replace, sparse, mode, retry, JobState.QUEUED.name, transfer_id),
                    *(now_ns, now_ns, now_ns),
                ),
            )
            return self._get(cursor.lastrowid or 0)

    def get(self, job_id: int) -> Job:
        """
        @raise JobNotFound: no such job.
        """
        with self._exclusive():
            return self._get(job_id)

    def list(self, after: int = 0, limit: int = 1000) -> tuple[Job, ...]:
        """
        Jobs in the order of submission.

        @param after: only those with a greater number.
        @param limit: at most so many.
        """
        with self._exclusive():
            return self._select("WHERE id > ? ORDER BY id LIMIT ?", clamped(after), clamped(limit))

    def next_due(self, now: float) -> Job | None:
        """
        The queued job that has been due for longest, if any is.  It stays queued.

        @param now: seconds since 1970.
        """
        with self._exclusive():
            jobs = self._select(
                "WHERE state = 'QUEUED' AND due_ns <= ? ORDER BY due_ns, id LIMIT 1", nanoseconds(now)
            )
        return jobs[0] if jobs else None

    def next_due_at(self) -> float | None:
        """
        When a queued job is due next, in seconds since 1970 (perhaps past): what
        to set a timer to.  L{None} when none is queued.
        """
        with self._exclusive():
            (due_ns,) = self._connection.execute(
                "SELECT min(due_ns) FROM jobs WHERE state = 'QUEUED'"
            ).fetchone()
        return None if due_ns is None else due_ns / 1e9

    def start(self, job_id: int) -> Job:
        """
        An attempt begins: counts it.  As for all changes below, the job as it
        now is is returned.

        @raise BadState: not in the present state of the job.
        @raise JobNotFound: no such job.
        """
        return self._change(job_id, JobInput.START, "attempts = attempts + 1")

    def progress(self, job_id: int, byte_count: int, size: int | None = None) -> Job:
        """
        Note how far it is; not synced, so a power failure may undo it.

        @param byte_count: bytes of content that the destination has.
        @param size: size of the content, if it became known.
        @raise BadState: neither running nor committing.
        """
        check_integer("byte_count", byte_count, INTEGER_LIMIT)
        if size is not None:
            check_integer("size", size, INTEGER_LIMIT)
        with self._transaction(synced=False) as connection:
            job = self._get(job_id)
            if job.state not in (JobState.RUNNING, JobState.COMMITTING):
                raise BadState(f"a job that is {job.state.name.lower()} makes no progress")
            connection.execute(
                "UPDATE jobs SET byte_count = ?, size = coalesce(?, size), changed_ns = ? WHERE id = ?",
                (byte_count, size, self._now_ns(), job_id),
            )
            return self._get(job_id)

    def committing(self, job_id: int) -> Job:
        """All was sent; COMMIT is about to be called."""
        return self._change(job_id, JobInput.COMMIT)

    def done(self, job_id: int, digest: bytes, byte_count: int) -> Job:
        """
        It is durable and published at the destination.

        @param digest: content digest.
        @param byte_count: size of the content.
        """
        if len(digest) != DIGEST_BYTES:
            raise BadValue("digest", f"must have {DIGEST_BYTES} bytes")
        check_integer("byte_count", byte_count, INTEGER_LIMIT)
        return self._change(
            job_id,
            JobInput.FINISH,
            "digest = ?, byte_count = ?, size = ?, message = ''",
            digest,
            byte_count,
            byte_count,
        )

    def failed(self, job_id: int, message: str, retry_at: float | None = None) -> Job:
        """
        The attempt failed.

        @param message: why; cut to 4 KiB.
        @param retry_at: when to try again, in seconds since 1970; L{None}: never,
            the job has failed.
        """
        now_ns = self._now_ns()
        due_ns = now_ns if retry_at is None else nanoseconds(retry_at)
        job_input = JobInput.FAIL if retry_at is None else JobInput.RETRY
        return self._change(job_id, job_input, "message = ?, due_ns = ?", cut(message), due_ns)

    def cancel(self, job_id: int) -> Job:
        """
        Give it up.  Whoever runs it stops it and ignores its end.

        @raise BadState: it has ended, or is committing.
        """
        return self._change(job_id, JobInput.CANCEL)

    def recover(self) -> tuple[Job, ...]:
        """
        After a restart: what was running or committing is queued again, due at
        once; attempts and transfer id are kept.

        @return: those jobs.
        """
        now_ns = self._now_ns()
        with self._transaction() as connection:
            jobs = self._select("WHERE state IN ('RUNNING', 'COMMITTING') ORDER BY id")
            for job in jobs:
                connection.execute(
                    "UPDATE jobs SET state = ?, due_ns = ?, changed_ns = ? WHERE id = ?",
                    (advance(job.state, JobInput.RECOVER).name, now_ns, now_ns, job.job_id),
                )
            return tuple(self._get(job.job_id) for job in jobs)

    def prune(self, older_seconds: float) -> int:
        """
        Forget jobs that ended longer ago than that.

        @return: how many.
        """
        before_ns = nanoseconds(self._clock() - older_seconds)
        with self._transaction() as connection:
            return connection.execute(
                "DELETE FROM jobs WHERE state IN ('DONE', 'FAILED', 'CANCELLED') AND changed_ns < ?",
                (before_ns,),
            ).rowcount

    def _change(self, job_id: int, job_input: JobInput, assignments: str = "", *values: Any) -> Job:
        with self._transaction() as connection:
            state = advance(self._get(job_id).state, job_input)
            connection.execute(
                f"UPDATE jobs SET {assignments}{', ' if assignments else ''}state = ?, changed_ns = ?"
                " WHERE id = ?",
                (*values, state.name, self._now_ns(), job_id),
            )
            return self._get(job_id)

    def _get(self, job_id: int) -> Job:
        jobs = self._select("WHERE id = ?", job_id) if 0 < job_id < INTEGER_LIMIT else []
        if not jobs:
            raise JobNotFound(f"there is no job {job_id}")
        return jobs[0]

    def _select(self, clause: str, *values: Any) -> tuple[Job, ...]:
        rows = self._connection.execute(f"SELECT {_COLUMNS} FROM jobs {clause}", values)
        return tuple(job_of_row(row) for row in rows)

    def _now_ns(self) -> int:
        return nanoseconds(self._clock())

    @contextmanager
    def _exclusive(self) -> Iterator[None]:
        if not self._busy.acquire(blocking=False):
            raise BadState("the job store is used by another thread at this moment")
        try:
            yield
        except sqlite3.Error as error:
            raise StorageError(f"job queue: {error}") from error
        finally:
            self._busy.release()

    @contextmanager
    def _transaction(self, synced: bool = True) -> Iterator[sqlite3.Connection]:
        connection = self._connection
        with self._exclusive():
            # Takes effect at the next commit; one that is synced takes along
            # what was committed before it.
            connection.execute(f"PRAGMA synchronous = {'FULL' if synced else 'NORMAL'}")
            connection.execute("BEGIN IMMEDIATE")
            try:
                yield connection
                connection.execute("COMMIT")
            except BaseException:
                # SQLite has rolled back by itself after some errors (disk full).
                if connection.in_transaction:
                    connection.execute("ROLLBACK")
                raise
