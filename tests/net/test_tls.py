"""
Mutual TLS over real loopback sockets: who is let in, who is not, and what each end
says about it.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.protocol import Protocol
from twisted.internet.threads import deferToThread
from twisted.protocols.tls import TLSMemoryBIOProtocol

from rpcstream.net.identity import principal_of
from rpcstream.net.pki import Pki
from rpcstream.net.tls import PROTOCOL
from tests.net.certificates import CLIENT, SERVER, issue
from tests.net.loopback import LoopbackTestCase, Recorder


class AcceptedTests(LoopbackTestCase):
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
        port = await self.odd_server(b"\x01and more")
        client = await self.connect(port)
        await self.until(lambda: client.received)
        self.assertEqual((client.calls, client.received), (["made", "data"], b"and more"))

    async def test_client_that_closes_at_once_gets_nothing_more(self) -> None:
        class Leaving(Recorder):
            def connectionMade(self) -> None:
                super().connectionMade()
                self.transport.abortConnection()  # type: ignore[union-attr]

        self.client.make = Leaving
        port = await self.odd_server(b"\x01and more")
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
        await self.connect(port)
        (pki.directory / "serverkey.pem").write_bytes(renewed.key_pem)
        client = await self.connect(port)
        self.assertIn("renewed", principal_of(client.transport).names)
        texts = [str(event.get("log_format")) for event in self.lines]
        self.assertEqual(sum("old ones stay" in text for text in texts), 1)

    async def test_admit_sees_the_principal(self) -> None:
        seen: list[str] = []
        port = await self.listen(admit=lambda principal: seen.append(principal.name))
        await self.connect(port)
        self.assertEqual(seen, ["alice"])

    async def test_no_resumption(self) -> None:
        """A ticket buys nothing: each connection shows its certificate (row T19)."""
        pki = self.pki()
        port = await self.listen(pki)
        reused = await deferToThread(_connect_twice, pki, port)
        self.assertEqual(reused, [False, False])

    async def odd_server(self, answer: bytes) -> int:
        return await _odd_server(self, answer)


class RefusedByServerTests(LoopbackTestCase):
    """The server verifies the client."""

    async def refused(self_, *words: str, pki: Pki | None = None, **client: Any) -> None:  # type: ignore[misc] # noqa: N805
        raise NotImplementedError


class _Odd(Protocol):
    """A TLS server that answers with other bytes than it should."""

    def __init__(self, answer: bytes | None, end: str) -> None:
        self.answer = answer
        self.end = end

    def connectionMade(self) -> None:
        if self.answer:
            TLSMemoryBIOProtocol.write(self.transport, self.answer)
        if self.end == "close" and self.transport is not None:
            self.transport.loseConnection()

    def connectionLost(self, reason: Any = None) -> None:
        pass
