"""
Peers that do not speak TLS, or stop in the middle: rows T01, T04, T18 and L03.
"""

from __future__ import annotations

import socket
import ssl
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import CancelledError
from twisted.internet.threads import deferToThread

from rpcstream.errors import ConnectRefused
from rpcstream.limits import Limits
from tests.net.certificates import CLIENT, issue, minutes
from tests.net.loopback import QUICK, LoopbackTestCase, Recorder
from tests.net.odd_peers import OddServerTestCase, hello, stdlib_client


class StrangeServerTests(OddServerTestCase):
    """What a client says about servers that are none."""

    async def refused_text(self, port: int, **keywords: Any) -> str:
        error = await self.assertFailure(self.connect(port, **keywords), ConnectRefused)
        self.assertEqual([protocol.calls for protocol in self.client.protocols if protocol], [])
        return str(error)

    async def test_closes_without_the_byte(self) -> None:
        text = await self.refused_text(await self.odd(closes=True))
        self.assertIn("closed the connection before confirming it, so it refuses this client", text)
        self.assertIn("(tls-closed)", text)

    async def test_closes_without_the_byte_for_an_expired_client(self) -> None:
        """libvirt's server refuses so, without an alert: our own look at the certificate helps."""
        client = issue(purposes=[CLIENT], end=minutes(-5))
        text = await self.refused_text(await self.odd(closes=True), pki=self.pki(client=client))
        self.assertIn("clientcert.pem expired on", text)

    async def test_another_byte(self) -> None:
        text = await self.refused_text(await self.odd(answer=b"\0\0\0\x1c"))
        self.assertIn("0x00 in place of the confirmation", text)

    async def test_silent_after_the_handshake(self) -> None:
        text = await self.refused_text(await self.odd(), limits=QUICK)
        self.assertIn("no confirmation within 0.2 s", text)
        self.assertIn("(tls-timeout)", text)

    async def test_silent_from_the_start(self) -> None:
        text = await self.refused_text(self.plain(b""), limits=QUICK)
        self.assertIn("no end of the TLS handshake within 0.2 s", text)

    async def test_plain_text_server(self) -> None:
        text = await self.refused_text(self.plain(b"220 mail.example ESMTP\r\n"))
        self.assertIn("does not speak TLS on this port (tls)", text)

    async def test_closes_at_once(self) -> None:
        text = await self.refused_text(self.plain(None))
        self.assertIn("does this port speak TLS? (tls-closed)", text)

    async def test_nobody_listens(self) -> None:
        port = self.plain(b"")
        await self.stop_plain()
        text = await self.refused_text(port)
        self.assertIn("connection refused; is the server running", text)

    async def test_cancelled_while_shaking_hands(self) -> None:
        connecting = self.connect(self.plain(b""))
        await self.until(lambda: self.server.protocols and self.server.protocols[0].received)
        connecting.cancel()
        await self.assertFailure(connecting, CancelledError)
        await self.until(lambda: self.server.protocols[0].lost is not None)

    async def test_the_clients_factory_fails(self) -> None:
        def fails() -> Any:
            raise ZeroDivisionError

        self.client.make = fails
        port = await self.listen()
        await self.assertFailure(self.connect(port), ZeroDivisionError)

    async def test_the_clients_factory_declines(self) -> None:
        self.client.make = lambda: None
        port = await self.listen()
        text = await self.refused_text(port)
        self.assertIn("not wanted any more", text)

    def plain(self, greeting: bytes | None) -> int:
        class Plain(Recorder):
            def connectionMade(self) -> None:
                super().connectionMade()
                if greeting is None:
                    self.transport.loseConnection()
                else:
                    self.transport.write(greeting)

        self.server.make = Plain
        self.plain_port = reactor.listenTCP(0, self.server, interface="127.0.0.1")
        self.addCleanup(lambda: self.plain_port.stopListening())
        self.addCleanup(self.close_all)
        return int(self.plain_port.getHost().port)

    async def stop_plain(self) -> None:
        await self.plain_port.stopListening()


