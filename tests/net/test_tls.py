"""
Mutual TLS over real loopback sockets: connections that come about, and versions.
"""

from __future__ import annotations

import socket
import ssl
from typing import Any

from OpenSSL import SSL
from twisted.internet import reactor
from twisted.internet.protocol import Factory, ProcessProtocol
from twisted.internet.threads import deferToThread
from twisted.protocols.tls import TLSMemoryBIOProtocol

from rpcstream.errors import ConnectRefused
from rpcstream.limits import Limits
from rpcstream.net.accept import TLSServerFactory
from rpcstream.net.endpoints import client_endpoint
from rpcstream.net.identity import principal_of
from rpcstream.net.pki import Pki
from rpcstream.net.tls import PROTOCOL
from tests.net.certificates import CLIENT, SERVER, issue, revocation_list
from tests.net.loopback import LoopbackTestCase, Recorder
from tests.net.odd_peers import OddServerTestCase, stdlib_client
from tests.peers import require_program


class AcceptedTests(OddServerTestCase):
    """Connections that come about."""

    async def test_both_ends_are_connected_after_the_confirmation(self) -> None:
        port = await self.listen()
        client = await self.connect(port)
        await self.until(lambda: self.server.protocols)
        self.assertEqual(client.calls, ["made"])
        server = self.server.protocols[0]
        self.assertEqual(server.transport.negotiatedProtocol, PROTOCOL)
        for end in (client, server):
            self.assertEqual(end.transport.getHandle().get_protocol_version_name(), "TLSv1.3")
            self.assertEqual(end.transport.getHandle().get_cipher_name(), "TLS_AES_128_GCM_SHA256")
        self.assertEqual(principal_of(server.transport).name, "alice")
        self.assertEqual(principal_of(client.transport).names, ("localhost", "host", "CN=host"))
        client.transport.write(b"question")
        server.transport.write(b"answer")
        await self.until(lambda: server.received and client.received)
        self.assertEqual((server.received, client.received), (b"question", b"answer"))
        self.assertEqual(self.refused, [])

    async def test_nothing_of_ours_stays_in_the_path(self) -> None:
        """A worker thread takes over Twisted's TLS protocol: it must find nothing else."""
        port = await self.listen()
        client = await self.connect(port)
        await self.until(lambda: self.server.protocols)
        server = self.server.protocols[0]
        for end in (client, server):
            self.assertIsInstance(end.transport, TLSMemoryBIOProtocol)
            self.assertTrue(type(end.transport).__module__.startswith("twisted."))
            self.assertIs(end.transport.wrappedProtocol, end)
        self.assertIs(server.transport.transport.protocol, server.transport)
        self.assertTrue(type(client.transport.transport.protocol).__module__.startswith("twisted."))

    async def test_factories_are_started_and_stopped(self) -> None:
        port = await self.listen()
        client = await self.connect(port)
        client.transport.loseConnection()
        await self.until(lambda: client.lost is not None and self.server.protocols[0].lost is not None)
        await self.listening.stopListening()
        self.assertEqual((self.server.starts, self.server.stops), (1, 1))
        await self.until(lambda: self.client.stops == 1)

    async def test_an_address_and_a_name_are_both_verified(self) -> None:
        port = await self.listen()
        for host in ("127.0.0.1", "localhost"):
            client = await self.connect(port, host=host)
            self.assertEqual(client.calls, ["made"])

    async def test_bytes_behind_the_confirmation_are_delivered(self) -> None:
        port = await self.odd(answer=b"\x01and more")
        client = await self.connect(port)
        await self.until(lambda: client.received)
        self.assertEqual((client.calls, client.received), (["made", "data"], b"and more"))

    async def test_client_that_aborts_at_once_gets_nothing_more(self) -> None:
        class Leaving(Recorder):
            def connectionMade(self) -> None:
                super().connectionMade()
                self.transport.abortConnection()

        self.client.make = Leaving
        port = await self.odd(answer=b"\x01and more")
        client = await self.connect(port)
        await self.until(lambda: client.lost is not None)
        self.assertEqual(client.calls, ["made", "lost"])

    async def test_a_chain_with_an_authority_between(self) -> None:
        between = issue(common_name="between", is_authority=True, key="between")
        leaf = issue(common_name="carol", purposes=[CLIENT], signer=between)
        port = await self.listen()
        await self.connect(port, self.pki(client=leaf, chain=[between]))
        await self.until(lambda: self.server.protocols)
        self.assertEqual(principal_of(self.server.protocols[0].transport).name, "carol")

    async def test_renewed_files_are_read_without_a_restart(self) -> None:
        pki = self.pki()
        port = await self.listen(pki)
        await self.connect(port)
        renewed = issue(common_name="renewed", names=["127.0.0.1"], purposes=[SERVER], key="renewed")
        (pki.directory / "servercert.pem").write_bytes(renewed.pem)
        # Only half done: the old ones stay in force.
        client = await self.connect(port)
        self.assertNotIn("renewed", principal_of(client.transport).names)
        (pki.directory / "serverkey.pem").write_bytes(renewed.key_pem)
        client = await self.connect(port)
        self.assertIn("renewed", principal_of(client.transport).names)
        texts = [str(event.get("log_format")) for event in self.lines]
        self.assertEqual(sum("the old ones stay" in text for text in texts), 1)

    async def test_a_client_uses_renewed_files(self) -> None:
        """A client that reconnects for months outlives its certificate."""
        port = await self.listen()
        pki = self.pki()
        endpoint = client_endpoint(reactor, f"rpcstream+tls://127.0.0.1:{port}", pki=pki, limits=self.limits)
        renewed = issue(common_name="renewed", purposes=[CLIENT])
        for name in ("alice", "renewed"):
            await endpoint.connect(self.client)
            await self.until(lambda: len(self.server.protocols) == len(self.client.protocols))
            self.assertEqual(principal_of(self.server.protocols[-1].transport).name, name)
            (pki.directory / "clientcert.pem").write_bytes(renewed.pem)

    async def test_admit_sees_the_principal(self) -> None:
        seen: list[str] = []
        port = await self.listen(admit=lambda principal: seen.append(principal.name))
        await self.connect(port)
        self.assertEqual(seen, ["alice"])

    async def test_an_empty_revocation_list_revokes_nobody(self) -> None:
        port = await self.listen(self.pki(revocations=revocation_list([])))
        self.assertEqual((await self.connect(port)).calls, ["made"])

    async def test_no_resumption(self) -> None:
        """A ticket buys nothing: each connection shows its certificate (row T19)."""
        pki = self.pki()
        port = await self.listen(pki)

        def twice() -> list[bool | None]:
            context = stdlib_client(pki)
            session, reused = None, []
            for _ in range(2):
                with (
                    socket.create_connection(("127.0.0.1", port), 5) as plain,
                    context.wrap_socket(plain, server_hostname="localhost", session=session) as tls,
                ):
                    assert tls.recv(1) == b"\x01"
                    session = tls.session
                    reused.append(tls.session_reused)
            return reused

        self.assertEqual(await deferToThread(twice), [False, False])

    async def test_legacy_servers_are_accepted_where_allowed(self) -> None:
        port = await self.odd(answer=b"\x01", highest=SSL.TLS1_2_VERSION)
        client = await self.connect(port, legacy_servers=True)
        self.assertEqual(client.transport.getHandle().get_protocol_version_name(), "TLSv1.2")


