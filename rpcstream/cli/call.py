"""
C{rpcstream call}: any procedure, by its name, with JSON for its arguments.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from rpcstream.cli.dialing import dial
from rpcstream.cli.libvirt_uris import ANY_URL, dial_libvirt
from rpcstream.cli.options import Settings, connecting
from rpcstream.cli.running import Session, run
from rpcstream.errors import BadValue
from rpcstream.net.urls import Url
from rpcstream.programs.flow import FLOW
from rpcstream.programs.jobs import JOBS
from rpcstream.programs.program import Kind, Request
from rpcstream.programs.remote import REMOTE
from rpcstream.programs.transfer import TRANSFER
from rpcstream.programs.xdrfile import (
    Interface,
    interface_of,
    load,
    read_json,
    request_from_json,
    result_to_json,
)

__all__ = ["call"]

_ELSEWHERE = "; any other of libvirt's is called with --interface FILE.x"


@click.command(short_help="Call any procedure.")
@click.argument("url", type=ANY_URL)
@click.argument("procedure")
@click.argument("arguments", metavar="[JSON]", required=False)
@click.option(
    "--interface",
    "interface_path",
    type=click.Path(path_type=Path),
    metavar="FILE.x",
    help="Declares PROCEDURE, if rpcstream does not (see rpcstream xdr).",
)
@click.option(
    "--include",
    "include",
    multiple=True,
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="A further file that declares types used in FILE.x; may be repeated.",
)
@click.option("--timeout", type=click.FloatRange(0, min_open=True), metavar="SECONDS", help="60 if left out.")
@connecting
def call(
    settings: Settings,
    url: Url | str,
    procedure: str,
    arguments: str | None,
    interface_path: Path | None,
    include: tuple[Path, ...],
    timeout: float | None,
) -> int:
    """
    Call PROCEDURE (its name, as DomainGetInfo or DOMAIN_GET_INFO, or its number) of the
    libvirt daemon or rpcstream server at URL, and print the result as JSON.

    JSON is an object with the arguments, for example
    '{"name": "vm"}'; bytes are written in hexadecimal digits.
    """
    interface = _declared(url) if interface_path is None else load(interface_path, include)
    elsewhere = "" if interface_path is not None or isinstance(url, Url) else _ELSEWHERE
    request = _request(interface, procedure, arguments, elsewhere)

    async def command(session: Session) -> None:
        seconds = session.limits.call_seconds if timeout is None else timeout
        opening: Any
        if isinstance(url, Url):
            opening = dial(session, settings, url)
        else:
            opening = dial_libvirt(session, settings, url)
        async with opening as connection:
            value = await connection.call(request, timeout_seconds=seconds)
        result = result_to_json(request.__procedure__, value)
        session.output.done(json.dumps(result), procedure=request.__procedure__.name, result=result)

    return run(command, settings.output)


def _declared(url: Url | str) -> Interface:
    """What rpcstream itself knows of the other side."""
    if isinstance(url, Url):
        return interface_of("rpcstream", TRANSFER, JOBS, FLOW)
    return interface_of("libvirt, as rpcstream declares it,", REMOTE)


def _request(interface: Interface, procedure: str, arguments: str | None, elsewhere: str) -> Request:
    """
    @param elsewhere: where else a procedure may be declared.
    @raise click.UsageError: no such procedure, or arguments that do not fit.
    """
    try:
        kind = interface.find(procedure)
    except BadValue as error:
        raise click.UsageError(error.reason + elsewhere) from None
    if kind.__procedure__.kind is not Kind.CALL:
        what = "is an event" if kind.__procedure__.kind is Kind.EVENT else "opens a stream"
        raise click.UsageError(f"{kind.__name__} {what}: only plain calls can be made here")
    try:
        return request_from_json(kind, None if arguments is None else read_json(arguments))
    except BadValue as error:
        raise click.UsageError(f"arguments of {kind.__name__}: {error}") from None
