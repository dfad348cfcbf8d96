"""
C{rpcstream screenshot}: what a screen of a domain shows.
"""

from __future__ import annotations

from pathlib import Path

import click

from rpcstream.cli.libvirt_uris import HOST_URI, dial_libvirt
from rpcstream.cli.options import Settings, connecting
from rpcstream.cli.running import Session, run
from rpcstream.units import format_size

__all__ = ["screenshot"]


@click.command(short_help="Save what a screen of a domain shows.")
@click.argument("uri", type=HOST_URI)
@click.argument("domain")
@click.argument("file", type=click.Path(path_type=Path, dir_okay=False))
@click.option("--screen", type=click.IntRange(0), default=0, metavar="N", help="Which screen; 0 if left out.")
@click.option("--replace", is_flag=True, help="Replace FILE if it exists.")
@connecting
def screenshot(settings: Settings, uri: str, domain: str, file: Path, screen: int, replace: bool) -> int:
    """
    Save what a screen of DOMAIN shows, in the format that the driver has (PNG, PPM).

    FILE appears when it is complete.
    """

    async def command(session: Session) -> None:
        async with dial_libvirt(session, settings, uri) as host:
            found = await host.domain(domain)
            mime = await found.save_screenshot(file, screen, replace=replace)
        size = await session.runner.run(lambda: file.stat().st_size)
        session.output.done(
            f"{file}: {mime or 'unknown format'}, {format_size(size)}", name=str(file), mime=mime, bytes=size
        )

    return run(command, settings.output)
