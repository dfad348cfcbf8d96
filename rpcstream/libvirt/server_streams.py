"""
The libvirt server's streams: volume upload, in place, and download.

Finish-OK of an upload means written and fsynced; until then the volume is marked
incomplete (L{rpcstream.storage.inplace}), and stays so when the upload is cut short.
"""

from __future__ import annotations

import errno
from collections.abc import Callable, Iterator
from functools import partial
from itertools import groupby
from typing import Final, Generic, TypeVar, cast

from rpcstream.errors import StorageError
from rpcstream.libvirt.server_errors import STREAMS, as_libvirt_error, refuse_flags, system_error
from rpcstream.libvirt.server_pools import PoolTable
from rpcstream.libvirt.server_volumes import volume_path
from rpcstream.net.calls import Call, DownloadCall, UploadCall
from rpcstream.net.reading import send_pieces
from rpcstream.net.spool import Hole, Piece
from rpcstream.net.threads import Runner, SerialRunner
from rpcstream.programs import remote
from rpcstream.programs.remote import SPARSE, VolumeHandle
from rpcstream.storage.inplace import InPlace
from rpcstream.storage.pool import Pool
from rpcstream.storage.sources import FileSource

__all__ = ["StreamResponders"]

T = TypeVar("T")

BATCH_BYTES = 4 * 1024 * 1024

_LARGEST_OFFSET: Final = (1 << 63) - 1


class StreamResponders:
    """Content in and out, any number of streams at once, one writer for each volume."""

    def __init__(self, table: PoolTable, runner: Runner) -> None:
        self._table = table
        self._runner = runner

    def _found(self, call: Call, volume: VolumeHandle, offset: int) -> tuple[Pool, str]:
        pool = self._table.named(call, volume.pool)
        self._table.check(call, pool, volume.name)
        if offset > _LARGEST_OFFSET:
            what = f"Unable to seek {volume_path(pool, volume.name)} to {offset}"
            raise system_error(what, OSError(errno.EINVAL, ""), STREAMS)
        return pool, volume.name

    @remote.StorageVolUpload.responder
    async def upload(self, call: UploadCall[None], request: remote.StorageVolUpload) -> None:
        """Write what comes; confirmed when it is durable."""
        refuse_flags(request.flags, SPARSE, "storageVolUpload")
        pool, name = self._found(call, request.volume, request.offset)
        run = SerialRunner(self._runner).run
        what = f"Unable to open file '{volume_path(pool, name)}'"
        length = request.length or None
        opened = _Opened(lambda: pool.volumes.open_in_place(name, request.offset, length), InPlace.abandon)
        try:
            try:
                writer = await run(opened.open)
                stream = call.accept(None, sparse=bool(request.flags & SPARSE))
                what = "cannot write to stream"
                while batch := await stream.next_batch(BATCH_BYTES):
                    await run(_write, writer, batch)
                await run(writer.finish)
            finally:
                # After whatever a thread still does; of no effect when it is finished.
                run(opened.close).addErrback(partial(call.log.failure, "an upload was not ended in order"))
        except (StorageError, OSError) as error:
            raise as_libvirt_error(error, name, what, STREAMS) from error
        call.log.info(
            "{principal} wrote {count} bytes from {offset} on into {name} in {pool}",
            principal=call.principal.name,
            count=writer.position - request.offset,
            offset=request.offset,
            name=name,
            pool=pool.name,
        )

    @remote.StorageVolDownload.responder
    async def download(self, call: DownloadCall[None], request: remote.StorageVolDownload) -> None:
        """Send what is there: data and, where they are asked for, holes."""
        refuse_flags(request.flags, SPARSE, "storageVolDownload")
        pool, name = self._found(call, request.volume, request.offset)
        sparse = bool(request.flags & SPARSE)
        run = SerialRunner(self._runner)
        what = f"Unable to open file '{volume_path(pool, name)}'"
        opened = _Opened(lambda: _open_window(pool, name, request.offset, request.length), FileSource.close)
        try:
            try:
                source = await run.run(opened.open)
                stream = call.accept(None, total_bytes=source.size_bytes, sparse=sparse)
                what = "cannot read from stream"
                pieces = source.pieces(packet_bytes=stream.packet_bytes, sparse=sparse)
                await send_pieces(stream, pieces, run)
                await run.run(source.check_unchanged)
            finally:
                run.run(opened.close)
        except (StorageError, OSError) as error:
            raise as_libvirt_error(error, name, what, STREAMS) from error


class _Opened(Generic[T]):
    """
    What a thread opens and a later one closes, also when nobody waited for the first.

    @param open: opens it; C{close} closes what that has returned.
    """

    def __init__(self, open: Callable[[], T], close: Callable[[T], None]) -> None:
        self._open = open
        self._close = close
        self._opened: list[T] = []

    def open(self) -> T:
        """Runs in a thread."""
        self._opened.append(self._open())
        return self._opened[0]

    def close(self) -> None:
        """Runs in a thread, after L{open}."""
        for opened in self._opened:
            self._close(opened)


def _write(writer: InPlace, batch: list[Piece]) -> None:
    # TLS gives 16 KiB at a time: joined, that is far fewer calls of the system.
    for is_hole, pieces in groupby(batch, lambda piece: isinstance(piece, Hole)):
        if is_hole:
            writer.write_hole(sum(cast(Hole, piece).length for piece in pieces))
        else:
            writer.write(b"".join(cast("Iterator[bytes]", pieces)))


def _open_window(pool: Pool, name: str, offset: int, length: int) -> FileSource:
    """As libvirt takes it: a window past the end is an empty one, length 0 means to the end."""
    with pool.open_source(name) as whole:
        size = whole.size_bytes
    start = min(offset, size or 0)
    rest = (size or 0) - start
    return pool.open_source(name, offset=start, length=min(length, rest) if length else rest)
