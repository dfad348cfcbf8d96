"""The durable queue of the source service."""

from __future__ import annotations

import os
import shutil
import sqlite3
import threading
from pathlib import Path

from twisted.trial.unittest import TestCase

from rpcstream.errors import BadState, BadValue, ConfigurationError, StorageError
from rpcstream.programs import jobs as wire_jobs
from rpcstream.programs.jobs import FOREVER, JobState
from rpcstream.services.job_states import ENDED, TRANSITIONS, JobInput, advance
from rpcstream.services.job_store import Job, JobNotFound, JobStore
from rpcstream.wire import codec_of

DIGEST = b"\x07" * 32


class StoreCase(TestCase):
    """A store in a fresh directory, with a clock that is set by hand."""

    def setUp(self) -> None:
        self.now = 1000.0
        self.directory = Path(self.mktemp())
        self.path = self.directory / "jobs.sqlite"
        self.store = self.open()

    def open(self, path: Path | None = None) -> JobStore:
        """Open the store, and close it when the test has ended."""
        store = JobStore(path or self.path, clock=lambda: self.now)
        self.addCleanup(store.close)
        return store

    def reopen(self) -> JobStore:
        """As after an orderly restart."""
        self.store.close()
        self.store = self.open()
        return self.store

    def in_state(self, state: JobState) -> Job:
        """A job that has come to that state."""
        job = self.store.submit("/srv/disk", "disk")
        if state is JobState.CANCELLED:
            return self.store.cancel(job.job_id)
        if state is not JobState.QUEUED:
            job = self.store.start(job.job_id)
        if state in (JobState.COMMITTING, JobState.DONE):
            job = self.store.committing(job.job_id)
        if state is JobState.DONE:
            job = self.store.done(job.job_id, DIGEST, 5)
        if state is JobState.FAILED:
            job = self.store.failed(job.job_id, "no")
        self.assertIs(job.state, state)
        return job


