"""
C{rpcstream passwd}: users of a destination that asks libvirt's clients for a password.
"""

from __future__ import annotations

import sys
from pathlib import Path

import click

from rpcstream.cli.options import Settings, printing
from rpcstream.cli.tables import Column, Table
from rpcstream.errors import RPCStreamError
from rpcstream.libvirt.server_keys import set_password

__all__ = ["passwd"]

USERS = Table("user", (Column("user", "USER"), Column("change", "")))
"""Who can log in now."""


@click.command(short_help="Set the password of a user.")
@click.argument("file", metavar="FILE", type=click.Path(path_type=Path))
@click.argument("user", metavar="USER")
@printing
def passwd(settings: Settings, file: Path, user: str) -> int:
    """
    Set the password of USER in FILE, for a destination with [sasl] in its configuration.

    The password is asked for, or is the first line of standard input.  FILE holds
    no passwords but keys made from them; it is made if need be.
    """
    if _is_terminal():
        password = click.prompt("Password", hide_input=True, confirmation_prompt=True, err=True)
    else:
        password = sys.stdin.readline().rstrip("\n")
    try:
        is_new = set_password(file, user, password)
    except (RPCStreamError, OSError) as error:
        return settings.output.failed(error)
    settings.output.table(USERS, [{"user": user, "change": "added" if is_new else "changed"}])
    settings.output.done(count=1)
    return 0


def _is_terminal() -> bool:
    """Whether there is somebody to ask."""
    return sys.stdin.isatty()
