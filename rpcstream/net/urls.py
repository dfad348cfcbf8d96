"""
The URLs that a person types::

    rpcstream+tls://HOST[:PORT]/NAME[?pool=NAME][&pkipath=DIR]
    rpcstream+tcp://HOST[:PORT]/NAME[?pool=NAME]
    rpcstream+unix:///NAME?socket=PATH[&pool=NAME]

What lives here: text to fields and back.  What must not: whether a name is
allowed in a pool (the storage layer, on both ends), or connecting.
"""

from __future__ import annotations

import ipaddress
from typing import Literal, NamedTuple, TypeAlias, cast
from urllib.parse import quote, unquote_to_bytes

from rpcstream.errors import ConfigurationError

__all__ = ["DEFAULT_PORT", "Scheme", "Url", "parse_url"]

DEFAULT_PORT = 16514
"""libvirt's TLS port; also taken for plain TCP, which is not for production."""

SOCKET_PATH_BYTES = 107
"""Longest path of a UNIX socket on Linux (unix(7): 108 with the final NUL)."""

Scheme: TypeAlias = Literal["tls", "tcp", "unix"]

_SCHEMES = ("tls", "tcp", "unix")
_PARAMETERS = {"tls": ("pool", "pkipath"), "tcp": ("pool",), "unix": ("pool", "socket")}
_EXAMPLE = "rpcstream+tls://HOST[:PORT]/NAME"


class Url(NamedTuple):
    """
    A parsed URL; C{str()} gives its text back.

    @ivar scheme: what carries it: C{"tls"}, C{"tcp"} or C{"unix"}.
    @ivar host: name or IP address without brackets; C{""} for a UNIX socket.
    @ivar port: 1 to 65535; 0 for a UNIX socket.
    @ivar name: what the path names, without its first slash, decoded, unchecked; may
        be C{""}.
    @ivar pool: C{""} for the default pool.
    @ivar socket: path of a UNIX socket, else C{None}.
    @ivar pkipath: the pki directory named in the URL, else C{None}.
    """

    scheme: Scheme
    host: str
    port: int
    name: str = ""
    pool: str = ""
    socket: str | None = None
    pkipath: str | None = None

    def __str__(self) -> str:
        authority = ""
        if self.scheme != "unix":
            host = f"[{quote(self.host, safe=':')}]" if ":" in self.host else quote(self.host)
            authority = host if self.port == DEFAULT_PORT else f"{host}:{self.port}"
        parameters = [
            f"{key}={quote(value, safe='/')}"
            for key, value in (("pool", self.pool), ("socket", self.socket), ("pkipath", self.pkipath))
            if value
        ]
        query = "?" + "&".join(parameters) if parameters else ""
        return f"rpcstream+{self.scheme}://{authority}/{quote(self.name, safe='')}{query}"

    @property
    def where(self) -> str:
        """The peer alone, for messages: C{host:port} or the socket's path."""
        if self.scheme == "unix":
            return self.socket or ""
        return f"[{self.host}]:{self.port}" if ":" in self.host else f"{self.host}:{self.port}"


def parse_url(text: str) -> Url:
    """
    @param text: one of the three forms above.  Names are percent-encoded UTF-8.
    @raise ConfigurationError: it is not one; the text says what is wrong with it.
    """

    def wrong(why: str) -> ConfigurationError:
        return ConfigurationError(f"URL {text[:200]!r}: {why}")

    if any(ord(character) < 32 or ord(character) == 127 for character in text):
        raise wrong("it contains a control character; encode it as %XX")
    scheme, separator, rest = text.partition("://")
    kind = scheme.lower().removeprefix("rpcstream+")
    if not separator or not scheme.lower().startswith("rpcstream+") or kind not in _SCHEMES:
        raise wrong(
            f"it must look like {_EXAMPLE} (or rpcstream+tcp://..., rpcstream+unix:///NAME?socket=PATH)"
        )
    if "#" in rest:
        raise wrong("'#' has no meaning here; encode it as %23")
    location, _, query = rest.partition("?")
    authority, _, path = location.partition("/")
    try:
        name = _decode(path)
        parameters = _parse_query(query, _PARAMETERS[kind])
        host, port = ("", 0) if kind == "unix" else _parse_authority(authority)
        if kind == "unix" and authority:
            raise ValueError("a UNIX socket has no host; write rpcstream+unix:///NAME?socket=PATH")
        if kind == "unix":
            _check_socket(parameters.get("socket"))
    except ValueError as error:
        raise wrong(str(error)) from None
    return Url(
        cast(Scheme, kind),
        host,
        port,
        name,
        parameters.get("pool", ""),
        parameters.get("socket"),
        parameters.get("pkipath"),
    )


