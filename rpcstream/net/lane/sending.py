"""
Sending over a lane: pieces of a source as packets, read ahead by a thread.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from queue import SimpleQueue
from typing import Any

from rpcstream.core.streams import Stream
from rpcstream.errors import BadState
from rpcstream.net.lane.guarded import GuardedConnection
from rpcstream.net.lane.job import IDLE_SECONDS, Data, FileJob, Packet
from rpcstream.net.pacing import TokenBucket
from rpcstream.net.progress import LOCAL_DISK, PEER_SOCKET, RATE_LIMIT
from rpcstream.storage.file_part import FilePart

__all__ = ["SendJob"]

AHEAD = 6
"""Pieces (of at most 1 MiB) that wait to be sent."""
SMALL_BYTES = 64 * 1024
"""Pieces shorter than this are sent together."""

_NOTHING = memoryview(b"")


class SendJob(FileJob):
    """
    Sends what an iterator yields: bytes, parts of files where the channel takes them,
    and holes, that is anything else with a C{length}.
    """

    def __init__(
        self,
        stream: Stream,
        core: GuardedConnection,
        pieces: Iterator[Any],
        packet_bytes: int,
        bucket: Callable[[], TokenBucket | None],
        reactor: Any,
        wake: Callable[[], None],
    ) -> None:
        """
        @param pieces: used, and closed, by the job's own thread.
        @param packet_bytes: most data of a packet.
        @param bucket: the rate limit as it is now.
        """
        super().__init__(stream, reactor, wake)
        self._core = core
        self._pieces = pieces
        self._packet_bytes = packet_bytes
        self._bucket = bucket
        self._ahead: deque[Any] = deque()
        self._room: SimpleQueue[None] = SimpleQueue()
        for _ in range(AHEAD):
            self._room.put(None)
        self._data: Data = _NOTHING
        self._failure: Exception | None = None
        self._is_done = False
        self._pause_seconds = 0.0

    # --- the thread for files ----------------------------------------------------------

    def _run(self) -> None:
        error: BaseException | None = None
        pieces = self._pieces
        try:
            for piece in pieces:
                self._room.get()
                if self._is_cancelled:
                    break
                self._ahead.append(piece)
                self._wake()
        except BaseException as caught:
            error = caught
        finally:
            try:
                close = getattr(pieces, "close", None)
                if close is not None:
                    close()
            except BaseException as caught:
                error = error or caught
            self._ahead.append(_End(error))
            self._wake()

    def _unblock(self) -> None:
        self._room.put(None)

    # --- the lane ----------------------------------------------------------------------

    def next_packet(self) -> Packet | None:
        if self._is_done:
            return None
        if self._is_cancelled or not self.stream.sendable_bytes:
            self._is_done = True
            self.cancel()
            return None
        if self._failure is not None:
            self._is_done = True
            self._finish(self._failure)
            return None
        bucket = self._bucket()
        self._pause_seconds = 0.0 if bucket is None else bucket.wait_seconds()
        if self._pause_seconds > 0:
            return None
        try:
            return self._packet(bucket)
        except BadState:  # the stream has ended just now
            self._is_done = True
            self.cancel()
            return None

    def _packet(self, bucket: TokenBucket | None) -> Packet | None:
        if not self._data:
            piece = self._take()
            if piece is None:
                return None
            if isinstance(piece, _End):
                self._is_done = True
                self._finish(piece.error)
                return None
            if isinstance(piece, FilePart):
                self._data = piece
            elif isinstance(piece, bytes | bytearray | memoryview):
                self._data = memoryview(piece)
            else:
                with self._core.lock:
                    return self._core.send_hole(self.stream, piece.length), _NOTHING
        limit = self._packet_bytes
        if bucket is not None:
            # Smoothly, and small enough for a limit that is lowered meanwhile.
            limit = max(1, min(limit, int(bucket.bytes_per_second * TokenBucket.BURST_SECONDS)))
        data, self._data = self._data[:limit], self._data[limit:]
        with self._core.lock:
            header = self._core.data_header(self.stream, len(data))
        if bucket is not None:
            bucket.spend(len(header) + len(data))
        return header, data

    def source_failed(self, error: Exception) -> None:
        self._failure = error

    def _take(self) -> Any:
        """The next piece, small ones together; C{None} if it is not read yet."""
        if not self._ahead:
            return None
        piece = self._ahead.popleft()
        self._room.put(None)
        if not _is_small(piece) or not self._ahead or not _is_small(self._ahead[0]):
            return piece
        parts, length = [piece], len(piece)
        while length < SMALL_BYTES and self._ahead and _is_small(self._ahead[0]):
            parts.append(self._ahead.popleft())
            self._room.put(None)
            length += len(parts[-1])
        return b"".join(parts)

    def waits(self, is_unwritten: bool, has_no_room: bool) -> float:
        if self._is_done:
            return IDLE_SECONDS
        if is_unwritten:
            self.waits_for = PEER_SOCKET
        elif self._pause_seconds > 0:
            self.waits_for = RATE_LIMIT
            return min(self._pause_seconds, IDLE_SECONDS / 4)
        elif not self._ahead:
            self.waits_for = LOCAL_DISK
        return IDLE_SECONDS


class _End:
    """Nothing more comes from the source."""

    __slots__ = ("error",)

    def __init__(self, error: BaseException | None) -> None:
        self.error = error


def _is_small(piece: Any) -> bool:
    return isinstance(piece, bytes) and len(piece) < SMALL_BYTES
