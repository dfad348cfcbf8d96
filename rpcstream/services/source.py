"""
The source service: takes jobs on a UNIX socket and sends files to one destination.

Everything that must survive this process is in the job queue of its state
directory; a transfer's identifier is there too, so that a job goes on where it
was, and is published once, however often the service is killed.
"""

from __future__ import annotations

import os
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import Any

from twisted.application.internet import TimerService
from twisted.application.service import MultiService
from twisted.internet.defer import Deferred, DeferredList, maybeDeferred
from twisted.logger import Logger

from rpcstream.errors import ConfigurationError
from rpcstream.limits import DEFAULT_LIMITS, Limits
from rpcstream.net.endpoints import client_endpoint
from rpcstream.net.service import RPCService, serve
from rpcstream.net.threads import ThreadRunner
from rpcstream.net.urls import parse_url
from rpcstream.services.backoff import Backoff
from rpcstream.services.connections import CONNECTION_COUNT
from rpcstream.services.job_attempt import JobAttempt, Target
from rpcstream.services.job_queue import JobQueue
from rpcstream.services.job_scheduler import JobScheduler
from rpcstream.services.job_store import JobStore
from rpcstream.services.policy import any_authenticated
from rpcstream.services.source_files import SourceRoots
from rpcstream.services.source_responders import JobResponders
from rpcstream.services.tracked_runner import TrackedRunner

__all__ = ["DEFAULT_STATE", "SourceService", "source_service"]

DEFAULT_STATE = Path("~/.local/state/rpcstream/source")
QUEUE_FILE = "jobs.sqlite"
DAY_SECONDS = 86400.0
KEEP_SECONDS = 30 * DAY_SECONDS
"""How long a job that has ended is listed."""


class SourceService(MultiService):
    """
    See L{source_service}.  Stopping aborts what runs; the next start goes on with it.

    A stopped service is not started again: make a new one.

    @ivar rpc: what listens; C{rpc.ports} tells where.
    """

    log = Logger()

    def __init__(
        self,
        listen: str,
        target: Target,
        roots: SourceRoots,
        state: Path,
        *,
        concurrent: int,
        backoff: Backoff,
        limits: Limits,
        reactor: Any,
    ) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        # For each transfer a thread for each part that is read and one that compares; the queue and
        # submissions.
        thread_count = (target.connection_count + 1) * concurrent + 2
        self._threads = ThreadRunner(reactor, thread_count, "rpcstream source")
        runner = TrackedRunner(self._threads)
        self._runner = runner
        self._queue = JobQueue(state / QUEUE_FILE, runner)
        self._scheduler = JobScheduler(
            self._queue,
            lambda job: JobAttempt(job, target, roots, self._queue, runner, reactor),
            reactor,
            concurrent=concurrent,
            backoff=backoff,
        )
        responders = JobResponders(self._queue, self._scheduler, roots, runner)
        # The endpoint lets in nobody but this user and root.
        self.rpc: RPCService = serve(
            listen, responders, policy=any_authenticated, limits=limits, runner=runner, reactor=reactor
        )
        self.rpc.setServiceParent(self)  # type: ignore[no-untyped-call]
        pruning = TimerService(DAY_SECONDS, self._prune)
        pruning.clock = reactor
        pruning.setServiceParent(self)

    def startService(self) -> None:
        """
        Open the queue, go on with what is in it, and listen.

        @raise ConfigurationError: the queue cannot be used, or another source
            service uses it.
        """
        # Not earlier: twistd forks and changes its user before, and locks do not survive the first.
        self._queue.open()
        super().startService()  # type: ignore[no-untyped-call]
        starting = Deferred.fromCoroutine(self._scheduler.start())
        starting.addErrback(lambda failure: self.log.failure("the job queue cannot be read", failure))

    def stopService(self) -> Deferred[None]:
        """Stop listening, abort what runs, close the queue; fires when no thread is left."""
        return Deferred.fromCoroutine(self._stop())

    async def _stop(self) -> None:
        listening: Deferred[Any] = maybeDeferred(super().stopService)
        running = Deferred.fromCoroutine(self._scheduler.stop())
        await DeferredList([listening, running], consumeErrors=True)
        await self._queue.close()
        await self._runner.when_idle()
        self._threads.stop()

    def _prune(self) -> Deferred[Any]:
        pruning = self._queue.ask(JobStore.prune, KEEP_SECONDS)
        return pruning.addErrback(partial(self.log.failure, "old jobs cannot be forgotten"))


def source_service(
    listen: str,
    to: str,
    *,
    roots: Iterable[str | os.PathLike[str]],
    pki: str | Path | None = None,
    state: str | Path | None = None,
    concurrent: int = 1,
    bytes_per_second: float | None = None,
    connection_count: int = 1,
    insecure: bool = False,
    backoff: Backoff | None = None,
    limits: Limits = DEFAULT_LIMITS,
    reactor: Any = None,
) -> SourceService:
    """
    A service that sends files to a destination, as the jobs program asks for.

    @param listen: C{unix:PATH}: only this user and root can submit jobs there.
    @param to: URL of the destination, without a name; C{?pool=} is used.
    @param roots: directories; nothing outside of them is opened.
    @param pki: directory of certificates.
    @param state: directory of the job queue, of this service alone (0700);
        default L{DEFAULT_STATE}.
    @param concurrent: how many transfers run at once.
    @param bytes_per_second: rate limit of each transfer.
    @param connection_count: how many connections a transfer uses at once.
    @param insecure: permit plaintext to another host.
    @return: a service; give it a parent, or start it.
    @raise ConfigurationError: an argument cannot be used; the text names the remedy.
    """
    if reactor is None:
        from twisted.internet import reactor
    if not listen.lower().startswith("unix:"):
        raise ConfigurationError(
            f"a source service takes jobs on a UNIX socket only: write unix:PATH in place of {listen[:200]!r}"
        )
    url = parse_url(to)
    if url.name:
        raise ConfigurationError(
            f"URL {to[:200]!r}: leave the name {url.name!r} out; each job brings its own"
        )
    # Certificates and the rule about plain text are checked now, not when the first job comes.
    client_endpoint(reactor, url, pki=pki, insecure=insecure, limits=limits)
    if concurrent < 1:
        raise ConfigurationError("at least 1 transfer must be allowed at once")
    if not 1 <= connection_count <= CONNECTION_COUNT:
        raise ConfigurationError(f"a transfer uses from 1 to {CONNECTION_COUNT} connections at once")
    return SourceService(
        listen,
        Target(url, pki, insecure, bytes_per_second, connection_count, limits),
        SourceRoots(_directories(roots)),
        Path(state or DEFAULT_STATE).expanduser().absolute(),
        concurrent=concurrent,
        backoff=backoff or Backoff(),
        limits=limits,
        reactor=reactor,
    )


def _directories(roots: Iterable[str | os.PathLike[str]]) -> list[Path]:
    # Absolute now: twistd changes the directory when it becomes a daemon.
    found = [Path(root).absolute() for root in roots]
    if not found:
        raise ConfigurationError("no root is named: say which directories may be sent from, with --root DIR")
    for root in found:
        if not root.is_dir():
            raise ConfigurationError(f"root {root}: there is no such directory")
    return found
