"""The source service: jobs from submission to their end, and over restarts."""

from __future__ import annotations

import contextlib
import errno
import os
import threading
from collections import Counter
from dataclasses import replace
from pathlib import Path
from typing import Any

from twisted.internet.defer import CancelledError, fail, gatherResults
from twisted.internet.task import Clock

from rpcstream.errors import ConfigurationError, InvalidArgument, OperationFailed, StorageError
from rpcstream.limits import DEFAULT_LIMITS, EXTENT_BYTES, MIB
from rpcstream.net.threads import InlineRunner
from rpcstream.net.urls import Url
from rpcstream.programs import jobs, transfer
from rpcstream.programs.jobs import JobState
from rpcstream.services.config import Config
from rpcstream.services.destination import destination_service
from rpcstream.services.incoming import IncomingTransfer
from rpcstream.services.job_attempt import JobAttempt, Target
from rpcstream.services.job_queue import JobQueue
from rpcstream.services.job_record import Job
from rpcstream.services.job_store import JobStore
from rpcstream.services.source import source_service
from rpcstream.services.source_files import SourceRoots
from tests.net.certificates import pki_directory
from tests.services.service_case import ServiceCase

SMALL_SYNCS = Config(limits=replace(DEFAULT_LIMITS, sync_bytes=EXTENT_BYTES))
"""Each extent is durable as soon as it is there."""


def open_descriptors() -> Counter[str]:
    """What is open in this process; sockets and pipes with their inodes."""
    found: Counter[str] = Counter()
    for fd in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found[os.readlink(f"/proc/self/fd/{fd}")] += 1
    return found


class SourceCase(ServiceCase):
    """A source service with files to send."""

    def file(self, name: str, size: int) -> Path:
        """A file of random content under the root."""
        path = self.root / name
        path.write_bytes(os.urandom(size))
        return path

    async def submitted(self, path: Path, name: str, **options: object) -> int:
        """The id of a new job."""
        return await self.ask(jobs.Submit(str(path), name, **options))

    async def partials(self) -> tuple[transfer.PartialEntry, ...]:
        """What the destination holds of unfinished transfers."""
        return await self.ask(transfer.Partials(""), "d.sock")


