"""
How a server takes TLS connections: ClientHello, handshake, confirmation.

What lives here: the factory behind a TLS port, the protocol that reads the
ClientHello, the deadline, the limits of handshakes, one log line for each refusal.
What must not: TLS settings (L{rpcstream.net.tls}), the byte
(L{rpcstream.net.confirmation}), whose turn it is (L{rpcstream.net.handshake}), or
anything after it.

The wrapped factory hears of a connection when it is confirmed, not before: what a
stranger can do costs a socket, 16 KiB and a timer.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import Any, cast

from OpenSSL import SSL
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IOpenSSLServerConnectionCreator,
    IProtocol,
    IProtocolFactory,
    IReactorTime,
)
from twisted.internet.protocol import Factory, Protocol, connectionDone
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from rpcstream.errors import ConfigurationError, ProtocolViolation
from rpcstream.limits import DEFAULT_LIMITS, Limits
from rpcstream.net.client_hello import ClientHelloReader
from rpcstream.net.confirmation import ServerConfirmation
from rpcstream.net.handshake import Handshake, budget_of
from rpcstream.net.identity import Principal, principal_of
from rpcstream.net.pki import Pki
from rpcstream.net.refusal import Refusal, explain_end
from rpcstream.net.sockets import tune_socket
from rpcstream.net.tls import ServerContexts, server_contexts

__all__ = ["Admit", "Refused", "TLSServerFactory"]

Admit = Callable[[Principal], str | None]
"""Asked when a certificate is verified: C{None} lets it in, a text says why not."""

Refused = Callable[[Refusal, IAddress], None]
"""Told of each connection that did not come about (metrics, audit)."""

_ALERT_DECODE_ERROR = bytes.fromhex("15 0303 0002 02 32")
"""A TLS alert, fatal, decode_error (RFC 8446 section 6): sent where OpenSSL is not asked yet."""

_EARLY_DROP_SHARE = 0.3
"""OpenSSH's MaxStartups 64:30:128: from half of the limit on, 30 % of the newcomers are dropped,
rising to all of them at the limit."""

_BUSY_LOG_SECONDS = 1.0
"""At most one line about dropped newcomers in this time: they come in floods."""

_log = Logger()


@implementer(IOpenSSLServerConnectionCreator)
class TLSServerFactory(Factory):
    """
    The factory of a TLS port.

    @ivar refusal_counts: connections that did not come about, by reason code.
    """

    noisy = False

    def __init__(
        self,
        reactor: IReactorTime,
        factory: IProtocolFactory,
        pki: Pki,
        *,
        limits: Limits = DEFAULT_LIMITS,
        legacy_clients: bool = True,
        admit: Admit | None = None,
        refused: Refused | None = None,
        chance: Callable[[], float] = random.random,
    ) -> None:
        """
        @param factory: makes the protocol of a confirmed connection; C{None} from its
            C{buildProtocol} refuses it.
        @param limits: C{handshake_seconds}, C{close_seconds}, C{handshakes},
            C{handshakes_per_address} are used.
        @param legacy_clients: whether libvirt's clients are served (TLS 1.2).
        @raise ConfigurationError: a file of C{pki} cannot be used.
        """
        self.limits = limits
        self.reactor = reactor
        self.refusal_counts: Counter[str] = Counter()
        self._factory = factory
        self._pki = pki
        self._legacy_clients = legacy_clients
        self._admit = admit
        self._refused = refused
        self._chance = chance
        self._stamp = pki.stamp("server")
        self._contexts = server_contexts(pki, legacy_clients=legacy_clients)
        self._tls = TLSMemoryBIOFactory(self, False, factory, clock=reactor)
        self._pending: set[_Arrival] = set()
        self._pending_of: Counter[str] = Counter()
        self._dropped_count = 0
        self._dropped_logged = float("-inf")
        for fault in pki.faults("server"):
            _log.warn("{directory}: {fault}", directory=str(pki.directory), fault=fault)

    # --- what Twisted calls ---------------------------------------------------

    def startFactory(self) -> None:
        self._factory.doStart()

    def stopFactory(self) -> None:
        # The port is closed: who is not in yet never will be.
        for arrival in list(self._pending):
            arrival.refuse(Refusal("tls-closed", "the server is stopping"))
        self._factory.doStop()

    def buildProtocol(self, addr: IAddress | None) -> _Arrival | None:
        host = _host(addr)
        if self._is_full(host):
            self._drop(addr)
            return None
        return _Arrival(self, host)

    def serverConnectionForTLS(self, tlsProtocol: TLSMemoryBIOProtocol) -> SSL.Connection:
        confirmation = cast(ServerConfirmation, tlsProtocol.wrappedProtocol)
        return SSL.Connection(confirmation.context, None)

    # --- what arrivals call ---------------------------------------------------

    def arrived(self, arrival: _Arrival) -> None:
        self._pending.add(arrival)
        self._pending_of[arrival.host] += 1

    def left(self, arrival: _Arrival) -> None:
        self._pending.discard(arrival)
        self._pending_of[arrival.host] -= 1
        if not self._pending_of[arrival.host]:
            del self._pending_of[arrival.host]

    def handshake_with(self, confirmation: ServerConfirmation) -> Handshake:
        return Handshake(budget_of(self.reactor), self._tls, confirmation)

    def contexts(self) -> ServerContexts:
        """
        @return: the TLS settings; made anew when a file of the pki directory has changed.
            Files that cannot be used (a renewal half done) leave the old ones in force.
        """
        stamp = self._pki.stamp("server")
        if stamp != self._stamp:
            self._stamp = stamp
            try:
                self._contexts = server_contexts(self._pki, legacy_clients=self._legacy_clients)
            except ConfigurationError as error:
                _log.warn("the new pki files are not used, the old ones stay: {error}", error=str(error))
            else:
                _log.info("read the changed pki files of {directory}", directory=str(self._pki.directory))
        return self._contexts

    def welcome(self, tls: TLSMemoryBIOProtocol) -> IProtocol | Refusal:
        """
        @param tls: handshake done, certificate verified.
        @return: the protocol to connect, or why not.
        """
        try:
            principal = principal_of(tls)
            objection = self._admit(principal) if self._admit is not None else None
            if objection is not None:
                return Refusal("not-allowed", f"{principal.name}: {objection}")
            protocol = self._factory.buildProtocol(tls.getPeer())
        except Exception:
            _log.failure("accepting a verified connection")
            return Refusal("internal", "the server failed to set the connection up")
        return protocol or Refusal("not-allowed", f"{principal.name}: the service takes no connection now")

    def report(self, refusal: Refusal, address: IAddress) -> None:
        self.refusal_counts[refusal.code] += 1
        _log.info(
            "refused {peer}: {code}: {detail}",
            peer=_shown(address),
            code=refusal.code,
            detail=refusal.detail,
        )
        if self._refused is not None:
            self._refused(refusal, address)

    # --- limits ---------------------------------------------------------------

    def _is_full(self, host: str) -> bool:
        if self._pending_of[host] >= self.limits.handshakes_per_address:
            return True
        count, most = len(self._pending), self.limits.handshakes
        if count >= most:
            return True
        begin = most / 2
        if count < begin:
            return False
        share = _EARLY_DROP_SHARE + (1 - _EARLY_DROP_SHARE) * (count - begin) / (most - begin)
        return self._chance() < share

    def _drop(self, address: IAddress | None) -> None:
        self.refusal_counts["tls-busy"] += 1
        self._dropped_count += 1
        now = self.reactor.seconds()
        if now - self._dropped_logged >= _BUSY_LOG_SECONDS:
            _log.info(
                "refused {peer}: {code}: {detail}",
                peer=_shown(address),
                code="tls-busy",
                detail=f"too many unfinished handshakes; {self._dropped_count} dropped since last told",
            )
            self._dropped_logged, self._dropped_count = now, 0
        if self._refused is not None and address is not None:
            self._refused(Refusal("tls-busy", "too many unfinished handshakes"), address)


class _Arrival(Protocol):
    """
    A connection before its confirmation: first it is the TCP transport's protocol and
    reads the ClientHello; then the handshake takes that place, and this keeps the deadline.

    @ivar host: the peer's address.
    """

    transport: Any

    def __init__(self, factory: TLSServerFactory, host: str) -> None:
        self.host = host
        self._server = factory
        self._reader: ClientHelloReader | None = ClientHelloReader()
        self._refusal: Refusal | None = None
        self._deadline: IDelayedCall | None = None
        self._handshake: Handshake | None = None
        self._address: Any = None

    def connectionMade(self) -> None:
        self._server.arrived(self)
        self._address = self.transport.getPeer()
        tune_socket(self.transport, self._server.limits)
        seconds = self._server.limits.handshake_seconds
        self._deadline = self._server.reactor.callLater(seconds, self._expired)

    def dataReceived(self, data: bytes) -> None:
        reader = self._reader
        if reader is None:
            return
        try:
            hello = reader.feed(data)
        except ProtocolViolation as violation:
            self._reader = None
            self._refusal = Refusal(violation.code, violation.detail)
            if reader.received[:1] == b"\x16":
                self.transport.write(_ALERT_DECODE_ERROR)
            self._close_soon()
            self.transport.loseConnection()
            return
        if hello is None:
            return
        self._reader = None
        context = self._server.contexts().choose(hello)
        confirmation = ServerConfirmation(context, self._server.welcome, self._finished, self._refused_late)
        handshake = self._handshake = self._server.handshake_with(confirmation)
        # From here on that is the transport's protocol, and this only keeps the time.
        self.transport.protocol = handshake
        handshake.makeConnection(self.transport)  # type: ignore[no-untyped-call]
        handshake.dataReceived(bytes(reader.received))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._finished(explain_end(reason, "client", "its ClientHello"))

    def refuse(self, refusal: Refusal) -> None:
        """Abort the connection."""
        self._refusal = self._refusal or refusal
        (self._handshake or self.transport).abortConnection()

    def _refused_late(self, refusal: Refusal) -> None:
        self._refusal = refusal
        self._close_soon()

    def _close_soon(self) -> None:
        """Whoever does not take the end of the connection is cut off."""
        seconds = self._server.limits.close_seconds
        if self._deadline is not None and self._deadline.getTime() > self._server.reactor.seconds() + seconds:
            self._deadline.reset(seconds)

    def _expired(self) -> None:
        self._deadline = None
        what = "the ClientHello" if self._handshake is None else "the TLS handshake"
        seconds = self._server.limits.handshake_seconds
        self.refuse(Refusal("tls-timeout", f"the client did not finish {what} within {seconds:g} s"))

    def _finished(self, refusal: Refusal | None) -> None:
        deadline, self._deadline = self._deadline, None
        if deadline is not None:
            deadline.cancel()
        self._server.left(self)
        self._handshake = None
        if refusal is not None:
            self._server.report(self._refusal or refusal, self._address)


def _shown(address: IAddress | None) -> str:
    host, port = _host(address), getattr(address, "port", None)
    if not host or port is None:
        return str(address)
    return f"[{host}]:{port}" if ":" in host else f"{host}:{port}"


def _host(address: IAddress | None) -> str:
    """
    @return: the host's address, an IPv4 one as such though the port listens for both.
    """
    return str(getattr(address, "host", "")).removeprefix("::ffff:")
