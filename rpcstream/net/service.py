"""
C{serve}: responders on endpoints, as a Twisted service.
"""

from __future__ import annotations

import functools
import os
from collections import Counter
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any, Protocol

from twisted.application.internet import StreamServerEndpointService
from twisted.application.service import MultiService
from twisted.internet.address import UNIXAddress
from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IStreamServerEndpoint
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from zope.interface import implementer

from rpcstream.limits import DEFAULT_LIMITS, Limits
from rpcstream.net.assembly import AssemblyBudget
from rpcstream.net.endpoints import server_endpoint
from rpcstream.net.flow_responders import FlowResponders
from rpcstream.net.identity import Principal, principal_of
from rpcstream.net.link import Link
from rpcstream.net.responders import Guard, Responder, Responders
from rpcstream.net.server import ServerConnection
from rpcstream.net.threads import Runner, ThreadRunner
from rpcstream.programs.base import Event

__all__ = ["Decides", "RPCService", "Serving", "Verdict", "serve"]


class Verdict(Protocol):
    """What a policy answers."""

    @property
    def allowed(self) -> bool: ...

    @property
    def reason(self) -> str: ...


class Decides(Protocol):
    """
    A policy: who may do what.

    C{resource} and C{pool} are C{None} when only the header is known: answer
    whether this caller may use the permission for any resource at all.
    """

    def decide(
        self, principal_name: str, permission: str, resource: str | None, pool: str | None = None
    ) -> Verdict: ...


class Serving:
    """
    What the connections of one server share.

    @ivar policy: asked before every call.
    @ivar identify: tells from a transport who the peer is.
    @ivar stream_count: streams open in this server.
    @ivar assembly: memory for the large messages of all of them.
    @ivar connections: all clients.
    """

    def __init__(
        self,
        responders: Responders,
        policy: Decides,
        clock: Any,
        runner: Runner,
        limits: Limits = DEFAULT_LIMITS,
        identify: Callable[[Any], Principal] = principal_of,
    ) -> None:
        self.policy = policy
        self.identify = identify
        self.clock = clock
        self.runner = runner
        self.limits = limits
        self.stream_count = 0
        self.assembly = AssemblyBudget(limits.assembly_budget_bytes)
        self.connections: set[ServerConnection] = set()
        self._responders: dict[tuple[int, int, int], Responder] = {}
        self._programs: dict[tuple[int, int], Responders] = {}
        self._guards: dict[tuple[int, int], Guard] = {}
        self._enter(responders)
        self._enter(Responders(FlowResponders()))  # its own come before the user's
        self._per_principal: Counter[str] = Counter()
        self._empty: list[Deferred[None]] = []

    def _enter(self, table: Responders) -> None:
        """Into one table of all, so that a call costs one look-up."""
        self._responders.update(table.table)
        for key in table.programs:
            self._programs[key] = table
            self._guards.pop(key, None)
            guard = table.guard(*key)
            if guard is not None:
                self._guards[key] = guard

    def find(self, program: int, version: int, number: int) -> Responder | None:
        """The responder of one procedure."""
        return self._responders.get((program, version, number))

    def responders_of(self, program: int, version: int) -> Responders | None:
        """The table that serves this program version."""
        return self._programs.get((program, version))

    def guard_of(self, program: int, version: int) -> Guard | None:
        """What is asked before the calls of this program version are looked at."""
        return self._guards.get((program, version))

    def __contains__(self, program: object) -> bool:
        """Whether a (program, version) pair is served."""
        return program in self._programs

    def program(self, number: int, version: int) -> Any:
        """The Program served under these numbers, C{None} if there is none."""
        table = self.responders_of(number, version)
        return None if table is None else table.program(number, version)

    def add(self, connection: ServerConnection) -> str | None:
        """A client has come; the reason if there is no room for it."""
        name = connection.principal.name
        if len(self.connections) >= self.limits.connections:
            return f"{self.limits.connections} connections are open"
        if self._per_principal[name] >= self.limits.connections_per_principal:
            return f"{self.limits.connections_per_principal} connections of {name} are open"
        self.connections.add(connection)
        self._per_principal[name] += 1
        return None

    def remove(self, connection: ServerConnection) -> None:
        """A client is gone."""
        if connection in self.connections:
            self.connections.discard(connection)
            self._uncount(connection.principal.name)
        if not self.connections:
            empty, self._empty = self._empty, []
            for waiter in empty:
                waiter.callback(None)

    def renamed(self, connection: ServerConnection, principal: Principal) -> None:
        """A client has proved inside its connection (SASL) who it is."""
        if connection in self.connections:
            self._uncount(connection.principal.name)
            self._per_principal[principal.name] += 1
        connection.principal = principal

    def _uncount(self, name: str) -> None:
        self._per_principal[name] -= 1
        if not self._per_principal[name]:
            del self._per_principal[name]

    def emit(self, event: Event, to: Callable[[ServerConnection], bool] = lambda _: True) -> None:
        """Send an event to all who subscribed and for whom C{to} holds."""
        procedure = event.__procedure__
        key = (procedure.program.number, procedure.program.version, procedure.number)
        for connection in list(self.connections):
            if key in connection.subscriptions and to(connection):
                connection.emit(event)

    def drain(self) -> Deferred[None]:
        """Close every connection; fires when all are gone, at the latest after C{limits.drain_seconds}."""
        done: Deferred[None] = Deferred()
        self._empty.append(done)
        for connection in list(self.connections):
            connection.link.close("the service stops")
        timer = self.clock.callLater(self.limits.drain_seconds, self._abort_all)

        def stop_timer(result: None) -> None:
            if timer.active():
                timer.cancel()

        done.addCallback(stop_timer)
        if not self.connections:
            self._empty.remove(done)
            done.callback(None)
        return done

    def _abort_all(self) -> None:
        for connection in list(self.connections):
            connection.link.abort("the service stops")


