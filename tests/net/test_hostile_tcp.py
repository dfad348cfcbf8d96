"""The rows where the kernel has a say, over real TCP with a real C{serve()}."""

from __future__ import annotations

import socket
import struct
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress
from twisted.internet.protocol import ClientFactory, Protocol, connectionDone
from twisted.internet.task import deferLater
from twisted.logger import globalLogPublisher
from twisted.python.failure import Failure
from twisted.trial.unittest import TestCase

from rpcstream.limits import Limits
from rpcstream.net.client import ClientConnection
from rpcstream.net.connect import connect
from rpcstream.net.identity import ANONYMOUS
from rpcstream.net.service import RPCService, serve
from rpcstream.services.policy import allow
from rpcstream.testing import RecordingPeer
from rpcstream.wire.header import MessageType, Status
from tests.net.files_program import FileServer, Size
from tests.net.hostile import CONTENT, FILE, name, ping, word

SIZE = FILE.frame(1, name("disk"))


class Raw(Protocol):
    """A TCP client that sends what it likes."""

    def __init__(self) -> None:
        self.recorder = RecordingPeer()
        self.ended: Deferred[None] = Deferred()

    def dataReceived(self, data: bytes) -> None:
        self.recorder.dataReceived(data)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self.recorder.lost = reason
        self.ended.callback(None)

    @property
    def replies(self) -> list[int]:
        return [h.serial for h, _ in self.recorder.frames if (h.type, h.status) == (MessageType.REPLY, 0)]


class TCPTestCase(TestCase):
    timeout = 20
    limits = Limits(first_message_seconds=0.5, close_seconds=0.5, drain_seconds=1)

    async def asyncSetUp(self) -> None:
        self.files = FileServer()
        self.files.files["disk"] = CONTENT
        self.service: RPCService = serve(
            "tcp:0:interface=127.0.0.1",
            self.files,
            policy=allow(**{ANONYMOUS: {"files.read", "files.write"}}),
            insecure=True,
            limits=self.limits,
        )
        self.service.startService()
        await self.until(lambda: self.service.ports)
        self.port: int = self.service.ports[0].getHost().port  # type: ignore[attr-defined]
        self.client: ClientConnection = await connect(f"rpcstream+tcp://127.0.0.1:{self.port}", insecure=True)
        self.lines: list[dict[str, Any]] = []
        globalLogPublisher.addObserver(self.lines.append)
        self.raws: list[Raw] = []

    def setUp(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self.asyncSetUp())

    def tearDown(self) -> Deferred[None]:
        return Deferred.fromCoroutine(self.asyncTearDown())

    async def asyncTearDown(self) -> None:
        """The good client is served; nothing of the others is left."""
        self.assertEqual(await self.client.call(Size("disk")), len(CONTENT))
        for raw in self.raws:
            if raw.recorder.lost is None:
                raw.transport.abortConnection()  # type: ignore[union-attr]
            await raw.ended
        await self.until(lambda: len(self.service.serving.connections) == 1)
        self.assertEqual(self.service.serving.stream_count, 0)
        globalLogPublisher.removeObserver(self.lines.append)
        await self.client.close()
        await self.service.stopService()

    async def until(self, condition: Any, seconds: float = 5) -> None:
        end = reactor.seconds() + seconds  # type: ignore[attr-defined]
        while not condition():
            self.assertLess(reactor.seconds(), end, "waited in vain")  # type: ignore[attr-defined]
            await deferLater(reactor, 0.005, lambda: None)  # type: ignore[arg-type]

    async def raw(self) -> Raw:
        peer = Raw()
        ready: Deferred[None] = Deferred()

        class Factory(ClientFactory):
            noisy = False

            def buildProtocol(self, addr: IAddress | None) -> Raw:
                reactor.callLater(0, ready.callback, None)  # type: ignore[attr-defined]
                return peer

        reactor.connectTCP("127.0.0.1", self.port, Factory())  # type: ignore[attr-defined]
        await ready
        self.raws.append(peer)
        peer.transport.setTcpNoDelay(True)  # type: ignore[union-attr]
        return peer

    def codes(self) -> list[str]:
        return [line["code"] for line in self.lines if line.get("code") is not None]


