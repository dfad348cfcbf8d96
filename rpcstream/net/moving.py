"""
Several streams that move one content, seen as one: progress, rate, and their end.
"""

from __future__ import annotations

from collections.abc import Coroutine, Iterable
from typing import Any

from twisted.internet.defer import Deferred, DeferredList, FirstError

from rpcstream.net.pacing import TokenBucket
from rpcstream.net.progress import Progress
from rpcstream.net.streams import StreamBase

__all__ = ["Moving", "all_of"]


class Moving:
    """
    The streams of one attempt.

    @ivar total_bytes: of the content, C{None} if not known.
    @ivar bucket: the rate limit of all together, C{None} for none.
    @ivar is_closed: whether nothing moves any more.
    """

    def __init__(self, clock: Any, total_bytes: int | None, bytes_per_second: float | None) -> None:
        self.total_bytes = total_bytes
        self.bucket = None if bytes_per_second is None else TokenBucket(bytes_per_second, clock.seconds)
        self.is_closed = False
        self._clock = clock
        self._began_at = clock.seconds()
        self._streams: list[StreamBase[Any]] = []
        self._byte_count = self._hole_bytes = self._packet_count = 0
        self._lane = "shared"

    def add(self, stream: StreamBase[Any]) -> None:
        """One more stream."""
        self._streams.append(stream)

    def remove(self, stream: StreamBase[Any]) -> None:
        """A stream has ended; what it moved still counts."""
        self._streams.remove(stream)
        self._count(stream.progress)

    def _count(self, moved: Progress) -> None:
        self._byte_count += moved.byte_count
        self._hole_bytes += moved.hole_bytes
        self._packet_count += moved.packet_count
        self._lane = moved.lane if moved.lane != "shared" else self._lane

    @property
    def progress(self) -> Progress:
        """How far all have come together; they wait for something if each does."""
        each = [stream.progress for stream in self._streams]
        stalled = None
        if each and all(one.stalled_by for one in each):
            stalled = each[0].stalled_by
        lanes = {one.lane for one in each} - {"shared"}
        return Progress(
            self._byte_count + sum(one.byte_count for one in each),
            self._hole_bytes + sum(one.hole_bytes for one in each),
            self._packet_count + sum(one.packet_count for one in each),
            self._clock.seconds() - self._began_at,
            self.total_bytes,
            stalled,
            lanes.pop() if lanes else self._lane,
        )


async def all_of(works: Iterable[Coroutine[Deferred[Any], Any, None]]) -> None:
    """
    Do everything at the same time; returns when all is done.

    @raise Exception: what the first failed with; the others are cancelled, and
        have ended.
    """
    running = [Deferred.fromCoroutine(work) for work in works]
    if len(running) == 1:
        await running[0]
        return
    try:
        await DeferredList(running, fireOnOneErrback=True, consumeErrors=True)
    except FirstError as first:
        first.subFailure.raiseException()
    finally:
        for each in running:
            each.cancel()
        await DeferredList(running, consumeErrors=True)