class QueueTests(StoreCase):
    """Jobs come, run and go."""

    def test_submit(self) -> None:
        """All fields are kept, across a restart too."""
        job = self.store.submit("/srv/disk", "copy", replace=True, sparse=True, mode=0o640, retry=3)
        self.assertEqual(
            job._replace(transfer_id=b""),
            Job(1, "/srv/disk", "copy", True, True, 0o640, 3, JobState.QUEUED, 0, None, 0, "", None, b"",
                1000 * 10**9, 1000 * 10**9, 1000 * 10**9),
        )  # fmt: skip
        self.assertEqual(len(job.transfer_id), 16)
        self.assertNotEqual(job.transfer_id, self.store.submit("/srv/disk", "copy").transfer_id)
        self.assertEqual(self.reopen().get(job.job_id), job)

    def test_to_the_end(self) -> None:
        """Started, in progress, committing, done."""
        job = self.store.submit("/srv/disk", "copy")
        self.assertEqual(self.store.start(job.job_id).attempts, 1)
        self.assertEqual(self.store.progress(job.job_id, 3, 10)[8:10], (3, 10))
        self.assertEqual(self.store.progress(job.job_id, 7)[8:10], (7, 10))
        self.store.committing(job.job_id)
        self.store.progress(job.job_id, 10)
        self.now += 5
        done = self.store.done(job.job_id, DIGEST, 10)
        self.assertEqual((done.state, done.digest, done.byte_count), (JobState.DONE, DIGEST, 10))
        self.assertEqual(done.changed_ns - done.submitted_ns, 5 * 10**9)
        self.assertTrue(done.has_ended)
        self.assertFalse(job.has_ended)

    def test_destination_has_it(self) -> None:
        """A job is done without COMMIT when the destination answers that it has all."""
        job = self.in_state(JobState.RUNNING)
        self.assertIs(self.store.done(job.job_id, DIGEST, 0).state, JobState.DONE)

    def test_due(self) -> None:
        """The one that has been due for longest goes first; a retry waits for its time."""
        first, second = (self.store.submit("/srv/disk", name) for name in ("a", "b"))
        self.assertEqual(self.store.next_due(self.now), first)
        self.assertIsNone(self.store.next_due(self.now - 1))
        self.store.start(first.job_id)
        self.assertEqual(self.store.next_due(self.now), second)
        self.store.start(second.job_id)
        self.assertIsNone(self.store.next_due(1e30))
        self.assertIsNone(self.store.next_due_at())
        again = self.store.failed(first.job_id, "busy", self.now + 8)
        self.assertEqual((again.state, again.message), (JobState.QUEUED, "busy"))
        self.assertEqual(again.transfer_id, first.transfer_id)
        self.assertEqual(self.store.next_due_at(), self.now + 8)
        self.assertIsNone(self.store.next_due(self.now + 7.9))
        self.assertEqual(self.store.next_due(self.now + 8), again)
        self.assertEqual(self.store.start(first.job_id).attempts, 2)

    def test_may_retry(self) -> None:
        """retry counts the attempts after the first."""
        job = self.in_state(JobState.RUNNING)
        self.assertFalse(job.may_retry)
        self.assertTrue(job._replace(retry=1).may_retry)
        self.assertFalse(job._replace(retry=1, attempts=2).may_retry)
        self.assertTrue(job._replace(retry=FOREVER, attempts=10**6).may_retry)

    def test_message(self) -> None:
        """A message is cut at a character's boundary, and always can be stored."""
        job = self.in_state(JobState.RUNNING)
        message = self.store.failed(job.job_id, "x" + "é" * 4096).message
        self.assertEqual(message, "x" + "é" * 2047)
        job = self.in_state(JobState.RUNNING)
        self.assertEqual(self.store.failed(job.job_id, "\udcff").message, "\\udcff")

    def test_as_listed(self) -> None:
        """Each state of a job fits the jobs program, field by field, on the wire too."""
        for state in JobState:
            job = self.in_state(state)
            listed = job.as_listed()
            for field in ("job_id", "source", "name", "state", "size", "digest", "message", "changed_ns"):
                self.assertEqual(getattr(listed, field), getattr(job, field))
            codec = codec_of(wire_jobs.Job)
            self.assertEqual(codec.decode(codec.encode(listed)), listed)

    def test_list(self) -> None:
        """Pages in the order of submission."""
        ids = [self.store.submit("/srv/disk", str(n)).job_id for n in range(5)]
        self.assertEqual([job.job_id for job in self.store.list()], ids)
        self.assertEqual([job.job_id for job in self.store.list(after=ids[1], limit=2)], ids[2:4])
        self.assertEqual(self.store.list(after=2**64 - 1), ())
        self.assertEqual(self.store.list(limit=0), ())

    def test_unknown(self) -> None:
        """A number that is no job's, however odd."""
        for job_id in (1, 0, -1, 2**63, 2**64 - 1):
            self.assertRaises(JobNotFound, self.store.get, job_id)
            self.assertRaises(JobNotFound, self.store.start, job_id)

    def test_prune(self) -> None:
        """Only what ended long ago is forgotten, and its number never used again."""
        old = [self.in_state(state).job_id for state in JobState]
        self.now += 100
        self.in_state(JobState.DONE)
        last = self.in_state(JobState.CANCELLED)
        self.assertEqual(self.store.prune(50), len(ENDED))
        self.assertEqual([job.job_id for job in self.store.list()], [*old[:3], last.job_id - 1, last.job_id])
        self.now += 100
        self.assertEqual(self.store.prune(0), 2)
        self.assertGreater(self.reopen().submit("/srv/disk", "x").job_id, last.job_id)

    def test_bad_values(self) -> None:
        """What does not fit is refused, naming the field, and leaves no trace."""
        for field, source, name, options in [
            ("source", "relative", "a", {}), ("source", "", "a", {}), ("source", "/" * 4097, "a", {}),
            ("source", "/a\0", "a", {}), ("source", "/\udcff", "a", {}), ("name", "/a", "", {}),
            ("name", "/a", "n" * 256, {}), ("mode", "/a", "a", {"mode": 0o10000}),
            ("mode", "/a", "a", {"mode": -1}), ("retry", "/a", "a", {"retry": 2**32}),
        ]:  # fmt: skip
            error = self.assertRaises(BadValue, self.store.submit, source, name, **options)
            self.assertEqual(error.field, field)
        job = self.in_state(JobState.RUNNING)
        self.assertRaises(BadValue, self.store.done, job.job_id, b"short", 1)
        self.assertRaises(BadValue, self.store.done, job.job_id, DIGEST, 2**63)
        self.assertRaises(BadValue, self.store.progress, job.job_id, -1)
        self.assertRaises(BadValue, self.store.progress, job.job_id, 1, 2**63)
        self.assertEqual(self.store.list(), (job,))


