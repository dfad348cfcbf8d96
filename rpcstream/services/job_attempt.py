"""
One attempt at one job: open the file, connect, send, commit.

What becomes of the job after it is L{rpcstream.services.job_scheduler}'s.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall
from twisted.logger import Logger

from rpcstream.errors import BadState, RPCStreamError
from rpcstream.limits import DEFAULT_LIMITS, Limits
from rpcstream.net.client import ClientConnection
from rpcstream.net.connect import connect
from rpcstream.net.moving import Moving
from rpcstream.net.opening import Opening
from rpcstream.net.threads import Runner
from rpcstream.net.urls import Url
from rpcstream.programs import transfer
from rpcstream.services.connections import Connections
from rpcstream.services.job_queue import JobQueue
from rpcstream.services.job_record import Job
from rpcstream.services.job_store import JobStore
from rpcstream.services.sending import SendOptions, Sent, send
from rpcstream.services.source_files import SourceRoots
from rpcstream.services.tracked_runner import TrackedRunner
from rpcstream.storage.sources import FileSource

__all__ = ["JobAttempt", "Target"]

PROGRESS_SECONDS = 1.0
"""How often progress is written to the queue, at most."""
CANCEL_SECONDS = 5.0
"""How long the destination has to say that it has removed the partial."""


@dataclass(frozen=True)
class Target:
    """
    Where jobs are sent to.

    @ivar url: the destination; its name is empty.
    @ivar bytes_per_second: rate limit of each transfer, C{None} for none.
    @ivar connection_count: how many connections a transfer uses at once.
    """

    url: Url
    pki: str | Path | None = None
    insecure: bool = False
    bytes_per_second: float | None = None
    connection_count: int = 1
    limits: Limits = DEFAULT_LIMITS

    def connect(self, runner: Runner, reactor: Any) -> Opening[ClientConnection]:
        """A connection of its own for each attempt, with the certificates as they are now."""
        return connect(
            str(self.url),
            pki=self.pki,
            insecure=self.insecure,
            limits=self.limits,
            runner=runner,
            reactor=reactor,
        )


class JobAttempt:
    """
    @param job: as the store has started it.
    @param runner: where blocking work runs.
    @ivar is_committing: from then on it is too late to cancel: the destination
        may be publishing.
    @ivar is_given_up: the job was cancelled: it must not be committed any more.
    """

    log = Logger()

    def __init__(
        self, job: Job, target: Target, roots: SourceRoots, queue: JobQueue, runner: Runner, reactor: Any
    ) -> None:
        self.job = job
        self.is_committing = False
        self.is_given_up = False
        self._target = target
        self._roots = roots
        self._queue = queue
        self._runner = TrackedRunner(runner)
        self._reactor = reactor
        self._source: FileSource | None = None
        self._connections: Connections | None = None
        self._running: Deferred[Sent] | None = None
        self._is_stopped = False
        self._byte_count = 0
        self._written_at = float("-inf")
        self._timer: IDelayedCall | None = None

    def start(self) -> Deferred[Sent]:
        """
        Send; fires when it is published, and nothing of the attempt is left in
        this process either way.

        @raise SourceRefused: the file may not be sent (as errback, as all).
        @raise RPCStreamError: see L{send}; also L{ConnectRefused}.
        """
        self._running = Deferred.fromCoroutine(self._run())
        return self._running

    def stop(self) -> None:
        """End it: the stream is aborted, what is durable at the destination stays there."""
        if not self._is_stopped and self._running is not None:
            self._is_stopped = True
            self._running.cancel()

    async def give_up(self) -> None:
        """End it for good: the destination removes what it has, then L{stop}."""
        connections = self._connections
        if connections is not None:
            # Before the stream is aborted: only a live transfer can be cancelled.
            try:
                await connections.current.call(
                    transfer.Cancel(self.job.transfer_id), timeout_seconds=CANCEL_SECONDS
                )
            except RPCStreamError as error:
                self.log.info("job {id}: its partial stays: {error}", id=self.job.job_id, error=error)
        self.stop()

    async def _run(self) -> Sent:
        try:
            await self._runner.run(self._open)
            first = await self._connect()
            connections = Connections(
                first, lambda: Deferred.fromCoroutine(self._connect()), self._target.connection_count
            )
            self._connections = connections
            try:
                return await self._send(connections)
            finally:
                self._connections = None
                # What follows is short, and must not be cut short itself.
                self._is_stopped = True
                await connections.close()
                await first.close()
        finally:
            self._is_stopped = True
            self._stop_timer()
            # A thread may still be reading what was asked for last.
            await self._runner.when_idle()
            if self._source is not None:
                await self._runner.run(self._source.close)

    def _open(self) -> None:
        # Kept from within the thread: the result of a cancelled call is lost, the descriptor is not.
        self._source = self._roots.open(self.job.source)

    async def _connect(self) -> ClientConnection:
        connection = await self._target.connect(self._runner, self._reactor)
        watching = connection.subscribe(transfer.Progress, self._durable)
        # A destination without these events is only less talkative.
        watching.confirmed.addErrback(lambda failure: failure.trap(RPCStreamError))
        return connection

    async def _send(self, connections: Connections) -> Sent:
        job, source = self.job, self._source
        if source is None:
            raise BadState("the source is not open")
        options = SendOptions(
            name=job.name,
            transfer_id=job.transfer_id,
            pool=self._target.url.pool,
            replace=job.replace,
            mode=job.mode,
            sparse=job.sparse,
            bytes_per_second=self._target.bytes_per_second,
        )
        return await send(
            connections, source, options, self._runner, opened=self._opened, committing=self._committing
        )

    # --- what is noted in the queue ----------------------------------------------------

    def _opened(self, moving: Moving, held_bytes: int) -> None:
        self._note(held_bytes)

    def _durable(self, event: transfer.Progress) -> None:
        if event.transfer_id == self.job.transfer_id:
            self._note(event.durable_bytes)

    def _note(self, byte_count: int) -> None:
        self._byte_count = byte_count
        if self._timer is None:
            wait_seconds = self._written_at + PROGRESS_SECONDS - self._reactor.seconds()
            self._timer = self._reactor.callLater(max(0.0, wait_seconds), self._write)

    def _write(self) -> None:
        self._timer = None
        self._written_at = self._reactor.seconds()
        size = None if self._source is None else self._source.size_bytes
        self._tell(JobStore.progress, self._byte_count, size)

    def _stop_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _committing(self) -> None:
        if self.is_given_up:
            raise CancelledError("the job was cancelled")
        if not self.is_committing:
            self.is_committing = True
            self._tell(JobStore.committing)

    def _tell(self, method: Callable[..., Job], *args: Any) -> None:
        """Of use to who looks, not to the transfer: that goes on if it fails."""

        def failed(failure: Any) -> None:
            if not failure.check(BadState):
                self.log.warn(
                    "job {id}: its progress cannot be noted: {error}", id=self.job.job_id, error=failure.value
                )

        self._queue.ask(method, self.job.job_id, *args).addErrback(failed)
