"""
A destination and a source service in this process, over UNIX sockets.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any, TypeVar

from twisted.internet import reactor
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from rpcstream.net.client import ClientConnection
from rpcstream.net.connect import connect
from rpcstream.programs import jobs
from rpcstream.programs.jobs import JobState
from rpcstream.services.backoff import Backoff
from rpcstream.services.destination import DestinationService, destination_service
from rpcstream.services.source import SourceService, source_service

__all__ = ["ServiceCase"]

T = TypeVar("T")

ENDED = (JobState.DONE, JobState.FAILED, JobState.CANCELLED)


class ServiceCase(TestCase):
    """
    @ivar folder: of this test; its path is short enough for sockets.
    @ivar store: the destination's default pool.
    @ivar root: where the source may send from.
    """

    timeout = 30

    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="rpcstream-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.store = self.folder / "store"
        self.store.mkdir()
        self.root = self.folder / "root"
        self.root.mkdir()

    # --- the services -------------------------------------------------------------------

    def destination(self, **options: Any) -> DestinationService:
        """Start a destination on C{d.sock}."""
        service = destination_service(f"unix:{self.folder}/d.sock", self.store, **options)
        self.started(service)
        return service

    def source(self, **options: Any) -> SourceService:
        """Start a source on C{s.sock} that sends to C{d.sock}."""
        given = {
            "to": f"rpcstream+unix:///?socket={self.folder}/d.sock",
            "roots": [self.root],
            "state": self.folder / "state",
            "backoff": Backoff(first_seconds=0.05, largest_seconds=0.1),
            **options,
        }
        service = source_service(f"unix:{self.folder}/s.sock", **given)
        self.started(service)
        return service

    def started(self, service: Any) -> None:
        """Start a service, and stop it when the test has ended, if it still runs."""
        self.addCleanup(lambda: self.stop(service))
        service.privilegedStartService()
        service.startService()

    def stop(self, service: Any) -> Deferred[Any]:
        """Stop a service that runs."""
        return maybeDeferred(service.stopService) if service.running else maybeDeferred(lambda: None)

    # --- its clients --------------------------------------------------------------------

    async def ask(self, request: Any, socket: str = "s.sock") -> Any:
        """One call over a connection of its own."""
        async with self.connection(socket) as connection:
            return await connection.call(request)

    def connection(self, socket: str = "s.sock") -> Any:
        """A connection to one of the services."""
        return connect(f"rpcstream+unix:///?socket={self.folder}/{socket}")

    async def job(self, job_id: int) -> jobs.Job:
        """A job as it is listed."""
        listing = await self.ask(jobs.ListJobs(after=job_id - 1, limit=1))
        return listing.jobs[0]

    async def job_when(self, job_id: int, holds: Callable[[jobs.Job], bool]) -> jobs.Job:
        """The job as soon as C{holds}."""
        async with self.connection() as connection:
            while True:
                listing = await connection.call(jobs.ListJobs(after=job_id - 1, limit=1))
                if holds(listing.jobs[0]):
                    return listing.jobs[0]
                await self.pause(0.02)

    async def job_ended(self, job_id: int) -> jobs.Job:
        """The job when it is done, failed or cancelled."""
        return await self.job_when(job_id, lambda job: job.state in ENDED)

    async def pause(self, seconds: float) -> None:
        """Let time pass."""
        await deferLater(reactor, seconds)

    async def refused(self, expected: type[Exception], awaited: Awaitable[Any]) -> Exception:
        """Await something that must fail."""
        with self.assertRaises(expected) as caught:
            await awaited
        return caught.exception

    async def opened(self) -> ClientConnection:
        """A connection to the destination; close it."""
        return await self.connection("d.sock")

    def deferred(self, awaited: Any) -> Deferred[Any]:
        """A coroutine as a Deferred."""
        return Deferred.fromCoroutine(awaited)
