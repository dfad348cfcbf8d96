"""
C{rpcstream xdr}: what a C{.x} file declares.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click

from rpcstream.cli.options import Settings, printing
from rpcstream.cli.tables import Column, Table
from rpcstream.programs.program import Kind
from rpcstream.programs.xdrfile import Interface, describe, load
from rpcstream.programs.xdrfile.describe import fields_text

__all__ = ["PROCEDURES", "xdr"]

_COLUMNS = (
    Column("number", "NUMBER", is_right=True),
    Column("name", "NAME"),
    Column("kind", "KIND"),
    Column("arguments", "ARGUMENTS"),
    Column("result", "RESULT"),
)
PROCEDURES = Table("procedure", _COLUMNS)
"""Procedures of the one program of a file."""
_WITH_PROGRAM = Table(
    "procedure",
    (*_COLUMNS, Column("program", "PROGRAM"), Column("version", "VERSION"), Column("c_name", "IN THE FILE")),
)
"""Where a name alone may not tell which it is, and for scripts."""


@click.command(short_help="Print what a .x file declares.")
@click.argument("file", metavar="FILE.x", type=click.Path(path_type=Path))
@click.option(
    "--include",
    "include",
    multiple=True,
    metavar="FILE",
    type=click.Path(path_type=Path),
    help="A further file that declares types used in FILE.x; may be repeated.",
)
@click.option("--describe", "describes", is_flag=True, help="Print all layouts, as text that stays the same.")
@printing
def xdr(settings: Settings, file: Path, include: tuple[Path, ...], describes: bool) -> int:
    """
    Print the procedures that FILE.x declares (rpcgen's language, RFC 4506).

    Directions of streams are the caller's. What FILE.x includes with
    %#include "NAME.h" is looked for as NAME.x beside it.
    """
    interface = load(file, include)
    if describes:
        text = describe(interface.programs, () if interface.programs else interface.types.values())
        if settings.as_json:
            settings.output.done(layouts=text)
        else:
            # Nothing but names of the file's grammar and numbers.
            click.echo(text, nl=False)
        return 0
    records = list(_records(interface))
    for program in interface.programs:
        settings.output.note(f"program {program.name} {program.number:#x} version {program.version}")
    if not interface.programs:
        settings.output.note(f"{file.name} declares no procedures; see its types with --describe")
    has_many = settings.as_json or len(interface.programs) > 1
    settings.output.table(_WITH_PROGRAM if has_many else PROCEDURES, records)
    settings.output.done(count=len(records))
    return 0


def _records(interface: Interface) -> Iterator[dict[str, Any]]:
    for procedure in interface.procedures:
        info = procedure.request.__procedure__
        yield {
            "number": info.number,
            "name": info.name,
            "kind": info.kind,
            "arguments": fields_text(info.arguments.construct),
            "result": None if info.kind is Kind.EVENT else fields_text(info.result.construct),
            "program": info.program.name,
            "version": info.program.version,
            "c_name": procedure.c_name,
        }
