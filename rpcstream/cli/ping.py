"""
C{rpcstream ping}: is it there, does it let me in, and how far is it.
"""

from __future__ import annotations

import click

from rpcstream.cli.dialing import dial
from rpcstream.cli.options import URL, Settings, connecting
from rpcstream.cli.running import Session, run
from rpcstream.net.protection import protection_of
from rpcstream.net.urls import Url
from rpcstream.programs import flow
from rpcstream.units import format_seconds

__all__ = ["ping"]

ROUND_COUNT = 5


@click.command(short_help="See whether a server answers.")
@click.argument("url", type=URL)
@connecting
def ping(settings: Settings, url: Url) -> int:
    """Connect to the server of URL, and measure the round trip of a call."""

    async def command(session: Session) -> None:
        clock = session.reactor.seconds
        started = clock()
        async with dial(session, settings, url) as connection:
            connect_seconds = clock() - started
            protection = protection_of(connection.link.transport)
            rounds = []
            for _ in range(ROUND_COUNT):
                asked = clock()
                # Takes back what was never asked for: it needs no permission and changes nothing.
                await connection.call(flow.Unsubscribe(flow.FLOW.number, flow.FLOW.version, 0))
                rounds.append(clock() - asked)
            software = connection.server_software
        best = min(rounds)
        secured = f"{protection.version} {protection.cipher}" if protection else "without TLS"
        session.output.done(
            f"{url.where}: {software}, {secured}, connected in {format_seconds(connect_seconds)}, "
            f"round trip {format_seconds(best)}",
            seconds=round(best, 6),
            connect_seconds=round(connect_seconds, 6),
            software=software,
            tls=protection.version if protection else None,
            cipher=protection.cipher if protection else None,
        )

    return run(command, settings.output)
