"""
C{connect}: from a URL to a usable connection.
"""

from __future__ import annotations

from functools import partial
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory

from rpcstream.errors import ConnectRefused, RemoteError, RPCFailed, RPCStreamError, Unsupported
from rpcstream.limits import DEFAULT_LIMITS, Limits
from rpcstream.net.client import ClientConnection
from rpcstream.net.endpoints import client_endpoint
from rpcstream.net.flow_responders import FEATURES, FLOW_VERSION, SOFTWARE
from rpcstream.net.handshake import budget_of
from rpcstream.net.lane.negotiation import lane_features
from rpcstream.net.link import Link
from rpcstream.net.opening import Opening
from rpcstream.net.responders import Responders
from rpcstream.net.threads import Runner, ThreadRunner
from rpcstream.net.urls import parse_url
from rpcstream.programs import flow

__all__ = ["connect", "hello"]


class ClientFactory(Factory):
    """Hands out the link of one client connection."""

    noisy = False

    def __init__(self, connection: ClientConnection) -> None:
        self._connection = connection

    def buildProtocol(self, addr: Any) -> Link:
        """Called by Twisted when the transport is there."""
        return self._connection.link


def connect(
    target: str | IStreamClientEndpoint,
    *responders: object,
    pki: str | Path | None = None,
    insecure: bool = False,
    limits: Limits = DEFAULT_LIMITS,
    runner: Runner | None = None,
    reactor: Any = None,
) -> Opening[ClientConnection]:
    """
    Connect to an rpcstream server.

    @param target: C{rpcstream+tls://HOST[:PORT]/...}, C{rpcstream+tcp://...},
        C{rpcstream+unix:///...?socket=PATH}, or any Twisted client endpoint.
    @param responders: objects that answer events of the server.
    @param pki: directory of certificates; the URL's C{pkipath} comes first.
    @param insecure: permit plaintext to another host.
    @return: fires when the connection is usable: TLS verified, confirmed by the
        server, HELLO exchanged; C{async with connect(...) as connection:} works.
    @raise ConnectRefused: it cannot be had; the text names cause and remedy (as errback).
    @raise ConfigurationError: the URL or the certificates cannot be used (as errback).
    """
    if reactor is None:
        from twisted.internet import reactor
    own_runner = ThreadRunner(reactor, thread_count=2) if runner is None else None
    used_runner: Runner = own_runner or runner  # type: ignore[assignment]

    async def run() -> ClientConnection:
        endpoint: Any = target
        if isinstance(target, str):
            make = partial(
                client_endpoint, reactor, parse_url(target), pki=pki, insecure=insecure, limits=limits
            )
            # Reading certificates and keys takes as long as a step of a handshake.
            endpoint = await budget_of(reactor).call(make)
        table = Responders(*responders, partial=True) if responders else None
        connection = ClientConnection(reactor, used_runner, limits, table)
        try:
            await endpoint.connect(ClientFactory(connection))
        except RPCStreamError:
            raise
        except Exception as error:
            raise ConnectRefused(f"cannot connect: {error}") from error
        if own_runner is not None:
            connection.when_closed().addCallback(lambda _: own_runner.stop())
        return await hello(connection)

    return Opening.of(Deferred.fromCoroutine(run()))


async def hello(connection: ClientConnection) -> ClientConnection:
    """
    Exchange HELLO; from then on streams carry credit and keepalive runs.

    @raise ConnectRefused: the other side is not rpcstream, or of another version.
    """
    initial = connection.limits.initial_credit_bytes
    features = FEATURES + lane_features(connection.limits)
    request = flow.Hello(FLOW_VERSION, FLOW_VERSION, SOFTWARE, initial, features, ())
    try:
        welcome = await connection.call(request, timeout_seconds=connection.limits.handshake_seconds)
    except RemoteError as error:
        await connection.close()
        # Without HELLO it is a stock peer; any other error is this server's own answer to us.
        is_stock = isinstance(error, RPCFailed | Unsupported)
        reason = "the server does not speak rpcstream" if is_stock else "the server refuses the connection"
        raise ConnectRefused(f"{reason}: {error.message}") from error
    except RPCStreamError as error:
        await connection.close()
        raise ConnectRefused(str(error)) from error
    core = connection.link.core
    core.peer_is_rpcstream = True
    core.enable_credit(initial, welcome.initial_credit_bytes)
    connection.features = welcome.features
    connection.server_software = welcome.software
    connection.link.keepalive.start()
    return connection
