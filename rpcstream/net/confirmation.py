"""
The end of the handshake: one byte, 0x01, from the server to the client.

Under TLS 1.3 a client's handshake succeeds before the server has looked at its
certificate.  The server therefore says by this byte that the connection may be
used, and nobody is called connected before (wire-protocol.md, section 5.2).

What lives here: the two protocols that TLS wraps while that lasts.  Each then puts
the real protocol in its own place, and Twisted's TLS protocol in that of the
L{handshake<rpcstream.net.handshake>}: nothing of ours stays in the path of the data.
What must not: deciding who is good (L{rpcstream.net.tls}), listening and connecting.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from OpenSSL import SSL
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IHandshakeListener, IProtocol, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOProtocol
from twisted.python.failure import Failure
from zope.interface import implementer

from rpcstream.errors import ConnectRefused
from rpcstream.net.refusal import Refusal, explain_end
from rpcstream.net.sockets import tune_socket
from rpcstream.net.tls import Verdict

if TYPE_CHECKING:
    from rpcstream.limits import Limits

__all__ = ["CONFIRMATION", "ClientConfirmation", "ServerConfirmation"]

CONFIRMATION = b"\x01"

_log = Logger()


def _replace(gate: Protocol, tls: TLSMemoryBIOProtocol, protocol: IProtocol) -> None:
    """Put the real protocol where C{gate} was, TLS where its handshake was read, and connect."""
    tls.wrappedProtocol = protocol
    bottom: Any = tls.transport
    bottom.protocol = tls
    gate.transport = None
    protocol.makeConnection(tls)


@implementer(IHandshakeListener)
class ServerConfirmation(Protocol):
    """
    The server's side, after the ClientHello.

    @ivar context: the TLS settings chosen for this client.
    @ivar verdict: what verification finds.
    """

    transport: TLSMemoryBIOProtocol | None

    def __init__(
        self,
        context: SSL.Context,
        welcome: Callable[[TLSMemoryBIOProtocol], IProtocol | Refusal],
        ended: Callable[[Refusal | None], None],
        refused: Callable[[Refusal], None],
    ) -> None:
        """
        @param welcome: called with the transport when the certificate is verified;
            gives the protocol for it, or says why not.
        @param refused: called when this side refuses after the handshake; it sees to
            it that the connection ends.
        @param ended: called once, with C{None} when the connection is confirmed, or
            with the reason when it was lost before.
        """
        self.context = context
        self.verdict = Verdict("client")
        self._welcome = welcome
        self._ended = ended
        self._refused = refused
        self._refusal: Refusal | None = None

    def handshakeCompleted(self) -> None:
        tls: Any = self.transport  # never None: Twisted calls this only while connected
        if not self.verdict.is_good:
            outcome: IProtocol | Refusal = Refusal("tls-nocert", "the client's certificate was not verified")
        else:
            outcome = self._welcome(tls)
        if isinstance(outcome, Refusal):
            self._refusal = outcome
            self._refused(outcome)
            # A close_notify, but no byte: so libvirt's servers do it as well.
            tls.loseConnection()
            return
        # Not tls.write(): it waits for more, and libvirt's client wants this byte alone in
        # its record.
        TLSMemoryBIOProtocol.write(tls, CONFIRMATION)
        self._ended(None)
        _replace(self, tls, outcome)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        refusal = self._refusal or self.verdict.refusal
        self._ended(refusal or explain_end(reason, "client", "the end of the TLS handshake"))


@implementer(IHandshakeListener)
class ClientConfirmation(Protocol):
    """
    The client's side, from the TCP connection to the server's byte.

    @ivar verdict: what verification finds.
    """

    transport: Any

    def __init__(
        self,
        reactor: IReactorTime,
        server_name: str,
        where: str,
        limits: Limits,
        build: Callable[[], IProtocol | None],
        remedy: Callable[[], str],
    ) -> None:
        """
        @param server_name: what the server's certificate must be valid for.
        @param where: the server, for messages.
        @param limits: C{handshake_seconds} is used.
        @param build: makes the real protocol, once the server has confirmed.
        @param remedy: called when the server refuses us without a good reason: what
            may be wrong with our certificate.
        """
        self.verdict = Verdict("server", server_name)
        self._reactor = reactor
        self._where = where
        self._limits = limits
        self._build = build
        self._remedy = remedy
        self._deadline: IDelayedCall | None = None
        self._refusal: Refusal | None = None
        self._is_shaken = False
        self._failure: Failure | None = None
        self._waiting: Deferred[IProtocol] | None = None

    def when_confirmed(self) -> Deferred[IProtocol]:
        """
        To be called once, when TCP is connected.

        @return: fires with the real protocol, connected, or fails with
            L{ConnectRefused} when the connection is gone.  Cancelling it aborts the
            connection.
        """
        self._waiting = Deferred(self._cancelled)
        if self._failure is not None:
            self._waiting.errback(self._failure)
        return self._waiting

    def connectionMade(self) -> None:
        # Called twice: by the handshake, and by TLS when it begins.
        if self._deadline is not None:
            return
        tune_socket(self.transport, self._limits)
        self._deadline = self._reactor.callLater(self._limits.handshake_seconds, self._expired)

    def handshakeCompleted(self) -> None:
        self._is_shaken = True
        if not self.verdict.is_good:
            self._refuse(Refusal("tls-cert", "the server's certificate was not verified"))

    def dataReceived(self, data: bytes) -> None:
        tls = self.transport
        if tls is None or self._refusal is not None:
            return
        if data[:1] != CONFIRMATION:
            self._refuse(
                Refusal(
                    "tls-closed",
                    f"the server began with the byte 0x{data[0]:02x} in place of the confirmation "
                    "0x01: it refuses this client, or is another kind of server",
                )
            )
            return
        try:
            protocol = self._build()
        except Exception:
            self._failure = Failure()
            tls.abortConnection()
            return
        if protocol is None:
            self._refuse(Refusal("not-allowed", "the connection is not wanted any more"))
            return
        self._stop_deadline()
        waiting, self._waiting = self._waiting, None
        _replace(self, tls, protocol)
        if waiting is not None:
            waiting.callback(protocol)
        if len(data) > 1 and not tls.disconnecting:
            protocol.dataReceived(data[1:])

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._stop_deadline()
        if self._failure is None:
            refusal = self._refusal or self.verdict.refusal or self._explain(reason)
            self._failure = Failure(ConnectRefused(f"{self._where}: {refusal}"))
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.errback(self._failure)

    def _explain(self, reason: Failure) -> Refusal:
        if not self._is_shaken:
            refusal = explain_end(reason, "server", "the end of the TLS handshake")
            if refusal.code == "tls-closed":
                return refusal._replace(detail=refusal.detail + "; does this port speak TLS?")
        else:
            refusal = explain_end(reason, "server", "confirming it, so it refuses this client")
        if refusal.code in ("tls-nocert", "tls-alert", "tls-closed"):
            return refusal._replace(detail=f"{refusal.detail}: {self._remedy()}")
        return refusal

    def _refuse(self, refusal: Refusal) -> None:
        self._refusal = self._refusal or refusal
        if self.transport is not None:
            self.transport.abortConnection()

    def _expired(self) -> None:
        self._deadline = None
        what = "confirmation" if self._is_shaken else "end of the TLS handshake"
        self._refuse(
            Refusal(
                "tls-timeout",
                f"no {what} within {self._limits.handshake_seconds:g} s; "
                "is this an rpcstream or libvirt TLS port?",
            )
        )

    def _cancelled(self, waiting: Deferred[IProtocol]) -> None:
        # The Deferred fails with CancelledError by itself.
        self._waiting = None
        self._refuse(Refusal("cancelled", "connecting was cancelled"))

    def _stop_deadline(self) -> None:
        deadline, self._deadline = self._deadline, None
        if deadline is not None:
            deadline.cancel()