class VersionTests(OddServerTestCase):
    """Row T03, and libvirt's clients."""

    async def test_client_of_ours_with_tls_1_2_only(self) -> None:
        pki = self.pki()
        port = await self.listen(pki)

        def attempt() -> None:
            context = stdlib_client(pki)
            context.maximum_version = ssl.TLSVersion.TLSv1_2
            with socket.create_connection(("127.0.0.1", port), 5) as plain:
                context.wrap_socket(plain, server_hostname="localhost")

        error = await self.assertFailure(deferToThread(attempt), ssl.SSLError)
        self.assertIn("PROTOCOL_VERSION", str(error))
        await self.until(lambda: self.refused)
        self.assertEqual(self.refused[0].code, "tls-version")

    async def test_server_with_tls_1_2_only(self) -> None:
        port = await self.odd(highest=SSL.TLS1_2_VERSION)
        error = await self.assertFailure(self.connect(port), ConnectRefused)
        self.assertIn("(tls-version)", str(error))

    async def test_tls_1_2_without_alpn_is_served(self) -> None:
        pki = self.pki()
        self.assertEqual(await self.version_without_alpn(pki, await self.listen(pki)), ("TLSv1.2", b"\x01"))

    async def test_tls_1_3_without_alpn_where_legacy_clients_are_not_served(self) -> None:
        pki = self.pki()
        port = await self.listen(pki, legacy_clients=False)
        self.assertEqual(await self.version_without_alpn(pki, port), ("TLSv1.3", b"\x01"))

    async def test_tls_1_3_only_without_alpn(self) -> None:
        pki = self.pki()
        port = await self.listen(pki)
        lowest = ssl.TLSVersion.TLSv1_3
        self.assertEqual(await self.version_without_alpn(pki, port, minimum=lowest), ("TLSv1.3", b"\x01"))

    async def test_tls_1_2_without_alpn_where_forbidden(self) -> None:
        pki = self.pki()
        port = await self.listen(pki, legacy_clients=False)
        highest = ssl.TLSVersion.TLSv1_2
        await self.assertFailure(self.version_without_alpn_deferred(pki, port, maximum=highest), ssl.SSLError)
        await self.until(lambda: self.refused)
        self.assertEqual(self.refused[0].code, "tls-version")

    async def test_weak_ciphers_are_refused(self) -> None:
        """TLS 1.2 without forward secrecy or AEAD is not spoken, not even with libvirt."""
        pki = self.pki()
        port = await self.listen(pki)

        def attempt() -> None:
            context = stdlib_client(pki, ())
            context.maximum_version = ssl.TLSVersion.TLSv1_2
            context.set_ciphers("ECDHE-ECDSA-AES128-SHA256")
            with socket.create_connection(("127.0.0.1", port), 5) as plain:
                context.wrap_socket(plain, server_hostname="localhost")

        await self.assertFailure(deferToThread(attempt), ssl.SSLError)
        await self.until(lambda: self.refused)
        self.assertIn("no cipher accepted here", self.refused[0].detail)

    async def version_without_alpn(self, *args: Any, **keywords: Any) -> tuple[str | None, bytes]:
        return await self.version_without_alpn_deferred(*args, **keywords)

    def version_without_alpn_deferred(
        self,
        pki: Pki,
        port: int,
        minimum: ssl.TLSVersion = ssl.TLSVersion.TLSv1_2,
        maximum: ssl.TLSVersion = ssl.TLSVersion.TLSv1_3,
    ) -> Any:
        def attempt() -> tuple[str | None, bytes]:
            context = stdlib_client(pki, ())
            context.minimum_version, context.maximum_version = minimum, maximum
            with (
                socket.create_connection(("127.0.0.1", port), 5) as plain,
                context.wrap_socket(plain, server_hostname="localhost") as tls,
            ):
                return tls.version(), tls.recv(100)

        return deferToThread(attempt)


