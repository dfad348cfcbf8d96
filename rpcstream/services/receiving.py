"""
Receiving a name of the other side into a local file: ask, stream, commit.

The mirror of L{rpcstream.services.sending}: what a local partial holds is not
asked for again; the server compares its digests with the content it serves.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rpcstream.errors import OperationAborted, StorageError
from rpcstream.net.client import ClientConnection
from rpcstream.net.incoming import IncomingStream
from rpcstream.net.lane.lane import Lane
from rpcstream.net.moving import Moving, all_of
from rpcstream.net.pacing import Pace
from rpcstream.net.protection import protection_of
from rpcstream.net.spool import Hole
from rpcstream.net.spool import Piece as StreamPiece
from rpcstream.net.threads import Runner, SerialRunner
from rpcstream.programs import transfer
from rpcstream.programs.parts import PartRequest, attempt_of, attempt_parameters
from rpcstream.services.connections import Connections, Line
from rpcstream.services.division import Division
from rpcstream.services.lanes import ask_for_lane, lane_of
from rpcstream.services.sending import ROUNDS, Counters, Sent, all_extents, held_byte_count
from rpcstream.storage.part import Part
from rpcstream.storage.pool import Pool
from rpcstream.storage.receiving import CommitOutcome, Receiving

__all__ = ["ReceiveOptions", "held_of", "receive", "write_batch", "write_stream"]

BATCH_BYTES = 4 * 1024 * 1024

OWNER = "local"
"""Owner of the partials of this side's own downloads."""


@dataclass(frozen=True, slots=True)
class ReceiveOptions:
    """
    @ivar name: the name at the server.
    @ivar pool: its pool there, C{""} for the default one.
    @ivar target: the name in the local pool.
    @ivar transfer_id: 16 bytes; the same for a repetition of the same transfer.
    @ivar replace: overwrite the target.
    @ivar bytes_per_second: rate limit of all connections together, C{None} for none.
    """

    name: str
    target: str
    transfer_id: bytes
    pool: str = ""
    replace: bool = False
    mode: int | None = None
    sparse: bool = True
    resume: bool = True
    bytes_per_second: float | None = None


def held_of(receiving: Receiving) -> transfer.Held:
    """What a partial holds, as the wire tells it."""
    return transfer.Held(receiving.held.bitmap, receiving.held.digests)


def write_batch(receiving: Receiving | Part, batch: list[StreamPiece]) -> None:
    """Write data and holes in stream order; runs in a thread."""
    for piece in batch:
        if isinstance(piece, Hole):
            receiving.write_hole(piece.length)
        else:
            receiving.write(piece)


async def write_stream(
    stream: IncomingStream[Any],
    receiving: Receiving | Part,
    runner: SerialRunner,
    written: Callable[[], None] = lambda: None,
    pace: Pace | None = None,
) -> None:
    """
    Take the whole stream into the partial, or into a part of it; returns when all
    missing bytes are there.

    @param written: called after each batch, for progress.
    @param pace: the rate limit; the sender is held back by its credit.
    @raise StorageError: too many or too few bytes, or the transfer was fenced.
    @raise OSError: the disk fails or is full.
    """
    batch_bytes = BATCH_BYTES if pace is None else min(BATCH_BYTES, pace.batch_bytes)
    while batch := await stream.next_batch(batch_bytes):
        await runner.run(write_batch, receiving, batch)
        written()
        if pace is not None:
            await pace.spend(sum(len(piece) for piece in batch if not isinstance(piece, Hole)))
    await runner.run(receiving.finish)


async def receive(
    connection: ClientConnection | Connections,
    pool: Pool,
    options: ReceiveOptions,
    runner: Runner,
    *,
    opened: Callable[[Moving, int], None] = lambda moving, held_bytes: None,
    committing: Callable[[], None] = lambda: None,
) -> Sent:
    """
    Fetch a name into C{pool}; returns when it is durable, verified and published here.

    @param connection: or several, and the way to more.
    @param opened: called with each round's streams and the bytes already held.
    @param committing: called when all is here and is being verified.
    @raise RemoteError: the server refuses or fails.
    @raise StorageError: the local target cannot be had, or the content changed.
    """
    connections = Connections.of(connection)
    clock = connections.current.clock
    started = clock.seconds()
    counters = Counters()
    protection = protection_of(connections.current.link.transport)
    discard = b"" if options.resume else all_extents(None)
    for _ in range(ROUNDS):
        begun = await runner.run(
            pool.begin,
            options.target,
            size_bytes=None,
            sparse=True,
            replace=options.replace,
            mode=options.mode,
            owner=OWNER,
            transfer_id=options.transfer_id,
            discard=discard,
        )
        if not isinstance(begun, Receiving):
            counters.resumed_from = begun.size_bytes
            return counters.sent(begun.size_bytes, begun.digest, 0.0, 0, protection)
        try:
            fetching = _Round(connections, begun, options, runner, counters)
            await fetching.run(opened)
            committing()
            outcome = await fetching.commit()
            if outcome.published and outcome.digest is not None:
                seconds = clock.seconds() - started
                return counters.sent(
                    begun.size_bytes or 0, outcome.digest, seconds, 0, protection, connections.made_count
                )
            discard = outcome.missing
        finally:
            # Does nothing after a commit; otherwise what is durable is kept.
            await runner.run(begun.abandon)
    raise StorageError(f"the content still differs after {ROUNDS} rounds: is it being written to?")


