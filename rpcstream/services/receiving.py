"""
Receiving a name of the other side into a local file: ask, stream, commit.

The mirror of L{rpcstream.services.sending}: what a local partial holds is not
asked for again; the server compares its digests with the content it serves.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred

from rpcstream.errors import OperationAborted, StorageError
from rpcstream.net.client import ClientConnection
from rpcstream.net.incoming import IncomingStream
from rpcstream.net.pacing import Pace
from rpcstream.net.protection import protection_of
from rpcstream.net.spool import Hole
from rpcstream.net.spool import Piece as StreamPiece
from rpcstream.net.threads import Runner, SerialRunner
from rpcstream.programs import transfer
from rpcstream.services.lanes import ask_for_lane, lane_of
from rpcstream.services.sending import ROUNDS, Counters, Sent, all_extents, held_byte_count
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
    @ivar bytes_per_second: rate limit, C{None} for none.
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


def write_batch(receiving: Receiving, batch: list[StreamPiece]) -> None:
    """Write data and holes in stream order; runs in a thread."""
    for piece in batch:
        if isinstance(piece, Hole):
            receiving.write_hole(piece.length)
        else:
            receiving.write(piece)


async def write_stream(
    stream: IncomingStream[Any],
    receiving: Receiving,
    runner: SerialRunner,
    written: Callable[[], None] = lambda: None,
    pace: Pace | None = None,
) -> None:
    """
    Take the whole stream into the partial; returns when all missing bytes are there.

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
    connection: ClientConnection,
    pool: Pool,
    options: ReceiveOptions,
    runner: Runner,
    *,
    opened: Callable[[IncomingStream[transfer.Offer], int], None] = lambda stream, held_bytes: None,
    committing: Callable[[], None] = lambda: None,
) -> Sent:
    """
    Fetch a name into C{pool}; returns when it is durable, verified and published here.

    @param opened: called with each round's stream and the bytes already held.
    @param committing: called when all is here and is being verified.
    @raise RemoteError: the server refuses or fails.
    @raise StorageError: the local target cannot be had, or the content changed.
    """
    started = connection.clock.seconds()
    counters = Counters()
    protection = protection_of(connection.link.transport)
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
            await _one_round(connection, begun, options, runner, counters, opened)
            committing()
            outcome = await _commit(connection, begun, options, runner)
            if outcome.published and outcome.digest is not None:
                seconds = connection.clock.seconds() - started
                return counters.sent(begun.size_bytes or 0, outcome.digest, seconds, 0, protection)
            discard = outcome.missing
        finally:
            # Does nothing after a commit; otherwise what is durable is kept.
            await runner.run(begun.abandon)
    raise StorageError(f"the content still differs after {ROUNDS} rounds: is it being written to?")


async def _one_round(
    connection: ClientConnection,
    receiving: Receiving,
    options: ReceiveOptions,
    runner: Runner,
    counters: Counters,
    opened: Callable[[IncomingStream[transfer.Offer], int], None],
) -> None:
    """Fetch what is missing while what is held is read again."""
    request = transfer.Outgoing(
        name=options.name,
        pool=options.pool,
        offset=0,
        length=None,
        sparse=options.sparse,
        transfer_id=options.transfer_id,
        held=held_of(receiving),
        parameters=ask_for_lane(connection),
    )
    stream = await connection.open(request)
    lane = lane_of(stream, stream.reply.lane)
    size = stream.total_bytes = stream.reply.size
    held_bytes = held_byte_count(receiving.held.bitmap, size)
    if not counters.resumed_from:
        counters.resumed_from = held_bytes
    opened(stream, held_bytes)
    cancelled = [False]
    verifying: Deferred[bytes] | None = None
    try:
        await runner.run(receiving.declare, size, sparse=options.sparse)
        verifying = runner.run(receiving.verify_held, lambda: cancelled[0])
        if lane is not None:
            counters.lane = stream.lane
            await lane.receive(stream, receiving, bytes_per_second=options.bytes_per_second)
            await runner.run(receiving.finish)
            await stream.when_closed()
            counters.add(stream.progress)
            await verifying
            return
        pace = None
        if options.bytes_per_second is not None:
            pace = Pace(options.bytes_per_second, connection.clock, stream.hold_back)
        await write_stream(stream, receiving, SerialRunner(runner), pace=pace)
        await stream.when_closed()
        counters.add(stream.progress)
        await verifying
    except BaseException as error:
        cancelled[0] = True
        stream.fail_with(OperationAborted(str(error) or "interrupted"))
        if verifying is not None:
            verifying.addErrback(lambda _: None)
        raise


async def _commit(
    connection: ClientConnection, receiving: Receiving, options: ReceiveOptions, runner: Runner
) -> CommitOutcome:
    """Ask for the server's digest, then publish what is equal to it."""
    size = receiving.size_bytes or 0
    committed = await connection.call(transfer.Commit(options.transfer_id, size, None), timeout_seconds=None)
    if not committed.published or committed.digest is None:
        return CommitOutcome(False, None, committed.missing)
    return await runner.run(receiving.commit, size, committed.digest)
