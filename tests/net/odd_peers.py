"""
TLS peers of other making: servers that end a handshake in their own way, the standard library
as a client.
"""

from __future__ import annotations

import contextlib
import ssl
from typing import Any

from OpenSSL import SSL
from twisted.internet import reactor
from twisted.internet.interfaces import IOpenSSLServerConnectionCreator
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from zope.interface import implementer

from rpcstream.net.pki import Pki
from tests.net.loopback import LoopbackTestCase, Recorder

__all__ = ["OddServerTestCase", "hello", "stdlib_client"]


def server_context(
    pki: Pki, lowest: int = SSL.TLS1_2_VERSION, highest: int = SSL.TLS1_3_VERSION
) -> SSL.Context:
    """Of a server that is not ours: it asks for no certificate."""
    context = SSL.Context(SSL.TLS_SERVER_METHOD)
    context.set_min_proto_version(lowest)
    context.set_max_proto_version(highest)
    context.use_certificate_chain_file(str(pki.directory / "servercert.pem"))
    context.use_privatekey_file(str(pki.directory / "serverkey.pem"))
    return context


class Odd(Recorder):
    """A server that ends the handshake in its own way."""

    answer = b""
    closes = False

    def connectionMade(self) -> None:
        super().connectionMade()
        if self.answer:
            TLSMemoryBIOProtocol.write(self.transport, self.answer)
        if self.closes:
            # Not before the handshake is over: Twisted would abort.
            TLSMemoryBIOProtocol.write(self.transport, b"")
            reactor.callLater(0.05, self.transport.loseConnection)


class OddServerTestCase(LoopbackTestCase):
    async def odd(
        self, *, pki: Pki | None = None, answer: bytes = b"", closes: bool = False, **versions: int
    ) -> int:
        context = server_context(pki or self.pki(), **versions)

        @implementer(IOpenSSLServerConnectionCreator)
        class Creator:
            def serverConnectionForTLS(self, protocol: TLSMemoryBIOProtocol) -> SSL.Connection:
                return SSL.Connection(context, None)

        def make() -> Odd:
            protocol = Odd()
            protocol.answer, protocol.closes = answer, closes
            return protocol

        self.server.make = make
        factory = TLSMemoryBIOFactory(Creator(), False, self.server, clock=reactor)
        return self.listen_with(factory)

    def listen_with(self, factory: Any) -> int:
        port = reactor.listenTCP(0, factory, interface="127.0.0.1")
        self.addCleanup(port.stopListening)
        self.addCleanup(self.close_all)
        return int(port.getHost().port)


def stdlib_client(pki: Pki, protocols: tuple[str, ...] = ("rpcstream/1",)) -> ssl.SSLContext:
    """A TLS client of another making."""
    context = ssl.create_default_context(cafile=str(pki.directory / "cacert.pem"))
    context.load_cert_chain(pki.directory / "clientcert.pem", pki.directory / "clientkey.pem")
    if protocols:
        context.set_alpn_protocols(list(protocols))
    return context


def hello() -> bytes:
    """A ClientHello."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.set_alpn_protocols(["rpcstream/1"])
    outgoing = ssl.MemoryBIO()
    tls = context.wrap_bio(ssl.MemoryBIO(), outgoing, server_hostname="localhost")
    with contextlib.suppress(ssl.SSLWantReadError):
        tls.do_handshake()
    return outgoing.read()
