"""
An incoming stream as an async iterator that keeps holes apart from data; or all of it at once.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from twisted.internet.defer import Deferred

from rpcstream.errors import BufferFull
from rpcstream.net.spool import Piece

if TYPE_CHECKING:
    from rpcstream.net.incoming import IncomingStream

__all__ = ["Pieces", "read_all"]


class Pieces:
    """Bytes and holes of an L{IncomingStream<rpcstream.net.incoming.IncomingStream>}."""

    def __init__(self, stream: IncomingStream[Any]) -> None:
        self._stream = stream

    def __aiter__(self) -> Self:
        return self

    def __anext__(self) -> Deferred[Piece]:
        def or_stop(piece: Piece | None) -> Piece:
            if piece is None:
                raise StopAsyncIteration
            return piece

        return self._stream.next_piece().addCallback(or_stop)


async def read_all(stream: IncomingStream[Any], limit_bytes: int) -> bytes:
    """
    @raise BufferFull: it is longer, and is aborted.
    """
    parts: list[bytes] = []
    length = 0
    async for data in stream:
        length += len(data)
        if length > limit_bytes:
            stream.abort(f"longer than {limit_bytes} bytes")
            raise BufferFull(limit_bytes)
        parts.append(data)
    return b"".join(parts)