class ServerFactory(Factory):
    """Builds a L{Link} for each accepted connection."""

    noisy = False

    def __init__(self, serving: Serving) -> None:
        self.serving = serving

    def buildProtocol(self, addr: Any) -> Link:
        """Called by Twisted for each connection."""
        return ServerConnection(self.serving).link


@implementer(IStreamServerEndpoint)
class _Announcing:
    """An endpoint that tells when it listens, and where."""

    def __init__(self, endpoint: IStreamServerEndpoint, listens: Callable[[IListeningPort], None]) -> None:
        self._endpoint = endpoint
        self._listens = listens

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        """As the endpoint itself."""

        def announce(port: IListeningPort) -> IListeningPort:
            self._listens(port)
            return port

        return self._endpoint.listen(protocolFactory).addCallback(announce)


class RPCService(MultiService):
    """
    Responders on one or more endpoints, until it is stopped.

    Stopping closes the connections in order, within C{limits.drain_seconds}.

    @ivar serving: what the connections share.
    @ivar ports: what it listens on; where the system chose a port, it is told here.
    """

    log = Logger()

    def __init__(
        self,
        serving: Serving,
        endpoints: Sequence[tuple[str, IStreamServerEndpoint]],
        own_runner: ThreadRunner | None = None,
    ) -> None:
        """
        @param own_runner: threads that end with this service.
        """
        super().__init__()  # type: ignore[no-untyped-call]
        self.serving = serving
        self.ports: list[IListeningPort] = []
        self._own_runner = own_runner
        factory = ServerFactory(serving)
        for description, endpoint in endpoints:
            announcing = _Announcing(endpoint, functools.partial(self._listens, description))
            listening = StreamServerEndpointService(announcing, factory)
            # A port that cannot be had must stop the start, not be logged away.
            listening._raiseSynchronously = True
            listening.setServiceParent(self)

    def _listens(self, description: str, port: IListeningPort) -> None:
        self.ports.append(port)
        self.log.info("listening on {where} ({endpoint})", where=_where(port), endpoint=description)

    def emit(self, event: Event, to: Callable[[ServerConnection], bool] = lambda _: True) -> None:
        """Send an event to all who subscribed and for whom C{to} holds."""
        self.serving.emit(event, to)

    def startService(self) -> None:
        """Listen; a port that cannot be had raises."""
        super().startService()  # type: ignore[no-untyped-call]

    def stopService(self) -> Deferred[None]:
        """Stop listening, drain the connections, end the service's own threads."""
        listening: Any = super().stopService()  # type: ignore[no-untyped-call]
        stopping = [Deferred.fromCoroutine(_as_coroutine(listening)), self.serving.drain()]
        done: Deferred[Any] = DeferredList(stopping, consumeErrors=True)
        return done.addCallback(self._stopped)

    def _stopped(self, _: Any) -> None:
        self.ports.clear()
        if self._own_runner is not None:
            self._own_runner.stop()


def _where(port: IListeningPort) -> str:
    """An address as a person writes it."""
    address: Any = port.getHost()
    if isinstance(address, UNIXAddress):
        return os.fsdecode(address.name or b"")
    host = getattr(address, "host", None)
    if host is None:
        return str(address)
    return f"[{host}]:{address.port}" if ":" in host else f"{host}:{address.port}"


async def _as_coroutine(deferred: Any) -> Any:
    return await deferred if deferred is not None else None


def serve(
    endpoints: str | Sequence[str],
    *responders: object,
    policy: Decides,
    pki: str | Path | None = None,
    insecure: bool = False,
    partial: bool = False,
    limits: Limits = DEFAULT_LIMITS,
    runner: Runner | None = None,
    reactor: Any = None,
) -> RPCService:
    """
    Serve responders on endpoints.

    @param endpoints: C{rpctls:PORT[:interface=ADDR][:pki=DIR]}, C{unix:PATH}, or
        any Twisted server string with C{insecure}.
    @param responders: objects with C{@X.responder} methods.
    @param policy: who may do what; there is no default.
    @param partial: permit programs with procedures that nobody answers.
    @return: a service; give it a parent, or start it.
    @raise ConfigurationError: an endpoint, a certificate or a responder is missing.
    """
    if reactor is None:
        from twisted.internet import reactor
    descriptions = [endpoints] if isinstance(endpoints, str) else list(endpoints)
    own_runner = None
    if runner is None:
        runner = own_runner = ThreadRunner(reactor)
    serving = Serving(Responders(*responders, partial=partial), policy, reactor, runner, limits)
    built = [
        (text, server_endpoint(reactor, text, pki=pki, insecure=insecure, limits=limits))
        for text in descriptions
    ]
    return RPCService(serving, built, own_runner)
