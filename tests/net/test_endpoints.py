"""
Endpoints: descriptions, the plain-text rule, UNIX sockets.
"""

from __future__ import annotations

import os
import socket
import stat
import sys
import tempfile
from pathlib import Path
from typing import Any
from unittest import mock

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, fail
from twisted.internet.endpoints import (
    TCP4ServerEndpoint,
    clientFromString,
    quoteStringArgument,
    serverFromString,
)
from twisted.internet.error import CannotListenError, ConnectError, DNSLookupError, TimeoutError
from twisted.internet.interfaces import IStreamClientEndpoint, IStreamServerEndpoint
from twisted.internet.testing import MemoryReactorClock
from twisted.internet.utils import getProcessOutputAndValue
from zope.interface.verify import verifyObject

from rpcstream.errors import ConfigurationError, ConnectRefused
from rpcstream.net.dial import PlainClientEndpoint, TLSClientEndpoint
from rpcstream.net.endpoints import TLSServerEndpoint, client_endpoint, is_loopback, server_endpoint
from rpcstream.net.identity import principal_of
from rpcstream.net.local import LocalServerEndpoint, LocalServerFactory, remove_stale_socket
from tests.net.loopback import LoopbackTestCase, Recorder


class DescriptionTests(LoopbackTestCase):
    def wrong(self, call: Any, *arguments: Any, **keywords: Any) -> str:
        error = self.assertRaises(ConfigurationError, call, reactor, *arguments, **keywords)
        self.assertNotIn("\n", str(error))
        return str(error)

    def test_server(self) -> None:
        """All options."""
        pki = self.pki()
        directory = quoteStringArgument(str(pki.directory))
        endpoint = server_endpoint(
            reactor, f"RPCTLS:16514:interface=\\:\\:1:pki={directory}:legacy=no:backlog=7"
        )
        assert isinstance(endpoint, TLSServerEndpoint)
        verifyObject(IStreamServerEndpoint, endpoint)
        self.assertEqual(
            (endpoint.port, endpoint.interface, endpoint.pki.directory), (16514, "::1", pki.directory)
        )
        self.assertFalse(endpoint._legacy_clients)

    def test_server_faults(self) -> None:
        """Each with what to write."""
        pki = self.pki()
        for text, words in {
            "rpctls": "write rpctls:PORT",
            "rpctls:1:2": "write rpctls:PORT",
            "rpctls:x": "port 'x'",
            "rpctls:65536": "port '65536'",
            "rpctls:1:speed=2": "option 'speed' is not known; known: interface, pki",
            "rpctls:1:limits=1": "option 'limits' is not known",
            "rpctls:1:interface=host": "'host' does not appear",
            "rpctls:1:legacy=maybe": "neither yes nor no",
            "rpctls:1:backlog=0": "from 1 to 65535",
            "rpctls:1:backlog=x": "invalid literal",
            "unix": "write unix:PATH",
            "unix:": "names no path",
            "unix:/s:mode=0666": "is not 0600 or 0660",
            "unix:" + "s" * 200: "longer than 107 bytes",
            "tcp:1": "not protected by mutual TLS",
            "": "not protected by mutual TLS",
        }.items():
            self.assertIn(words, self.wrong(server_endpoint, text, pki=pki), text)

    def test_no_pki(self) -> None:
        """Neither in the text nor beside it: the remedy."""
        self.assertIn("add :pki=DIR to the endpoint, or --pki DIR", self.wrong(server_endpoint, "rpctls:1"))
        self.assertIn("add :pki=DIR", self.wrong(client_endpoint, "rpctls:host:1"))
        self.assertIn("add ?pkipath=DIR", self.wrong(client_endpoint, "rpcstream+tls://host/x"))

    def test_bad_pki_is_found_before_listening(self) -> None:
        """A service that cannot work does not start."""
        self.assertIn("no such file", self.wrong(server_endpoint, "rpctls:1", pki=self.mktemp()))
        self.assertIn("no such file", self.wrong(client_endpoint, "rpcstream+tls://h/x", pki=self.mktemp()))

    def test_the_text_wins_over_the_keyword(self) -> None:
        """It is the more special one."""
        first, second = self.pki(), self.mktemp()
        server_endpoint(reactor, f"rpctls:1:pki={first.directory}", pki=second)
        endpoint = client_endpoint(reactor, f"rpcstream+tls://h/x?pkipath={first.directory}", pki=second)
        assert isinstance(endpoint, TLSClientEndpoint)
        self.assertEqual(endpoint.pki.directory, first.directory)
        client_endpoint(reactor, f"rpctls:h:1:pki={first.directory}", pki=second)

    def test_client_faults(self) -> None:
        """Each with what to write."""
        pki = self.pki()
        for text, words in {
            "rpctls:1": "write rpctls:HOST:PORT",
            "rpctls::1": "names no host",
            "rpctls:h:0": "port '0'",
            "rpctls:h:1:x=y": "option 'x'",
            "host": "must look like",
            "rpcstream+tls://a..b/x": "is not a host name",
            "rpcstream+tls://ሀ.ሀǃא/x": "host 'ሀ",
        }.items():
            self.assertIn(words, self.wrong(client_endpoint, text, pki=pki), text)

    def test_plain_text_is_never_a_mistake(self) -> None:
        """Row T02: a server needs insecure, a client needs it off loopback."""
        verifyObject(IStreamServerEndpoint, server_endpoint(reactor, "tcp:1", insecure=True))
        self.assertIsInstance(server_endpoint(reactor, "tcp:1", insecure=True), TCP4ServerEndpoint)
        self.assertTrue(any("is open to everybody" in str(line.get("log_format")) for line in self.lines))
        self.assertIn("Unknown endpoint", self.wrong(server_endpoint, "nonsense:1", insecure=True))
        self.assertIn("plain text", self.wrong(client_endpoint, "rpcstream+tcp://10.0.0.1/x"))
        for url, insecure in (
            ("127.1.2.3", False),
            ("[::1]", False),
            ("localhost", False),
            ("10.0.0.1", True),
        ):
            endpoint = client_endpoint(reactor, f"rpcstream+tcp://{url}/x", insecure=insecure)
            self.assertIsInstance(endpoint, PlainClientEndpoint)
            verifyObject(IStreamClientEndpoint, endpoint)

    def test_loopback(self) -> None:
        """Names and addresses."""
        for host in ("127.0.0.1", "127.9.9.9", "::1", "localhost", "LocalHost"):
            self.assertTrue(is_loopback(host), host)
        for host in ("10.0.0.1", "0.0.0.0", "::", "localhost.example", "localhos"):
            self.assertFalse(is_loopback(host), host)

    async def test_plugin(self) -> None:
        """Any Twisted program can use rpctls:, from outside the source tree too."""
        directory = quoteStringArgument(str(self.pki().directory))
        port = await serverFromString(reactor, f"rpctls:0:interface=127.0.0.1:pki={directory}").listen(
            self.server
        )
        self.addCleanup(port.stopListening)
        self.addCleanup(self.close_all)
        endpoint = clientFromString(reactor, f"rpctls:localhost:{port.getHost().port}:pki={directory}")
        protocol = await endpoint.connect(self.client)
        self.assertEqual(protocol.calls, ["made"])
        self.assertRaises(ConfigurationError, serverFromString, reactor, "rpctls:1")

    async def test_all_interfaces(self) -> None:
        """IPv4 and IPv6 on one port; IPv4 peers are shown as such."""
        pki = self.pki()
        port = await server_endpoint(reactor, "rpctls:0", pki=pki).listen(self.server)
        self.addCleanup(port.stopListening)
        self.addCleanup(self.close_all)
        await self.connect(port.getHost().port, pki)
        client = await self.raw(port.getHost().port)
        client.transport.write(b"GET /")
        await self.until(lambda: [line for line in self.lines if line.get("code") == "tls"])
        peers = [line["peer"] for line in self.lines if line.get("code") == "tls"]
        self.assertTrue(peers[0].startswith("127.0.0.1:"), peers)

    async def test_a_host_without_ipv6(self) -> None:
        """IPv4 is enough."""
        with mock.patch("rpcstream.net.endpoints.TCP6ServerEndpoint") as ipv6:
            ipv6.return_value.listen.return_value = fail(CannotListenError("::", 0, OSError(97, "x")))
            port = await server_endpoint(reactor, "rpctls:0", pki=self.pki()).listen(self.server)
        self.addCleanup(port.stopListening)
        self.assertEqual(port.getHost().host, "0.0.0.0")

    async def test_a_port_that_is_taken(self) -> None:
        """One line, no traceback; the same for a path."""
        port = await self.listen()
        pki = self.pki()
        for interface in ("", ":interface=127.0.0.1"):
            endpoint = server_endpoint(reactor, f"rpctls:{port}{interface}", pki=pki)
            error = await self.assertFailure(endpoint.listen(self.server), ConfigurationError)
            self.assertIn(f"cannot listen on port {port}: Address already in use; choose another", str(error))
        error = await self.assertFailure(
            server_endpoint(reactor, "unix:/absent/s").listen(self.server), ConfigurationError
        )
        self.assertIn("cannot listen on /absent/s: No such file", str(error))

    async def test_pki_that_broke_between(self) -> None:
        """listen() fails, it does not raise."""
        pki = self.pki()
        endpoint = server_endpoint(reactor, "rpctls:0", pki=pki)
        (pki.directory / "cacert.pem").unlink()
        await self.assertFailure(endpoint.listen(self.server), ConfigurationError)
        client = client_endpoint(reactor, "rpcstream+tls://h/", pki=self.pki())
        (client.pki.directory / "cacert.pem").unlink()  # type: ignore[attr-defined]
        await self.assertFailure(client.connect(self.client), ConfigurationError)


