"""
Twisted's own TLS without any framing: C{python -m benchmarks.twisted_end serve PKI | send PKI PORT SIZE}.
"""

from __future__ import annotations

import json
import os
import sys
from pathlib import Path
from typing import Any

from twisted.internet import endpoints, protocol, ssl, task
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer
from zope.interface import implementer

WRITE_BYTES = 256 * 1024
CIPHERS = b"TLS_AES_128_GCM_SHA256"
"""What rpcstream's ends agree on."""


def _options(pki: str, end: str) -> Any:
    key, certificate = (Path(pki, f"{end}{kind}.pem").read_text() for kind in ("key", "cert"))
    authority = ssl.Certificate.loadPEM(Path(pki, "cacert.pem").read_bytes())
    own = ssl.PrivateCertificate.loadPEM(key + certificate)
    options = own.options(authority)
    options.getContext().set_tls13_ciphersuites(CIPHERS)
    return options


class Counting(protocol.Protocol):
    """Counts up to the announced length, then tells it."""

    transport: Any
    head = b""
    left = 0

    def dataReceived(self, data: bytes) -> None:
        if len(self.head) < 8:
            need = 8 - len(self.head)
            self.head, data = self.head + data[:need], data[need:]
            if len(self.head) < 8:
                return
            self.left = int.from_bytes(self.head, "big")
        self.left -= len(data)
        if self.left <= 0:
            self.transport.write((int.from_bytes(self.head, "big") - self.left).to_bytes(8, "big"))


@implementer(IPushProducer)
class Sending(protocol.Protocol):
    """Writes while the transport takes more."""

    transport: Any

    def __init__(self, reactor: Any, size: int) -> None:
        self.done: Deferred[dict[str, Any]] = Deferred()
        self._reactor = reactor
        self._left = size
        self._size = size
        self._pool = os.urandom(8 << 20)
        self._pieces = [self._pool[at : at + WRITE_BYTES] for at in range(0, 8 << 20, WRITE_BYTES)]
        self._number = 0
        self._paused = False
        self._answer = b""

    def connectionMade(self) -> None:
        self._started = self._reactor.seconds()
        self.transport.write(self._size.to_bytes(8, "big"))
        self.transport.registerProducer(self, True)
        self.resumeProducing()

    def pauseProducing(self) -> None:
        self._paused = True

    def stopProducing(self) -> None:
        self._paused = True

    def resumeProducing(self) -> None:
        self._paused = False
        while self._left and not self._paused:
            piece = self._pieces[self._number % len(self._pieces)][: self._left]
            self._number += 1
            self._left -= len(piece)
            self.transport.write(piece)

    def dataReceived(self, data: bytes) -> None:
        self._answer += data
        if len(self._answer) >= 8:
            seconds = self._reactor.seconds() - self._started
            self.done.callback({"amount": int.from_bytes(self._answer, "big"), "seconds": seconds})


async def send(reactor: Any, pki: str, port: str, size: str) -> None:
    """Send once, and print what it took."""
    endpoint = endpoints.wrapClientTLS(
        _options(pki, "client"), endpoints.TCP4ClientEndpoint(reactor, "127.0.0.1", int(port))
    )
    sending = await endpoints.connectProtocol(endpoint, Sending(reactor, int(size)))
    print(json.dumps(await sending.done))
    sending.transport.abortConnection()


async def serve(reactor: Any, pki: str) -> None:
    """Until the process is ended."""
    endpoint = endpoints.SSL4ServerEndpoint(reactor, 0, _options(pki, "server"), interface="127.0.0.1")
    listening = await endpoint.listen(protocol.Factory.forProtocol(Counting))
    print(json.dumps({"port": listening.getHost().port}), flush=True)
    await Deferred()


if __name__ == "__main__":
    role: Any = {"serve": serve, "send": send}[sys.argv[1]]
    task.react(lambda reactor, *words: Deferred.fromCoroutine(role(reactor, *words)), sys.argv[2:])