class TransitionTests(StoreCase):
    """What may happen in which state."""

    def test_every_pair(self) -> None:
        """Each state x input does what the table says; the illegal raise BadState and change nothing."""
        for state in JobState:
            for job_input in JobInput:
                job = self.in_state(state)
                if job_input is JobInput.RECOVER:
                    self.store.recover()
                    expected = TRANSITIONS[state].get(job_input, state)
                    self.assertIs(self.store.get(job.job_id).state, expected)
                    continue
                if job_input in TRANSITIONS[state]:
                    self.assertIs(self.put(job, job_input).state, TRANSITIONS[state][job_input])
                else:
                    error = self.assertRaises(BadState, self.put, job, job_input)
                    self.assertIn(state.name.lower(), str(error))
                    self.assertEqual(self.store.get(job.job_id), job)

    def put(self, job: Job, job_input: JobInput) -> Job:
        """Call the method for that input."""
        store = self.store
        return {
            JobInput.START: lambda: store.start(job.job_id),
            JobInput.COMMIT: lambda: store.committing(job.job_id),
            JobInput.FINISH: lambda: store.done(job.job_id, DIGEST, 1),
            JobInput.RETRY: lambda: store.failed(job.job_id, "later", 2000.0),
            JobInput.FAIL: lambda: store.failed(job.job_id, "never"),
            JobInput.CANCEL: lambda: store.cancel(job.job_id),
        }[job_input]()

    def test_table(self) -> None:
        """Every state has a row; ended jobs stay ended."""
        self.assertEqual(set(TRANSITIONS), set(JobState))
        self.assertEqual(ENDED, {JobState.DONE, JobState.FAILED, JobState.CANCELLED})
        for state in ENDED:
            for job_input in JobInput:
                self.assertRaises(BadState, advance, state, job_input)

    def test_progress(self) -> None:
        """Only what runs or commits makes progress."""
        for state in JobState:
            job = self.in_state(state)
            if state in (JobState.RUNNING, JobState.COMMITTING):
                self.assertEqual(self.store.progress(job.job_id, 1).byte_count, 1)
            else:
                self.assertRaises(BadState, self.store.progress, job.job_id, 1)


class RecoveryTests(StoreCase):
    """After the service was stopped or killed."""

    def test_recover(self) -> None:
        """Running and committing jobs are queued again and due, with their attempts and transfer id."""
        jobs = {state: self.in_state(state) for state in JobState}
        self.now += 60
        store = self.reopen()
        recovered = store.recover()
        running, committing = jobs[JobState.RUNNING], jobs[JobState.COMMITTING]
        self.assertEqual([job.job_id for job in recovered], [running.job_id, committing.job_id])
        for before, after in zip((running, committing), recovered, strict=True):
            self.assertEqual((after.state, after.attempts), (JobState.QUEUED, 1))
            self.assertEqual(after.transfer_id, before.transfer_id)
            self.assertEqual(after.due_ns, int(self.now * 1e9))
        for state in (JobState.QUEUED, *ENDED):
            self.assertEqual(store.get(jobs[state].job_id), jobs[state])
        self.assertEqual(store.recover(), ())

    def test_killed(self) -> None:
        """What a call returned is in the files without any closing, the progress aside."""
        job = self.in_state(JobState.COMMITTING)
        queued = self.store.submit("/srv/other", "other")
        copy = Path(self.mktemp())
        copy.mkdir(mode=0o700)
        for file in self.directory.iterdir():
            shutil.copy(file, copy)
        survivor = self.open(copy / self.path.name)
        self.assertEqual(survivor.list(), (job, queued))
        self.assertEqual([each.job_id for each in survivor.recover()], [job.job_id])

    def test_torn_log(self) -> None:
        """A log cut at any place opens, with the first so many changes."""
        ids = [self.store.submit("/srv/disk", str(n)).job_id for n in range(4)]
        log = Path(f"{self.path}-wal")
        content = log.read_bytes()
        seen = set()
        for number, end in enumerate(range(0, len(content), 4096)):
            copy = Path(self.mktemp())
            copy.mkdir(mode=0o700)
            shutil.copy(self.path, copy)
            (copy / log.name).write_bytes(content[:end])
            (copy / log.name).chmod(0o600)
            survivor = self.open(copy / self.path.name)
            found = [job.job_id for job in survivor.list()]
            self.assertEqual(found, ids[: len(found)], number)
            seen.add(len(found))
        self.assertTrue({0, 1, 2, 3} <= seen, seen)

    def test_durability_settings(self) -> None:
        """A write-ahead log, synced at each change of state."""
        connection = self.store._connection
        self.assertEqual(connection.execute("PRAGMA journal_mode").fetchone(), ("wal",))
        job = self.in_state(JobState.RUNNING)
        self.assertEqual(connection.execute("PRAGMA synchronous").fetchone(), (2,))
        self.store.progress(job.job_id, 1)
        self.store.committing(job.job_id)
        self.assertEqual(connection.execute("PRAGMA synchronous").fetchone(), (2,))


