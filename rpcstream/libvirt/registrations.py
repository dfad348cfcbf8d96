"""
How one connection asks the daemon for events, and finds who wants each of them.

A daemon of today numbers its registrations (C{callback_id}); one without
L{Feature.EVENT_CALLBACKS} knows one registration a connection, for all domains.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred, DeferredLock, succeed

from rpcstream.libvirt.events import Subscription
from rpcstream.net.calls import Call
from rpcstream.net.client import ClientConnection
from rpcstream.programs import remote
from rpcstream.programs.remote import DomainEventID, Feature

__all__ = ["Registrations"]


def _nothing() -> None:
    pass


class Registrations:
    """
    The subscriptions of one connection; it is given to the L{ClientConnection} as the
    responder of the daemon's events.

    @ivar connection: set when there is one.
    @ivar features: what the daemon can do.
    @ivar driver_closed: called with a reason when the daemon has lost its hypervisor.
    """

    def __init__(self, held_limit: int) -> None:
        """
        @param held_limit: most events held for registrations that are not confirmed yet.
        """
        self.connection: ClientConnection | None = None
        self.features: frozenset[Feature] = frozenset()
        self.driver_closed: Callable[[int], object] = lambda reason: None
        self._held_limit = held_limit
        self._by_id: dict[int, Subscription] = {}
        self._unnumbered: list[Subscription] = []
        # A second registration while the first is under way would be refused.
        self._unnumbered_lock = DeferredLock()
        self._pending_count = 0
        self._held: list[remote.DomainEventCallbackLifecycle] = []

    # --- asking --------------------------------------------------------------------------

    def add(self, subscription: Subscription, confirmed: Callable[[], object] = _nothing) -> Deferred[None]:
        """
        Register; fires when the daemon has confirmed.

        @param confirmed: called then, before the first event.
        @raise RemoteError: it refuses (as errback).
        """
        if Feature.EVENT_CALLBACKS not in self.features:
            return Deferred.fromCoroutine(self._add_unnumbered(subscription, confirmed))
        return Deferred.fromCoroutine(self._add_numbered(subscription, confirmed))

    async def _add_numbered(self, subscription: Subscription, confirmed: Callable[[], object]) -> None:
        self._pending_count += 1
        try:
            request = remote.ConnectDomainEventCallbackRegisterAny(
                DomainEventID.LIFECYCLE, subscription.domain
            )
            callback_id = await self._connection.call(request)
        finally:
            self._pending_count -= 1
            held, self._held = self._held, []
        confirmed()
        self._by_id[callback_id] = subscription
        # What came before the reply, in the order in which it came.
        for event in held:
            self._deliver(event)

    async def _add_unnumbered(self, subscription: Subscription, confirmed: Callable[[], object]) -> None:
        await self._unnumbered_lock.acquire()
        try:
            if not self._unnumbered:
                await self._connection.call(remote.ConnectDomainEventRegisterAny(DomainEventID.LIFECYCLE))
            confirmed()
            self._unnumbered.append(subscription)
        finally:
            self._unnumbered_lock.release()

    def remove(self, subscription: Subscription) -> Deferred[None]:
        """Take a registration back; harmless when there is none."""
        for callback_id, known in list(self._by_id.items()):
            if known is subscription:
                del self._by_id[callback_id]
                return self._connection.call(remote.ConnectDomainEventCallbackDeregisterAny(callback_id))
        if subscription in self._unnumbered:
            self._unnumbered.remove(subscription)
            if not self._unnumbered:
                return self._connection.call(remote.ConnectDomainEventDeregisterAny(DomainEventID.LIFECYCLE))
        return succeed(None)

    def clear(self) -> list[Subscription]:
        """The connection is gone: who was registered on it."""
        subscriptions = [*self._by_id.values(), *self._unnumbered]
        self._by_id.clear()
        self._unnumbered.clear()
        return subscriptions

    @property
    def _connection(self) -> ClientConnection:
        if self.connection is None:
            raise RuntimeError("no connection was given")
        return self.connection

    # --- what the daemon tells -----------------------------------------------------------

    @remote.DomainEventCallbackLifecycle.responder
    def lifecycle(self, call: Call, event: remote.DomainEventCallbackLifecycle) -> None:
        """An event for one registration."""
        self._deliver(event)

    def _deliver(self, event: remote.DomainEventCallbackLifecycle) -> None:
        subscription = self._by_id.get(event.callback_id)
        if subscription is not None:
            subscription.event_received(event.domain, event.event, event.detail)
        elif self._pending_count and len(self._held) < self._held_limit:
            # Its reply may be on the way: the daemon sends events from another thread.
            self._held.append(event)

    @remote.DomainEventLifecycle.responder
    def unnumbered_lifecycle(self, call: Call, event: remote.DomainEventLifecycle) -> None:
        """An event of a daemon without numbers, for everybody who wants its domain."""
        for subscription in list(self._unnumbered):
            wanted = subscription.domain
            if wanted is None or wanted.uuid == event.domain.uuid:
                subscription.event_received(event.domain, event.event, event.detail)

    @remote.ConnectEventConnectionClosed.responder
    def hypervisor_lost(self, call: Call, event: remote.ConnectEventConnectionClosed) -> None:
        """The daemon lives, its hypervisor does not."""
        self.driver_closed(event.reason)
