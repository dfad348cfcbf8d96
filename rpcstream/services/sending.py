"""
Sending a source into a pool of the other side: ask, stream, commit.

The same work for the command line and for the source service.  What the
destination already holds is not sent again: its digests are compared with the
source's own content while the rest is on its way, and what differs is sent in
a further round.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import NamedTuple, TypeVar

from rpcstream.errors import DigestMismatch, OperationAborted, StorageError
from rpcstream.limits import EXTENT_BYTES
from rpcstream.net.client import ClientConnection
from rpcstream.net.outgoing import OutgoingStream
from rpcstream.net.progress import Progress
from rpcstream.net.protection import Protection, protection_of
from rpcstream.net.reading import send_pieces
from rpcstream.net.threads import Runner, SerialRunner
from rpcstream.programs import transfer
from rpcstream.services.lanes import ask_for_lane, lane_of
from rpcstream.storage.extents import LARGEST_BYTES, Held, extent_count, extent_length, indexes_of
from rpcstream.storage.sources import ContentKind, Hole, Source

__all__ = ["ROUNDS", "Counters", "SendOptions", "Sent", "all_extents", "held_byte_count", "send"]

ROUNDS = 8
"""A source that still differs after so many rounds is being written to."""

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class SendOptions:
    """
    @ivar name: the name at the destination.
    @ivar pool: its pool, C{""} for the default one.
    @ivar transfer_id: 16 bytes; the same for a repetition of the same transfer.
    @ivar mode: file mode after publishing, C{None} for the pool's.
    @ivar resume: use what the destination holds from an earlier try.
    @ivar bytes_per_second: rate limit, C{None} for none.
    """

    name: str
    transfer_id: bytes
    pool: str = ""
    replace: bool = False
    mode: int | None = None
    sparse: bool = True
    resume: bool = True
    bytes_per_second: float | None = None


class Sent(NamedTuple):
    """
    What a finished transfer was.

    @ivar size: bytes of content, holes included.
    @ivar sent_bytes: data bytes that crossed the wire in this call.
    @ivar resumed_from: bytes that were there already and were verified.
    @ivar digest: the content digest, equal on both ends.
    @ivar packet_count: stream messages sent.
    @ivar seconds: from just before INCOMING to COMMIT's reply.
    @ivar hole_count: how many of the stream messages were holes.
    @ivar written_bytes: all that was handed to the transport meanwhile, headers and
        calls included, as the connection counted it; 0 for what was received.
    @ivar protection: TLS version and cipher, C{None} for a plain connection.
    """

    size: int
    sent_bytes: int
    hole_bytes: int
    resumed_from: int
    digest: bytes
    packet_count: int
    seconds: float
    lane: str
    hole_count: int = 0
    written_bytes: int = 0
    protection: Protection | None = None


@dataclass
class Counters:
    """What all rounds of a transfer moved together."""

    sent_bytes: int = 0
    hole_bytes: int = 0
    packet_count: int = 0
    resumed_from: int = 0
    lane: str = "shared"
    hole_count: int = 0

    def counting(self, pieces: Iterator[T]) -> Iterator[T]:
        """The same pieces; counts the holes among them."""
        for piece in pieces:
            self.hole_count += isinstance(piece, Hole)
            yield piece

    def add(self, progress: Progress) -> None:
        self.sent_bytes += progress.byte_count
        self.hole_bytes += progress.hole_bytes
        self.packet_count += progress.packet_count

    def sent(
        self, size: int, digest: bytes, seconds: float, written_bytes: int, protection: Protection | None
    ) -> Sent:
        """What the finished transfer was."""
        return Sent(
            size,
            self.sent_bytes,
            self.hole_bytes,
            self.resumed_from,
            digest,
            self.packet_count,
            seconds,
            self.lane,
            self.hole_count,
            written_bytes,
            protection,
        )


async def send(
    connection: ClientConnection,
    source: Source,
    options: SendOptions,
    runner: Runner,
    *,
    opened: Callable[[OutgoingStream[transfer.Grant], int], None] = lambda stream, held_bytes: None,
    committing: Callable[[], None] = lambda: None,
) -> Sent:
    """
    Send C{source}; returns when it is durable, verified and published there.

    @param opened: called with each round's stream and the bytes already held,
        for progress and rate changes.
    @param committing: called when all was sent and COMMIT is asked for.
    @raise RemoteError: the destination refuses or fails (L{transfer.Denied}, ...).
    @raise StorageError: the source fails or was changed.
    @raise DigestMismatch: the same transfer was finished with other content.
    """
    started = connection.clock.seconds()
    counters = Counters()
    written_before = connection.link.written_bytes
    protection = protection_of(connection.link.transport)

    def sent(digest: bytes) -> Sent:
        written = connection.link.written_bytes - written_before
        seconds = connection.clock.seconds() - started
        return counters.sent(source.size_bytes or 0, digest, seconds, written, protection)

    discard = b"" if options.resume else all_extents(source.size_bytes)
    for _ in range(ROUNDS):
        stream = await _open(connection, source, options, discard)
        if stream.reply.verdict is transfer.Verdict.COMPLETE:
            await stream.finish()
            digest = await _same_content(source, stream.reply.digest, runner)
            counters.resumed_from = source.size_bytes or 0
            return sent(digest)
        stale = await _one_round(stream, source, options, runner, counters, opened)
        if not any(stale):
            committing()
            await runner.run(source.check_unchanged)
            digest = await runner.run(source.content_digest)
            committed = await connection.call(
                transfer.Commit(options.transfer_id, source.size_bytes or 0, digest), timeout_seconds=None
            )
            if committed.published:
                return sent(digest)
            stale = committed.missing
        if source.kind is ContentKind.PIPE:
            raise StorageError(
                "what was kept of an earlier try differs, and a pipe cannot be read again: use --no-resume"
            )
        discard = stale
    raise StorageError(f"the content still differs after {ROUNDS} rounds: is the source being written to?")


async def _open(
    connection: ClientConnection, source: Source, options: SendOptions, discard: bytes
) -> OutgoingStream[transfer.Grant]:
    request = transfer.Incoming(
        name=options.name,
        pool=options.pool,
        kind=transfer.SourceKind(source.kind),
        size=source.size_bytes,
        sparse=options.sparse,
        replace=options.replace,
        mode=options.mode,
        transfer_id=options.transfer_id,
        discard=discard,
        parameters=ask_for_lane(connection),
    )
    return await connection.open(request, total_bytes=source.size_bytes)


async def _one_round(
    stream: OutgoingStream[transfer.Grant],
    source: Source,
    options: SendOptions,
    runner: Runner,
    counters: Counters,
    opened: Callable[[OutgoingStream[transfer.Grant], int], None],
) -> bytes:
    """Send what is missing and compare what is held; returns the bitmap of extents that differ."""
    grant = stream.reply
    lane = lane_of(stream, grant.lane)
    held = Held(grant.held.bitmap, grant.held.digests).check()
    held_bytes = held_byte_count(held.bitmap, source.size_bytes)
    if not counters.resumed_from:
        counters.resumed_from = held_bytes
    if options.bytes_per_second is not None:
        stream.limit_rate(options.bytes_per_second)
    stream.packet_bytes = grant.packet_bytes if lane else min(stream.packet_bytes, grant.packet_bytes)
    opened(stream, held_bytes)
    cancelled = [False]
    is_pipe = source.kind is ContentKind.PIPE
    # A pipe is compared as it is read; a file is read twice at once, in two threads.
    verifying = None if is_pipe else runner.run(source.verify, held, lambda: cancelled[0])
    try:
        skip, packet_bytes, sparse = held.bitmap, stream.packet_bytes, options.sparse
        if lane is not None and lane.takes_files:
            counters.lane = stream.lane
            await lane.send(stream, counters.counting(source.file_parts(skip, packet_bytes, sparse=sparse)))
        elif lane is not None:
            counters.lane = stream.lane
            await lane.send(stream, counters.counting(source.pieces(skip, packet_bytes, sparse=sparse)))
        else:
            pieces = counters.counting(source.pieces(skip, packet_bytes, sparse=sparse))
            await send_pieces(stream, pieces, SerialRunner(runner))
        await stream.finish()
        counters.add(stream.progress)
    except BaseException as error:
        cancelled[0] = True
        stream.fail_with(OperationAborted(str(error) or "interrupted"))
        if verifying is not None:
            verifying.addErrback(lambda _: None)
        raise
    return await (runner.run(source.verify, held) if verifying is None else verifying)


async def _same_content(source: Source, digest: bytes | None, runner: Runner) -> bytes:
    """The transfer was finished before: is it this content?"""
    own = await runner.run(_digest_of, source)
    if digest is None or own != digest:
        raise DigestMismatch("an earlier run of this transfer left other content; use --replace")
    return own


def _digest_of(source: Source) -> bytes:
    if source.kind is ContentKind.PIPE:
        for _ in source.pieces():
            pass
    source.check_unchanged()
    return source.content_digest()


def all_extents(size_bytes: int | None) -> bytes:
    """The bitmap of every extent of a content; of every possible one if its size is not known."""
    return b"\xff" * -(-extent_count(LARGEST_BYTES if size_bytes is None else size_bytes) // 8)


def held_byte_count(bitmap: bytes, size_bytes: int | None) -> int:
    """How many bytes the extents of a bitmap hold."""
    held = indexes_of(bitmap)
    if size_bytes is None:
        return len(held) * EXTENT_BYTES
    return sum(extent_length(index, size_bytes) for index in held if index < extent_count(size_bytes))