class CannotConnectTests(LoopbackTestCase):
    """What a client says when there is no connection to speak TLS on."""

    def said(self, url: str, error: Exception) -> str:
        endpoint = client_endpoint(MemoryReactorClock(), url, pki=self.pki(), insecure=True)
        endpoint._endpoint = mock.Mock()  # type: ignore[attr-defined]
        endpoint._endpoint.connect.return_value = fail(error)  # type: ignore[attr-defined]
        failure = self.failureResultOf(endpoint.connect(self.client))
        if not failure.check(ConnectRefused):
            raise failure.value
        return str(failure.value)

    def test_words(self) -> None:
        """Cause and remedy."""
        url = "rpcstream+tls://host:5/x"
        self.assertIn("host:5: the name cannot be resolved", self.said(url, DNSLookupError("no results")))
        self.assertIn("no answer within 10 s", self.said(url, TimeoutError()))
        self.assertIn("No route", self.said(url, ConnectError(113, "No route to host")))
        error = ConnectError()
        error.osError = OSError(101, "Network is unreachable")  # type: ignore[assignment]
        self.assertIn("Network is unreachable", self.said(url, error))

    def test_what_is_not_about_the_connection(self) -> None:
        """Passed on as it is."""
        url = "rpcstream+tcp://host:5/x"
        self.assertRaises(CancelledError, self.said, url, CancelledError())
        self.assertRaises(ZeroDivisionError, self.said, url, ZeroDivisionError())

    def test_addresses_need_no_resolver(self) -> None:
        """... and so no thread."""
        clock = MemoryReactorClock()
        for host in ("10.0.0.1", "[fe80::1%25eth0]"):
            client_endpoint(clock, f"rpcstream+tls://{host}/", pki=self.pki()).connect(self.client)
        self.assertEqual([client[0] for client in clock.tcpClients], ["10.0.0.1", "fe80::1%eth0"])

    def test_cancelled_before_tcp(self) -> None:
        """Nothing is left."""
        clock = MemoryReactorClock()
        connecting = client_endpoint(clock, "rpcstream+tls://10.0.0.1/", pki=self.pki()).connect(self.client)
        connecting.cancel()
        self.failureResultOf(connecting)
        self.assertTrue(clock.connectors[0].stoppedConnecting)