class JobTests(SourceCase):
    """What becomes of a job."""

    async def test_done(self) -> None:
        """A submitted file arrives, and the job says with which digest."""
        self.destination()
        self.source()
        path = self.file("disk", 5_000_000)
        job_id = await self.submitted(path, "copy", mode=0o640)
        job = await self.job_ended(job_id)
        self.assertEqual((job.state, job.message), (JobState.DONE, ""))
        self.assertEqual((self.store / "copy").read_bytes(), path.read_bytes())
        self.assertEqual((self.store / "copy").stat().st_mode & 0o777, 0o640)
        self.assertEqual((job.byte_count, job.size, job.attempts), (5_000_000, 5_000_000, 1))
        entry = await self.ask(transfer.Stat("copy", ""), "d.sock")
        self.assertEqual(job.digest, entry.digest)

    async def test_nothing_stays_open(self) -> None:
        """Stopped services leave no descriptor and no thread behind."""
        left: list[tuple[Counter[str], set[threading.Thread]]] = []
        # The first round opens what the reactor keeps; and an earlier test may still be closing something.
        for number in range(2):
            destination, source = self.destination(), self.source()
            job_id = await self.submitted(self.file("f", 1000), f"n{number}")
            await self.job_ended(job_id)
            await self.stop(source)
            await self.stop(destination)
            left.append((open_descriptors(), set(threading.enumerate())))
        (first_files, first_threads), (files, threads) = left
        self.assertEqual(files - first_files, Counter())
        for thread in threads - first_threads:
            # Its work is done; it may have a last step before it.
            thread.join(5)
        self.assertEqual([each for each in threads - first_threads if each.is_alive()], [])

    async def test_in_order(self) -> None:
        """Jobs run one after the other, in the order of submission."""
        self.destination()
        self.source()
        job_ids = [await self.submitted(self.file(f"f{n}", 100_000), f"f{n}") for n in range(5)]
        ended = [await self.job_ended(job_id) for job_id in job_ids]
        self.assertEqual([job.state for job in ended], [JobState.DONE] * 5)
        self.assertEqual(sorted(ended, key=lambda job: job.changed_ns), ended)

    async def test_several_at_once(self) -> None:
        """With --concurrent 2 two jobs run and a third waits."""
        self.destination()
        self.source(concurrent=2, bytes_per_second=2 * MIB)
        job_ids = [await self.submitted(self.file(f"f{n}", 2 * MIB), f"f{n}") for n in range(3)]
        await self.job_when(job_ids[1], lambda job: job.state is JobState.RUNNING)
        states = [job.state for job in (await self.ask(jobs.ListJobs())).jobs]
        self.assertEqual(states, [JobState.RUNNING, JobState.RUNNING, JobState.QUEUED])
        ended = [await self.job_ended(job_id) for job_id in job_ids]
        self.assertEqual([job.state for job in ended], [JobState.DONE] * 3)

    async def test_several_connections(self) -> None:
        """With --connections a job goes over several at once; fresh ones follow when a key is worn out."""
        pki = pki_directory(str(self.folder / "pki")).directory
        service = destination_service("rpctls:0:interface=127.0.0.1", self.store, pki=pki)
        self.started(service)
        port = service.rpc.ports[0].getHost().port
        dialed: list[object] = []
        connect = Target.connect

        def counted(target: Target, *options: Any) -> Any:
            dialed.append(target)
            return connect(target, *options)

        self.patch(Target, "connect", counted)
        self.source(
            to=f"rpcstream+tls://127.0.0.1:{port}/",
            pki=pki,
            connection_count=2,
            limits=replace(DEFAULT_LIMITS, connection_bytes=2 * EXTENT_BYTES),
        )
        path = self.file("disk", 11 * EXTENT_BYTES + 7)
        job = await self.job_ended(await self.submitted(path, "copy"))
        self.assertEqual((job.state, job.byte_count), (JobState.DONE, 11 * EXTENT_BYTES + 7))
        self.assertEqual((self.store / "copy").read_bytes(), path.read_bytes())
        self.assertGreaterEqual(len(dialed), 6)

    async def test_listing(self) -> None:
        """Jobs are listed in pages."""
        self.source()
        path = self.file("f", 1)
        for number in range(3):
            await self.submitted(path, f"n{number}", retry=jobs.FOREVER)
        first = await self.ask(jobs.ListJobs(limit=2))
        self.assertEqual(([job.name for job in first.jobs], first.more), (["n0", "n1"], True))
        rest = await self.ask(jobs.ListJobs(after=first.jobs[-1].job_id, limit=0))
        self.assertEqual(([job.name for job in rest.jobs], rest.more), (["n2"], False))

    async def test_measured(self) -> None:
        """What crossed the wire is told: every byte written is content, a header or a call."""
        self.source()
        self.destination()
        path = self.file("f", 3 * MIB)
        os.truncate(path, 20 * MIB)
        job_id = await self.submitted(path, "n")
        self.assertEqual((await self.job_ended(job_id)).state, JobState.DONE)
        told = {each.name: each.value.value for each in await self.ask(jobs.Measured(job_id))}
        self.assertEqual((told["size"], told["sent_bytes"]), (20 * MIB, 3 * MIB))
        self.assertEqual(told["hole_bytes"], 17 * MIB)
        headers = 28 * told["packet_count"] + 12 * told["hole_count"]
        calls = told["written_bytes"] - told["sent_bytes"] - headers
        self.assertTrue(200 < calls < 1500, calls)
        await self.refused(jobs.NoSuchJob, self.ask(jobs.Measured(job_id + 1)))

    async def test_refused(self) -> None:
        """What could never be sent is refused at once, and leaves no job."""
        self.source()
        inside = self.file("f", 1)
        outside = self.folder / "outside"
        outside.write_bytes(b"x")
        (self.root / "link").symlink_to(outside)
        for path in ("f", str(outside), str(self.root / "link"), str(self.root), str(self.root / "none")):
            await self.refused(jobs.SourceRefused, self.ask(jobs.Submit(path, "n")))
        for name in ("", "../n", ".hidden", "a/b", "new\nline"):
            await self.refused(InvalidArgument, self.ask(jobs.Submit(str(inside), name)))
        await self.refused(InvalidArgument, self.ask(jobs.Submit(str(inside), "n", mode=0o10000)))
        self.assertEqual((await self.ask(jobs.ListJobs())).jobs, ())