class GnuTLSTests(LoopbackTestCase):
    """libvirt's TLS library as a client: wire-protocol.md, section 0, fact 11."""

    async def run_client(self, port: int, pki: Pki, *more: str) -> bytes:
        program = require_program("gnutls-cli")
        output = bytearray()

        class Reader(ProcessProtocol):
            ended = False

            def outReceived(self, data: bytes) -> None:
                output.extend(data)
                if b"\x01" in output:
                    self.transport.closeStdin()

            def errReceived(self, data: bytes) -> None:
                output.extend(data)

            def processEnded(self, reason: Any) -> None:
                self.ended = True

        reader = Reader()
        arguments = [program, "--x509cafile", str(pki.directory / "cacert.pem"), *more, "-p", str(port)]
        arguments += ["--verify-hostname", "localhost", "127.0.0.1"]
        reactor.spawnProcess(reader, program, arguments, env={"PATH": "/usr/bin:/bin"})
        await self.until(lambda: reader.ended, 10)
        return bytes(output)

    async def test_gets_the_byte_over_tls_1_2(self) -> None:
        pki = self.pki()
        port = await self.listen(pki)
        directory = pki.directory
        output = await self.run_client(
            port,
            pki,
            "--x509certfile",
            str(directory / "clientcert.pem"),
            "--x509keyfile",
            str(directory / "clientkey.pem"),
        )
        self.assertIn(b"(TLS1.2-X.509)-(ECDHE", output)
        self.assertIn(b"\x01", output)
        self.assertEqual(self.server.protocols[0].calls[0], "made")

    async def test_without_a_certificate(self) -> None:
        pki = self.pki()
        output = await self.run_client(await self.listen(pki), pki)
        self.assertNotIn(b"\x01", output)
        self.assertEqual([refusal.code for refusal in self.refused], ["tls-nocert"])


class FactoryTests(LoopbackTestCase):
    """Parts that sockets do not show."""

    def test_early_drop(self) -> None:
        """64:30:128 as OpenSSH does it: half full drops 30 %, full drops all."""
        chance = [0.0]
        factory = TLSServerFactory(
            reactor, Factory(), self.pki(), limits=Limits(handshakes=10), chance=lambda: chance[0]
        )
        for count, share in ((4, 0.0), (5, 0.3), (9, 0.86), (10, 1.0)):
            factory._pending = set(range(count))
            chance[0] = share - 0.001
            self.assertEqual(factory._is_full("host"), share > 0, count)
            chance[0] = share
            self.assertEqual(factory._is_full("host"), share == 1.0, count)
        factory._pending = set()

    def test_protocol_without_address(self) -> None:
        factory = TLSServerFactory(reactor, Factory(), self.pki(), limits=Limits(handshakes=0))
        self.assertIsNone(factory.buildProtocol(None))
        self.assertEqual(factory.refusal_counts["tls-busy"], 1)
