"""
Endpoints: where to listen and where to connect, as text::

    server   rpctls:PORT[:interface=ADDRESS][:pki=DIR][:legacy=no][:backlog=N]
             unix:PATH[:mode=0660][:backlog=N]
             any other Twisted server description, if C{insecure}
    client   a URL of L{rpcstream.net.urls}, or rpctls:HOST:PORT[:pki=DIR]

What lives here: text to Twisted endpoints, and the rule that nothing is plain text
by mistake.  What must not: what happens on a connection.

The plugin in C{twisted/plugins/rpcstream_endpoints.py} offers C{rpctls:} to every
Twisted program.
"""

from __future__ import annotations

import errno
import ipaddress
import os
from collections.abc import Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred, fail
from twisted.internet.endpoints import TCP4ServerEndpoint, TCP6ServerEndpoint, serverFromString
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import (
    IListeningPort,
    IProtocolFactory,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
)
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from rpcstream.errors import ConfigurationError
from rpcstream.limits import DEFAULT_LIMITS, Limits
from rpcstream.net.accept import Admit, Refused, TLSServerFactory
from rpcstream.net.descriptions import (
    check_interface,
    check_parts,
    parse_count,
    parse_value,
    parse_yes,
    split_description,
)
from rpcstream.net.dial import PlainClientEndpoint, TLSClientEndpoint
from rpcstream.net.local import LocalServerEndpoint, cannot_listen
from rpcstream.net.pki import Pki, pki_of
from rpcstream.net.tls import server_contexts
from rpcstream.net.urls import Url, check_socket_path, parse_port, parse_url

__all__ = ["TLSServerEndpoint", "client_endpoint", "is_loopback", "server_endpoint"]

_PREFIX = "rpctls"
_PKI_REMEDY = "add :pki=DIR to the endpoint, or --pki DIR"
_BACKLOG = 511
"""Connections the kernel holds for us; more than Twisted's 50, as clients may come in bursts."""

_log = Logger()


def server_endpoint(
    reactor: Any,
    description: str,
    *,
    pki: Pki | str | os.PathLike[str] | None = None,
    insecure: bool = False,
    limits: Limits = DEFAULT_LIMITS,
    legacy_clients: bool = True,
    admit: Admit | None = None,
    refused: Refused | None = None,
) -> IStreamServerEndpoint:
    """
    @param description: C{rpctls:...}, C{unix:...}, or with C{insecure} what
        L{serverFromString<twisted.internet.endpoints.serverFromString>} knows.
    @param pki: the pki directory, if C{description} names none.
    @param insecure: whether an endpoint without mutual TLS is served; its peers are
        C{anonymous}.
    @param limits: C{handshake_seconds}, C{close_seconds}, C{handshakes},
        C{handshakes_per_address} and C{not_sent_bytes} are used.
    @param legacy_clients: whether clients without our ALPN name, which are libvirt's, are
        served with TLS 1.2; C{:legacy=no} in C{description} forbids it too.
    @param admit: asked for each verified peer before it is confirmed; C{None} lets it in,
        a text is logged as the reason why not.  Not asked with C{insecure}.
    @param refused: told of each connection that did not come about.
    @return: an endpoint.  The factory given to its C{listen} builds a protocol only for a
        peer that is verified, and may return C{None} to refuse it.
    @raise ConfigurationError: the description, or a file of the pki directory, cannot be
        used, or it would be plain text without C{insecure}.
    """
    prefix, arguments, options = split_description(description)
    if prefix == _PREFIX:
        return parse_tls_server(
            reactor, arguments, options, pki_default=pki, limits=limits, legacy_clients=legacy_clients,
            admit=admit, refused=refused,
        )  # fmt: skip
    if prefix == "unix":
        return _parse_unix_server(reactor, arguments, options, admit=admit, refused=refused)
    if not insecure:
        raise ConfigurationError(
            f"endpoint {description[:200]!r} is not protected by mutual TLS; use rpctls:PORT or unix:PATH, "
            "or say --insecure"
        )
    try:
        endpoint: IStreamServerEndpoint = serverFromString(reactor, description)
    except Exception as error:
        # Each of Twisted's parsers, and every plugin, raises what it likes.
        raise ConfigurationError(f"endpoint {description[:200]!r}: {error}") from None
    _log.warn("{endpoint} is open to everybody who reaches it (insecure)", endpoint=description)
    return endpoint