class FailureTests(SourceCase):
    """Attempts that fail."""

    async def test_queue_that_cannot_be_written(self) -> None:
        """A full disk refuses submissions; progress that cannot be noted does not stop a transfer."""

        def full_disk(*_: object) -> None:
            raise StorageError("job queue: database or disk is full")

        self.destination()
        self.source()
        self.patch(JobStore, "progress", full_disk)
        job = await self.job_ended(await self.submitted(self.file("f", 1000), "n"))
        self.assertEqual((job.state, job.byte_count), (JobState.DONE, 1000))
        self.patch(JobStore, "submit", lambda *_, **__: full_disk())
        await self.refused(OperationFailed, self.submitted(self.root / "f", "m"))

    async def test_retried_until_the_destination_is_there(self) -> None:
        """What may pass is tried again."""
        self.source()
        path = self.file("f", 1000)
        job_id = await self.submitted(path, "n", retry=jobs.FOREVER)
        waiting = await self.job_when(job_id, lambda job: job.attempts >= 2 and bool(job.message))
        self.assertIn("is the service running?", waiting.message)
        self.assertNotIn("\n", waiting.message)
        self.destination()
        job = await self.job_ended(job_id)
        self.assertEqual((job.state, job.message), (JobState.DONE, ""))

    async def test_retries_used_up(self) -> None:
        """After that many repetitions the job has failed, and says why."""
        self.source()
        job = await self.job_ended(await self.submitted(self.file("f", 1000), "n", retry=2))
        self.assertEqual((job.state, job.attempts), (JobState.FAILED, 3))
        self.assertIn("no such socket", job.message)

    async def test_final(self) -> None:
        """What stays so is not tried again."""
        self.destination()
        self.source()
        (self.store / "taken").write_bytes(b"old")
        path = self.file("f", 1000)
        job = await self.job_ended(await self.submitted(path, "taken", retry=5))
        self.assertEqual((job.state, job.attempts), (JobState.FAILED, 1))
        self.assertIn("'taken' exists already", job.message)
        replaced = await self.job_ended(await self.submitted(path, "taken", replace=True))
        self.assertEqual(replaced.state, JobState.DONE)
        self.assertEqual((self.store / "taken").read_bytes(), path.read_bytes())

    async def test_source_gone(self) -> None:
        """A file that was removed, or exchanged for a link out, after it was submitted."""
        self.source(concurrent=1)
        first = self.file("f", 1000)
        second = self.file("g", 1000)
        blocking = await self.submitted(self.file("h", 10), "n0", retry=jobs.FOREVER)
        job_ids = [await self.submitted(first, "n1"), await self.submitted(second, "n2")]
        first.unlink()
        second.unlink()
        second.symlink_to("/etc/passwd")
        for job_id, text in zip(job_ids, ("no such file", "not under a --root"), strict=True):
            job = await self.job_ended(job_id)
            self.assertIn(job.state, (JobState.FAILED,))
            self.assertIn(text if "--root" in text else "", job.message)
        await self.ask(jobs.CancelJob(blocking))


