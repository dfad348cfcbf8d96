"""
Lists as tables for a terminal, as lines for a pipe, as objects for a script.

A table names the attributes of the records that it shows, so that any record
that has them will do; nothing is imported for it.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Mapping
from enum import Enum
from typing import Any

import attrs
from rich import box
from rich.table import Table as RichTable
from rich.text import Text

from rpcstream.cli.error_text import printable
from rpcstream.units import format_size

__all__ = ["JOBS", "NAMES", "PARTIALS", "SUMMARY", "Column", "Table"]

_DIGEST_DIGITS = 12


def _as_text(value: Any) -> str:
    return str(value)


def _as_size(value: Any) -> str:
    return format_size(value)


def _as_time(value: Any) -> str:
    # Any 64-bit number of nanoseconds is a time that can be shown: 1677 to 2262.
    return time.strftime("%Y-%m-%d %H:%M", time.localtime(value / 1e9))


def _as_digest(value: Any) -> str:
    return str(value)[:_DIGEST_DIGITS]


def _as_flag(value: Any) -> str:
    return "yes" if value else ""


@attrs.frozen
class Column:
    """
    @ivar key: attribute of the record, and key of the JSON object.
    @ivar title: head of the column.
    @ivar show: the value for a person; not called for L{None}.
    @ivar is_right: aligned to the right.
    """

    key: str
    title: str
    show: Callable[[Any], str] = _as_text
    is_right: bool = False


@attrs.frozen
class Table:
    """
    @ivar event: what a JSON object of a row calls itself.
    @ivar columns: from left to right; the first one is what scripts cut out.
    """

    event: str
    columns: tuple[Column, ...]

    def row(self, record: object) -> dict[str, Any]:
        """
        The values of one record: numbers, strings, booleans and L{None}; bytes as
        hexadecimal digits, enumerations as small letters.

        @param record: has an attribute for each column, or is a mapping with such keys.
        """
        if isinstance(record, Mapping):
            return {column.key: _plain(record[column.key]) for column in self.columns}
        return {column.key: _plain(getattr(record, column.key)) for column in self.columns}

    def line(self, row: Mapping[str, Any]) -> str:
        """A row for a pipe: exact values with tabs between them, unprintable characters escaped."""
        return "\t".join(_exact(row[column.key]) for column in self.columns)

    def rich(self, rows: list[dict[str, Any]]) -> RichTable:
        """The rows for a terminal."""
        table = RichTable(box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
        for column in self.columns:
            table.add_column(
                column.title,
                justify="right" if column.is_right else "left",
                # Only free text may take several lines, and none of it is lost.
                no_wrap=column.show is not _as_text or column.is_right,
                overflow="fold",
            )
        for row in rows:
            table.add_row(*(self._cell(column, row[column.key]) for column in self.columns))
        return table

    def _cell(self, column: Column, value: Any) -> Text:
        # Text, not a string: a name may look like rich's markup.
        return Text("-" if value is None else printable(column.show(value)))


NAMES = Table(
    "entry",
    (
        Column("name", "NAME"),
        Column("kind", "KIND"),
        Column("size", "SIZE", _as_size, True),
        Column("allocated", "ON DISK", _as_size, True),
        Column("mtime_ns", "MODIFIED", _as_time),
        Column("digest", "DIGEST", _as_digest),
        Column("incomplete", "INCOMPLETE", _as_flag),
    ),
)
"""Entries of a pool: C{list} and C{stat}."""

PARTIALS = Table(
    "partial",
    (
        Column("name", "NAME"),
        Column("size", "SIZE", _as_size, True),
        Column("held_bytes", "HELD", _as_size, True),
        Column("modified_ns", "MODIFIED", _as_time),
        Column("active", "ACTIVE", _as_flag),
        Column("transfer_id", "TRANSFER"),
        Column("owner", "OWNER"),
    ),
)
"""Unfinished transfers of a pool."""

JOBS = Table(
    "job",
    (
        Column("job_id", "ID", is_right=True),
        Column("state", "STATE"),
        Column("source", "SOURCE"),
        Column("name", "NAME"),
        Column("byte_count", "DONE", _as_size, True),
        Column("size", "SIZE", _as_size, True),
        Column("attempts", "ATTEMPTS", is_right=True),
        Column("changed_ns", "CHANGED", _as_time),
        Column("digest", "DIGEST", _as_digest),
        Column("message", "MESSAGE"),
    ),
)
"""Jobs of a source service."""

SUMMARY = Table("summary", (Column("what", "WHAT"), Column("value", "VALUE", is_right=True)))
"""Two columns of text: what C{demo} has measured."""


def _plain(value: Any) -> Any:
    if isinstance(value, Enum):
        return value.name.lower()
    return value.hex() if isinstance(value, (bytes, bytearray)) else value


def _exact(value: Any) -> str:
    if value is None:
        return "-"
    return str(value).lower() if isinstance(value, bool) else printable(str(value))
