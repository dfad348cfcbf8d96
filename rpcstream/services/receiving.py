"""
Receiving a name of the other side into a local file: ask, stream, commit.

The mirror of L{rpcstream.services.sending}: what a local partial holds is not
asked for again; the server compares its digests with the content it serves.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from rpcstream.errors import OperationAborted, SourceChanged, StorageError
from rpcstream.net.client import ClientConnection
from rpcstream.net.incoming import IncomingStream
from rpcstream.net.spool import Hole
from rpcstream.net.spool import Piece as StreamPiece
from rpcstream.net.threads import Runner, SerialRunner
from rpcstream.programs import transfer
from rpcstream.services.sending import ROUNDS, Sent
from rpcstream.storage.extents import bitmap_of, indexes_of
from rpcstream.storage.pool import Pool
from rpcstream.storage.receiving import Receiving

__all__ = ["ReceiveOptions", "held_of", "receive", "write_batch", "write_stream"]

BATCH_BYTES = 4 * 1024 * 1024


@dataclass(frozen=True, slots=True)
class ReceiveOptions:
    """
    @ivar name: the name at the server.
    @ivar pool: its pool there, C{""} for the default one.
    @ivar target: the name in the local pool.
    @ivar transfer_id: 16 bytes; the same for a repetition of the same transfer.
    @ivar replace: overwrite the target.
    """

    name: str
    target: str
    transfer_id: bytes
    pool: str = ""
    replace: bool = False
    mode: int | None = None
    sparse: bool = True
    resume: bool = True


def held_of(receiving: Receiving) -> transfer.Held:
    """What a partial holds, as the wire tells it."""
    held = receiving.held
    return transfer.Held(bitmap_of(held), b"".join(held[index] for index in sorted(held)))


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
) -> None:
    """
    Take the whole stream into the partial; returns when all missing bytes are there.

    @param written: called after each batch, for progress.
    @raise StorageError: too many or too few bytes, or the transfer was fenced.
    @raise OSError: the disk fails or is full.
    """
    while batch := await stream.next_batch(BATCH_BYTES):
        await runner.run(write_batch, receiving, batch)
        written()
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
    serial = SerialRunner(runner)
    entry = await connection.call(transfer.Stat(options.name, options.pool))
    begun = await serial.run(
        pool.begin,
        options.target,
        size=entry.size,
        sparse=options.sparse,
        replace=options.replace,
        mode=options.mode,
        owner="",
        transfer_id=options.transfer_id,
        discard=() if options.resume else None,
    )
    if not isinstance(begun, Receiving):
        return Sent(entry.size, 0, 0, entry.size, begun.digest, 0, 0.0, "shared")
    counters = [0, 0, 0]
    resumed = 0
    try:
        for attempt in range(ROUNDS):
            held_bytes = begun.held_bytes
            resumed = held_bytes if attempt == 0 else min(resumed, held_bytes)
            stale = await _one_round(connection, begun, options, serial, runner, counters, opened, held_bytes)
            if not stale:
                committing()
                digest = await _commit(connection, begun, options, serial, entry.size)
                if digest is not None:
                    seconds = connection.clock.seconds() - started
                    return Sent(
                        entry.size, counters[0], counters[1], resumed, digest, counters[2], seconds, "shared"
                    )
            begun = await serial.run(begun.again, stale)
        raise StorageError(f"the content still differs after {ROUNDS} rounds: is it being written to?")
    finally:
        await serial.run(begun.abandon)


async def _one_round(
    connection: ClientConnection,
    receiving: Receiving,
    options: ReceiveOptions,
    serial: SerialRunner,
    runner: Runner,
    counters: list[int],
    opened: Callable[[IncomingStream[transfer.Offer], int], None],
    held_bytes: int,
) -> list[int]:
    """Fetch what is missing while what is held is read again; returns extents gone bad here."""
    request = transfer.Outgoing(
        name=options.name,
        pool=options.pool,
        offset=0,
        length=None,
        sparse=options.sparse,
        transfer_id=options.transfer_id,
        held=held_of(receiving),
        parameters=(),
    )
    stream = await connection.open(request)
    stream.total_bytes = stream.reply.size
    opened(stream, held_bytes)
    cancelled = [False]
    verifying = runner.run(receiving.verify_held, lambda: cancelled[0])
    try:
        if stream.reply.size != receiving.size:
            raise SourceChanged(f"{options.name} has changed its size")
        await write_stream(stream, receiving, serial)
        await stream.when_closed()
        progress = stream.progress
        for at, count in enumerate((progress.byte_count, progress.hole_bytes, progress.packet_count)):
            counters[at] += count
        return sorted(await verifying)
    except BaseException as error:
        cancelled[0] = True
        stream.fail_with(OperationAborted(str(error) or "interrupted"))
        verifying.addErrback(lambda _: None)
        raise


async def _commit(
    connection: ClientConnection,
    receiving: Receiving,
    options: ReceiveOptions,
    serial: SerialRunner,
    size: int,
) -> bytes | None:
    """Compare with the server, then publish; C{None} when extents must be fetched again."""
    digest = await serial.run(receiving.content_digest)
    committed = await connection.call(
        transfer.Commit(options.transfer_id, size, digest, ()), timeout_seconds=None
    )
    if not committed.published:
        await serial.run(receiving.discard, indexes_of(committed.missing))
        return None
    await serial.run(receiving.commit, size, digest)
    return digest
