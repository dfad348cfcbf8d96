"""
Receiving over a lane into a sink that never blocks: in the lane's own thread.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from rpcstream.core.streams import Stream
from rpcstream.net.lane.job import IDLE_SECONDS, Job
from rpcstream.net.lane.receiving import BUFFER_BYTES, Sink
from rpcstream.net.progress import PEER_SOCKET
from rpcstream.net.spool import Hole, Piece

__all__ = ["ImmediateJob"]


class ImmediateJob(Job):
    """Hands data on as it comes, out of one buffer that is used again."""

    takes_data = True

    def __init__(
        self, stream: Stream, sink: Sink, first: list[Piece], reactor: Any, wake: Callable[[], None]
    ) -> None:
        """
        @param first: what had come before the lane began.
        """
        super().__init__(stream, reactor, wake)
        self._sink = sink
        self._first = first
        self._buffer = memoryview(bytearray(BUFFER_BYTES))

    def start(self) -> None:
        for piece in self._first:
            if isinstance(piece, Hole):
                self.hole(piece.length)
            else:
                self.data(memoryview(piece))
        self._first = []

    def _unblock(self) -> None:
        self.takes_data = False

    def room(self) -> memoryview | None:
        return self._buffer

    def data(self, data: memoryview) -> None:
        self._hand_on(self._sink.write, data)

    def hole(self, length: int) -> None:
        self._hand_on(self._sink.write_hole, length)

    def _hand_on(self, write: Callable[[Any], None], piece: Any) -> None:
        if self._is_cancelled:
            return
        try:
            write(piece)
        except Exception as error:
            self.cancel()
            self._finish(error)

    def end_of_data(self) -> None:
        if not self._is_cancelled:
            self.takes_data = False
            self._finish(None)

    def waits(self, is_unwritten: bool, has_no_room: bool) -> float:
        self.waits_for = PEER_SOCKET
        return IDLE_SECONDS
