"""
A host that is reconnected to: a Twisted service around L{Connection}.

What is tried again, and what is not:

  - A call waits for a connection, up to its deadline.
  - A call whose connection was lost before the reply is made again only if its procedure is
    C{idempotent} (it looks, and changes nothing); any other fails with
    L{ConnectionClosed}, whose C{may_have_run} tells that the daemon may have done it.
  - A stream is never begun again: half of it may be in the volume.
  - Subscriptions to events are registered again; each is told a L{Gap}.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any, TypeVar

from twisted.application.internet import ClientService
from twisted.internet.defer import CancelledError, Deferred, DeferredList, TimeoutError, succeed
from twisted.internet.interfaces import IProtocolFactory, IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import deferLater
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from rpcstream.errors import CallCancelled, ConnectionClosed, DeadlineExceeded, RemoteError
from rpcstream.libvirt.bulk import BulkConnections
from rpcstream.libvirt.connection import Connection
from rpcstream.libvirt.dialing import Dialer
from rpcstream.libvirt.events import Gap, Subscription
from rpcstream.libvirt.host import Host
from rpcstream.limits import DEFAULT_LIMITS, Limits
from rpcstream.net.client import CONNECTION_DEFAULT
from rpcstream.net.threads import Runner, ThreadRunner
from rpcstream.programs.base import Procedure

__all__ = ["ConnectionService"]

R = TypeVar("R")

TRIES = 5
"""How often an idempotent call is made, if its connection is lost each time."""


class ConnectionService(Host, ClientService):
    """
    A host, connected to for as long as the service runs.

    Give it a parent, or call C{startService()}.  Domains, pools and volumes that it gives stay
    good over reconnects.
    """

    log = Logger()

    def __init__(
        self,
        uri: str,
        *,
        username: str | None = None,
        password: str | None = None,
        pki: str | Path | None = None,
        insecure: bool = False,
        read_only: bool = False,
        limits: Limits = DEFAULT_LIMITS,
        endpoint: IStreamClientEndpoint | None = None,
        runner: Runner | None = None,
        reactor: Any = None,
        retry_policy: Callable[[int], float] | None = None,
    ) -> None:
        """
        @param retry_policy: seconds to wait by the number of failures in a row, as
            L{ClientService} takes it; other parameters as of L{connect<rpcstream.libvirt.connect.connect>}.
        @raise ConfigurationError: the URI or the file with the password cannot be used.
        """
        if reactor is None:
            from twisted.internet import reactor
        self.limits = limits
        self._own_runner = ThreadRunner(reactor, thread_count=4) if runner is None else None
        self._dialer = Dialer.of(
            uri,
            username=username,
            password=password,
            pki=pki,
            insecure=insecure,
            read_only=read_only,
            limits=limits,
            runner=self._own_runner or runner,
            reactor=reactor,
            endpoint=endpoint,
        )
        self._bulk = BulkConnections(lambda: self._dialer.dial(is_main=False))
        self._subscriptions: list[Subscription] = []
        self._confirmed: set[Subscription] = set()
        self._last_error: Exception | None = None
        factory = Factory.forProtocol(Protocol)
        factory.noisy = False
        super().__init__(_OpenedEndpoint(self._dial), factory, retry_policy, reactor)

    @property
    def runner(self) -> Runner:
        """Where blocking work runs."""
        return self._dialer.runner

    @property
    def clock(self) -> Any:
        """The reactor, for its time."""
        return self._dialer.reactor

    # --- the connection --------------------------------------------------------------------

    async def _dial(self) -> Connection:
        try:
            connection = await self._dialer.dial()
            connection.keeps_subscriptions = True
            try:
                await self._register_again(connection)
            except BaseException:
                connection.close()
                raise
        except Exception as error:
            self._last_error = error
            self.log.warn("{uri}: {error}", uri=self._dialer.uri.text, error=error)
            raise
        return connection

    def connected(self, *, failures: int | None = None) -> Deferred[Connection]:
        """
        Fires with the present connection, or the next one; fails when the service stops.

        @param failures: fail after so many failed attempts in a row, with the error of the last.
        """
        return Deferred.fromCoroutine(self._connected(failures))

    async def _connected(self, failures: int | None) -> Connection:
        waiting = self.whenConnected(failures)
        is_there = waiting.called
        try:
            protocol: Any = await waiting
        finally:
            if not is_there:
                # We are called from within ClientService, which cannot be asked or stopped now.
                await self._next_turn()
        connection: Connection = protocol.transport.connection
        return connection

    async def _connection(self, deadline: float | None) -> Connection:
        """
        The present connection, or the next one.

        @raise ConnectionClosed: there is none until C{deadline}, or the service stops.
        """
        waiting = self.connected()
        if deadline is not None:
            waiting.addTimeout(max(0.0, deadline - self.clock.seconds()), self.clock)
        try:
            return await waiting
        except CancelledError:
            if self.running:
                raise CallCancelled("the call was cancelled") from None
            raise ConnectionClosed("the service is stopped") from None
        except TimeoutError:
            why = f": {self._last_error}" if self._last_error is not None else ""
            raise ConnectionClosed(f"no connection{why}") from None

    def _next_turn(self) -> Deferred[None]:
        """The calls of a lost connection fail before C{ClientService} has heard of the loss."""
        return deferLater(self.clock, 0)

    def call(
        self, request: Procedure[R], *, timeout_seconds: float | None = CONNECTION_DEFAULT
    ) -> Deferred[R]:
        """See L{Host.call}, and the module for what is tried again."""
        return Deferred.fromCoroutine(self._call(request, timeout_seconds))

    async def _call(self, request: Procedure[R], timeout_seconds: float | None) -> R:
        seconds = self.limits.call_seconds if timeout_seconds == CONNECTION_DEFAULT else timeout_seconds
        deadline = None if seconds is None else self.clock.seconds() + seconds
        tries = 1
        while True:
            connection = await self._connection(deadline)
            left = None if deadline is None else deadline - self.clock.seconds()
            if left is not None and left <= 0:
                raise DeadlineExceeded(request.__procedure__.name, seconds or 0.0)
            try:
                return await connection.call(request, timeout_seconds=left)
            except ConnectionClosed as error:
                if error.may_have_run and (not request.__procedure__.idempotent or tries >= TRIES):
                    raise
            await self._next_turn()
            tries += 1

    def start_stream(self, request: Any, shared: bool, options: dict[str, Any]) -> Deferred[Any]:
        """See L{Host.open}; a stream is never begun again."""
        if not shared:
            return Deferred.fromCoroutine(self._bulk.open(request, options))

        async def open_shared() -> Any:
            connection = await self._connection(self.clock.seconds() + self.limits.call_seconds)
            return await connection.start_stream(request, True, options)

        return Deferred.fromCoroutine(open_shared())

    # --- events ----------------------------------------------------------------------------

    def subscribe(self, subscription: Subscription) -> Deferred[None]:
        """See L{Subscription}; it lasts until it is cancelled, or the service stops."""
        return Deferred.fromCoroutine(self._subscribe(subscription))

    async def _subscribe(self, subscription: Subscription) -> None:
        self._subscriptions.append(subscription)
        try:
            while True:
                connection = await self._connection(self.clock.seconds() + self.limits.call_seconds)
                if subscription in self._confirmed:
                    return
                try:
                    await connection.subscribe(subscription, lambda: self._confirmed.add(subscription))
                    return
                except ConnectionClosed:
                    await self._next_turn()
        except BaseException:
            self._forget(subscription)
            raise

    def _forget(self, subscription: Subscription) -> None:
        if subscription in self._subscriptions:
            self._subscriptions.remove(subscription)
        self._confirmed.discard(subscription)

    def unsubscribe(self, subscription: Subscription) -> Deferred[None]:
        """See L{Subscription.cancel}."""
        self._forget(subscription)
        if not self.running:
            return succeed(None)

        async def remove() -> None:
            try:
                connection = await self._connection(self.clock.seconds())
                await connection.unsubscribe(subscription)
            except ConnectionClosed:
                # Gone with its connection.
                return

        return Deferred.fromCoroutine(remove())

    async def _register_again(self, connection: Connection) -> None:
        """
        All who were registered on the connection before this one.

        @raise ConnectionClosed: this one is lost as well.
        """
        gap = Gap("the connection was lost and made again")
        for subscription in [each for each in self._subscriptions if each in self._confirmed]:

            def confirmed(subscription: Subscription = subscription) -> None:
                subscription.interrupted(gap)

            try:
                await connection.subscribe(subscription, confirmed)
            except RemoteError as error:
                # Its domain is gone, most likely.
                self._forget(subscription)
                subscription.end(error)

    # --- the end ---------------------------------------------------------------------------

    def stopService(self) -> Deferred[None]:
        """Close the connections; subscriptions end."""
        subscriptions, self._subscriptions = self._subscriptions, []
        self._confirmed.clear()
        stopping: Any = DeferredList([self._bulk.close(), super().stopService()], consumeErrors=True)

        def stopped(_: Any) -> None:
            for subscription in subscriptions:
                subscription.end(ConnectionClosed("the service was stopped"))
            if self._own_runner is not None:
                self._own_runner.stop()

        done: Deferred[None] = stopping.addCallback(stopped)
        return done


# --- a connection as ClientService sees one --------------------------------------------------


class _OpenedTransport:
    """What L{ClientService} closes."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    def loseConnection(self) -> None:
        self.connection.close()


@implementer(IStreamClientEndpoint)
class _OpenedEndpoint:
    """Connects only when the driver is open, so that nobody sees a connection before."""

    def __init__(self, dial: Callable[[], Any]) -> None:
        self._dial = dial

    def connect(self, protocolFactory: IProtocolFactory) -> Deferred[Any]:
        """As every endpoint."""
        return Deferred.fromCoroutine(self._connect(protocolFactory))

    async def _connect(self, factory: Any) -> Any:
        connection: Connection = await self._dial()
        if not connection.client.link.is_connected:
            raise ConnectionClosed(await connection.when_closed())
        protocol = factory.buildProtocol(None)
        protocol.makeConnection(_OpenedTransport(connection))
        connection.when_closed().addCallback(
            lambda reason: protocol.connectionLost(Failure(ConnectionClosed(reason)))
        )
        return protocol
