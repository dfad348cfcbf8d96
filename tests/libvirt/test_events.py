"""
Lifecycle events: registrations, callbacks, iterators.
"""

from __future__ import annotations

import dataclasses
from typing import Any

from rpcstream import libvirt
from rpcstream.errors import ConnectionClosed, EventsLost
from rpcstream.limits import DEFAULT_LIMITS
from rpcstream.programs import remote
from rpcstream.programs.remote import DomainHandle
from tests.libvirt.daemon import DOMAIN, DaemonCase


class EventTests(DaemonCase):
    """A daemon that numbers its registrations."""

    limits = dataclasses.replace(DEFAULT_LIMITS, event_queue=3)

    def setUp(self) -> None:
        super().setUp()
        self.host = self.connect()
        self.events = self.host.domain_events()
        self.network.run(self.events.__aenter__())

    def _emit(self, *details: int) -> None:
        for detail in details:
            self.daemon.emit(0, detail)
        self.network.pump()

    def _next(self) -> Any:
        return self.result_of(self.events.__anext__())

    def test_iterating(self) -> None:
        """In order; waiting for what is not there yet; leaving deregisters."""
        self._emit(1, 2)
        first, second = self._next(), self._next()
        self.assertEqual((libvirt.Lifecycle.SUSPENDED, 1, 2), (first.event, first.detail, second.detail))
        self.assertEqual(("vm", self.host), (first.domain.name, first.domain.host))
        waiting = self.events.__anext__()
        self.daemon.emit(0, 3, event=99)
        self.assertEqual((99, 3), self.result_of(waiting)[1:])
        self.network.run(self.events.__aexit__(None, None, None))
        self.assertEqual({}, self.daemon.registered)

    def test_slow_consumer(self) -> None:
        """What does not fit is told, once, in its place."""
        self._emit(1, 2, 3, 4, 5)
        self.assertEqual([1, 2, 3], [self._next().detail for _ in range(3)])
        error = self.assertRaises(EventsLost, self._next)
        self.assertEqual(2, error.count)
        self._emit(6)
        self.assertEqual(6, self._next().detail)

    def test_slow_consumer_that_goes_on(self) -> None:
        """The loss lies between what came before it and what came after."""
        self._emit(1, 2, 3, 4)
        self.assertEqual(1, self._next().detail)
        self._emit(5)
        self.assertEqual([2, 3], [self._next().detail for _ in range(2)])
        self.assertEqual(1, self.assertRaises(EventsLost, self._next).count)
        self.assertEqual(5, self._next().detail)

    def test_callbacks(self) -> None:
        """Each subscription is its own; one that fails harms nobody."""
        seen: list[libvirt.LifecycleEvent] = []
        domain = self.result_of(self.host.domain("vm"))
        failing = self.host.on_domain_event(lambda event: 1 / 0)
        subscription = self.host.on_domain_event(seen.append, domain)
        self.result_of(failing.confirmed)
        self.result_of(subscription.confirmed)
        self.assertEqual(DOMAIN, self.daemon.registered[2][1])
        self.daemon.emit(1, 1)
        self.daemon.emit(2, 2)
        self.network.pump()
        self.assertEqual([2], [event.detail for event in seen])
        self.assertEqual(1, len(self.flushLoggedErrors(ZeroDivisionError)))
        self.result_of(subscription.cancel())
        self.result_of(subscription.cancel())
        self.assertEqual([0, 1], list(self.daemon.registered))

    def test_events_before_the_reply(self) -> None:
        """The daemon's threads may send the first events before the registration's reply."""
        seen: list[int] = []
        self.daemon.early_events = 5
        subscription = self.host.on_domain_event(lambda event: seen.append(event.detail))
        self.result_of(subscription.confirmed)
        self.assertEqual([0, 1, 2], seen)  # the limit of this test
        del self.daemon.registered[1]
        self.daemon.registered[9] = (self.network.connections[0], None)
        self.daemon.emit(9, 1)  # nobody's: dropped
        self.network.pump()
        self.assertEqual([0, 1, 2], seen)

    def test_refused(self) -> None:
        """The daemon's error, in the Deferred and on entering."""
        domain = self.host.bind_domain(DomainHandle("gone", bytes(16)))
        self.error_of(libvirt.NoDomain, self.host.on_domain_event(print, domain).confirmed)
        self.assertRaises(libvirt.NoDomain, self.network.run, self.host.domain_events(domain).__aenter__())

    def test_connection_lost(self) -> None:
        """What has come is given, then the loss; callbacks hear of it."""
        ended: list[Exception] = []
        self.result_of(self.host.on_domain_event(print, ended=ended.append).confirmed)
        self._emit(1)
        self.network.cut()
        self.assertEqual(1, self._next().detail)
        self.assertRaises(ConnectionClosed, self._next)
        self.network.run(self.events.__aexit__(None, None, None))
        self.assertIsInstance(ended[0], ConnectionClosed)


class OldDaemonTests(DaemonCase):
    """A daemon that knows one registration a connection."""

    def setUp(self) -> None:
        super().setUp()
        self.daemon.features = {10}
        self.host = self.connect()

    def test_events(self) -> None:
        """One registration for all; filtered here."""
        seen: list[str] = []
        other = self.host.bind_domain(DomainHandle("other", bytes(16)))
        everything = self.host.on_domain_event(lambda event: seen.append(f"all {event.detail}"))
        nothing = self.host.on_domain_event(lambda event: seen.append("other"), other)
        ours = self.host.on_domain_event(lambda event: seen.append("vm"), self.host.bind_domain(DOMAIN))
        for subscription in (everything, nothing, ours):
            self.result_of(subscription.confirmed)
        self.daemon.unnumbered[0].emit(remote.DomainEventLifecycle(DOMAIN, 3, 7))
        self.network.pump()
        self.assertEqual(["all 7", "vm"], seen)
        self.assertEqual(1, len(self.daemon.unnumbered))
        for subscription in (everything, nothing, ours):
            self.result_of(subscription.cancel())
        self.assertEqual([], self.daemon.unnumbered)
