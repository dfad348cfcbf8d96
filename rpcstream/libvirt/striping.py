"""
A file into a volume over several connections, each with a range of its own.

Data only: a hole at the end of a range was seen to cut off what another one had
written behind it.  So a file with holes goes over one connection.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from twisted.internet.defer import DeferredLock

from rpcstream.errors import SourceChanged
from rpcstream.limits import MIB
from rpcstream.net.moving import Moving, all_of
from rpcstream.net.progress import Progress
from rpcstream.storage.sources import open_path

if TYPE_CHECKING:
    from rpcstream.libvirt.volume import Volume

__all__ = ["stripes_of", "upload_striped"]

ALIGNED_BYTES: Final = 1 * MIB
LEAST_BYTES: Final = 16 * MIB
"""Less is not worth a connection."""


def stripes_of(path: Path, count: int) -> list[tuple[int, int]]:
    """
    Offset and length of each range; runs in a thread.

    @param count: how many at most.
    @return: one, if the file has holes or is small.
    @raise OSError: it cannot be opened.
    """
    with open_path(path) as source:
        size = source.size_bytes or 0
    fd = os.open(path, os.O_RDONLY)
    try:
        # A device does not tell: all of it is data.
        has_holes = stat.S_ISREG(os.fstat(fd).st_mode) and size > 0 and os.lseek(fd, 0, os.SEEK_HOLE) < size
    finally:
        os.close(fd)
    count = 1 if has_holes else max(1, min(count, size // LEAST_BYTES))
    step = -(-size // count // ALIGNED_BYTES) * ALIGNED_BYTES if count > 1 else size
    offsets = range(0, size, step) if count > 1 else (0,)
    return [(offset, min(step, size - offset)) for offset in offsets]


async def upload_striped(
    volume: Volume,
    path: Path,
    stripes: list[tuple[int, int]],
    bytes_per_second: float | None,
    opened: Callable[[Moving], object],
) -> Progress:
    """
    Write every range over a connection of its own, all at the same time; they are opened in turn.

    @param stripes: see L{stripes_of}.
    @param bytes_per_second: rate limit of all together.
    @param opened: called with what tells the progress.
    @return: when the daemon has confirmed each.
    @raise SourceChanged: the file was written to meanwhile.
    @raise RemoteError: the daemon refuses, or its disk fails; the others are aborted.
    """
    size = sum(length for _, length in stripes)
    moving = Moving(volume.host.clock, size, bytes_per_second)
    # While a daemon opens a volume for one, it refuses the others: "still in use".
    opening = DeferredLock()

    async def one(offset: int, length: int) -> None:
        await opening.acquire()
        is_opening = True

        def begun(stream: Any) -> None:
            nonlocal is_opening
            is_opening = False
            opening.release()
            stream.share_rate(moving.bucket)
            moving.add(stream)

        try:
            source = await volume.host.runner.run(open_path, path, offset=offset, length=length)
            if source.whole_bytes != size:
                await volume.host.runner.run(source.close)
                raise SourceChanged(f"{path.name!r} was changed while it was read", path.name)
            await volume.upload(source, offset=offset, length=length, opened=begun)
        finally:
            if is_opening:
                opening.release()

    opened(moving)
    try:
        await all_of(one(offset, length) for offset, length in stripes)
    finally:
        moving.is_closed = True
    return moving.progress