class LocalTests(LoopbackTestCase):
    def setUp(self) -> None:
        super().setUp()
        # Not mktemp(): the path of a socket is short.
        directory = tempfile.TemporaryDirectory()
        self.addCleanup(directory.cleanup)
        self.path = Path(directory.name) / "s"

    async def listen_local(self, options: str = "", **keywords: Any) -> Any:
        endpoint = server_endpoint(reactor, f"unix:{self.path}{options}", **keywords)
        port = await endpoint.listen(self.server)
        self.addCleanup(port.stopListening)
        self.addCleanup(self.close_all)
        return port

    def dial(self) -> Any:
        return client_endpoint(reactor, f"rpcstream+unix:///x?socket={self.path}").connect(self.client)

    async def test_connects(self) -> None:
        """Both ends; the transport's protocol is the real one; the peer has a name."""
        await self.listen_local()
        client = await self.dial()
        await self.until(lambda: self.server.protocols)
        server = self.server.protocols[0]
        self.assertIs(server.transport.protocol, server)
        self.assertEqual(principal_of(server.transport).uid, os.getuid())
        self.assertEqual(principal_of(client.transport).kind, "unix")
        client.transport.write(b"question")
        await self.until(lambda: server.received)
        client.transport.loseConnection()
        await self.until(lambda: server.lost is not None)
        self.assertEqual((self.server.starts, self.server.stops), (1, 0))

    async def test_modes(self) -> None:
        """0600, or 0660 where asked for; the umask is as before."""
        former = os.umask(0o022)
        self.addCleanup(os.umask, former)
        port = await self.listen_local()
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o600)
        await port.stopListening()
        self.assertFalse(self.path.exists())
        await self.listen_local(":mode=660:backlog=5")
        self.assertEqual(stat.S_IMODE(self.path.stat().st_mode), 0o660)
        self.assertEqual(os.umask(0o022), 0o022)

    async def test_bound_under_a_private_umask(self) -> None:
        """It is never open to others, not even for a moment."""
        seen = []
        bind = socket.socket.bind

        def watch(handle: socket.socket, address: Any) -> None:
            bind(handle, address)
            seen.append(stat.S_IMODE(os.stat(address).st_mode))

        with mock.patch.object(socket.socket, "bind", watch):
            await self.listen_local()
        self.assertEqual([mode & 0o077 for mode in seen], [0])

    async def test_stale_socket(self) -> None:
        """One that a dead server left is removed; a live one's is not; a file is not."""
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(self.path))
        await self.listen_local()
        again = server_endpoint(reactor, f"unix:{self.path}").listen(self.server)
        error = await self.assertFailure(again, ConfigurationError)
        self.assertIn("another server listens there", str(error))
        await self.dial()

    def test_what_is_not_a_socket(self) -> None:
        """It is not removed."""
        self.path.write_text("mine")
        error = self.assertRaises(ConfigurationError, remove_stale_socket, str(self.path))
        self.assertIn("is no socket", str(error))
        self.assertTrue(self.path.exists())
        error = self.assertRaises(ConfigurationError, remove_stale_socket, f"{self.path}/x")
        self.assertIn("Not a directory", str(error))
        remove_stale_socket(str(self.path) + "absent")

    async def test_nobody_there(self) -> None:
        """No socket, and a dead one."""
        error = await self.assertFailure(self.dial(), ConnectRefused)
        self.assertIn("no such socket; is the service running?", str(error))
        with socket.socket(socket.AF_UNIX) as dead:
            dead.bind(str(self.path))
        error = await self.assertFailure(self.dial(), ConnectRefused)
        self.assertIn("nobody listens on this socket", str(error))

    async def test_another_user(self) -> None:
        """Row P13: refused by the kernel's word, whatever the mode."""
        await self.listen_local(refused=lambda refusal, address: self.refused.append(refusal))
        with mock.patch("rpcstream.net.local.peer_credentials", return_value=mock.Mock(uid=12345)):
            client = await self.dial()
            await self.until(lambda: client.lost is not None)
        self.assertEqual(self.refused[0].code, "not-allowed")
        self.assertIn("user 12345 may not use this socket", self.refused[0].detail)
        self.assertEqual(self.server.protocols, [])
        self.assert_logged("not-allowed")

    async def test_a_real_other_user(self) -> None:
        """The same with a process of user nobody, where tests run as root."""
        if os.getuid() != 0:
            self.skipTest("only root can become another user")
        await self.listen_local(refused=lambda refusal, address: self.refused.append(refusal))
        self.path.parent.chmod(0o755)
        self.path.chmod(0o666)
        program = (
            "import os, socket, sys; os.setuid(65534); s = socket.socket(socket.AF_UNIX); "
            "s.connect(sys.argv[1]); print(s.recv(1))"
        )
        await getProcessOutputAndValue(sys.executable, ["-c", program, str(self.path)])
        await self.until(lambda: self.refused)
        self.assertIn("user 65534 may not use this socket", self.refused[0].detail)

    def test_root_and_owner_only(self) -> None:
        """Who is let in, and who is not."""
        factory = LocalServerFactory(self.server, user=lambda: 1000)
        handle, other = socket.socketpair()
        self.addCleanup(handle.close)
        self.addCleanup(other.close)
        transport = mock.Mock(transport=None)
        transport.getHandle.return_value = handle
        for uid, is_let_in in ((0, True), (1000, True), (1001, False)):
            with mock.patch("rpcstream.net.local.peer_credentials", return_value=mock.Mock(uid=uid)):
                self.assertEqual(isinstance(factory.welcome(transport), Recorder), is_let_in, uid)

    async def test_admit(self) -> None:
        """Asked here too."""
        objections = ["not today", None]
        await self.listen_local(
            admit=lambda principal: objections.pop(0),
            refused=lambda refusal, address: self.refused.append(refusal),
        )
        client = await self.dial()
        await self.until(lambda: client.lost is not None)
        self.assertIn("not today", self.refused[0].detail)
        await self.dial()
        await self.until(lambda: self.server.protocols)

    def test_other_refusals(self) -> None:
        """No socket; the kernel says nothing; the service declines or fails."""
        factory = LocalServerFactory(self.server)
        self.assertIn("no UNIX socket", factory.welcome(mock.Mock(transport=None)).detail)  # type: ignore[union-attr]
        handle, other = socket.socketpair()
        self.addCleanup(other.close)
        transport = mock.Mock(transport=None)
        transport.getHandle.return_value = handle
        self.server.make = lambda: None
        self.assertIn("no connection now", factory.welcome(transport).detail)  # type: ignore[union-attr]

        def fails() -> Any:
            raise ZeroDivisionError

        self.server.make = fails
        self.assertEqual(factory.welcome(transport).code, "internal")  # type: ignore[union-attr]
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        handle.close()
        self.assertIn("does not name the peer", factory.welcome(transport).detail)  # type: ignore[union-attr]

    def test_interface(self) -> None:
        verifyObject(IStreamServerEndpoint, LocalServerEndpoint(reactor, str(self.path)))


class PlainTests(LoopbackTestCase):
    async def test_plain_tcp_on_loopback(self) -> None:
        """Peers are anonymous."""
        endpoint = server_endpoint(reactor, "tcp:0:interface=127.0.0.1", insecure=True)
        port = await endpoint.listen(self.server)
        self.addCleanup(port.stopListening)
        self.addCleanup(self.close_all)
        client = await client_endpoint(reactor, f"rpcstream+tcp://127.0.0.1:{port.getHost().port}").connect(
            self.client
        )
        await self.until(lambda: self.server.protocols)
        self.assertEqual(principal_of(self.server.protocols[0].transport).name, "anonymous")
        self.assertEqual(client.calls, ["made"])
