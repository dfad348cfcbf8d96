"""
libvirt URIs on the command line.

What lives here: text to values, and connecting.  What must not: what is done then.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any, NamedTuple

import click

from rpcstream.cli.options import Settings
from rpcstream.cli.running import Session
from rpcstream.errors import ConfigurationError
from rpcstream.libvirt.connect import connect
from rpcstream.libvirt.connection import Connection
from rpcstream.libvirt.uri import looks_like_uri, parse_uri, split_volume
from rpcstream.net.opening import Opening
from rpcstream.net.urls import Url, parse_url

__all__ = ["ANY_URL", "HOST_URI", "PLACE", "VolumePlace", "dial_libvirt", "pki_for_libvirt"]


class VolumePlace(NamedTuple):
    """
    A volume of a libvirt host.

    @ivar uri: of the host.
    """

    uri: str
    pool: str
    volume: str


class _Parsed(click.ParamType[Any]):
    """A value that one of our own functions reads."""

    def __init__(self, name: str, parse: Any) -> None:
        self.name = name
        self._parse = parse

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> Any:
        if not isinstance(value, str):
            return value
        try:
            return self._parse(value)
        except ConfigurationError as error:
            self.fail(str(error), param, ctx)


def _host(text: str) -> str:
    parse_uri(text)
    return text


def _any(text: str) -> Url | str:
    return _host(text) if looks_like_uri(text) else parse_url(text)


def _place(text: str) -> Url | VolumePlace:
    if not looks_like_uri(text):
        return parse_url(text)
    uri, name = split_volume(text)
    parse_uri(uri)
    if name is None:
        raise ConfigurationError(f"URI {text[:200]!r} names no volume; write #POOL/VOLUME behind it")
    return VolumePlace(uri, name.pool, name.volume)


HOST_URI = _Parsed("uri", _host)
"""A libvirt URI, as text."""
ANY_URL = _Parsed("url", _any)
"""An rpcstream URL, or a libvirt URI as text."""
PLACE = _Parsed("url", _place)
"""A name at an rpcstream destination, or a volume at a libvirt host."""


def pki_for_libvirt(settings: Settings) -> Path | None:
    """Our own directory of certificates if there is one; else libvirt's own places count."""
    pki = settings.pki
    return pki if pki is not None and (pki / "cacert.pem").exists() else None


def dial_libvirt(session: Session, settings: Settings, uri: str) -> Opening[Connection]:
    """
    Connect to a libvirt host.

    @return: as L{connect}.
    """
    return connect(
        uri,
        pki=pki_for_libvirt(settings),
        insecure=settings.insecure,
        limits=session.limits,
        runner=session.runner,
        reactor=session.reactor,
    )