def client_endpoint(
    reactor: Any,
    url: Url | str,
    *,
    pki: Pki | str | os.PathLike[str] | None = None,
    insecure: bool = False,
    limits: Limits = DEFAULT_LIMITS,
    legacy_servers: bool = False,
) -> IStreamClientEndpoint:
    """
    @param url: a L{Url}, its text, or C{rpctls:HOST:PORT[:pki=DIR]}.
    @param pki: the pki directory, if C{url} names none.
    @param insecure: whether plain TCP may leave this host.
    @param limits: C{handshake_seconds} (for TCP, and again for TLS and the confirmation)
        and C{not_sent_bytes} are used.
    @param legacy_servers: whether a TLS server that has only version 1.2 is accepted.
    @return: an endpoint whose C{connect} fires when the server has confirmed the
        connection, and fails with L{ConnectRefused<rpcstream.errors.ConnectRefused>}.
    @raise ConfigurationError: the URL, or a file of the pki directory, cannot be used, or
        it would be plain text to another host without C{insecure}.
    """
    if isinstance(url, str) and split_description(url)[0] == _PREFIX:
        _, arguments, options = split_description(url)
        return parse_tls_client(
            reactor, arguments, options, pki_default=pki, limits=limits, legacy_servers=legacy_servers
        )
    if isinstance(url, str):
        url = parse_url(url)
    if url.scheme == "tls":
        place = pki_of(url.pkipath or pki, "add ?pkipath=DIR to the URL, or --pki DIR")
        return TLSClientEndpoint(reactor, url, place, limits, legacy_servers=legacy_servers)
    if url.scheme == "tcp" and not (insecure or is_loopback(url.host)):
        raise ConfigurationError(
            f"{url.where} would be reached in plain text; use rpcstream+tls://, or say --insecure"
        )
    return PlainClientEndpoint(reactor, url, limits)


def is_loopback(host: str) -> bool:
    """
    @return: whether C{host}, a name or an address, is this host's loopback.
    """
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"


# --- TLS -----------------------------------------------------------------------------


@implementer(IStreamServerEndpoint)
class TLSServerEndpoint:
    """
    Listens with mutual TLS.

    @ivar pki: where the certificates are.
    @ivar port: 0 lets the system choose.
    @ivar interface: address to listen on; C{""} for all, IPv4 and IPv6.
    """

    def __init__(
        self,
        reactor: Any,
        port: int,
        interface: str,
        pki: Pki,
        *,
        backlog: int = _BACKLOG,
        limits: Limits = DEFAULT_LIMITS,
        legacy_clients: bool = True,
        admit: Admit | None = None,
        refused: Refused | None = None,
    ) -> None:
        """
        @raise ConfigurationError: a file of C{pki} cannot be used: better now than when
            the service has started.
        """
        server_contexts(pki, legacy_clients=legacy_clients)
        self.port = port
        self.interface = interface
        self.pki = pki
        self._reactor = reactor
        self._backlog = backlog
        self._limits = limits
        self._legacy_clients = legacy_clients
        self._admit = admit
        self._refused = refused

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        """
        @return: fires with the port; fails with L{ConfigurationError}.
        """
        try:
            factory = TLSServerFactory(
                self._reactor,
                protocolFactory,
                self.pki,
                limits=self._limits,
                legacy_clients=self._legacy_clients,
                admit=self._admit,
                refused=self._refused,
            )
        except ConfigurationError:
            return fail(Failure())
        interface = self.interface or "::"
        kind: Any = TCP6ServerEndpoint if ":" in interface else TCP4ServerEndpoint
        listening: Deferred[IListeningPort] = kind(self._reactor, self.port, self._backlog, interface).listen(
            factory
        )
        if not self.interface:
            listening.addErrback(self._without_ipv6, factory)
        return listening.addErrback(cannot_listen, f"port {self.port}", "choose another one")

    def _without_ipv6(self, failure: Failure, factory: TLSServerFactory) -> Any:
        error = failure.value
        if not isinstance(error, CannotListenError) or error.socketError.errno not in (
            errno.EAFNOSUPPORT,
            errno.EADDRNOTAVAIL,
        ):
            return failure
        listening: Deferred[IListeningPort] = TCP4ServerEndpoint(
            self._reactor, self.port, self._backlog
        ).listen(factory)
        return listening


