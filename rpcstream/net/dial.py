"""
How a client reaches a server, and what it says when it cannot.

What lives here: the client endpoints behind a URL.  What must not: parsing
(L{rpcstream.net.urls}), the confirmation itself (L{rpcstream.net.confirmation}).
"""

from __future__ import annotations

import errno
import ipaddress
import os
from typing import Any, cast

from OpenSSL import SSL
from twisted.internet.defer import CancelledError, Deferred, fail
from twisted.internet.endpoints import (
    HostnameEndpoint,
    TCP4ClientEndpoint,
    TCP6ClientEndpoint,
    UNIXClientEndpoint,
)
from twisted.internet.error import (
    ConnectError,
    ConnectingCancelledError,
    ConnectionRefusedError,
    DNSLookupError,
    TCPTimedOutError,
    TimeoutError,
)
from twisted.internet.interfaces import (
    IAddress,
    IOpenSSLClientConnectionCreator,
    IProtocol,
    IProtocolFactory,
    IStreamClientEndpoint,
)
from twisted.internet.protocol import Factory
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from rpcstream.errors import ConfigurationError, ConnectRefused
from rpcstream.limits import Limits
from rpcstream.net.confirmation import ClientConfirmation
from rpcstream.net.handshake import Handshake, budget_of
from rpcstream.net.identity import printable
from rpcstream.net.pki import Pki
from rpcstream.net.tls import client_connection, client_context, indication_of
from rpcstream.net.urls import Url

__all__ = ["PlainClientEndpoint", "TLSClientEndpoint"]


@implementer(IStreamClientEndpoint)
class PlainClientEndpoint:
    """Connects by TCP or a UNIX socket, without TLS."""

    def __init__(self, reactor: Any, url: Url, limits: Limits) -> None:
        self.url = url
        self._endpoint = _transport_endpoint(reactor, url, limits)
        self._limits = limits

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """
        @return: fires with the connected protocol; fails with L{ConnectRefused}.
        """
        connecting = self._endpoint.connect(protocolFactory)
        return connecting.addErrback(_refused, self.url, self._limits)


@implementer(IStreamClientEndpoint)
class TLSClientEndpoint:
    """
    Connects with mutual TLS.

    @ivar url: where to.
    @ivar pki: where the certificates are.
    """

    def __init__(
        self, reactor: Any, url: Url, pki: Pki, limits: Limits, *, legacy_servers: bool = False
    ) -> None:
        """
        @raise ConfigurationError: a file of C{pki} cannot be used, or the host name.
        """
        self._stamp = pki.stamp("client")
        self._context = client_context(pki, legacy_servers=legacy_servers)
        self._indication = indication_of(url.host)
        self.url = url
        self.pki = pki
        self._reactor = reactor
        self._limits = limits
        self._legacy_servers = legacy_servers
        self._endpoint = _transport_endpoint(reactor, url, limits)

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[IProtocol]:
        """
        Reads changed certificates anew, so that a reconnecting client uses renewed ones.

        @return: fires with the protocol, connected, when the server has confirmed the
            connection; fails with L{ConnectRefused}, or L{ConfigurationError} if the
            certificates cannot be used any more.  Cancelling it closes the connection.
        """
        stamp = self.pki.stamp("client")
        if stamp != self._stamp:
            try:
                self._context = client_context(self.pki, legacy_servers=self._legacy_servers)
            except ConfigurationError:
                return fail(Failure())
            self._stamp = stamp
        tls = TLSMemoryBIOFactory(
            _Creator(self._context, self._indication), True, protocolFactory, clock=self._reactor
        )
        connecting = self._endpoint.connect(_HandshakeFactory(self, protocolFactory, tls))
        return connecting.addCallbacks(_confirmed, _refused, errbackArgs=(self.url, self._limits))

    def handshake(
        self, tls: TLSMemoryBIOFactory, factory: IProtocolFactory, address: IAddress | None
    ) -> Handshake:
        confirmation = ClientConfirmation(
            self._reactor,
            self.url.host,
            self.url.where,
            self._limits,
            lambda: factory.buildProtocol(cast(IAddress, address)),
            self._remedy,
        )
        return Handshake(budget_of(self._reactor), tls, confirmation)

    def _remedy(self) -> str:
        if not self.pki.has_credentials("client"):
            return (
                f"{self.pki.directory} has no clientcert.pem; `rpcstream pki add {self.pki.directory} "
                "--client NAME` makes one"
            )
        return "; ".join(self.pki.faults("client")) or "the server's log says why"


class _HandshakeFactory(Factory):
    """Makes what TCP has as its protocol until the server has confirmed."""

    noisy = False

    def __init__(
        self, endpoint: TLSClientEndpoint, factory: IProtocolFactory, tls: TLSMemoryBIOFactory
    ) -> None:
        self._endpoint = endpoint
        self._factory = factory
        self._tls = tls

    def startFactory(self) -> None:
        self._factory.doStart()

    def stopFactory(self) -> None:
        self._factory.doStop()

    def buildProtocol(self, addr: IAddress | None) -> Handshake:
        return self._endpoint.handshake(self._tls, self._factory, addr)


@implementer(IOpenSSLClientConnectionCreator)
class _Creator:
    def __init__(self, context: SSL.Context, indication: bytes | None) -> None:
        self._context = context
        self._indication = indication

    def clientConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        return client_connection(self._context, self._indication)


def _transport_endpoint(reactor: Any, url: Url, limits: Limits) -> IStreamClientEndpoint:
    seconds = limits.handshake_seconds
    if url.scheme == "unix":
        return UNIXClientEndpoint(reactor, url.socket, seconds)
    try:
        version = ipaddress.ip_address(url.host.partition("%")[0]).version
    except ValueError:
        return HostnameEndpoint(reactor, url.host, url.port, seconds)
    # No resolver, and so no thread, for an address.
    kind = TCP6ClientEndpoint if version == 6 else TCP4ClientEndpoint
    return kind(reactor, url.host, url.port, seconds)


def _confirmed(handshake: Any) -> Deferred[IProtocol]:
    return cast(ClientConfirmation, handshake.confirmation).when_confirmed()


def _refused(failure: Failure, url: Url, limits: Limits) -> Failure:
    """
    Turn Twisted's failure to connect into L{ConnectRefused}.
    """
    error = failure.value
    if isinstance(error, (CancelledError, ConnectingCancelledError, ConnectRefused)):
        return failure
    if isinstance(error, DNSLookupError):
        why = f"the name cannot be resolved: {error}"
    elif isinstance(error, ConnectionRefusedError):
        why = "connection refused; is the server running, and is this its port?"
        if url.scheme == "unix":
            why = "nobody listens on this socket; is the service running?"
    elif isinstance(error, (TimeoutError, TCPTimedOutError)):
        why = f"no answer within {limits.handshake_seconds:g} s; is the host up, and is there a firewall?"
    elif isinstance(error, ConnectError):
        number = error.osError if isinstance(error.osError, int) else getattr(error.osError, "errno", None)
        why = f"cannot connect: {os.strerror(number) if number else error}"
        if url.scheme == "unix" and number == errno.ENOENT:
            why = "no such socket; is the service running?"
    else:
        # Not about the connection: a factory that failed, say.
        return failure
    return Failure(ConnectRefused(printable(f"{url.where}: {why}", limit=1000)))
