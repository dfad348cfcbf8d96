"""
A host that is reconnected to.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectionLost

from rpcstream import libvirt
from rpcstream.errors import CallCancelled, ConnectionClosed, ConnectRefused, DeadlineExceeded
from rpcstream.libvirt.service import TRIES
from rpcstream.programs.remote import DomainHandle
from tests.libvirt.daemon import DOMAIN, DaemonCase


class ServiceTests(DaemonCase):
    """ConnectionService."""

    def setUp(self) -> None:
        super().setUp()
        self.service = libvirt.ConnectionService(
            "test+unix:///default?socket=/s",
            endpoint=self.network,
            runner=self.network.runner,
            reactor=self.network.clock,
            retry_policy=lambda attempt: 1.0,
        )
        self.addCleanup(self._stop)

    def _start(self) -> None:
        self.service.startService()
        self.network.pump()

    def _stop(self) -> None:
        stopping = self.service.stopService()
        self.network.advance(15)
        self.successResultOf(stopping)
        self.assertFalse(any(each.link.is_connected for each in self.network.connections))

    def test_calls_wait_for_the_connection(self) -> None:
        """Asked before it is started, and answered when it is connected."""
        hostname = self.service.hostname()
        self.assertNoResult(hostname)
        self._start()
        self.assertEqual("host", self.result_of(hostname))
        self.assertIs(self.result_of(self.service.connected()), self.result_of(self.service.connected()))

    def test_no_connection(self) -> None:
        """Until the deadline, then with the cause; connected() can be asked to give up earlier."""
        self.network.is_down = True
        first = self.service.connected(failures=1)
        hostname = self.service.hostname()
        self._start()
        self.assertIsInstance(self.failureResultOf(first).value, ConnectRefused)
        self.network.advance(70, 5)
        error = self.failureResultOf(hostname).value
        self.assertIsInstance(error, ConnectionClosed)
        self.assertEqual(("no connection: nobody listens", False), (error.reason, error.may_have_run))
        late = self.service.call(self._request(), timeout_seconds=None)
        late.cancel()
        self.error_of(CallCancelled, late)

    @staticmethod
    def _request() -> Any:
        from rpcstream.programs import remote

        return remote.ConnectGetHostname()

    def test_lost_connection(self) -> None:
        """What looks is asked again; what changes is not; values stay good."""
        self._start()
        domain = self.result_of(self.service.domain("vm"))
        self.daemon.waiting = Deferred()
        looking, changing = self.service.hostname(), domain.suspend()
        self.network.pump()
        self.network.cut()
        error = self.failureResultOf(changing).value
        self.assertIsInstance(error, ConnectionClosed)
        self.assertTrue(error.may_have_run)
        self.assertNoResult(looking)
        self.daemon.waiting = None
        self.network.advance(2)
        self.assertEqual("host", self.successResultOf(looking))
        self.assertTrue(self.result_of(domain.is_active()))

    def test_lost_again_and_again(self) -> None:
        """A call that costs the connection each time is given up."""
        self._start()
        self.daemon.waiting = Deferred()
        looking = self.service.hostname()
        self.network.pump()
        for _ in range(TRIES):
            self.assertNoResult(looking)
            self.network.cut()
            self.daemon.waiting = Deferred()
            self.network.advance(2)
        self.assertIsInstance(self.failureResultOf(looking).value, ConnectionClosed)

    def test_deadline(self) -> None:
        """It counts over all tries."""
        self._start()
        self.daemon.waiting = Deferred()
        looking = self.service.call(self._request(), timeout_seconds=3)
        self.network.advance(5)
        self.failureResultOf(looking, DeadlineExceeded)
        self.assertEqual("x", self.result_of(self._later("x")))
        self.failureResultOf(self.service.call(self._request(), timeout_seconds=0), DeadlineExceeded)

    def _later(self, value: str) -> Deferred[str]:
        done: Deferred[str] = Deferred()
        self.network.clock.callLater(0, done.callback, value)
        return done

    def test_streams(self) -> None:
        """On a connection of their own or on the present one; never begun again."""
        self._start()
        domain = self.result_of(self.service.domain("vm"))
        self.assertEqual(b"picture", self.result_of(domain.screenshot()).data)
        shared = self.result_of(domain.console(shared=True))
        alone = self.result_of(domain.console())
        self.network.cut()
        for stream in (shared, alone):
            self.failureResultOf(stream.when_closed())
        self.network.advance(2)
        self.assertEqual(b"picture", self.result_of(domain.screenshot(shared=True)).data)
        self.network.is_down = True
        self.failureResultOf(domain.console())
        self.network.is_down = False

    def test_events(self) -> None:
        """Registered again, with a gap before the first event; a domain that is gone ends its own."""
        self._start()
        ended: list[Exception] = []
        gone = self.service.bind_domain(DomainHandle("vm2", bytes(16)))
        subscription = self.service.on_domain_event(print, gone, ended=ended.append)
        self.result_of(subscription.confirmed)
        for gaps in (True, False):
            events = self.service.domain_events(gaps=gaps)
            self.network.run(events.__aenter__())
            self.daemon.emit(max(self.daemon.registered), 1)
            self.network.pump()
            self.assertEqual((self.service, "vm"), (self.result_of(events.__anext__()).domain.host, "vm"))
            subscription.domain = DomainHandle("gone", bytes(16))
            self.daemon.registered.clear()
            self.network.cut()
            self.daemon.early_events = 1
            self.network.advance(2)
            self.daemon.early_events = 0
            if gaps:
                self.assertEqual(
                    ("the connection was lost and made again", None), self.result_of(events.__anext__())
                )
            else:
                error = self.error_of(libvirt.EventsInterrupted, events.__anext__())
                self.assertIn("made again", str(error))
            self.assertEqual(0, self.result_of(events.__anext__()).detail)
            self.network.run(events.__aexit__(None, None, None))
            self.assertIsInstance(ended[0], libvirt.NoDomain)
            self.assertEqual({}, self.daemon.registered)

    def test_subscribing_while_the_connection_is_lost(self) -> None:
        """It lasts until there is one; what the daemon refuses is an error."""
        self.network.is_down = True
        self._start()
        subscription = self.service.on_domain_event(print)
        events = self.service.domain_events()
        entering = Deferred.fromCoroutine(events.__aenter__())
        self.network.is_down = False
        self.network.advance(2)
        self.successResultOf(subscription.confirmed)
        self.successResultOf(entering)
        gone = self.service.bind_domain(DomainHandle("gone", bytes(16)))
        self.error_of(libvirt.NoDomain, self.service.on_domain_event(print, gone).confirmed)
        self.network.is_down = True
        self.network.cut()
        self.result_of(self._later("x"))
        cancelling = subscription.cancel()
        self.network.advance(1)
        self.successResultOf(cancelling)
        self.network.is_down = False

    def test_lost_while_registering(self) -> None:
        """The registration is made on the next connection."""
        self._start()
        register = self.daemon.register
        lost = []

        def cut_first(call: Any, request: Any) -> Any:
            if not lost:
                lost.append(True)
                call.connection.link.abort("gone")
                raise ConnectionLost
            return register(call, request)

        table = self.network.serving._responders
        for key, responder in list(table.items()):
            if responder.procedure.name == "ConnectDomainEventCallbackRegisterAny":
                table[key] = responder._replace(method=cut_first)
        subscription = self.service.on_domain_event(print)
        self.network.advance(3)
        self.successResultOf(subscription.confirmed)
        # And again when the service registers by itself.
        lost.clear()
        self.network.cut()
        self.network.advance(5)
        self.assertEqual("host", self.result_of(self.service.hostname()))
        self.flushLoggedErrors()

    def test_stopping(self) -> None:
        """Subscriptions end, calls that wait fail, later ones too."""
        self._start()
        ended: list[Exception] = []
        subscription = self.service.on_domain_event(print, ended=ended.append)
        self.result_of(subscription.confirmed)
        self.network.is_down = True
        self.network.cut()
        hostname = self.service.hostname()
        stopping = self.service.stopService()
        self.network.advance(15)
        self.successResultOf(stopping)
        self.assertIsInstance(ended[0], ConnectionClosed)
        self.assertIn("stopped", str(self.failureResultOf(hostname).value))
        self.error_of(ConnectionClosed, self.service.hostname())
        self.successResultOf(subscription.cancel())
        self.assertEqual(DOMAIN, self.service.bind_domain(DOMAIN).wire)

    def test_own_threads(self) -> None:
        """A service without a runner has one, and ends it."""
        service = libvirt.ConnectionService(
            "test+unix:///?socket=/s", reactor=self.network.clock, endpoint=self.network
        )
        self.assertEqual(4, service.runner._pool.max)
        self.successResultOf(service.stopService())
