"""
C{save_to}: a stream into a file, safely.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import CancelledError

from rpcstream.net.progress import Progress
from rpcstream.net.spool import Hole, Piece
from rpcstream.net.threads import SerialRunner
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
    # In order, whatever is cancelled: nothing is removed under the thread that writes it.
    run = SerialRunner(stream.runner).run
    target = _Target(path, replace)
    try:
        try:
            await run(target.open)
            while batch := await stream.next_batch(BATCH_BYTES):
                await run(target.write, batch)
            await run(target.commit)
        finally:
            await run(target.close)
    except Exception as error:
        if target.is_committed and isinstance(error, CancelledError):
            return stream.progress  # it came too late
        stream.abort(str(error))
        raise
    return stream.progress


class _Target:
    """The file aside; its methods run in a thread."""

    _file: AsideFile

    def __init__(self, path: Path, replace: bool) -> None:
        self._path = path
        self._replace = replace
        self._is_open = False
        self.is_committed = False

    def open(self) -> None:
        self._file = AsideFile(self._path, replace=self._replace)
        self._is_open = True

    def write(self, batch: list[Piece]) -> None:
        for piece in batch:
            if isinstance(piece, Hole):
                self._file.write_hole(piece.length)
            else:
                self._file.write(piece)

    def commit(self) -> None:
        self._file.commit()
        self.is_committed = True

    def close(self) -> None:
        if self._is_open:
            self._file.remove()
