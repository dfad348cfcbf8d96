"""A client of ours and a server made of frames."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from rpcstream.limits import Limits
from rpcstream.net.client import ClientConnection
from rpcstream.net.connect import hello
from rpcstream.net.threads import InlineRunner
from rpcstream.programs import flow
from rpcstream.testing import FrameFactory, MemoryTransport, RecordingPeer
from rpcstream.wire.header import Header, MessageType, Status
from tests.net.files_program import Size
from tests.net.hostile import FILE

REPLY, STREAM, MESSAGE = MessageType.REPLY, MessageType.STREAM, MessageType.MESSAGE
FLOW = FrameFactory(flow.FLOW.number, flow.FLOW.version)


EVENT = FILE.frame(4, b"\0\0\0\1a\0\0\0", kind=MESSAGE, serial=1)


SIZE = (7).to_bytes(8, "big")


class ClientTestCase(SynchronousTestCase):
    """A client of ours and a server made of frames."""

    limits = Limits(event_queue=5)
    greets = True

    def setUp(self) -> None:
        self.clock = Clock()
        self.client = ClientConnection(self.clock, InlineRunner(), self.limits)
        self.peer = RecordingPeer()
        self.transport, self.server = MemoryTransport("client"), MemoryTransport("raw")
        self.transport.peer, self.server.peer = self.server, self.transport
        self.transport.protocol, self.server.protocol = self.client.link, self.peer
        self.client.link.makeConnection(self.transport)  # type: ignore[no-untyped-call]
        self.lines: list[dict[str, Any]] = []
        globalLogPublisher.addObserver(self.lines.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.lines.append)
        if self.greets:
            greeting = Deferred.fromCoroutine(hello(self.client))
            self.pump()
            welcome = flow.Welcome(1, "raw", 1 << 20, (), ())
            payload = flow.Hello.__procedure__.result.encode(welcome)
            self.send(FLOW.frame(1, payload, kind=REPLY, serial=self.peer.frames[-1][0].serial))
            self.successResultOf(greeting)
        self.peer.frames.clear()

    def tearDown(self) -> None:
        """Nothing that waits is left, and nothing was logged but what the test expects."""
        self.transport.abortConnection()
        self.assertEqual(len(self.client._pending), 0)
        self.assertEqual([call for call in self.clock.getDelayedCalls() if call.active()], [])

    def pump(self, *, time: bool = True) -> None:
        while self.transport.deliver(1 << 40, None) + self.server.deliver(1 << 40, None):
            if time:
                self.clock.advance(0)

    def send(self, *data: bytes, time: bool = True) -> None:
        """Send; without C{time}, what is put off to the next turn of the reactor does not run."""
        self.pump(time=time)
        self.server.write(b"".join(data))
        self.pump(time=time)

    @property
    def serial(self) -> int:
        """Of the last call."""
        self.pump()
        return [header.serial for header, _ in self.peer.frames if header.type == MessageType.CALL][-1]

    def reply(self, procedure: int, payload: bytes = b"", status: int = Status.OK) -> bytes:
        return FILE.frame(procedure, payload, kind=REPLY, serial=self.serial, status=status)

    def sent(self, kind: int, status: int) -> list[tuple[Header, bytes]]:
        return [(h, p) for h, p in self.peer.frames if (h.type, h.status) == (kind, status)]

    def assert_closed(self, code: str) -> None:
        """C(code)."""
        self.assertEqual([line["code"] for line in self.lines if line.get("code") is not None], [code])
        self.assertIn(code, self.successResultOf(self.client.when_closed()))

    def assert_lives(self) -> None:
        call = self.client.call(Size("x"))
        self.send(self.reply(1, SIZE))
        self.assertEqual(self.successResultOf(call), 7)

    def open(self, request: Any, reply: bytes = b"", **options: Any) -> Any:
        """A stream that the server has accepted."""
        opening = self.client.open(request, **options)
        self.send(self.reply(request.__procedure__.number, reply))
        return self.successResultOf(opening)