class CancelTests(SourceCase):
    """Jobs that are given up."""

    async def test_queued(self) -> None:
        """A job that waits never runs."""
        self.destination()
        self.source(bytes_per_second=4 * MIB)
        running = await self.submitted(self.file("f", 3 * MIB), "running")
        waiting = await self.submitted(self.file("g", 10), "waiting")
        job = await self.ask(jobs.CancelJob(waiting))
        self.assertEqual(job.state, JobState.CANCELLED)
        self.assertEqual((await self.job_ended(running)).state, JobState.DONE)
        self.assertFalse((self.store / "waiting").exists())

    async def test_running(self) -> None:
        """The destination removes what it has; the next job runs."""
        self.destination(config=SMALL_SYNCS)
        self.source(bytes_per_second=16 * MIB)
        job_id = await self.submitted(self.file("f", 64 * MIB), "n")
        await self.job_when(job_id, lambda job: job.byte_count >= EXTENT_BYTES)
        self.assertEqual([partial.active for partial in await self.partials()], [True])
        job = await self.ask(jobs.CancelJob(job_id))
        self.assertEqual(job.state, JobState.CANCELLED)
        self.assertEqual(await self.partials(), ())
        self.assertEqual(os.listdir(self.store), [".rpcstream"])
        following = await self.job_ended(await self.submitted(self.file("g", 10), "n"))
        self.assertEqual(following.state, JobState.DONE)
        self.assertEqual((await self.job(job_id)).state, JobState.CANCELLED)
        self.assertEqual(self.flushLoggedErrors(), [])

    async def test_running_over_several(self) -> None:
        """The same when the job has several connections."""
        self.destination(config=SMALL_SYNCS)
        self.source(bytes_per_second=32 * MIB, connection_count=3)
        job_id = await self.submitted(self.file("f", 64 * MIB), "n")
        await self.job_when(job_id, lambda job: job.byte_count >= EXTENT_BYTES)
        job = await self.ask(jobs.CancelJob(job_id))
        self.assertEqual(job.state, JobState.CANCELLED)
        self.assertEqual(await self.partials(), ())
        self.assertEqual(os.listdir(self.store), [".rpcstream"])
        self.assertEqual(self.flushLoggedErrors(), [])

    async def test_partial_that_stays(self) -> None:
        """A destination that cannot remove its partial does not keep the job alive."""
        self.destination(config=SMALL_SYNCS)
        self.source(bytes_per_second=16 * MIB)
        self.patch(IncomingTransfer, "remove", lambda _: fail(OSError(errno.EIO, "Input/output error")))
        job_id = await self.submitted(self.file("f", 64 * MIB), "n")
        await self.job_when(job_id, lambda job: job.byte_count >= EXTENT_BYTES)
        job = await self.ask(jobs.CancelJob(job_id))
        self.assertEqual(job.state, JobState.CANCELLED)
        self.assertFalse((self.store / "n").exists())

    def test_not_committed_any_more(self) -> None:
        """A job that was cancelled while its digest was made is not committed."""
        job = Job(1, "/f", "n", False, True, None, 0, JobState.RUNNING, 0, 1, 1, "", None, b"", 0, 0, 0)
        queue = JobQueue(self.folder / "jobs.sqlite", InlineRunner())
        attempt = JobAttempt(job, Target(Url("tls", "h", 1)), SourceRoots([]), queue, InlineRunner(), Clock())
        attempt.is_given_up = True
        self.assertRaises(CancelledError, attempt._committing)
        self.assertFalse(attempt.is_committing)

    async def test_while_it_connects(self) -> None:
        """A job without a connection is cancelled too."""
        self.source()
        job_id = await self.submitted(self.file("f", 10), "n", retry=jobs.FOREVER)
        await self.job_when(job_id, lambda job: job.attempts > 0)
        job = await self.ask(jobs.CancelJob(job_id))
        self.assertEqual(job.state, JobState.CANCELLED)
        await self.pause(0.3)
        self.assertEqual((await self.job(job_id)).state, JobState.CANCELLED)

    async def test_too_late(self) -> None:
        """A job that has ended cannot be cancelled, nor one that never was."""
        self.destination()
        self.source()
        job_id = await self.submitted(self.file("f", 10), "n")
        await self.job_ended(job_id)
        await self.refused(jobs.JobEnded, self.ask(jobs.CancelJob(job_id)))
        await self.refused(jobs.NoSuchJob, self.ask(jobs.CancelJob(job_id + 1)))
        await self.refused(jobs.NoSuchJob, self.ask(jobs.CancelJob(2**64 - 1)))