def _decode(text: str) -> str:
    """
    @raise ValueError: a percent sign without two digits, or bytes that are no UTF-8.
    """
    for part in text.split("%")[1:]:
        if len(part) < 2 or not set(part[:2]) <= set("0123456789abcdefABCDEF"):
            raise ValueError("a '%' is not followed by two hexadecimal digits; encode it as %25")
    try:
        return unquote_to_bytes(text).decode("utf-8")
    except UnicodeDecodeError:
        raise ValueError("its percent-encoded bytes are not UTF-8") from None


def _parse_query(query: str, known: tuple[str, ...]) -> dict[str, str]:
    parameters: dict[str, str] = {}
    for part in query.split("&") if query else []:
        key, separator, value = part.partition("=")
        if key not in known:
            raise ValueError(f"parameter {key!r} is not known; known: {', '.join(known)}")
        if not separator or not value:
            raise ValueError(f"parameter {key!r} has no value")
        if key in parameters:
            raise ValueError(f"parameter {key!r} is given twice")
        parameters[key] = _decode(value)
    return parameters


def _parse_authority(authority: str) -> tuple[str, int]:
    if "@" in authority:
        raise ValueError("a user name or password has no meaning: the certificate says who you are")
    if authority.startswith("["):
        inside, bracket, rest = authority[1:].partition("]")
        if not bracket or (rest and not rest.startswith(":")):
            raise ValueError("write an IPv6 address as [ADDRESS] or [ADDRESS]:PORT")
        host = _decode(inside)
        try:
            ipaddress.IPv6Address(host)
        except ValueError:
            raise ValueError(f"{host!r} is not an IPv6 address") from None
        port_text = rest[1:] if rest else None
    else:
        host_text, separator, port = authority.partition(":")
        host = _decode(host_text)
        port_text = port if separator else None
        _check_host(host, port)
    return host, DEFAULT_PORT if port_text is None else parse_port(port_text)


def _check_host(host: str, port: str) -> None:
    if ":" in port:
        raise ValueError("write an IPv6 address as [ADDRESS] or [ADDRESS]:PORT")
    if not host:
        raise ValueError(f"it names no host; write {_EXAMPLE}")
    if len(host) > 253 or any(not (character.isalnum() or character in "-_.") for character in host):
        raise ValueError(f"{host!r} is not a host name")


def parse_port(text: str, *, lowest: int = 1) -> int:
    """
    @param lowest: 0 where the system may choose a free port.
    @raise ValueError: C{text} is no port number.
    """
    if not (text.isascii() and text.isdecimal() and len(text) <= 5 and lowest <= int(text) <= 65535):
        raise ValueError(f"port {text!r} is not a number from {lowest} to 65535")
    return int(text)


def _check_socket(path: str | None) -> None:
    if not path:
        raise ValueError("it names no socket; add ?socket=PATH")
    check_socket_path(path)


def check_socket_path(path: str) -> None:
    """
    @raise ValueError: C{path} cannot be the path of a UNIX socket.
    """
    if "\0" in path:
        raise ValueError("the socket's path contains a NUL byte")
    if len(path.encode("utf-8", "surrogateescape")) > SOCKET_PATH_BYTES:
        raise ValueError(f"the socket's path is longer than {SOCKET_PATH_BYTES} bytes; use a shorter one")
