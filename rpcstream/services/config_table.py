"""
Reading a TOML file strictly: who owns it, which keys it has, of which type.

What the keys mean is L{rpcstream.services.config}'s.
"""

from __future__ import annotations

import os
import stat
import tomllib
from collections.abc import Collection, Mapping
from pathlib import Path
from typing import Any, NoReturn

from rpcstream.errors import ConfigurationError

__all__ = ["ConfigTable", "read_toml"]

_FILE_BYTES = 1024 * 1024
_REQUIRED = object()
_TYPE_NAMES = {
    str: "a string",
    bool: "true or false",
    int: "a whole number",
    float: "a number with a fraction",
    dict: "a table",
    list: "a list",
}


class ConfigTable:
    """
    A table of the file, from which each key is taken once.

    @param path: the file, for errors.
    @param label: the table as its header is written, C{""} for the whole file.
    @param values: its content.
    @param known: the keys it may have.
    @raise ConfigurationError: it has another one.
    """

    def __init__(self, path: Path, label: str, values: Mapping[str, Any], known: Collection[str]) -> None:
        self._path = path
        self._label = label
        self._values = values
        for key in values:
            if key not in known:
                self.refuse(key, f"unknown key; known are {', '.join(known)}")

    def refuse(self, key: str, reason: str) -> NoReturn:
        """
        Report what is wrong with a key.

        @raise ConfigurationError: always, naming file, table and key.
        """
        where = f"{self._label}: " if self._label else ""
        raise ConfigurationError(f"{self._path}: {where}{_shown(key)}: {reason}")

    def __contains__(self, key: str) -> bool:
        return key in self._values

    def value(self, key: str, *types: type, default: Any = _REQUIRED) -> Any:
        """
        The value of a key.

        @param types: what it may be; a boolean is no number here.
        @param default: for a missing key; without it the key is required.
        @raise ConfigurationError: missing, or of another type.
        """
        if key not in self._values:
            if default is _REQUIRED:
                self.refuse(key, "is required")
            return default
        value = self._values[key]
        if not isinstance(value, types) or (isinstance(value, bool) and bool not in types):
            self.refuse(key, f"must be {' or '.join(_TYPE_NAMES[each] for each in types)}")
        return value

    def strings(self, key: str, default: Any = _REQUIRED) -> list[str]:
        """
        A list of strings that is not empty: an empty one would match nothing, and
        whoever wrote it may have meant everything.
        """
        values: list[Any] = self.value(key, list, default=default)
        if not values or not all(isinstance(value, str) and value for value in values):
            self.refuse(key, "must be a list of strings, with at least one and none empty")
        return values

    def subtables(self, key: str) -> dict[str, dict[str, Any]]:
        """The tables C{[key.NAME]}, by name; none if there is no such key."""
        tables: dict[str, Any] = self.value(key, dict, default={})
        for name, table in tables.items():
            if not isinstance(table, dict):
                self.refuse(key, f"write [{key}.NAME] tables; {_shown(name)} is none")
        return tables

    def table_list(self, key: str) -> list[dict[str, Any]]:
        """The tables C{[[key]]}, in order; none if there is no such key."""
        tables: list[Any] = self.value(key, list, default=[])
        if not all(isinstance(table, dict) for table in tables):
            self.refuse(key, f"must be written as [[{key}]] tables")
        return tables


def read_toml(path: Path) -> dict[str, Any]:
    """
    Read a configuration file that nobody but root and this user can have written.

    @raise ConfigurationError: it cannot be read, others may write to it, or it
        is not TOML.
    """
    try:
        content = _read(path)
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}") from error
    try:
        return tomllib.loads(content.decode())
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path}: not UTF-8 at byte {error.start}") from error
    except tomllib.TOMLDecodeError as error:
        raise ConfigurationError(f"{path}: not TOML: {error}") from error
    except RecursionError:
        raise ConfigurationError(f"{path}: nested too deeply") from None


def _read(path: Path) -> bytes:
    # Checked on the open file, so that it cannot be exchanged in between; and
    # without waiting, should it be a pipe.
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
    with open(descriptor, "rb") as file:
        status = os.fstat(descriptor)
        if not stat.S_ISREG(status.st_mode):
            raise ConfigurationError(f"{path}: not a regular file")
        if status.st_uid not in (0, os.geteuid()):
            raise ConfigurationError(
                f"{path}: belongs to another user, who could change it: chown it to root or to this user"
            )
        if status.st_mode & 0o022:
            raise ConfigurationError(f"{path}: others may write to it: chmod go-w {path}")
        if status.st_size > _FILE_BYTES:
            raise ConfigurationError(f"{path}: larger than 1 MiB")
        return file.read(_FILE_BYTES)


def _shown(key: str) -> str:
    return key if key.isprintable() and len(key) <= 80 else ascii(key[:80])
