"""
Sending a source into a pool of the other side: ask, stream, commit.

The same work for the command line and for the source service.  What the
destination already holds is not sent again: its digests are compared with the
source's own content while the rest is on its way, and what differs is sent in
a further round.  A round may be divided into parts, each a stream of its own
(L{rpcstream.services.division}).
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import NamedTuple, TypeVar

from rpcstream.errors import DigestMismatch, OperationAborted, StorageError
from rpcstream.limits import EXTENT_BYTES
from rpcstream.net.client import ClientConnection
from rpcstream.net.lane.lane import Lane
from rpcstream.net.moving import Moving, all_of
from rpcstream.net.outgoing import OutgoingStream
from rpcstream.net.progress import Progress
from rpcstream.net.protection import Protection, protection_of
from rpcstream.net.reading import send_pieces
from rpcstream.net.threads import Runner, SerialRunner
from rpcstream.programs import transfer
from rpcstream.programs.parts import PartRequest, attempt_of, attempt_parameters
from rpcstream.services.connections import Connections, Line
from rpcstream.services.division import Division
from rpcstream.services.lanes import ask_for_lane, lane_of, pieces_for
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
    @ivar bytes_per_second: rate limit of all connections together, C{None} for none.
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
    @ivar connection_count: how many connections carried it, at once or one after the other.
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
    connection_count: int = 1


@dataclass
class Counters:
    """What all rounds of a transfer moved together."""

    sent_bytes: int = 0
    hole_bytes: int = 0
    packet_count: int = 0
    resumed_from: int = 0
    lane: str = "shared"
    hole_count: int = 0
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def counting(self, pieces: Iterator[T]) -> Iterator[T]:
        """The same pieces; counts the holes among them."""
        for piece in pieces:
            if isinstance(piece, Hole):
                with self._lock:  # several threads send parts
                    self.hole_count += 1
            yield piece

    def add(self, progress: Progress) -> None:
        self.sent_bytes += progress.byte_count
        self.hole_bytes += progress.hole_bytes
        self.packet_count += progress.packet_count

    def sent(
        self,
        size: int,
        digest: bytes,
        seconds: float,
        written_bytes: int,
        protection: Protection | None,
        connection_count: int = 1,
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
            connection_count,
        )


async def send(
    connection: ClientConnection | Connections,
    source: Source,
    options: SendOptions,
    runner: Runner,
    *,
    opened: Callable[[Moving, int], None] = lambda moving, held_bytes: None,
    committing: Callable[[], None] = lambda: None,
) -> Sent:
    """
    Send C{source}; returns when it is durable, verified and published there.

    @param connection: or several, and the way to more.
    @param opened: called with each round's streams and the bytes already held,
        for progress.
    @param committing: called when all was sent and COMMIT is asked for.
    @raise RemoteError: the destination refuses or fails (L{transfer.Denied}, ...).
    @raise StorageError: the source fails or was changed.
    @raise DigestMismatch: the same transfer was finished with other content.
    """
    connections = Connections.of(connection)
    clock = connections.current.clock
    started = clock.seconds()
    counters = Counters()
    protection = protection_of(connections.current.link.transport)

    def sent(digest: bytes) -> Sent:
        return counters.sent(
            source.size_bytes or 0,
            digest,
            clock.seconds() - started,
            connections.written_bytes,
            protection,
            connections.made_count,
        )

    discard = b"" if options.resume else all_extents(source.size_bytes)
    for _ in range(ROUNDS):
        sending = _Round(connections, source, options, runner, counters)
        stream = await sending.open(discard)
        if stream.reply.verdict is transfer.Verdict.COMPLETE:
            await stream.finish()
            digest = await _same_content(source, stream.reply.digest, runner)
            counters.resumed_from = source.size_bytes or 0
            return sent(digest)
        stale = await sending.run(stream, opened)
        if not any(stale):
            committing()
            await runner.run(source.check_unchanged)
            digest = await runner.run(source.content_digest)
            commit = transfer.Commit(
                options.transfer_id, source.size_bytes or 0, digest, attempt_parameters(sending.attempt)
            )
            committed = await connections.current.call(commit, timeout_seconds=None)
            if committed.published:
                return sent(digest)
            stale = committed.missing
        if source.kind is ContentKind.PIPE:
            raise StorageError(
                "what was kept of an earlier try differs, and a pipe cannot be read again: use --no-resume"
            )
        discard = stale
    raise StorageError(f"the content still differs after {ROUNDS} rounds: is the source being written to?")


class _Round:
    """
    Sends what is missing and compares what is held, once.

    @ivar attempt: its key, C{b""} where all is one stream.
    """

    def __init__(
        self,
        connections: Connections,
        source: Source,
        options: SendOptions,
        runner: Runner,
        counters: Counters,
    ) -> None:
        self.attempt = b""
        self._connections = connections
        self._source = source
        self._options = options
        self._runner = runner
        self._counters = counters
        self._is_pipe = source.kind is ContentKind.PIPE
        # A pipe is read once, from the beginning.
        self._lines = connections.lines[:1] if self._is_pipe else connections.lines
        self._division = Division(len(self._lines), source.size_bytes)
        self._held = Held(b"", b"")
        self._moving = Moving(connections.current.clock, source.size_bytes, options.bytes_per_second)
        self._first: PartRequest | None = None

    async def open(self, discard: bytes) -> OutgoingStream[transfer.Grant]:
        """Ask for a new attempt, and the first of its streams."""
        line = self._lines[0]
        connection = await line.connect()
        if self._connections.is_divisible:
            self._first = self._division.take(line.room_count)
        return await self._open(connection, self._first, discard)

    async def _open(
        self, connection: ClientConnection, part: PartRequest | None, discard: bytes = b""
    ) -> OutgoingStream[transfer.Grant]:
        source, options = self._source, self._options
        request = transfer.Incoming(
            name=options.name,
            pool=options.pool,
            kind=transfer.SourceKind(source.kind),
            # As it was declared: of a pipe it is known in the end.
            size=self._moving.total_bytes,
            sparse=options.sparse,
            replace=options.replace,
            mode=options.mode,
            transfer_id=options.transfer_id,
            discard=discard,
            parameters=ask_for_lane(connection) + (() if part is None else part.parameters),
        )
        return await connection.open(request, total_bytes=source.size_bytes)

    async def run(
        self, stream: OutgoingStream[transfer.Grant], opened: Callable[[Moving, int], None]
    ) -> bytes:
        """
        Send everything, beginning with the stream that L{open} gave.

        @return: the bitmap of extents that differ.
        """
        source, grant = self._source, stream.reply
        self.attempt = attempt_of(grant.parameters)
        # Decided now: a lane begins in this turn.
        lane = lane_of(stream, grant.lane)
        self._moving.add(stream)
        cancelled = [False]
        verifying = None
        try:
            held = self._held = Held(grant.held.bitmap, grant.held.digests).check()
            self._division.settle(source.size_bytes, held.bitmap)
            held_bytes = held_byte_count(held.bitmap, source.size_bytes)
            if not self._counters.resumed_from:
                self._counters.resumed_from = held_bytes
            opened(self._moving, held_bytes)
            if not self._is_pipe:
                # A pipe is compared as it is read; a file is read twice at once, in two threads.
                verifying = self._runner.run(source.verify, held, lambda: cancelled[0])
            first, *others = self._lines
            works = [self._carry_first(first, stream, lane)]
            if self.attempt:
                works += [self._carry_on(line) for line in others]
            await all_of(works)
        except BaseException as error:
            cancelled[0] = True
            stream.fail_with(OperationAborted(str(error) or "interrupted"))
            if verifying is not None:
                verifying.addErrback(lambda _: None)
            raise
        finally:
            self._moving.is_closed = True
        return await (self._runner.run(source.verify, held) if verifying is None else verifying)

    async def _carry_first(
        self, line: Line, stream: OutgoingStream[transfer.Grant], lane: Lane | None
    ) -> None:
        line.joined()
        await self._carry(line, stream, lane, self._first)
        if self.attempt:
            await self._carry_on(line)

    async def _carry_on(self, line: Line) -> None:
        """Take one part after the other, as long as there are any."""
        while not self._is_at_end and (part := self._division.take(line.room_count)) is not None:
            connection = await line.connect()
            part = part._replace(attempt=self.attempt)
            stream = await self._open(connection, part)
            lane = lane_of(stream, stream.reply.lane)
            self._moving.add(stream)
            line.joined()
            await self._carry(line, stream, lane, part)

    @property
    def _is_at_end(self) -> bool:
        return self._source.is_at_end

    async def _carry(
        self,
        line: Line,
        stream: OutgoingStream[transfer.Grant],
        lane: Lane | None,
        part: PartRequest | None,
    ) -> None:
        """Send one stream to its end, which the destination confirms."""
        grant, options, counters = stream.reply, self._options, self._counters
        try:
            if self._moving.bucket is not None:
                stream.share_rate(self._moving.bucket)
            stream.packet_bytes = grant.packet_bytes if lane else min(stream.packet_bytes, grant.packet_bytes)
            within = None if part is None else part.range
            pieces = counters.counting(
                pieces_for(
                    lane,
                    self._source,
                    self._held.bitmap,
                    stream.packet_bytes,
                    sparse=options.sparse,
                    within=within,
                )
            )
            if lane is not None:
                counters.lane = stream.lane
                await lane.send(stream, pieces)
            else:
                await send_pieces(stream, pieces, SerialRunner(self._runner))
            await stream.finish()
        except BaseException as error:
            stream.fail_with(OperationAborted(str(error) or "interrupted"))
            raise
        self._moving.remove(stream)
        line.carried_bytes += stream.progress.byte_count
        counters.add(stream.progress)


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