class RealRows(TCPTestCase):
    async def test_f10_http(self) -> None:
        """C(len-long) at once."""
        raw = await self.raw()
        raw.transport.write(b"GET / HTTP/1.1\r\n\r\n")  # type: ignore[union-attr]
        await raw.ended
        self.assertEqual(self.codes(), ["len-long"])

    async def test_f12_silence(self) -> None:
        """C(idle) for silent sockets, after the configured time."""
        peers = [await self.raw() for _ in range(10)]
        for raw in peers:
            await raw.ended
        self.assertEqual(self.codes(), ["idle"] * 10)

    async def test_f15_call_then_fin(self) -> None:
        """A call, then FIN in the same write: answered, then closed; also when the answer takes time."""
        raw = await self.raw()
        raw.transport.write(SIZE + FILE.frame(6, serial=1))  # type: ignore[union-attr]
        raw.transport.loseWriteConnection()  # type: ignore[union-attr]
        await self.until(lambda: raw.replies == [0])
        await self.until(lambda: self.files.sleeping)
        self.files.sleeping[0].callback(None)
        await raw.ended
        self.assertEqual(raw.replies, [0, 1])
        self.assertEqual(self.codes(), [])

    async def test_f15_fin_and_no_answer(self) -> None:
        """A call that is not answered ends with C{drain_seconds} after the FIN."""
        raw = await self.raw()
        raw.transport.write(FILE.frame(6))  # type: ignore[union-attr]
        raw.transport.loseWriteConnection()  # type: ignore[union-attr]
        await raw.ended
        await self.until(lambda: self.files.cancelled == 1)

    async def test_f16_single_bytes(self) -> None:
        """Every byte in a segment of its own."""
        raw = await self.raw()
        upload = FILE.frame(3, name("up") + (99).to_bytes(8, "big"), serial=1)
        for byte in SIZE + upload:
            raw.transport.write(bytes([byte]))  # type: ignore[union-attr]
            await deferLater(reactor, 0, lambda: None)  # type: ignore[arg-type]
        await self.until(lambda: raw.replies == [0, 1])
        for byte in FILE.data(3, 1, b"abc" * 33) + FILE.finish(3, 1):
            raw.transport.write(bytes([byte]))  # type: ignore[union-attr]
            await deferLater(reactor, 0, lambda: None)  # type: ignore[arg-type]
        await self.until(lambda: self.files.files.get("up") == b"abc" * 33)

    async def test_f17_thousand_in_one_write(self) -> None:
        """OK in order, and another client's call is not starved."""
        raw = await self.raw()
        raw.transport.write(b"".join(FILE.frame(1, name("disk"), serial=n) for n in range(1000)))  # type: ignore[union-attr]
        started = reactor.seconds()  # type: ignore[attr-defined]
        self.assertEqual(await self.client.call(Size("disk")), len(CONTENT))
        self.assertLess(reactor.seconds() - started, 0.5)  # type: ignore[attr-defined]
        await self.until(lambda: len(raw.replies) == 1000)
        self.assertEqual(raw.replies, [*range(1000)])

    async def test_k04_flood(self) -> None:
        """C(flood) with the answers unread, and little was written."""
        raw = await self.raw()
        raw.transport.pauseProducing()  # type: ignore[union-attr]
        raw.transport.write(ping() * 100_000)  # type: ignore[union-attr]
        await self.until(lambda: self.codes())
        self.assertEqual(self.codes(), ["flood"])
        raw.transport.resumeProducing()  # type: ignore[union-attr]

    async def test_s16_reset_in_the_middle(self) -> None:
        """RST in mid-upload: nothing is published, the responder hears of it."""
        raw = await self.raw()
        raw.transport.write(FILE.frame(3, name("up") + (99).to_bytes(8, "big"), serial=1))  # type: ignore[union-attr]
        await self.until(lambda: raw.replies == [1])
        raw.transport.write(FILE.data(3, 1, b"half"))  # type: ignore[union-attr]
        handle: socket.socket = raw.transport.getHandle()  # type: ignore[union-attr]
        handle.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
        raw.transport.abortConnection()  # type: ignore[union-attr]
        await self.until(lambda: self.files.ended_with)
        self.assertNotIn("up", self.files.files)

    async def test_s18_download_never_read(self) -> None:
        """Memory stays flat: what is written is what the kernel takes."""
        self.files.files["huge"] = bytes(256 << 20)
        raw = await self.raw()
        raw.transport.pauseProducing()  # type: ignore[union-attr]
        raw.transport.write(FILE.frame(2, name("huge") + bytes(8)))  # type: ignore[union-attr]
        await self.until(lambda: self.service.serving.stream_count == 1)
        (server,) = (c for c in self.service.serving.connections if c.link.core.stream_count)
        await deferLater(reactor, 0.2, lambda: None)  # type: ignore[arg-type]
        self.assertLess(server.link.written_bytes, 32 << 20)

    async def test_l07_stop(self) -> None:
        """Stopping ends a silent, a calling and a streaming client, in time."""
        silent, calling, streaming = [await self.raw() for _ in range(3)]
        calling.transport.write(FILE.frame(6))  # type: ignore[union-attr]
        streaming.transport.write(FILE.frame(3, name("up") + (99).to_bytes(8, "big")))  # type: ignore[union-attr]
        await self.until(lambda: streaming.replies == [0] and self.files.sleeping)
        other = await connect(f"rpcstream+tcp://127.0.0.1:{self.port}", insecure=True)
        self.service.serving.drain()
        for raw in (silent, calling, streaming):
            await raw.ended
        self.assertIn("closed", await other.when_closed())
        await self.until(lambda: self.files.cancelled == 1 and len(self.files.ended_with) == 1)
        self.client = await connect(f"rpcstream+tcp://127.0.0.1:{self.port}", insecure=True)

    async def test_garbage_after_a_while(self) -> None:
        """A connection that was good may go bad."""
        raw = await self.raw()
        raw.transport.write(SIZE)  # type: ignore[union-attr]
        await self.until(lambda: raw.replies == [0])
        raw.transport.write(word(0))  # type: ignore[union-attr]
        await raw.ended
        self.assertEqual((self.codes(), raw.recorder.frames[-1][0].status), (["len-short"], Status.OK))
