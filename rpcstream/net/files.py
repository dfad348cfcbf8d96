"""
C{save_to}: a stream into a file, safely.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from rpcstream.net.progress import Progress
from rpcstream.net.spool import Hole, Piece
from rpcstream.storage.aside import AsideFile

if TYPE_CHECKING:
    from rpcstream.net.incoming import IncomingStream

__all__ = ["save_to"]

BATCH_BYTES = 1024 * 1024


async def save_to(stream: IncomingStream[Any], path: Path, replace: bool) -> Progress:
    """
    Write the stream to C{path}, which appears complete or not at all.

    @raise StorageError: C{path} exists and C{replace} is false.
    """
    run = stream.runner.run
    try:
        file = await run(AsideFile, path, replace=replace)
        try:
            while batch := await stream.next_batch(BATCH_BYTES):
                await run(_write_all, file, batch)
            await run(file.commit)
        finally:
            await run(file.remove)
    except BaseException as error:
        stream.abort(str(error))
        raise
    return stream.progress


def _write_all(file: AsideFile, batch: list[Piece]) -> None:
    for piece in batch:
        if isinstance(piece, Hole):
            file.write_hole(piece.length)
        else:
            file.write(piece)
