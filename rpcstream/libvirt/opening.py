"""
From a transport to an open libvirt connection, in the order that libvirtd wants it.

Authenticate, ask for keepalive (before CONNECT_OPEN: wire-protocol.md section
6), open, ask for the other features (section 7.1).
"""

from __future__ import annotations

from typing import NamedTuple

from rpcstream.errors import ConnectRefused, DeadlineExceeded, RemoteError
from rpcstream.libvirt.authentication import authenticate
from rpcstream.libvirt.credentials import Credentials
from rpcstream.libvirt.uri import LibvirtURI
from rpcstream.net.client import ClientConnection
from rpcstream.net.threads import Runner
from rpcstream.programs import remote
from rpcstream.programs.remote import AuthType, Feature

__all__ = ["READ_ONLY", "Opened", "open_driver"]

READ_ONLY = 1
"""Flag of CONNECT_OPEN."""


class Opened(NamedTuple):
    """
    What was agreed on.

    @ivar authentication: how this side proved who it is.
    @ivar features: what the daemon can do.
    """

    authentication: AuthType
    features: frozenset[Feature]


async def open_driver(
    connection: ClientConnection,
    uri: LibvirtURI,
    *,
    credentials: Credentials | None = None,
    read_only: bool = False,
    is_main: bool = True,
) -> Opened:
    """
    @param is_main: whether events may be wanted; a connection for one stream asks for less.
    @raise ConnectRefused: no way to authenticate, or no answer.
    @raise ConfigurationError: a password is needed.
    @raise RemoteError: the daemon refuses: C{AuthenticationFailed}, C{NoConnect}, ...
    """
    runner: Runner = connection.link.runner
    try:
        authentication = await authenticate(connection, uri, credentials, runner)
        features = set()
        if await _has(connection, Feature.KEEPALIVE):
            # Asking has started the daemon's own pinging as well.
            features.add(Feature.KEEPALIVE)
            connection.link.keepalive.start()
        await connection.call(remote.ConnectOpen(uri.name or None, READ_ONLY if read_only else 0))
        if is_main:
            for feature in (Feature.EVENT_CALLBACKS, Feature.CLOSE_CALLBACK):
                if await _has(connection, feature):
                    features.add(feature)
            if Feature.CLOSE_CALLBACK in features:
                await _want_close_event(connection, features)
    except DeadlineExceeded as error:
        # A daemon at its limit of clients accepts nobody and says nothing (section 9).
        raise ConnectRefused(f"{uri.text}: {error}; is the daemon at its limit of clients?") from None
    return Opened(authentication, frozenset(features))


async def _has(connection: ClientConnection, feature: Feature) -> bool:
    seconds = connection.limits.handshake_seconds
    try:
        return await connection.call(remote.ConnectSupportsFeature(feature), timeout_seconds=seconds)
    except RemoteError:
        # Section 6: an error counts as no.
        return False


async def _want_close_event(connection: ClientConnection, features: set[Feature]) -> None:
    try:
        await connection.call(remote.ConnectRegisterCloseCallback())
    except RemoteError:
        # The daemon can; this driver cannot.
        features.discard(Feature.CLOSE_CALLBACK)
