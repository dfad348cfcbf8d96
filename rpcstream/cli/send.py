"""
C{rpcstream send}: a file, block device or pipe into a pool of the other side.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import Any

import click

from rpcstream.cli.dialing import dial_several, with_retries
from rpcstream.cli.following import Following
from rpcstream.cli.libvirt_transfer import send_volume
from rpcstream.cli.libvirt_uris import PLACE, VolumePlace
from rpcstream.cli.options import SIZE, Settings, need_name, transferring
from rpcstream.cli.results import report_transfer
from rpcstream.cli.running import AGAIN, AGAIN_WITH_RESUME, Session, run
from rpcstream.cli.transfer_id import random_id, send_id
from rpcstream.net.urls import Url
from rpcstream.services.sending import SendOptions, Sent
from rpcstream.services.sending import send as send_source
from rpcstream.storage.pipes import PipeSource
from rpcstream.storage.sources import Source, open_path

__all__ = ["send"]

_PIPE_AGAIN = "a pipe cannot be read again: start it anew"


@click.command(short_help="Send a file, block device or pipe.")
@click.argument("source")
@click.argument("url", type=PLACE)
@click.option("--size", type=SIZE, metavar="SIZE", help="How much comes out of the pipe, if known.")
@transferring
def send(settings: Settings, source: str, url: Url | VolumePlace, **options: Any) -> int:
    """
    Send SOURCE, a file, a block device or - for standard input, to URL.

    Exit status 0 means that the content is on disk there, equal on both ends, and
    visible under its name.  After an interruption the same command goes on where
    it stopped.
    """
    if isinstance(url, VolumePlace):
        return send_volume(settings, source, url, **options)
    need_name(url)
    sending = _Sending(settings, source, url, **options)
    return run(sending.run, settings.output, remedy=sending.remedy)


class _Sending:
    """One C{send}: its source, its options, and as many attempts as allowed."""

    def __init__(
        self,
        settings: Settings,
        source: str,
        url: Url,
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
        self._url = url
        self._path = None if source == "-" else Path(source)
        self._size = size
        self._bytes_per_second = bwlimit
        self._replace = replace
        self._no_resume = no_resume
        self._resume = not no_resume
        self._retry_count = retry
        self._connection_count = connections
        self._mode = mode
        self._transfer_id = b""
        if self._path is not None and size is not None:
            raise click.UsageError("--size is for standard input; a file has its size")
        if self._path is None and sys.stdin is None:
            raise click.UsageError("standard input is closed: there is nothing to send")
        if self._path is None and retry:
            raise click.UsageError("--retry cannot be used with standard input, which can be read only once")

    def remedy(self) -> str:
        """After an interruption."""
        if self._path is None:
            return _PIPE_AGAIN
        return AGAIN_WITH_RESUME if self._no_resume else AGAIN

    async def run(self, session: Session) -> None:
        """Send, try again, report."""
        path = self._path
        if path is None:
            self._transfer_id = random_id()
        else:
            # With --no-resume nothing of an earlier run is taken for this one.
            self._transfer_id = (
                await session.runner.run(send_id, self._url, path) if self._resume else random_id()
            )
        sent = await with_retries(session, self._retry_count, lambda: self._attempt(session))
        report_transfer(session.output, self._url.name, sent)

    async def _attempt(self, session: Session) -> Sent:
        count = self._connection_count
        async with dial_several(session, self._settings, self._url, count) as connections:
            source = await session.runner.run(self._open)
            try:
                with Following(session, self._url.name) as following:
                    try:
                        return await send_source(
                            connections, source, self._options(), session.runner, opened=following.opened
                        )
                    finally:
                        # What this run has sent is not sent by its next attempt again.
                        self._resume = self._resume or following.has_begun
            finally:
                if self._path is not None:
                    await session.runner.run(source.close)

    def _open(self) -> Source:
        if self._path is None:
            return PipeSource(os.dup(sys.stdin.fileno()), self._size)
        return open_path(self._path)

    def _options(self) -> SendOptions:
        return SendOptions(
            name=self._url.name,
            transfer_id=self._transfer_id,
            pool=self._url.pool,
            replace=self._replace,
            mode=self._mode,
            resume=self._resume,
            bytes_per_second=self._bytes_per_second,
        )
