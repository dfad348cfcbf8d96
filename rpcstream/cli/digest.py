"""
C{rpcstream digest}: the content digest of a local file, without a network.
"""

from __future__ import annotations

from pathlib import Path

import click

from rpcstream.cli.options import Settings, printing
from rpcstream.cli.running import Session, run
from rpcstream.errors import OperationAborted
from rpcstream.storage.reading import digest_file

__all__ = ["digest"]


@click.command(short_help="Print the content digest of a local file.")
@click.argument("file", type=click.Path(path_type=Path))
@printing
def digest(settings: Settings, file: Path) -> int:
    """
    Print the content digest of FILE, a file or block device, as send, receive
    and stat show it.
    """

    async def command(session: Session) -> None:
        started = session.reactor.seconds()
        done = [0]
        is_over = [False]

        def progress(byte_count: int) -> None:
            if is_over[0]:
                raise OperationAborted("interrupted")
            done[0] = byte_count

        try:
            found = await session.runner.run(digest_file, file, progress)
        finally:
            is_over[0] = True
        seconds = session.reactor.seconds() - started
        session.output.done(found.hex(), digest=found.hex(), bytes=done[0], seconds=round(seconds, 6))

    return run(command, settings.output)
