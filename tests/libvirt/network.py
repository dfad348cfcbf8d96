"""
Connections in memory, as many as are asked for, on one clock.
"""

from __future__ import annotations

from typing import Any, TypeVar

from twisted.internet.address import IPv4Address
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from zope.interface import implementer

from rpcstream.errors import ConnectRefused
from rpcstream.limits import DEFAULT_LIMITS, Limits
from rpcstream.net.identity import Principal
from rpcstream.net.responders import Responders
from rpcstream.net.server import ServerConnection
from rpcstream.net.service import Serving
from rpcstream.net.threads import InlineRunner
from rpcstream.services.policy import any_authenticated
from rpcstream.testing import Deadlock, MemoryTransport

__all__ = ["Network"]

T = TypeVar("T")

_ADDRESS = IPv4Address("TCP", "127.0.0.1", 1)


@implementer(IStreamClientEndpoint)
class Network:
    """
    A server, and the endpoint that leads to it.

    @ivar clock: advance it to let time pass.
    @ivar connections: the server's ends, in the order in which they were made.
    @ivar is_down: connecting fails.
    """

    def __init__(self, *responders: object, limits: Limits = DEFAULT_LIMITS) -> None:
        self.clock = Clock()
        self.runner = InlineRunner()
        self.is_down = False
        who = Principal("tester", "tls", None, _ADDRESS, names=("tester",))
        self.serving = Serving(
            Responders(*responders, partial=True),
            any_authenticated,
            self.clock,
            self.runner,
            limits,
            identify=lambda _: who,
        )
        self.connections: list[ServerConnection] = []
        self._transports: list[MemoryTransport] = []

    def connect(self, protocolFactory: Any) -> Deferred[Any]:
        """As every endpoint."""
        if self.is_down:
            return fail(ConnectRefused("nobody listens"))
        client, server = MemoryTransport("client"), MemoryTransport("server")
        client.peer, server.peer = server, client
        connection = ServerConnection(self.serving)
        self.connections.append(connection)
        self._transports += [client, server]
        client.protocol, server.protocol = protocolFactory.buildProtocol(_ADDRESS), connection.link
        server.protocol.makeConnection(server)
        client.protocol.makeConnection(client)
        return succeed(client.protocol)

    def pump(self) -> None:
        """Move bytes until nothing moves."""
        while True:
            moved = sum(transport.deliver(1 << 40, None) for transport in list(self._transports))
            before = len(self._transports)
            self.clock.advance(0)
            idle = all(transport.is_idle for transport in self._transports)
            if not moved and idle and before == len(self._transports) and not self._is_due():
                return

    def _is_due(self) -> bool:
        return any(call.getTime() <= self.clock.seconds() for call in self.clock.getDelayedCalls())

    def advance(self, seconds: float, step: float = 0.5) -> None:
        """Let time pass, moving bytes all the while."""
        self.pump()
        while seconds > 0:
            self.clock.advance(min(step, seconds))
            seconds -= step
            self.pump()

    def result_of(self, deferred: Deferred[T]) -> T:
        """
        Pump until C{deferred} has fired; returns its result or raises its error.

        @raise Deadlock: nothing moves and it has not fired.
        """
        results: list[Any] = []
        deferred.addBoth(results.append)
        self.pump()
        if not results:
            raise Deadlock("nothing moves any more and there is no result")
        if isinstance(results[0], Failure):
            results[0].raiseException()
        return results[0]  # type: ignore[no-any-return]

    def run(self, coroutine: Any) -> Any:
        """As L{result_of}, for a coroutine."""
        return self.result_of(Deferred.fromCoroutine(coroutine))

    def cut(self) -> None:
        """Every connection is lost, without a word."""
        for transport in self._transports:
            if transport._connected:
                transport.abortConnection()
        self._transports.clear()
        self.pump()
