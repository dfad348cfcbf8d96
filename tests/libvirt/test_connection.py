"""
Opening, asking, closing: against a daemon in memory.
"""

from __future__ import annotations

from rpcstream import libvirt
from rpcstream.errors import ConfigurationError, ConnectionClosed, ConnectRefused, RemoteError
from rpcstream.limits import LEGACY_PAYLOAD_BYTES
from rpcstream.programs import remote
from rpcstream.programs.remote import AuthType, Feature
from tests.libvirt.daemon import DOMAIN, DaemonCase, Silent
from tests.libvirt.network import Network


class OpeningTests(DaemonCase):
    """From a transport to an open driver."""

    def test_order(self) -> None:
        """The calls that virsh makes, in its order; no HELLO, no credit, libvirt's packet size."""
        host = self.connect()
        self.assertEqual(
            [
                "AuthList",
                "feature 10",
                "ConnectOpen",
                "feature 14",
                "feature 15",
                "ConnectRegisterCloseCallback",
            ],
            self.daemon.called,
        )
        self.assertEqual([remote.ConnectOpen("test:///default", 0)], self.daemon.opened)
        self.assertIs(AuthType.NONE, host.authentication)
        self.assertEqual({Feature.KEEPALIVE, Feature.EVENT_CALLBACKS, Feature.CLOSE_CALLBACK}, host.features)
        self.assertFalse(host.client.link.core.peer_is_rpcstream)
        self.assertEqual(LEGACY_PAYLOAD_BYTES, host.client.link.packet_bytes)

    def test_daemon_that_can_little(self) -> None:
        """Errors of optional questions mean no; no keepalive without its feature."""
        self.daemon.features = set()
        host = self.connect()
        self.assertEqual(frozenset(), host.features)
        self.assertIsNone(host.client.link.keepalive._timer)

    def test_driver_without_close_events(self) -> None:
        """The daemon can, the driver cannot."""
        self.daemon.close_callback_fails = True
        self.assertNotIn(Feature.CLOSE_CALLBACK, self.connect().features)

    def test_read_only(self) -> None:
        """The flag of CONNECT_OPEN."""
        self.connect(read_only=True)
        self.assertEqual(1, self.daemon.opened[0].flags)

    def test_remote_driver(self) -> None:
        """The daemon is to choose the driver."""
        self.connect("remote+unix:///?socket=/s")
        self.assertIsNone(self.daemon.opened[0].name)

    def test_no_driver(self) -> None:
        """The daemon's error, typed, and the transport closed."""
        error = self.assertRaises(libvirt.NoConnect, self.connect, "nosuch+unix:///?socket=/s")
        self.assertEqual((5, 0, 2), (error.code, error.domain, error.level))
        self.assertFalse(self.network.connections[0].link.is_connected)

    def test_no_transport(self) -> None:
        """Connecting fails, in our words or in Twisted's."""
        self.network.is_down = True
        self.assertRaises(ConnectRefused, self.connect)
        broken = type("Broken", (), {"connect": lambda self, factory: 1 / 0})()
        error = self.assertRaises(ConnectRefused, self.connect, endpoint=broken)
        self.assertIn("division", str(error))

    def test_silent_daemon(self) -> None:
        """A daemon at its limit of clients accepts and says nothing."""
        opening = libvirt.connect(
            "test+unix:///?socket=/s",
            endpoint=type("Mute", (), {"connect": lambda _, factory: self._mute(factory)})(),
            reactor=self.network.clock,
            runner=self.network.runner,
        )
        self.network.advance(12)
        error = self.failureResultOf(opening).value
        self.assertIsInstance(error, ConnectRefused)

    def _mute(self, factory: object) -> object:
        done = self.network.connect(factory)
        self.network._transports.clear()
        return done

    def test_cancelled(self) -> None:
        """Giving up while it is being opened closes the transport."""
        self.daemon.waiting = None
        opening = libvirt.connect(
            "test+unix:///?socket=/s",
            endpoint=self.network,
            reactor=self.network.clock,
            runner=self.network.runner,
        )
        opening.cancel()
        self.failureResultOf(opening)
        self.network.pump()
        self.assertFalse(self.network.connections[0].link.is_connected)

    def test_plain_text(self) -> None:
        """TCP to another host only when permitted."""
        error = self.assertRaises(
            ConfigurationError, self.connect, "qemu+tcp://192.0.2.1/system", endpoint=None
        )
        self.assertIn("qemu+tls://", str(error))

    def test_no_certificates(self) -> None:
        """The URI names none and there are none: the remedy is told."""
        self.patch(__import__("rpcstream.libvirt.dialing").libvirt.dialing, "USER_PKI", self.mktemp())
        error = self.assertRaises(
            ConfigurationError, self.connect, "qemu+tls://localhost/system", endpoint=None
        )
        self.assertIn("?pkipath=DIR", str(error))


