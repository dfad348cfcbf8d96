"""
C{rpcstream peek}: a part of a file, to standard output.
"""

from __future__ import annotations

import io
import os
import sys

import click

from rpcstream.cli.dialing import dial
from rpcstream.cli.options import SIZE, URL, Settings, connecting, need_name
from rpcstream.cli.output import JsonOutput
from rpcstream.cli.running import Session, run
from rpcstream.cli.transfer_id import random_id
from rpcstream.errors import ConnectionClosed, OperationAborted
from rpcstream.net.threads import SerialRunner
from rpcstream.net.urls import Url
from rpcstream.programs import transfer

__all__ = ["peek"]


@click.command(short_help="Print a part of a file.")
@click.argument("url", type=URL)
@click.option("--offset", type=SIZE, default=0, metavar="N", help="Where to begin; 0 if left out.")
@click.option("--length", type=SIZE, metavar="N", help="How much; to the end if left out.")
@connecting
def peek(settings: Settings, url: Url, offset: int, length: int | None) -> int:
    """
    Print bytes of what URL names to standard output.

    A range that reaches past the end is cut there.  With --json the objects go to
    standard error.
    """
    need_name(url)
    output = settings.output
    if settings.as_json:
        # Standard output is for the bytes.
        output = JsonOutput(sys.stderr, io.StringIO())
    elif sys.stdout.isatty():
        raise click.UsageError("bytes of a file could do anything to this terminal; write: | xxd, or > FILE")

    async def command(session: Session) -> None:
        count = await _copy(session, settings, url, offset, length)
        output.done(name=url.name, offset=offset, bytes=count)

    return run(command, output)


async def _copy(session: Session, settings: Settings, url: Url, offset: int, length: int | None) -> int:
    writing = SerialRunner(session.runner)
    count = 0
    async with dial(session, settings, url) as connection:
        request = transfer.Outgoing(
            name=url.name,
            pool=url.pool,
            offset=offset,
            length=length,
            sparse=True,
            transfer_id=random_id(),
        )
        stream = await connection.open(request)
        try:
            async for data in stream:
                await writing.run(_write_all, sys.stdout.fileno(), data)
                count += len(data)
            await stream.when_closed()
        except BaseException as error:
            stream.fail_with(OperationAborted(str(error) or "interrupted"))
            raise
    expected = max(stream.reply.size - offset, 0)
    expected = expected if length is None else min(length, expected)
    if count != expected:
        raise ConnectionClosed(f"{count} bytes came of {expected}")
    return count


def _write_all(descriptor: int, data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]
