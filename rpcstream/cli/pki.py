"""
C{rpcstream pki}: certificates for both ends.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import click

from rpcstream.cli.options import Settings, printing
from rpcstream.cli.tables import Column, Table
from rpcstream.errors import RPCStreamError
from rpcstream.net.authority import add, initialise

__all__ = ["pki"]

FILES = Table("file", (Column("path", "FILE"),))
"""What was written."""


@click.group(short_help="Make certificates.")
def pki() -> None:
    """Make a certificate authority, and certificates of servers and clients."""


def _names(command: Callable[..., Any]) -> Callable[..., Any]:
    command = click.option(
        "--client", "clients", multiple=True, metavar="NAME", help="Name of a client; may be repeated."
    )(command)
    command = click.option(
        "--server",
        "servers",
        multiple=True,
        metavar="NAME",
        help="Host name or address of the server; may be repeated, for one certificate.",
    )(command)
    return click.argument("directory", metavar="DIR", type=click.Path(path_type=Path))(command)


@pki.command("init", short_help="Make a certificate authority with certificates.")
@_names
@printing
def init(settings: Settings, directory: Path, servers: tuple[str, ...], clients: tuple[str, ...]) -> int:
    """
    Make a certificate authority in DIR, a server's certificate and clients' ones.

    The first client gets DIR/clientcert.pem, each further one DIR/clients/NAME/.
    Without --server the certificate is for this host.
    """
    return _made(settings, lambda: initialise(directory, servers, clients))


@pki.command("add", short_help="Make further certificates.")
@_names
@printing
def add_(settings: Settings, directory: Path, servers: tuple[str, ...], clients: tuple[str, ...]) -> int:
    """Make further certificates of the authority in DIR; nothing is ever overwritten."""
    if not servers and not clients:
        raise click.UsageError("name what to add: --server NAME or --client NAME")
    return _made(settings, lambda: add(directory, servers, clients))


def _made(settings: Settings, make: Callable[[], list[Path]]) -> int:
    try:
        files = make()
    except (RPCStreamError, OSError) as error:
        return settings.output.failed(error)
    settings.output.table(FILES, [{"path": str(file)} for file in files])
    settings.output.done(count=len(files))
    return 0
