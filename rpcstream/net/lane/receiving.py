"""
Receiving over a lane: from the socket into buffers, and by a thread into the file.

The buffers go round: the lane fills one, the thread writes what of it is
stream data and gives it back.  When all are full the lane does not read, and
TCP holds the peer back.
"""

from __future__ import annotations

import time
from collections import deque
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Protocol

from rpcstream.core.streams import Stream
from rpcstream.net.lane.job import IDLE_SECONDS, FileJob
from rpcstream.net.pacing import TokenBucket
from rpcstream.net.progress import LOCAL_DISK, PEER_SOCKET, RATE_LIMIT
from rpcstream.net.spool import Hole, Piece

__all__ = ["ReceiveJob", "Sink"]

BUFFER_BYTES = 1024 * 1024
BUFFER_COUNT = 6
LEAST_ROOM_BYTES = 32 * 1024
"""With less room left a buffer is handed on."""
GATHER_SECONDS = 0.002
"""So long more data is waited for before a buffer that is not full is handed on."""
TOLD_SECONDS = 0.5
"""How often it is told that something was written."""

_Batch = tuple[memoryview | None, list[Any]]


class Sink(Protocol):
    """
    Where a stream is written to; called by one thread, and may block.

    One that never does may say so by an attribute C{is_immediate}: it needs no thread then.
    """

    def write(self, data: memoryview) -> None: ...

    def write_hole(self, length: int) -> None: ...


class ReceiveJob(FileJob):
    """Receives the data of one stream into a L{Sink}."""

    takes_data = True

    def __init__(
        self,
        stream: Stream,
        sink: Sink,
        first: list[Piece],
        reactor: Any,
        wake: Callable[[], None],
        *,
        written: Callable[[], None],
        bucket: TokenBucket | None = None,
    ) -> None:
        """
        @param first: what had come before the lane began.
        @param written: called in the reactor, now and then, after something was written.
        """
        super().__init__(stream, reactor, wake)
        self._sink = sink
        self._written = written
        self._told_at = 0.0
        self._free: deque[memoryview] = deque(
            memoryview(bytearray(BUFFER_BYTES)) for _ in range(BUFFER_COUNT)
        )
        self._work: SimpleQueue[_Batch | None] = SimpleQueue()
        self._buffer: memoryview | None = None
        self._position = 0
        self._pieces: list[Any] = []
        self._data_bytes = 0
        self._bucket = bucket
        self._pause_seconds = 0.0
        if first:
            self._work.put((None, list(first)))

    # --- the thread for files ----------------------------------------------------------

    def _run(self) -> None:
        error: BaseException | None = None
        try:
            while not self._is_cancelled and (batch := self._work.get()) is not None:
                buffer, pieces = batch
                self._write(pieces)
                pieces.clear()
                if buffer is not None:
                    self._free.append(buffer)
                self._wake()
                now = time.monotonic()
                if now - self._told_at >= TOLD_SECONDS:
                    self._told_at = now
                    self._reactor.callFromThread(self._written)
        except BaseException as caught:
            error = caught
            self._is_cancelled = True
        self.takes_data = False
        if error is not None or not self._is_cancelled:
            self._finish(error)
        self._wake()

    def _write(self, pieces: list[Any]) -> None:
        for piece in pieces:
            if self._is_cancelled:
                return
            if isinstance(piece, Hole):
                self._sink.write_hole(piece.length)
            else:
                self._sink.write(piece)

    def _unblock(self) -> None:
        self.takes_data = False
        self._work.put(None)

    # --- the lane ----------------------------------------------------------------------

    def room(self) -> memoryview | None:
        if self._bucket is not None:
            self._pause_seconds = self._bucket.wait_seconds()
            if self._pause_seconds > 0:
                return None
        if self._buffer is not None and BUFFER_BYTES - self._position < LEAST_ROOM_BYTES:
            self._hand_on()
        if self._buffer is None:
            if not self._free:
                return None
            self._buffer, self._position = self._free.popleft(), 0
        room = self._buffer[self._position :]
        if self._bucket is not None:
            room = room[: max(1, int(self._bucket.bytes_per_second * TokenBucket.BURST_SECONDS))]
        return room

    def filled(self, count: int) -> None:
        self._position += count
        if self._bucket is not None:
            self._bucket.spend(count)

    def data(self, data: memoryview) -> None:
        self._pieces.append(data)

    def hole(self, length: int) -> None:
        self._pieces.append(Hole(length))

    def end_of_data(self) -> None:
        self._hand_on()
        self._work.put(None)

    def _hand_on(self) -> None:
        buffer, self._buffer = self._buffer, None
        pieces, self._pieces = self._pieces, []
        if buffer is None and not pieces:
            return
        self._work.put((buffer, pieces))

    def waits(self, is_unwritten: bool, has_no_room: bool) -> float:
        if self._bucket is not None and self._pause_seconds > 0:
            self.waits_for = RATE_LIMIT
            return min(self._pause_seconds, IDLE_SECONDS / 4)
        if has_no_room:
            self.waits_for = LOCAL_DISK
            return IDLE_SECONDS / 4
        self.waits_for = PEER_SOCKET
        return GATHER_SECONDS if self._pieces else IDLE_SECONDS

    def idle(self) -> None:
        if self._pieces:
            self._hand_on()