class StrangeClientTests(LoopbackTestCase):
    """What a server does with clients that are none: rows T01, T04, T18, L03."""

    async def check(self, data: bytes, code: str, words: str) -> Recorder:
        port = await self.listen()
        client = await self.raw(port)
        client.transport.write(data)
        await self.until(lambda: client.lost is not None and self.refused)
        self.assertEqual([refusal.code for refusal in self.refused], [code])
        self.assertIn(words, self.refused[0].detail)
        self.assert_logged(code)
        self.assertEqual(self.server.protocols, [])
        return client

    async def test_plain_rpc(self) -> None:
        client = await self.check(bytes.fromhex("0000001c 20008086 00000001"), "tls", "looks like plain RPC")
        self.assertEqual(client.received, b"")

    async def test_bytes_before_the_hello(self) -> None:
        await self.check(b"\n\x16\x03\x01", "tls", "not TLS: it begins with 0a160301")

    async def test_hello_too_long(self) -> None:
        body = b"\x01" + (60_000).to_bytes(3, "big") + bytes(12_000)
        record = b"\x16\x03\x01" + len(body).to_bytes(2, "big") + body
        client = await self.check(record, "tls", "a ClientHello of 60004 bytes")
        self.assertIn(client.received, (b"", bytes.fromhex("15030300020232")))

    async def test_hello_of_64_kib_in_records_of_one_byte(self) -> None:
        body = b"\x01\0\x3f\0" + bytes(65_536)
        records = b"".join(b"\x16\x03\x01\0\x01" + bytes([byte]) for byte in body)
        await self.check(records, "tls", "no whole ClientHello in 16384 bytes")

    async def test_gone_before_the_hello(self) -> None:
        port = await self.listen()
        client = await self.raw(port)
        client.transport.loseConnection()
        await self.until(lambda: self.refused)
        self.assertEqual(
            self.refused[0], ("tls-closed", "the client closed the connection before its ClientHello")
        )

    async def test_silent(self) -> None:
        port = await self.listen(limits=QUICK)
        client = await self.raw(port)
        await self.until(lambda: client.lost is not None and self.refused)
        self.assertEqual(self.refused[0].code, "tls-timeout")
        self.assertIn("did not finish the ClientHello within 0.2 s", self.refused[0].detail)

    async def test_silent_after_the_hello(self) -> None:
        port = await self.listen(limits=QUICK)
        client = await self.raw(port)
        client.transport.write(hello())
        await self.until(lambda: client.lost is not None and self.refused)
        self.assertEqual(self.refused[0].code, "tls-timeout")
        self.assertIn("did not finish the TLS handshake", self.refused[0].detail)

    async def test_garbage_after_the_hello(self) -> None:
        port = await self.listen()
        client = await self.raw(port)
        client.transport.write(hello())
        await self.until(lambda: client.received)
        client.transport.write(b"GET / HTTP/1.1\r\n\r\n")
        await self.until(lambda: client.lost is not None and self.refused)
        self.assertEqual(self.refused[0].code, "tls")

    async def test_hello_in_pieces_of_one_byte(self) -> None:
        await self.whole_handshake(lambda data: [data[i : i + 1] for i in range(len(data))])

    async def test_hello_in_records_of_one_byte(self) -> None:
        def split(data: bytes) -> list[bytes]:
            return [data[:3] + b"\0\x01" + data[i : i + 1] for i in range(5, len(data))]

        await self.whole_handshake(split)

    async def whole_handshake(self, split: Any) -> None:
        pki = self.pki()
        port = await self.listen(pki)

        def talk() -> bytes:
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            tls = stdlib_client(pki).wrap_bio(incoming, outgoing, server_hostname="localhost")
            with socket.create_connection(("127.0.0.1", port), 5) as plain:
                plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                is_first = True
                while True:
                    try:
                        tls.do_handshake()
                        plain.sendall(outgoing.read())
                        return tls.read(1)
                    except ssl.SSLWantReadError:
                        data = outgoing.read()
                        for piece in split(data) if is_first else [data]:
                            plain.sendall(piece)
                        is_first = False
                        incoming.write(plain.recv(65536))

        self.assertEqual(await deferToThread(talk), b"\x01")

    async def test_stopping_the_server_ends_handshakes(self) -> None:
        port = await self.listen()
        client = await self.raw(port)
        await self.until(lambda: client.calls)
        await self.until(lambda: True)
        client.transport.write(b"\x16")
        await self.until(lambda: self.count_arrivals())
        await self.listening.stopListening()
        await self.until(lambda: client.lost is not None)
        self.assertIn("the server is stopping", self.refused[0].detail)

    async def test_too_many_handshakes(self) -> None:
        limits = Limits(handshakes_per_address=2, handshakes=100, handshake_seconds=3.0)
        pki = self.pki()
        port = await self.listen(pki, limits=limits)
        waiting = [await self.raw(port) for _ in range(2)]
        await self.until(lambda: self.count_arrivals() == 2)
        third = await self.raw(port)
        await self.until(lambda: third.lost is not None)
        self.assertEqual([refusal.code for refusal in self.refused], ["tls-busy"])
        fourth = await self.raw(port)
        await self.until(lambda: fourth.lost is not None)
        # One line in a second, however many there are.
        self.assert_logged("tls-busy")
        self.assertEqual(len(self.refused), 2)
        for client in waiting:
            client.transport.abortConnection()
        await self.until(lambda: self.count_arrivals() == 0)
        # Whoever has finished the handshake does not count.
        for _ in range(4):
            await self.connect(port, pki)

    def count_arrivals(self) -> int:
        return len(self.listening.factory._pending)
