"""
C{send} and C{receive} with a volume of a libvirt host.

libvirt has no digest, no resume and no staging: a volume is written in place,
and "confirmed" means that the daemon has taken all bytes.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click
from twisted.internet.task import deferLater

from rpcstream.cli.dialing import with_retries
from rpcstream.cli.following import Following
from rpcstream.cli.libvirt_uris import VolumePlace, dial_libvirt
from rpcstream.cli.options import Settings
from rpcstream.cli.running import Session, run
from rpcstream.errors import NameExists, RemoteError, RPCStreamError, SizeMismatch
from rpcstream.libvirt.pool import Pool
from rpcstream.libvirt.striping import stripes_of, upload_striped
from rpcstream.libvirt.volume import Volume
from rpcstream.net.progress import Progress
from rpcstream.programs.remote import NoVolume, OperationInvalid, VolumeType
from rpcstream.storage.pipes import PipeSource
from rpcstream.storage.sources import open_path
from rpcstream.units import format_rate, format_seconds, format_size

__all__ = ["receive_volume", "send_volume"]

_AGAIN = "run the command again: libvirt cannot go on where it stopped"
_IN_USE_SECONDS = 5.0
_IN_USE_STEP_SECONDS = 0.1
"""A volume is in use while it is opened for an upload: by others, or for a range that is being ended."""
_NO_SPARSE_CODES = (3, 8, 74, 84)
"""Unsupported in one of its forms: the daemon or the pool knows no holes."""


def send_volume(settings: Settings, source: str, place: VolumePlace, **options: Any) -> int:
    """
    C{rpcstream send SOURCE URI#POOL/VOLUME}.

    @return: the exit status.
    """
    sending = _Sending(settings, source, place, **options)
    return run(sending.run, settings.output, remedy=lambda: sending.remedy)


def receive_volume(settings: Settings, place: VolumePlace, target: Path, **options: Any) -> int:
    """
    C{rpcstream receive URI#POOL/VOLUME TARGET}.

    @return: the exit status.
    """
    receiving = _Receiving(settings, place, target, **options)
    return run(receiving.run, settings.output, remedy=lambda: _AGAIN)


def _report(session: Session, place: VolumePlace, progress: Progress, note: str) -> None:
    size = progress.byte_count + progress.hole_bytes
    rate = size / progress.seconds if progress.seconds > 0 else 0.0
    name = f"{place.pool}/{place.volume}"
    session.output.done(
        f"{name}: {format_size(size)} in {format_seconds(progress.seconds)}, {format_rate(rate)}; {note}",
        name=name,
        bytes=size,
        seconds=round(progress.seconds, 6),
        sent_bytes=progress.byte_count,
        hole_bytes=progress.hole_bytes,
        packets=progress.packet_count,
        verified=False,
    )


class _Sending:
    """
    One C{send}.

    @ivar remedy: what to do after an interruption.
    """

    def __init__(
        self,
        settings: Settings,
        source: str,
        place: VolumePlace,
        *,
        size: int | None,
        bwlimit: int | None,
        replace: bool,
        no_resume: bool,
        retry: int,
        connections: int,
        mode: int | None,
    ) -> None:
        self._settings = settings
        self._connection_count = connections
        self._path = None if source == "-" else Path(source)
        self._place = place
        self._size = size
        self._bytes_per_second = bwlimit
        self._replace = replace
        self._retry_count = retry
        self.remedy = _AGAIN
        if mode is not None:
            raise click.UsageError("--mode cannot be set on a libvirt host: its pool decides")
        if self._path is None and size is None:
            raise click.UsageError("a volume has a size from the beginning: give --size with standard input")
        if self._path is not None and size is not None:
            raise click.UsageError("--size is for standard input; a file has its size")
        if self._path is None and retry:
            raise click.UsageError("--retry cannot be used with standard input, which can be read only once")

    async def run(self, session: Session) -> None:
        """Send, try again from the beginning, report."""
        progress = await with_retries(session, self._retry_count, lambda: self._attempt(session))
        _report(session, self._place, progress, "confirmed by the daemon, not compared")

    async def _attempt(self, session: Session) -> Progress:
        async with dial_libvirt(session, self._settings, self._place.uri) as host:
            pool = await host.pool(self._place.pool)
            size = self._size if self._path is None else await session.runner.run(_size_of, self._path)
            volume, is_new = await self._volume(session, pool, size or 0)
            try:
                return await self._upload(session, volume, size or 0)
            except BaseException:
                if is_new:
                    await self._clean_up(session, volume)
                else:
                    self.remedy = f"the volume is incomplete now; {_AGAIN}"
                raise

    async def _volume(self, session: Session, pool: Pool, size: int) -> tuple[Volume, bool]:
        """
        The volume to write into, and whether it was made here.

        @raise NameExists: it was there, and replacing was not asked for.
        @raise SizeMismatch: it is a device that is too small.
        """
        name = self._place.volume
        try:
            volume = await pool.volume(name)
        except NoVolume:
            return await self._create(pool, size), True
        if not self._replace:
            raise NameExists(f"volume {name!r} of pool {pool.name!r} exists", name)
        info = await volume.info()
        if info.type == VolumeType.BLOCK:
            if info.capacity_bytes < size:
                raise SizeMismatch(
                    f"volume {name!r} has {info.capacity_bytes} bytes, {size} are needed", name
                )
            return volume, False
        # Writing over it would leave its old end behind a shorter content.
        await _delete(session, volume)
        return await self._create(pool, size), True

    async def _create(self, pool: Pool, size: int) -> Volume:
        volume = await pool.create_volume(
            self._place.volume, capacity_bytes=size, allocation_bytes=0, format="raw"
        )
        # What a failed attempt leaves of it is ours, too.
        self._replace = True
        return volume

    async def _upload(self, session: Session, volume: Volume, size: int) -> Progress:
        path = self._path
        with Following(session, volume.name) as following:
            if path is not None and self._connection_count > 1:
                stripes = await session.runner.run(stripes_of, path, self._connection_count)
                if len(stripes) > 1:
                    return await upload_striped(
                        volume,
                        path,
                        stripes,
                        self._bytes_per_second,
                        lambda moving: following.opened(moving, 0),
                    )

            def begun(stream: Any) -> None:
                stream.total_bytes = size
                following.opened(stream, 0)

            def upload(sparse: bool) -> Any:
                return volume.upload(
                    path or PipeSource(os.dup(sys.stdin.fileno()), size),
                    length=size,
                    sparse=sparse,
                    bytes_per_second=self._bytes_per_second,
                    opened=begun,
                )

            return await _sparse_if_possible(upload, following, path is not None)

    async def _clean_up(self, session: Session, volume: Volume) -> None:
        """Half of a volume that was not there before is of no use to anybody."""
        try:
            await _delete(session, volume)
        except RPCStreamError as error:
            session.output.note(f"volume {volume.name!r} is incomplete and could not be deleted: {error}")


async def _delete(session: Session, volume: Volume) -> None:
    """
    @raise OperationInvalid: it is in use, and still was after a while.
    """
    clock = session.reactor
    until = clock.seconds() + _IN_USE_SECONDS
    while True:
        try:
            return await volume.delete()
        except OperationInvalid:
            if clock.seconds() >= until:
                raise
        await deferLater(clock, _IN_USE_STEP_SECONDS)


def _size_of(path: Path) -> int:
    with open_path(path) as source:
        return source.size_bytes or 0


async def _sparse_if_possible(transfer: Any, following: Following, wanted: bool) -> Progress:
    """
    With holes; without them where the pool knows none.

    @param transfer: called with whether to try; gives a Deferred.
    """
    if wanted:
        try:
            progress: Progress = await transfer(True)
            return progress
        except RemoteError as error:
            if error.code not in _NO_SPARSE_CODES or following.has_begun:
                raise
    dense: Progress = await transfer(False)
    return dense


class _Receiving:
    """One C{receive}."""

    def __init__(
        self,
        settings: Settings,
        place: VolumePlace,
        target: Path,
        *,
        bwlimit: int | None,
        replace: bool,
        no_resume: bool,
        retry: int,
        connections: int,
        mode: int | None,
    ) -> None:
        if connections > 1:
            raise click.UsageError("--connections: what a libvirt host sends comes over one connection")
        self._settings = settings
        self._place = place
        self._target = target / place.volume if target.is_dir() else target
        self._bytes_per_second = bwlimit
        self._replace = replace
        self._retry_count = retry
        # The mask can only be read by setting it; nothing else runs yet that makes files.
        mask = os.umask(0o077)
        os.umask(mask)
        self._mode = 0o666 & ~mask if mode is None else mode
        if str(target) == "-":
            raise click.UsageError("a volume goes into a file; name it")
        if "/" in place.volume and target.is_dir():
            raise click.UsageError(f"{place.volume!r} is no name for a file; name the target")
        if self._target.exists() and not self._target.is_file():
            raise click.UsageError(f"{self._target} is not a regular file")

    async def run(self, session: Session) -> None:
        """Receive, try again from the beginning, report."""
        progress = await with_retries(session, self._retry_count, lambda: self._attempt(session))
        _report(session, self._place, progress, "as the daemon gave it, not compared")

    async def _attempt(self, session: Session) -> Progress:
        if self._target.exists() and not self._replace:
            raise NameExists(f"{self._target} exists already", self._target.name)
        async with dial_libvirt(session, self._settings, self._place.uri) as host:
            pool = await host.pool(self._place.pool)
            volume = await pool.volume(self._place.volume)
            with Following(session, volume.name) as following:

                def download(sparse: bool) -> Any:
                    return volume.download(
                        self._target,
                        sparse=sparse,
                        replace=self._replace,
                        mode=self._mode,
                        bytes_per_second=self._bytes_per_second,
                        opened=lambda stream: following.opened(stream, 0),
                    )

                return await _sparse_if_possible(download, following, True)