class ConnectionTests(DaemonCase):
    """An open connection."""

    def test_values(self) -> None:
        """The host's own."""
        host = self.connect()
        version = self.result_of(host.version())
        self.assertEqual(((7, 2, 22), "7.2.22"), (version, str(version)))
        self.assertEqual((9, 0, 0), self.result_of(host.libvirt_version()))
        self.assertEqual("TEST", self.result_of(host.type()))
        self.assertEqual("test:///default", self.result_of(host.uri()))
        self.assertEqual("host", self.result_of(host.hostname()))
        self.assertEqual("<capabilities/>", self.result_of(host.capabilities()))
        self.assertEqual(1 << 30, self.result_of(host.free_memory()))
        info = self.result_of(host.node_info())
        self.assertEqual(("i686", 3145728, 16), info[:3])

    def test_any_procedure(self) -> None:
        """What has no method is called all the same."""
        host = self.connect()
        self.assertEqual("<domain flags='3'/>", self.result_of(host.call(remote.DomainGetXMLDesc(DOMAIN, 3))))

    def test_unknown_procedure(self) -> None:
        """libvirt's own text becomes Unsupported."""
        host = self.connect()
        error = self.error_of(RemoteError, host.call(remote.ConnectGetSysinfo()))
        self.assertEqual(3, error.code)

    def test_close(self) -> None:
        """CONNECT_CLOSE, then the transport; again is harmless; calls fail."""

        async def use() -> None:
            async with libvirt.connect(
                "test:///default?socket=/s",
                endpoint=self.network,
                runner=self.network.runner,
                reactor=self.network.clock,
            ) as host:
                self.host = host

        self.network.run(use())
        self.assertEqual("ConnectClose", self.daemon.called[-1])
        self.assertFalse(self.network.connections[0].link.is_connected)
        self.result_of(self.host.close())
        self.error_of(ConnectionClosed, self.host.hostname())
        self.assertTrue(self.result_of(self.host.when_closed()))

    def test_close_without_answer(self) -> None:
        """A daemon that does not answer is left after a while."""
        host = self.connect()
        self.network._transports.clear()
        closing = host.close()
        self.network.advance(20)
        host.client.link.transport._end(ConnectionClosed("x"), ConnectionClosed("x"))
        self.successResultOf(closing)

    def test_hypervisor_lost(self) -> None:
        """The daemon tells that its driver is gone: the connection ends with that reason."""
        host = self.connect()
        closed = host.when_closed()
        self.network.connections[0].emit(remote.ConnectEventConnectionClosed(0))
        self.network.pump()
        self.assertIn("hypervisor: error", self.successResultOf(closed))


class OldDaemonTests(DaemonCase):
    """A daemon from before there was authentication."""

    def test_no_auth_list(self) -> None:
        """ "unknown procedure" means: no authentication."""
        self.network = Network(Silent())
        # It does not know CONNECT_OPEN either, so this is how far it goes.
        error = self.assertRaises(RemoteError, self.connect)
        self.assertEqual(3, error.code)


class OwnThreadsTests(DaemonCase):
    """C{connect()} without a runner has threads of its own, and ends them."""

    def test_connected_and_refused(self) -> None:
        """Also when nothing comes of it."""
        host = self.connect(runner=None)
        self.result_of(host.close())
        self.network.is_down = True
        self.assertRaises(ConnectRefused, self.connect, runner=None)
