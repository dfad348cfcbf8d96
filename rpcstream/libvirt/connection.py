"""
One open connection to a libvirt daemon.
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, Self, TypeVar

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from rpcstream.errors import ConnectionClosed, RPCStreamError
from rpcstream.libvirt.bulk import BulkConnections, Dial
from rpcstream.libvirt.events import Subscription
from rpcstream.libvirt.host import Host
from rpcstream.libvirt.opening import Opened
from rpcstream.libvirt.registrations import Registrations
from rpcstream.libvirt.sharing import watch_shared
from rpcstream.net.client import CONNECTION_DEFAULT, ClientConnection
from rpcstream.net.threads import Runner
from rpcstream.programs import remote
from rpcstream.programs.base import Procedure
from rpcstream.programs.remote import AuthType, Feature

__all__ = ["Connection"]

R = TypeVar("R")

_CLOSE_REASONS = {0: "error", 1: "end of file", 2: "keepalive", 3: "client"}


class Connection(Host):
    """
    A connection, usable from the moment C{connect()} fires, until it is closed or lost.

    Leaving C{async with} closes it.

    @ivar client: the layer below, for what is not here.
    @ivar authentication: how this side proved who it is.
    @ivar features: what the daemon can do.
    @ivar keeps_subscriptions: whether subscriptions outlive it, because a service will
        register them again.
    """

    log = Logger()

    def __init__(
        self, client: ClientConnection, registrations: Registrations, opened: Opened, dial: Dial
    ) -> None:
        """
        @param dial: makes further connections, for streams.
        """
        self.client = client
        self.limits = client.limits
        self.authentication: AuthType = opened.authentication
        self.features: frozenset[Feature] = opened.features
        self.keeps_subscriptions = False
        self._registrations = registrations
        self._bulk = BulkConnections(dial)
        self._is_closing = False
        registrations.connection = client
        registrations.features = opened.features
        registrations.driver_closed = self._hypervisor_lost
        client.when_closed().addCallback(self._lost)

    @property
    def runner(self) -> Runner:
        """Where blocking work runs."""
        return self.client.link.runner

    @property
    def clock(self) -> Any:
        """The reactor, for its time."""
        return self.client.clock

    def call(
        self, request: Procedure[R], *, timeout_seconds: float | None = CONNECTION_DEFAULT
    ) -> Deferred[R]:
        """See L{Host.call}.  Cancelling it stops the waiting; the daemon goes on."""
        return self.client.call(request, timeout_seconds=timeout_seconds)

    # --- streams ---------------------------------------------------------------------------

    def start_stream(self, request: Any, shared: bool, options: dict[str, Any]) -> Deferred[Any]:
        """See L{Host.open}."""
        opening = self._open_shared(request, options) if shared else self._bulk.open(request, options)
        return Deferred.fromCoroutine(opening)

    async def _open_shared(self, request: Any, options: dict[str, Any]) -> Any:
        stream = await self.client.open(request, **options)
        watch_shared(stream, self.client.clock)
        return stream

    # --- events ----------------------------------------------------------------------------

    def subscribe(
        self, subscription: Subscription, confirmed: Callable[[], object] = lambda: None
    ) -> Deferred[None]:
        """
        See L{Subscription}.

        @param confirmed: called before the first event.
        """
        return self._registrations.add(subscription, confirmed)

    def unsubscribe(self, subscription: Subscription) -> Deferred[None]:
        """See L{Subscription.cancel}."""
        return self._registrations.remove(subscription)

    def _hypervisor_lost(self, reason: int) -> None:
        why = f"the daemon has lost its hypervisor: {_CLOSE_REASONS.get(reason, reason)}"
        self.log.warn("connection with {peer}: {why}", peer=self.client.link.peer, why=why)
        self.client.link.close(why)

    # --- the end ---------------------------------------------------------------------------

    def _lost(self, reason: str) -> None:
        subscriptions = self._registrations.clear()
        if not self.keeps_subscriptions:
            for subscription in subscriptions:
                subscription.end(ConnectionClosed(reason))

    def close(self) -> Deferred[None]:
        """
        Close in order: the streams' own connections, then CONNECT_CLOSE, then the transport.

        @return: fires when it is gone; each step takes at most C{limits.close_seconds}.
        """
        if not self._is_closing:
            self._is_closing = True
            Deferred.fromCoroutine(self._close()).addErrback(
                lambda failure: self.log.failure("closing a connection", failure)
            )
        return self.when_closed().addCallback(lambda _: None)

    async def _close(self) -> None:
        await self._bulk.close()
        try:
            await self.client.call(remote.ConnectClose(), timeout_seconds=self.limits.close_seconds)
        except RPCStreamError as error:
            # Gone already, or in no state to answer: the end of the transport says it as well.
            self.log.debug("CONNECT_CLOSE: {error}", error=error)
        await self.client.close()

    def when_closed(self) -> Deferred[str]:
        """Fires with the reason when the connection has ended; never fails."""
        return self.client.when_closed()

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        await self.close()
        return None
