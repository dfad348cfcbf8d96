"""
Both ends of real TLS on 127.0.0.1, for tests of connections that are refused.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import ClientFactory, Factory, Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.logger import globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from rpcstream.errors import ConnectRefused
from rpcstream.limits import Limits
from rpcstream.net.endpoints import client_endpoint, server_endpoint
from rpcstream.net.pki import Pki
from rpcstream.net.refusal import Refusal
from tests.net.certificates import pki_directory

__all__ = ["LIMITS", "LoopbackTestCase", "Recorder"]

LIMITS = Limits(handshake_seconds=3.0, close_seconds=0.3)
QUICK = Limits(handshake_seconds=0.2, close_seconds=0.1)


class Recorder(Protocol):
    """Keeps what comes; can be waited for."""

    def __init__(self) -> None:
        self.received = b""
        self.calls: list[str] = []
        self.lost: Failure | None = None

    def connectionMade(self) -> None:
        self.calls.append("made")

    def dataReceived(self, data: bytes) -> None:
        self.calls.append("data")
        self.received += data

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.calls.append("lost")
        self.lost = reason


class RecorderFactory(Factory):
    noisy = False

    def __init__(self, make: Callable[[], Protocol | None] = Recorder) -> None:
        self.make = make
        self.protocols: list[Any] = []
        self.starts = 0
        self.stops = 0

    def doStart(self) -> None:
        self.starts += 1

    def doStop(self) -> None:
        self.stops += 1

    def buildProtocol(self, addr: IAddress | None) -> Any:
        protocol = self.make()
        self.protocols.append(protocol)
        return protocol


class LoopbackTestCase(TestCase):
    """
    @ivar server: the factory behind the port.
    @ivar refused: what the server refused.
    @ivar lines: what was logged.
    """

    timeout = 20
    limits = LIMITS

    def setUp(self) -> None:
        self.server = RecorderFactory()
        self.client = RecorderFactory()
        self.refused: list[Refusal] = []
        self.lines: list[dict[str, Any]] = []
        globalLogPublisher.addObserver(self.lines.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.lines.append)

    def pki(self, **changes: Any) -> Pki:
        return pki_directory(self.mktemp(), **changes)

    async def listen(self, pki: Pki | None = None, **keywords: Any) -> int:
        """
        @return: the port number.
        """
        keywords.setdefault("limits", self.limits)
        endpoint = server_endpoint(
            reactor,
            "rpctls:0:interface=127.0.0.1",
            pki=pki or self.pki(),
            refused=lambda refusal, address: self.refused.append(refusal),
            **keywords,
        )
        port = await endpoint.listen(self.server)
        self.addCleanup(port.stopListening)
        self.addCleanup(self.close_all)
        self.listening = port
        return int(port.getHost().port)

    def close_all(self) -> Deferred[None]:
        """Ends connections that are up; waits until both ends know."""
        for protocol in [*self.server.protocols, *self.client.protocols]:
            if protocol is not None and protocol.calls and protocol.lost is None:
                protocol.transport.abortConnection()
        return Deferred.fromCoroutine(
            self.until(
                lambda: all(
                    protocol is None or not protocol.calls or protocol.lost is not None
                    for protocol in [*self.server.protocols, *self.client.protocols]
                )
            )
        )

    def connect(
        self, port: int, pki: Pki | None = None, host: str = "127.0.0.1", **keywords: Any
    ) -> Deferred[Any]:
        keywords.setdefault("limits", self.limits)
        endpoint = client_endpoint(
            reactor, f"rpcstream+tls://{host}:{port}", pki=pki or self.pki(), **keywords
        )
        return endpoint.connect(self.client)

    async def until(self, condition: Callable[[], Any], seconds: float = 5) -> None:
        """Wait for C{condition}, or fail."""
        end = reactor.seconds() + seconds  # type: ignore[attr-defined]
        while not condition():
            self.assertLess(reactor.seconds(), end, "waited in vain")  # type: ignore[attr-defined]
            await deferLater(reactor, 0.01, lambda: None)  # type: ignore[arg-type]

    async def assert_refused(
        self,
        connecting: Deferred[Any],
        client_code: str,
        client_words: str,
        server_code: str | None,
        server_words: str = "",
    ) -> str:
        """
        Both ends say why, in one line each, before the deadline, and no protocol was ever
        connected.

        @return: the client's line.
        """
        started = reactor.seconds()  # type: ignore[attr-defined]
        error = await self.assertFailure(connecting, ConnectRefused)
        text = str(error)
        self.assertIn(f"({client_code})", text)
        self.assertIn(client_words, text)
        self.assertNotIn("\n", text)
        if server_code is not None:
            await self.until(lambda: self.refused)
            self.assertEqual([refusal.code for refusal in self.refused], [server_code], self.refused)
            self.assertIn(server_words, self.refused[0].detail)
            self.assert_logged(server_code)
        self.assertLess(reactor.seconds() - started, self.limits.handshake_seconds)  # type: ignore[attr-defined]
        self.assertEqual([protocol.calls for protocol in self.server.protocols if protocol], [])
        self.assertEqual([protocol.calls for protocol in self.client.protocols if protocol], [])
        return text

    def assert_logged(self, code: str) -> None:
        """The server logged exactly one line about it."""
        lines = [event for event in self.lines if event.get("code") is not None]
        self.assertEqual([event["code"] for event in lines], [code])
        self.assertNotIn("\n", lines[0]["detail"])

    async def raw(self, port: int) -> Recorder:
        """A plain TCP connection to the port."""
        recorder = Recorder()
        ready: Deferred[Recorder] = Deferred()

        class Raw(ClientFactory):
            noisy = False

            def buildProtocol(self, addr: IAddress | None) -> Recorder:
                reactor.callLater(0, ready.callback, recorder)  # type: ignore[attr-defined]
                return recorder

        self.client.protocols.append(recorder)
        reactor.connectTCP("127.0.0.1", port, Raw())  # type: ignore[attr-defined]
        return await ready
