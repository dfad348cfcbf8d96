"""
A file with SCRAM keys of users, as C{rpcstream passwd} writes it::

    alice:SCRAM-SHA-256$4096:SALT$STOREDKEY:SERVERKEY

One line a user, in base64 (RFC 5803's form).  There is no password in it; but
whoever reads it can guess at passwords, and pass for the server: mode 0600.
"""

from __future__ import annotations

import base64
import binascii
import hmac
import os
import re
import secrets
import stat
from pathlib import Path
from typing import Final, NamedTuple

import scramp

from rpcstream.errors import ConfigurationError
from rpcstream.storage.aside import AsideFile

__all__ = ["MECHANISM", "KeyFile", "Keys", "set_password"]

MECHANISM: Final = "SCRAM-SHA-256"
ITERATION_COUNT: Final = 4096
"""RFC 7677's least: more would be paid by every client at each connection."""

_FILE_BYTES = 1024 * 1024
_LINE = re.compile(r"([^:\s][^:]*):SCRAM-SHA-256\$([0-9]{4,7}):([^$:]+)\$([^$:]+):([^$:]+)")


class Keys(NamedTuple):
    """What the server knows of one user, in the order that scramp wants it."""

    salt: bytes
    stored_key: bytes
    server_key: bytes
    iteration_count: int


class KeyFile:
    """
    The keys of a file, read again when it has changed.  Blocks on the disk.

    @ivar path: of the file.
    """

    def __init__(self, path: Path) -> None:
        self.path = path
        self._stamp: tuple[int, ...] = ()
        self._keys: dict[str, Keys] = {}
        self._secret = secrets.token_bytes(32)

    def load(self) -> dict[str, Keys]:
        """
        Every user's keys.

        @raise ConfigurationError: the file cannot be used; the text says why.
        """
        try:
            fd = os.open(self.path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK)
            with open(fd, "rb") as file:
                found = os.fstat(fd)
                stamp = (found.st_ino, found.st_mtime_ns, found.st_size)
                if stamp != self._stamp:
                    self._check(found)
                    self._keys = _parse(self.path, file.read(_FILE_BYTES))
                    self._stamp = stamp
        except OSError as error:
            raise ConfigurationError(f"{self.path}: {error.strerror}") from error
        return self._keys

    def _check(self, found: os.stat_result) -> None:
        if not stat.S_ISREG(found.st_mode):
            raise ConfigurationError(f"{self.path}: not a regular file")
        if found.st_uid not in (0, os.geteuid()):
            raise ConfigurationError(f"{self.path}: belongs to another user")
        if found.st_mode & 0o077:
            raise ConfigurationError(
                f"{self.path}: others can read or write it; mend it: chmod 600 {self.path}"
            )

    def keys_of(self, user: str) -> Keys:
        """
        A user's keys; for one that does not exist keys that fit no password, always with
        the same salt, so that nobody learns who exists.
        """
        known = self._keys.get(user)
        if known is not None:
            return known
        salt = hmac.digest(self._secret, user.encode("utf-8", "surrogatepass"), "sha256")
        return Keys(salt, secrets.token_bytes(32), secrets.token_bytes(32), ITERATION_COUNT)


def _parse(path: Path, data: bytes) -> dict[str, Keys]:
    keys: dict[str, Keys] = {}
    try:
        lines = data.decode().splitlines()
    except UnicodeDecodeError as error:
        raise ConfigurationError(f"{path}: not UTF-8 at byte {error.start}") from None
    for number, line in enumerate(lines, 1):
        if not line.strip() or line.startswith("#"):
            continue
        match = _LINE.fullmatch(line.strip())
        try:
            if match is None:
                raise ValueError
            salt, stored, server = (base64.b64decode(text, validate=True) for text in match.groups()[2:])
            if (len(stored), len(server)) != (32, 32):
                raise ValueError
        except (ValueError, binascii.Error):
            raise ConfigurationError(f"{path}: line {number} is not one of rpcstream passwd's") from None
        keys[match[1]] = Keys(salt, stored, server, int(match[2]))
    return keys


def set_password(path: Path, user: str, password: str) -> bool:
    """
    Add a user or change its password; the file is made if need be.  Slow by intention.

    @return: whether the user is new.
    @raise ConfigurationError: the name or the password cannot be used, or the file cannot.
    """
    if not re.fullmatch(r"[^\s:,=#][^\s:,=]{0,254}", user) or not user.isprintable():
        raise ConfigurationError("a user's name has printable characters, without spaces and without : , =")
    if not password:
        raise ConfigurationError("the password is empty")
    try:
        made = scramp.ScramMechanism(MECHANISM).make_auth_info(password, ITERATION_COUNT)
    except scramp.ScramException as error:
        raise ConfigurationError(f"the password cannot be used: {error}") from None
    keys = dict(KeyFile(path).load()) if path.exists() else {}
    is_new = user not in keys
    keys[user] = Keys(*made)
    with AsideFile(path, mode=0o600) as file:
        file.write("".join(_line(name, keys[name]) for name in sorted(keys)).encode())
        file.commit()
    return is_new


def _line(user: str, keys: Keys) -> str:
    salt, stored, server = (base64.b64encode(data).decode() for data in keys[:3])
    return f"{user}:{MECHANISM}${keys.iteration_count}:{salt}${stored}:{server}\n"
