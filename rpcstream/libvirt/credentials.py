"""
User and password for SASL: given by the program, or in libvirt's own file.

The file is libvirt's C{auth.conf}::

    [credentials-mine]
    authname=fred
    password=123456

    [auth-libvirt-HOST]
    credentials=mine

Without a section for the host C{[auth-libvirt-default]} counts.  It is looked for
in the URI's C{authfile}, then where C{LIBVIRT_AUTH_FILE} says, then in
C{~/.config/libvirt/auth.conf}, then in C{/etc/libvirt/auth.conf}.
"""

from __future__ import annotations

import configparser
import os
from collections.abc import Mapping
from typing import NamedTuple

from rpcstream.errors import ConfigurationError
from rpcstream.libvirt.uri import LibvirtURI

__all__ = ["Credentials", "find_credentials"]


class Credentials(NamedTuple):
    """
    @ivar username: as the server knows it.
    """

    username: str
    password: str

    def __repr__(self) -> str:
        return f"Credentials({self.username!r}, ...)"


def find_credentials(
    uri: LibvirtURI,
    username: str | None = None,
    password: str | None = None,
    *,
    environ: Mapping[str, str] = os.environ,
) -> Credentials | None:
    """
    @param username: given by the program; then the URI's, then the file's.
    @param password: given by the program, else the file's.
    @return: C{None} when there is no password anywhere.
    @raise ConfigurationError: the file cannot be used, or there is a password without a user.
    """
    username = username or uri.username or None
    if password is None:
        found = _from_file(uri, environ)
        if found is None or (username is not None and found.username != username):
            return None
        return found
    if not username:
        raise ConfigurationError("a password without a user name; give username=, or USER@HOST in the URI")
    return Credentials(username, password)


def _from_file(uri: LibvirtURI, environ: Mapping[str, str]) -> Credentials | None:
    path = _find_file(uri, environ)
    if path is None:
        return None
    parser = configparser.ConfigParser(interpolation=None, strict=False)
    try:
        with open(path, encoding="utf-8") as file:
            parser.read_file(file)
    except (OSError, UnicodeDecodeError, configparser.Error) as error:
        raise ConfigurationError(f"{path}: cannot be used: {str(error).splitlines()[0]}") from None
    host = uri.host or "localhost"
    for section in (f"auth-libvirt-{host}", "auth-libvirt-default"):
        if parser.has_section(section):
            break
    else:
        return None
    name = f"credentials-{parser.get(section, 'credentials', fallback='')}"
    username = parser.get(name, "authname", fallback=parser.get(name, "username", fallback=""))
    password = parser.get(name, "password", fallback="")
    if not username or not password:
        raise ConfigurationError(f"{path}: [{section}] names no credentials with authname= and password=")
    return Credentials(username, password)


def _find_file(uri: LibvirtURI, environ: Mapping[str, str]) -> str | None:
    named = uri.authfile or environ.get("LIBVIRT_AUTH_FILE")
    if named:
        return named
    config = environ.get("XDG_CONFIG_HOME") or os.path.join(environ.get("HOME", "/"), ".config")
    for path in (os.path.join(config, "libvirt", "auth.conf"), "/etc/libvirt/auth.conf"):
        if os.access(path, os.R_OK):
            return path
    return None
