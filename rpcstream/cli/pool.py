"""
Looking at a pool of the other side, and tidying it: C{list}, C{stat}, C{remove}, C{partials}.
"""

from __future__ import annotations

from typing import Any

import click

from rpcstream.cli.dialing import dial
from rpcstream.cli.options import URL, Settings, connecting, need_name
from rpcstream.cli.running import Session, run
from rpcstream.cli.tables import NAMES, PARTIALS, SUMMARY
from rpcstream.net.client import ClientConnection
from rpcstream.net.urls import Url
from rpcstream.programs import transfer

__all__ = ["list_names", "partials", "remove", "stat"]


@click.command("list", short_help="List a pool.")
@click.argument("url", type=URL)
@connecting
def list_names(settings: Settings, url: Url) -> int:
    """List the pool of URL, in the order of names; with a name in URL, this one only."""

    async def command(session: Session) -> None:
        async with dial(session, settings, url) as connection:
            if url.name:
                found = [await connection.call(transfer.Stat(url.name, url.pool))]
            else:
                found = await _all_names(connection, url.pool)
        session.output.table(NAMES, found)
        session.output.done(count=len(found))

    return run(command, settings.output)


async def _all_names(connection: ClientConnection, pool: str) -> list[transfer.Entry]:
    entries: list[transfer.Entry] = []
    while True:
        after = entries[-1].name if entries else ""
        listing = await connection.call(transfer.ListNames(pool, after))
        # A server that sends the same names again would never come to an end.
        entries += [entry for entry in listing.entries if not after or _follows(entry.name, after)]
        if not listing.more or not listing.entries or entries[-1].name == after:
            return entries


def _follows(name: str, after: str) -> bool:
    return name.encode("utf-8", "surrogateescape") > after.encode("utf-8", "surrogateescape")


@click.command(short_help="Show one file of a pool.")
@click.argument("url", type=URL)
@connecting
def stat(settings: Settings, url: Url) -> int:
    """Show size, time and stored digest of what URL names."""
    need_name(url)

    async def command(session: Session) -> None:
        async with dial(session, settings, url) as connection:
            entry = await connection.call(transfer.Stat(url.name, url.pool))
        fields = NAMES.row(entry)
        if not settings.as_json:
            session.output.table(SUMMARY, [{"what": key, "value": value} for key, value in fields.items()])
        session.output.done(**fields)

    return run(command, settings.output)


@click.command(short_help="Remove a file from a pool.")
@click.argument("url", type=URL)
@connecting
def remove(settings: Settings, url: Url) -> int:
    """Remove what URL names, for good."""
    need_name(url)

    async def command(session: Session) -> None:
        async with dial(session, settings, url) as connection:
            await connection.call(transfer.Remove(url.name, url.pool))
        session.output.done(name=url.name)

    return run(command, settings.output)


@click.command(short_help="Show or remove unfinished transfers.")
@click.argument("url", type=URL)
@click.option("--remove", "removes", is_flag=True, help="Remove those that nobody is writing.")
@connecting
def partials(settings: Settings, url: Url, removes: bool) -> int:
    """Show the unfinished transfers into the pool of URL; with a name in URL, into this one only."""

    async def command(session: Session) -> None:
        async with dial(session, settings, url) as connection:
            found: Any = await connection.call(transfer.Partials(url.pool))
            if url.name:
                found = [partial for partial in found if partial.name == url.name]
            if not removes:
                session.output.table(PARTIALS, found)
                session.output.done(count=len(found))
                return
            idle = [partial for partial in found if not partial.active]
            for partial in idle:
                await connection.call(transfer.Discard(partial.name, url.pool))
            session.output.table(PARTIALS, idle)
        if len(idle) < len(found):
            session.output.note(f"{len(found) - len(idle)} kept: they are being written")
        session.output.done(count=len(idle))

    return run(command, settings.output)
