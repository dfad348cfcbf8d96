"""
C{rpcstream receive}: a name of the other side into a local file.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path
from typing import Any

import click

from rpcstream.cli.dialing import dial_several, with_retries
from rpcstream.cli.following import Following
from rpcstream.cli.libvirt_transfer import receive_volume
from rpcstream.cli.libvirt_uris import PLACE, VolumePlace
from rpcstream.cli.options import Settings, need_name, transferring
from rpcstream.cli.results import report_transfer
from rpcstream.cli.running import AGAIN, AGAIN_WITH_RESUME, Session, run
from rpcstream.cli.transfer_id import random_id, receive_id
from rpcstream.errors import ConfigurationError
from rpcstream.net.urls import Url
from rpcstream.programs import transfer
from rpcstream.services.receiving import ReceiveOptions
from rpcstream.services.receiving import receive as receive_name
from rpcstream.services.sending import Sent
from rpcstream.storage.pool import Pool

__all__ = ["receive"]


@click.command(short_help="Fetch a file.")
@click.argument("url", type=PLACE)
@click.argument("target", type=click.Path(path_type=Path))
@transferring
def receive(settings: Settings, url: Url | VolumePlace, target: Path, **options: Any) -> int:
    """
    Fetch what URL names into TARGET, a path or a directory.

    TARGET appears when its content is complete, verified and on disk, not before:
    until then it is in .rpcstream/ beside it.  After an interruption the same
    command goes on where it stopped.
    """
    if isinstance(url, VolumePlace):
        return receive_volume(settings, url, target, **options)
    name = need_name(url)
    if str(target) == "-":
        # What is on its way to another program can be neither verified first nor resumed.
        raise click.UsageError("TARGET is a file; for standard output there is rpcstream peek URL")
    target = Path(os.path.abspath(target / name if target.is_dir() else target))
    receiving = _Receiving(settings, url, target, **options)
    return run(receiving.run, settings.output, remedy=receiving.remedy)


class _Receiving:
    """One C{receive}: its target, its options, and as many attempts as allowed."""

    def __init__(
        self,
        settings: Settings,
        url: Url,
        target: Path,
        *,
        bwlimit: int | None,
        replace: bool,
        no_resume: bool,
        retry: int,
        connections: int,
        mode: int | None,
    ) -> None:
        self._settings = settings
        self._url = url
        self._target = target
        self._bytes_per_second = bwlimit
        self._replace = replace
        self._no_resume = no_resume
        self._resume = not no_resume
        self._retry_count = retry
        self._connection_count = connections
        self._mode = mode
        self._random_id = random_id()

    def remedy(self) -> str:
        """After an interruption."""
        return AGAIN_WITH_RESUME if self._no_resume else AGAIN

    async def run(self, session: Session) -> None:
        """Receive, try again, report."""
        pool = await session.runner.run(self._open_pool)
        try:
            sent = await with_retries(session, self._retry_count, lambda: self._attempt(session, pool))
        finally:
            await session.runner.run(pool.close)
        report_transfer(session.output, self._url.name, sent)

    async def _attempt(self, session: Session, pool: Pool) -> Sent:
        url = self._url
        count = self._connection_count
        async with dial_several(session, self._settings, url, count) as connections:
            transfer_id = self._random_id
            if not self._no_resume:
                # It is another transfer when the server has other content by now.
                entry = await connections.current.call(transfer.Stat(url.name, url.pool))
                transfer_id = receive_id(url, self._target, entry)
            with Following(session, url.name) as following:
                try:
                    return await receive_name(
                        connections, pool, self._options(transfer_id), session.runner, opened=following.opened
                    )
                finally:
                    self._resume = self._resume or following.has_begun

    def _open_pool(self) -> Pool:
        directory, name = self._target.parent, self._target.name
        if not directory.is_dir():
            raise ConfigurationError(f"{directory}: no such directory; make it first")
        try:
            is_device = stat.S_ISBLK(self._target.stat().st_mode)
        except FileNotFoundError:
            is_device = False
        # The mask can only be read by setting it; nothing else runs yet that makes files.
        mask = os.umask(0o077)
        os.umask(mask)
        pool = Pool(directory, devices={name: self._target} if is_device else {}, mode=0o666 & ~mask)
        # No service looks after this directory.
        pool.expire()
        return pool

    def _options(self, transfer_id: bytes) -> ReceiveOptions:
        return ReceiveOptions(
            name=self._url.name,
            target=self._target.name,
            transfer_id=transfer_id,
            pool=self._url.pool,
            replace=self._replace,
            mode=self._mode,
            resume=self._resume,
            bytes_per_second=self._bytes_per_second,
        )