class _Round:
    """Fetches what is missing while what is held is read again, once."""

    def __init__(
        self,
        connections: Connections,
        receiving: Receiving,
        options: ReceiveOptions,
        runner: Runner,
        counters: Counters,
    ) -> None:
        self._connections = connections
        self._lines = connections.lines
        self._receiving = receiving
        self._options = options
        self._runner = runner
        self._counters = counters
        self._attempt = b""
        self._division = Division(len(self._lines), None)
        self._moving = Moving(connections.current.clock, None, options.bytes_per_second)

    async def run(self, opened: Callable[[Moving, int], None]) -> None:
        """Fetch everything; returns when it is written, and what was held is verified."""
        receiving, run, line = self._receiving, self._runner.run, self._lines[0]
        connection = await line.connect()
        part = self._division.take(line.room_count) if self._connections.is_divisible else None
        stream = await self._open(connection, part, held_of(receiving))
        lane = lane_of(stream, stream.reply.lane)
        self._moving.add(stream)
        self._attempt = attempt_of(stream.reply.parameters)
        size = self._moving.total_bytes = stream.total_bytes = stream.reply.size
        held_bytes = held_byte_count(receiving.held.bitmap, size)
        if not self._counters.resumed_from:
            self._counters.resumed_from = held_bytes
        cancelled = [False]
        verifying = None
        try:
            opened(self._moving, held_bytes)
            await run(receiving.declare, size, sparse=self._options.sparse)
            self._division.settle(size, receiving.held.bitmap)
            verifying = run(receiving.verify_held, lambda: cancelled[0])
            works = [self._carry_first(line, stream, lane, part)]
            if self._attempt:
                works += [self._carry_on(other) for other in self._lines[1:]]
            await all_of(works)
            await verifying
        except BaseException as error:
            cancelled[0] = True
            stream.fail_with(OperationAborted(str(error) or "interrupted"))
            if verifying is not None:
                verifying.addErrback(lambda _: None)
            raise
        finally:
            self._moving.is_closed = True

    async def _open(
        self, connection: ClientConnection, part: PartRequest | None, held: transfer.Held
    ) -> IncomingStream[transfer.Offer]:
        options = self._options
        request = transfer.Outgoing(
            name=options.name,
            pool=options.pool,
            offset=0,
            length=None,
            sparse=options.sparse,
            transfer_id=options.transfer_id,
            held=held,
            parameters=ask_for_lane(connection) + (() if part is None else part.parameters),
        )
        return await connection.open(request)

    async def _carry_first(
        self,
        line: Line,
        stream: IncomingStream[transfer.Offer],
        lane: Lane | None,
        part: PartRequest | None,
    ) -> None:
        line.joined()
        await self._carry(line, stream, lane, part)
        if self._attempt:
            await self._carry_on(line)

    async def _carry_on(self, line: Line) -> None:
        """Take one part after the other, as long as there are any."""
        while (part := self._division.take(line.room_count)) is not None:
            connection = await line.connect()
            part = part._replace(attempt=self._attempt)
            stream = await self._open(connection, part, transfer.Held())
            lane = lane_of(stream, stream.reply.lane)
            self._moving.add(stream)
            line.joined()
            await self._carry(line, stream, lane, part)

    async def _carry(
        self,
        line: Line,
        stream: IncomingStream[transfer.Offer],
        lane: Lane | None,
        part: PartRequest | None,
    ) -> None:
        """Take one stream to its end."""
        serial, bucket = SerialRunner(self._runner), self._moving.bucket
        try:
            sink: Any = self._receiving
            if part is not None:
                sink = await serial.run(self._receiving.part, part.first, part.extent_count)
            if lane is not None:
                self._counters.lane = stream.lane
                await lane.receive(stream, sink, bucket=bucket)
                await serial.run(sink.finish)
            else:
                clock = self._connections.current.clock
                pace = None if bucket is None else Pace(bucket, clock, stream.hold_back)
                await write_stream(stream, sink, serial, pace=pace)
            await stream.when_closed()
        except BaseException as error:
            stream.fail_with(OperationAborted(str(error) or "interrupted"))
            raise
        self._moving.remove(stream)
        line.carried_bytes += stream.progress.byte_count
        self._counters.add(stream.progress)

    async def commit(self) -> CommitOutcome:
        """Ask for the server's digest, then publish what is equal to it."""
        size = self._receiving.size_bytes or 0
        commit = transfer.Commit(self._options.transfer_id, size, None, attempt_parameters(self._attempt))
        committed = await self._connections.current.call(commit, timeout_seconds=None)
        if not committed.published or committed.digest is None:
            return CommitOutcome(False, None, committed.missing)
        return await self._runner.run(self._receiving.commit, size, committed.digest)