class RestartTests(SourceCase):
    """The service stops and starts again."""

    async def test_goes_on(self) -> None:
        """What ran is aborted in order, and goes on from what is durable at the destination."""
        self.destination(config=SMALL_SYNCS)
        source = self.source(bytes_per_second=16 * MIB)
        path = self.file("f", 40 * MIB)
        job_id = await self.submitted(path, "n")
        queued = await self.submitted(self.file("g", 10), "g")
        await self.job_when(job_id, lambda job: job.byte_count >= 2 * EXTENT_BYTES)
        await self.stop(source)
        kept = await self.partials()
        self.assertEqual([(p.name, p.active) for p in kept], [("n", False)])
        self.assertGreaterEqual(kept[0].held_bytes, 2 * EXTENT_BYTES)
        self.source()
        ended = await gatherResults([self.deferred(self.job_ended(each)) for each in (job_id, queued)])
        self.assertEqual([job.state for job in ended], [JobState.DONE] * 2)
        self.assertEqual(ended[0].attempts, 2)
        self.assertEqual((self.store / "n").read_bytes(), path.read_bytes())
        self.assertEqual(self.flushLoggedErrors(), [])

    async def test_destination_restarts(self) -> None:
        """A destination that stops in the middle interrupts the job for a while only."""
        destination = self.destination(config=SMALL_SYNCS)
        self.source(bytes_per_second=16 * MIB)
        path = self.file("f", 40 * MIB)
        job_id = await self.submitted(path, "n", retry=jobs.FOREVER)
        await self.job_when(job_id, lambda job: job.byte_count >= EXTENT_BYTES)
        await self.stop(destination)
        await self.job_when(job_id, lambda job: job.attempts >= 2)
        self.destination()
        self.assertEqual((await self.job_ended(job_id)).state, JobState.DONE)
        self.assertEqual((self.store / "n").read_bytes(), path.read_bytes())

    def test_one_service_for_one_state(self) -> None:
        """A second source service on the same state directory does not start."""
        self.source()
        second = source_service(
            f"unix:{self.folder}/other.sock",
            f"rpcstream+unix:///?socket={self.folder}/d.sock",
            roots=[self.root],
            state=self.folder / "state",
        )
        with self.assertRaisesRegex(ConfigurationError, "another source service uses it"):
            second.startService()
        return self.stop(second)


class ArgumentTests(SourceCase):
    """What cannot be meant is refused before anything starts."""

    def refusal(self, **changes: object) -> str:
        """The text of the error."""
        given = {
            "listen": f"unix:{self.folder}/s.sock",
            "to": f"rpcstream+unix:///?socket={self.folder}/d.sock",
            "roots": [self.root],
            "state": self.folder / "state",
            **changes,
        }
        with self.assertRaises(ConfigurationError) as caught:
            source_service(**given)
        return str(caught.exception)

    def test_refused(self) -> None:
        """Each with its remedy."""
        self.assertIn("unix:PATH", self.refusal(listen="rpctls:0"))
        self.assertIn("leave the name 'n' out", self.refusal(to="rpcstream+tcp://127.0.0.1/n"))
        self.assertIn("--insecure", self.refusal(to="rpcstream+tcp://192.0.2.1/"))
        self.assertIn("pki", self.refusal(to="rpcstream+tls://host/", pki=self.folder / "none"))
        self.assertIn("--root DIR", self.refusal(roots=[]))
        self.assertIn("no such directory", self.refusal(roots=[self.folder / "none"]))
        self.assertIn("at least 1", self.refusal(concurrent=0))