def parse_tls_server(
    reactor: Any,
    arguments: Sequence[str],
    options: Mapping[str, str],
    *,
    pki_default: Pki | str | os.PathLike[str] | None = None,
    limits: Limits = DEFAULT_LIMITS,
    legacy_clients: bool = True,
    admit: Admit | None = None,
    refused: Refused | None = None,
) -> TLSServerEndpoint:
    """
    @param arguments: the port.
    @param options: C{interface}, C{pki}, C{legacy}, C{backlog}, as text.
    @raise ConfigurationError: as for L{server_endpoint}.
    """
    check_parts("rpctls:PORT", arguments, 1, options, ("interface", "pki", "legacy", "backlog"))
    port = parse_value(parse_port, arguments[0], lowest=0)
    interface = options.get("interface", "")
    if interface:
        parse_value(check_interface, interface)
    return TLSServerEndpoint(
        reactor,
        port,
        interface,
        pki_of(options.get("pki") or pki_default, _PKI_REMEDY),
        backlog=parse_value(parse_count, options["backlog"]) if "backlog" in options else _BACKLOG,
        limits=limits,
        legacy_clients=legacy_clients and parse_value(parse_yes, options.get("legacy", "yes")),
        admit=admit,
        refused=refused,
    )


def parse_tls_client(
    reactor: Any,
    arguments: Sequence[str],
    options: Mapping[str, str],
    *,
    pki_default: Pki | str | os.PathLike[str] | None = None,
    limits: Limits = DEFAULT_LIMITS,
    legacy_servers: bool = False,
) -> TLSClientEndpoint:
    """
    @param arguments: host and port.
    @param options: C{pki}.
    @raise ConfigurationError: as for L{client_endpoint}.
    """
    check_parts("rpctls:HOST:PORT", arguments, 2, options, ("pki",))
    host, port = arguments
    if not host:
        raise ConfigurationError("endpoint rpctls:HOST:PORT: it names no host")
    place = pki_of(options.get("pki") or pki_default, _PKI_REMEDY)
    url = Url("tls", host, parse_value(parse_port, port))
    return TLSClientEndpoint(reactor, url, place, limits, legacy_servers=legacy_servers)


def _parse_unix_server(
    reactor: Any,
    arguments: Sequence[str],
    options: Mapping[str, str],
    *,
    admit: Admit | None,
    refused: Refused | None,
) -> LocalServerEndpoint:
    check_parts("unix:PATH", arguments, 1, options, ("mode", "backlog"))
    path = arguments[0]
    if not path:
        raise ConfigurationError("endpoint unix:PATH: it names no path")
    parse_value(check_socket_path, path)
    mode = options.get("mode", "0600")
    if mode not in ("600", "0600", "660", "0660"):
        raise ConfigurationError(f"endpoint unix:PATH: mode {mode!r} is not 0600 or 0660")
    backlog = parse_value(parse_count, options["backlog"]) if "backlog" in options else _BACKLOG
    return LocalServerEndpoint(
        reactor, path, mode=int(mode, 8), backlog=backlog, admit=admit, refused=refused
    )