class FileTests(StoreCase):
    """Who may read the queue, and what else may be in its place."""

    def test_modes(self) -> None:
        """Files 0600 in a directory 0700, whatever the umask."""
        self.addCleanup(os.umask, os.umask(0))
        directory = Path(self.mktemp()) / "queue"
        self.open(directory / "jobs.sqlite").submit("/srv/disk", "disk")
        self.assertEqual(directory.stat().st_mode & 0o777, 0o700)
        self.assertEqual({file.stat().st_mode & 0o777 for file in directory.iterdir()}, {0o600})
        self.assertEqual(len(list(directory.iterdir())), 2)

    def refused(self, path: Path) -> str:
        """The text of the refusal."""
        return str(self.assertRaises(ConfigurationError, self.open, path))

    def test_open_to_others(self) -> None:
        """A directory or file that others may use is refused with the remedy."""
        self.store.close()
        self.path.chmod(0o644)
        self.assertIn("chmod 600", self.refused(self.path))
        self.directory.chmod(0o755)
        self.assertIn("chmod 700", self.refused(self.path))

    def test_foreign_directory(self) -> None:
        """A directory that belongs to someone else is refused."""
        self.patch(os, "geteuid", lambda: os.getuid() + 1)
        self.assertIn("another user", self.refused(self.path))

    def test_not_a_file(self) -> None:
        """A link, a directory, a pipe, a place that cannot be made."""
        (self.directory / "link").symlink_to(self.path)
        self.assertIn("link", self.refused(self.directory / "link"))
        os.mkfifo(self.directory / "pipe", 0o600)
        self.assertIn("not a regular file", self.refused(self.directory / "pipe"))
        (self.directory / "folder").mkdir()
        self.assertIn("directory", self.refused(self.directory / "folder"))
        self.assertIn("irectory", self.refused(self.path / "below" / "jobs.sqlite"))

    def test_one_service(self) -> None:
        """A second service on the same queue is refused at once, and told why."""
        self.assertIn("another source service", self.refused(self.path))

    def test_other_content(self) -> None:
        """Neither garbage nor another program's database is touched."""
        for name, content in [("garbage", b"\x00garbage" * 1000), ("text", b"not a database at all" * 99)]:
            path = self.directory / name
            path.write_bytes(content)
            path.chmod(0o600)
            self.assertIn("not a database", self.refused(path))
            self.assertEqual(path.read_bytes(), content)
        foreign = self.directory / "foreign"
        connection = sqlite3.connect(foreign)
        connection.execute("CREATE TABLE jobs (x)")
        connection.close()
        foreign.chmod(0o600)
        self.assertIn("some other program", self.refused(foreign))

    def test_newer_version(self) -> None:
        """A queue of a later version is left alone."""
        self.store._connection.execute("PRAGMA user_version = 2")
        self.store.close()
        self.assertIn("has version 2, this rpcstream knows 1", self.refused(self.path))

    def test_disk_full(self) -> None:
        """A full disk is our error; the change was not made, and the store goes on."""
        job = self.store.submit("/srv/disk", "disk")
        connection = self.store._connection
        (pages,) = connection.execute("PRAGMA page_count").fetchone()
        connection.execute(f"PRAGMA max_page_count = {pages}")
        with self.assertRaises(StorageError) as caught:
            for _ in range(100):
                self.store.submit("/" + "s" * 4000, "disk")
        self.assertIn("full", str(caught.exception))
        self.assertEqual(self.store.start(job.job_id).state, JobState.RUNNING)

    def test_closed(self) -> None:
        """A closed store says so; closing again is harmless."""
        self.store.close()
        self.store.close()
        self.assertIn("closed", str(self.assertRaises(StorageError, self.store.list)))
        self.assertRaises(StorageError, self.store.submit, "/srv/disk", "disk")

    def test_threads(self) -> None:
        """Any thread may use it, but only one at a time."""
        jobs: list[Job] = []
        thread = threading.Thread(target=lambda: jobs.append(self.store.submit("/srv/disk", "disk")))
        thread.start()
        thread.join()
        self.assertEqual(self.store.list(), tuple(jobs))
        with self.store._exclusive():
            self.assertRaises(BadState, self.store.list)
        self.assertEqual(len(self.store.list()), 1)
