"""
Volumes to and from files.

libvirt gives no length and no checksum, and what ended early looks like what
ended (wire-protocol.md section 13): so whatever can be counted here is counted.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rpcstream.errors import OperationAborted, SizeMismatch
from rpcstream.net.incoming import IncomingStream
from rpcstream.net.opening import Opening
from rpcstream.net.outgoing import OutgoingStream
from rpcstream.net.pacing import Pace, TokenBucket
from rpcstream.net.progress import Progress
from rpcstream.net.reading import send_pieces
from rpcstream.net.spool import Hole, Piece
from rpcstream.net.threads import Runner, SerialRunner
from rpcstream.storage.aside import AsideFile
from rpcstream.storage.sources import FileSource, Source, open_path

if TYPE_CHECKING:
    from rpcstream.net.sources import Sendable

__all__ = ["download", "upload"]

BATCH_BYTES = 1024 * 1024


async def upload(
    runner: Runner,
    opening: Callable[[], Opening[OutgoingStream[Any]]],
    source: Sendable | Source,
    length: int,
    sparse: bool,
    bytes_per_second: float | None,
    opened: Callable[[OutgoingStream[Any]], object],
) -> Progress:
    """See L{Volume.upload<rpcstream.libvirt.volume.Volume.upload>}."""
    file = source if isinstance(source, Source) else None
    if isinstance(source, Path):
        file = await runner.run(_open, source, length)
    try:
        stream = await opening()
    except BaseException:
        if file is not None:
            await runner.run(file.close)
        raise
    try:
        if bytes_per_second is not None:
            stream.limit_rate(bytes_per_second)
        if file is not None:
            stream.total_bytes = file.size_bytes
        opened(stream)
        if file is not None:
            await _send_file(stream, file, sparse, SerialRunner(runner))
        elif not isinstance(source, Source):
            await stream.send_from(source)
        return await stream.finish()
    except BaseException as error:
        stream.fail_with(OperationAborted(str(error) or "interrupted"))
        raise
    finally:
        if file is not None:
            await runner.run(file.close)


def _open(path: Path, length: int) -> FileSource:
    source = open_path(path)
    if not 0 < length < source.size_bytes:
        return source
    source.close()
    return open_path(path, length=length)


async def _send_file(stream: OutgoingStream[Any], file: Source, sparse: bool, runner: SerialRunner) -> None:
    await send_pieces(stream, file.pieces(packet_bytes=stream.packet_bytes, sparse=sparse), runner)
    await runner.run(file.check_unchanged)


async def download(
    clock: Any,
    opening: Opening[IncomingStream[Any]],
    target: Path,
    length: int,
    replace: bool,
    mode: int | None,
    bytes_per_second: float | None,
    opened: Callable[[IncomingStream[Any]], object],
) -> Progress:
    """See L{Volume.download<rpcstream.libvirt.volume.Volume.download>}."""
    stream = await opening
    run = stream.runner.run
    pace = None
    if bytes_per_second is not None:
        pace = Pace(TokenBucket(bytes_per_second, clock.seconds), clock, stream.hold_back)
    batch_bytes = BATCH_BYTES if pace is None else min(BATCH_BYTES, pace.batch_bytes)
    stream.total_bytes = length or None
    opened(stream)
    try:
        file = await run(AsideFile, target, replace=replace, mode=0o600 if mode is None else mode)
        try:
            while batch := await stream.next_batch(batch_bytes):
                await run(_write_all, file, batch, length)
                if pace is not None:
                    await pace.spend(sum(len(piece) for piece in batch if not isinstance(piece, Hole)))
            if length and file.size_bytes != length:
                raise SizeMismatch(f"{file.size_bytes} bytes came, {length} were asked for", target.name)
            await stream.when_closed()
            await run(file.commit)
        finally:
            await run(file.remove)
    except BaseException as error:
        stream.fail_with(OperationAborted(str(error) or "interrupted"))
        raise
    return stream.progress


def _write_all(file: AsideFile, batch: list[Piece], length: int) -> None:
    for piece in batch:
        size = piece.length if isinstance(piece, Hole) else len(piece)
        if length and file.size_bytes + size > length:
            raise SizeMismatch(f"more than the {length} bytes that were asked for came", file.path.name)
        if isinstance(piece, Hole):
            file.write_hole(piece.length)
        else:
            file.write(piece)
