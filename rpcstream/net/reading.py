"""
Reading a source ahead of the stream: one batch is read while the last is sent.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, Self

from rpcstream.net.outgoing import OutgoingStream
from rpcstream.net.threads import SerialRunner
from rpcstream.storage.sources import Hole

__all__ = ["send_pieces"]

BATCH_BYTES = 2 * 1024 * 1024


class _Ahead:
    """Batches of an iterator, taken in a thread, one ahead."""

    def __init__(self, pieces: Iterator[bytes | Hole], runner: SerialRunner) -> None:
        self._pieces = pieces
        self._runner = runner
        self._next = runner.run(self._batch)

    def _batch(self) -> list[bytes | Hole]:
        batch: list[bytes | Hole] = []
        taken = 0
        for piece in self._pieces:
            batch.append(piece)
            taken += 0 if isinstance(piece, Hole) else len(piece)
            if taken >= BATCH_BYTES:
                break
        return batch

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> list[bytes | Hole]:
        batch = await self._next
        if not batch:
            raise StopAsyncIteration
        self._next = self._runner.run(self._batch)
        return batch

    def stop(self) -> None:
        """Forget the batch that is being read."""
        self._next.addErrback(lambda _: None)


async def send_pieces(
    stream: OutgoingStream[Any], pieces: Iterator[bytes | Hole], runner: SerialRunner
) -> None:
    """
    Send every piece, data and holes in order; does not finish the stream.

    A hole goes as a hole where the stream takes them.  The reading never runs
    further ahead than one batch of C{BATCH_BYTES}.

    @raise StorageError: reading failed; the stream is left open, abort it.
    """
    batches = _Ahead(pieces, runner)
    try:
        async for batch in batches:
            for piece in batch:
                await (stream.send_hole(piece.length) if isinstance(piece, Hole) else stream.send(piece))
    finally:
        batches.stop()
