"""
A TCP relay that cuts the connection at a chosen byte, or changes what it forwards.
"""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import ClientFactory, Factory, Protocol, connectionDone
from twisted.python.failure import Failure

__all__ = ["Relay"]


class _Side(Protocol):
    """One of the two connections."""

    transport: Any
    other: _Side | None = None

    def __init__(self, relay: Relay, is_client: bool) -> None:
        self.relay = relay
        self.is_client = is_client
        self.waiting: list[bytes] = []

    def connectionMade(self) -> None:
        if self.is_client:
            self.transport.pauseProducing()
            reactor.connectTCP("127.0.0.1", self.relay.target, _Onward(self))  # type: ignore[attr-defined]

    def dataReceived(self, data: bytes) -> None:
        if self.other is not None:
            self.relay.forward(self, self.other, data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.relay.sides.discard(self)
        if self.other is not None:
            self.other.transport.loseConnection()


class _Onward(ClientFactory):
    noisy = False

    def __init__(self, client: _Side) -> None:
        self.client = client

    def buildProtocol(self, addr: IAddress | None) -> _Side:
        side = _Side(self.client.relay, False)
        side.other, self.client.other = self.client, side
        self.client.relay.sides.update((side, self.client))
        reactor.callLater(0, self._joined, side)  # type: ignore[attr-defined]
        return side

    def _joined(self, side: _Side) -> None:
        # Whoever is slow shall make the other wait.
        side.transport.registerProducer(self.client.transport, True)
        self.client.transport.registerProducer(side.transport, True)
        self.client.transport.resumeProducing()


class Relay(Factory):
    """
    @ivar target: port that is relayed to.
    @ivar cut_at: bytes of both directions together after which it is cut, C{None} for never.
    @ivar how: C{"reset"}, C{"end"} (in TCP's order, not in TLS's), or C{"silence"}.
    @ivar passed: bytes that went through.
    """

    noisy = False

    def __init__(self, target: int) -> None:
        self.target = target
        self.cut_at: int | None = None
        self.how = "reset"
        self.passed = 0
        self.sides: set[_Side] = set()
        self.port: Any = None

    def listen(self) -> int:
        """@return: the port."""
        self.port = reactor.listenTCP(0, self, interface="127.0.0.1")  # type: ignore[attr-defined]
        return int(self.port.getHost().port)

    def stop(self) -> Any:
        """Cut all, and listen no more."""
        for side in list(self.sides):
            side.transport.abortConnection()
        return self.port.stopListening()

    def buildProtocol(self, addr: IAddress | None) -> _Side:
        return _Side(self, True)

    def forward(self, here: _Side, there: _Side, data: bytes) -> None:
        """Pass on, as far as the cut."""
        if self.cut_at is not None:
            data = data[: max(0, self.cut_at - self.passed)]
        self.passed += len(data)
        if data:
            there.transport.write(data)
        if self.cut_at is None or self.passed < self.cut_at or self.how == "silence":
            return
        for side in (here, there):
            if self.how == "reset":
                side.transport.abortConnection()
            else:
                side.transport.unregisterProducer()
                side.transport.loseConnection()
