"""
libvirt's URIs, as virsh takes them::

    qemu+tls://HOST[:PORT]/system?pkipath=DIR
    qemu+tcp://HOST[:PORT]/system
    qemu+unix:///system?socket=PATH
    qemu:///system                  the daemon of this machine
    qemu://HOST/system              TLS
    storage+tls://HOST/system#POOL/VOLUME

Some query parameters are for the client, and eaten; the rest goes, with the
driver's name and the path, into CONNECT_OPEN (wire-protocol.md section 5.1).

What lives here: text to fields.  What must not: connecting.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Mapping
from typing import Literal, NamedTuple, TypeAlias, cast
from urllib.parse import unquote_to_bytes

from rpcstream.errors import ConfigurationError
from rpcstream.net.urls import Url, parse_url

__all__ = ["TCP_PORT", "TLS_PORT", "LibvirtURI", "VolumeName", "looks_like_uri", "parse_uri", "split_volume"]

TCP_PORT = 16509
TLS_PORT = 16514

Transport: TypeAlias = Literal["tls", "tcp", "unix"]

_EXAMPLE = "qemu+tls://HOST/system?pkipath=DIR"
_SSH = frozenset({"ssh", "libssh", "libssh2", "ext"})
_EATEN = frozenset(
    {
        "name", "command", "socket", "auth", "sshauth", "netcat", "keyfile", "pkipath", "known_hosts",
        "known_hosts_verify", "tls_priority", "mode", "proxy", "no_sanity", "no_verify", "no_tty", "authfile",
    }
)  # fmt: skip
_REFUSED = {
    "no_verify": "the server's certificate is always verified",
    "tls_priority": "OpenSSL knows no GnuTLS priorities; TLS 1.2 with ECDHE and AEAD, and 1.3, are used",
    "command": "no program is run to reach the daemon",
}
_MODES = ("auto", "direct", "legacy")


class VolumeName(NamedTuple):
    """What C{#POOL/VOLUME} names."""

    pool: str
    volume: str


class LibvirtURI(NamedTuple):
    """
    A parsed URI.

    @ivar text: as it was given, without what follows C{#}.
    @ivar driver: C{qemu}, C{test}, C{storage}, ...
    @ivar host: C{""} for a UNIX socket; C{port} likewise 0.
    @ivar username: of C{USER@HOST}; for SASL.
    @ivar path: C{/system}.
    @ivar name: what CONNECT_OPEN names, C{""} to let the daemon choose.
    @ivar socket: path of the UNIX socket if the URI names one.
    @ivar auth: C{""}, or the only way to authenticate: C{none}, C{sasl}, C{sasl.MECHANISM}, C{polkit}.
    @ivar authfile: file with user and password.
    @ivar mode: which daemon of this machine: C{auto}, C{direct}, C{legacy}.
    """

    text: str
    driver: str
    transport: Transport
    host: str
    port: int
    username: str
    path: str
    name: str
    socket: str | None
    pkipath: str | None
    auth: str
    authfile: str | None
    mode: str

    def socket_path(
        self,
        *,
        read_only: bool = False,
        environ: Mapping[str, str] = os.environ,
        user_id: int | None = None,
        exists: Callable[[str], bool] = os.path.exists,
    ) -> str:
        """
        Where the daemon of this machine listens.

        @param exists: asked in mode C{auto}, whether the one daemon for everything is there.
        """
        if self.socket:
            return self.socket
        uid = os.geteuid() if user_id is None else user_id
        if self.path == "/session" or (self.driver == "test" and uid != 0):
            cache = environ.get("XDG_RUNTIME_DIR") or f"/run/user/{uid}"
            directory, suffix = f"{cache}/libvirt", ""
        else:
            directory, suffix = "/var/run/libvirt", "-ro" if read_only else ""
        legacy, direct = (
            f"{directory}/{daemon}-sock{suffix}" for daemon in ("libvirt", f"virt{self.driver}d")
        )
        if self.mode == "auto":
            return direct if exists(direct) and not exists(legacy) else legacy
        return direct if self.mode == "direct" else legacy

    def address(self, *, read_only: bool = False) -> Url:
        """Where to connect to, for L{rpcstream.net.endpoints.client_endpoint}."""
        if self.transport == "unix":
            return Url("unix", "", 0, socket=self.socket_path(read_only=read_only))
        return Url(self.transport, self.host, self.port, pkipath=self.pkipath)


def looks_like_uri(text: str) -> bool:
    """Whether C{text} is a URI, and not one of rpcstream's own."""
    scheme, separator, _ = text.partition("://")
    return bool(separator) and not scheme.lower().startswith("rpcstream+")


def split_volume(text: str) -> tuple[str, VolumeName | None]:
    """
    Cut C{#POOL/VOLUME} off.

    @return: the URI, and what it named, C{None} for nothing.
    @raise ConfigurationError: a part is missing or not percent-encoded text.
    """
    uri, separator, fragment = text.partition("#")
    if not separator:
        return uri, None
    pool, slash, volume = fragment.partition("/")
    if not (pool and slash and volume):
        raise ConfigurationError(f"URI {text[:200]!r}: write #POOL/VOLUME behind it")
    return uri, VolumeName(_decode(pool, text), _decode(volume, text))


def parse_uri(text: str) -> LibvirtURI:
    """
    @raise ConfigurationError: it is not a URI of libvirt, or asks for what rpcstream does not
        do; the text says what to write instead.
    """
    if any(ord(character) < 32 or ord(character) == 127 for character in text):
        raise _wrong(text, "it contains a control character; encode it as %XX")
    scheme, separator, rest = text.partition("://")
    driver, plus, transport = scheme.lower().partition("+")
    if not separator or not driver or (plus and not transport):
        raise _wrong(text, f"it must look like {_EXAMPLE}")
    if "#" in rest:
        raise _wrong(text, "'#' has no meaning here; encode it as %23")
    location, _, query = rest.partition("?")
    authority, slash, path = location.partition("/")
    path = slash + path
    eaten, left = _split_query(text, query)
    username, at, where = authority.rpartition("@")
    kind = _transport(text, transport or ("tls" if authority else "unix"))
    host, port = ("", 0) if kind == "unix" else _parse_authority(text, kind, where)
    if kind == "unix" and authority:
        raise _wrong(
            text, f"a UNIX socket has no host; write {driver}+unix://{path or '/system'}?socket=PATH"
        )
    name = eaten.get("name")
    if name is None:
        name = "" if driver == "remote" else f"{driver}://{path}" + (f"?{left}" if left else "")
    mode = eaten.get("mode", "auto")
    if mode not in _MODES:
        raise _wrong(text, f"mode {mode!r} is not one of {', '.join(_MODES)}")
    return LibvirtURI(
        text,
        driver,
        kind,
        host,
        port,
        _decode(username, text) if at else "",
        path,
        name,
        eaten.get("socket"),
        eaten.get("pkipath"),
        eaten.get("auth", ""),
        eaten.get("authfile"),
        mode,
    )


def _wrong(text: str, why: str) -> ConfigurationError:
    return ConfigurationError(f"URI {text[:200]!r}: {why}")


def _transport(text: str, transport: str) -> Transport:
    if transport in _SSH:
        raise _wrong(
            text,
            f"the transport {transport} is not offered; use +tls, or let ssh forward the daemon's socket "
            "(ssh -L /PATH:/var/run/libvirt/libvirt-sock HOST) and use +unix with ?socket=/PATH",
        )
    if transport not in ("tls", "tcp", "unix"):
        raise _wrong(text, f"the transport {transport!r} is not known; use +tls, +tcp or +unix")
    return cast(Transport, transport)


def _split_query(text: str, query: str) -> tuple[dict[str, str], str]:
    """The parameters for the client, and the rest as it was."""
    eaten: dict[str, str] = {}
    left = []
    for part in query.split("&") if query else []:
        key, _, value = part.partition("=")
        if key not in _EATEN:
            left.append(part)
            continue
        decoded = _decode(value, text)
        if key in _REFUSED and decoded not in ("", "0"):
            raise _wrong(text, f"{key} cannot be had: {_REFUSED[key]}")
        eaten[key] = decoded
    return eaten, "&".join(left)


def _parse_authority(text: str, kind: Transport, where: str) -> tuple[str, int]:
    try:
        parsed = parse_url(f"rpcstream+tls://{where or 'localhost'}/")
    except ConfigurationError as error:
        reason = str(error).partition("': ")[2]
        raise _wrong(text, reason.replace("rpcstream+tls://HOST[:PORT]/NAME", _EXAMPLE)) from None
    has_port = where.rpartition("]")[2].rpartition(":")[1]
    return parsed.host, parsed.port if has_port else TCP_PORT if kind == "tcp" else TLS_PORT


def _decode(part: str, text: str) -> str:
    """Percent-encoded text; bytes that are not UTF-8 survive, as names of files do."""
    data = unquote_to_bytes(part)
    if b"\0" in data:
        raise _wrong(text, "it contains %00")
    return os.fsdecode(data)
