"""What one read causes goes out in one write, in order, and not too much of it."""

from __future__ import annotations

from typing import Annotated, Any

from twisted.trial.unittest import SynchronousTestCase

from rpcstream.limits import KIB, Limits
from rpcstream.programs.base import Procedure, Program
from rpcstream.testing import ConnectedPair
from rpcstream.wire import Max, UInt
from rpcstream.wire.header import MessageType, decode_header
from tests.net.files_program import Fetch, FileServer, Size

SIZES = Program("sizes", number=0x2F11E5AA, version=1)


class Bytes(Procedure[Annotated[bytes, Max(64 * KIB)]], program=SIZES, number=1, permission="sizes"):
    """So many of them; none: close the connection."""

    count: UInt


class Sizes:
    @Bytes.responder
    def bytes(self, call: Any, request: Bytes) -> bytes:
        if not request.count:
            call.connection.link.close("as asked for")
        return bytes(request.count)


class GatheringTests(SynchronousTestCase):
    def setUp(self) -> None:
        files = FileServer()
        files.files["disk"] = b"x" * 1000
        self.pair = ConnectedPair(files, Sizes(), limits=Limits(running_calls=4))

    def read_at_once(self) -> list[bytes]:
        """The server reads all that the client has written; what it writes then."""
        queue = self.pair.client_transport._queue
        data = b"".join(queue)
        queue.clear()
        self.pair.server.link.dataReceived(data)
        return list(self.pair.server_transport._queue)

    def kinds(self, written: list[bytes]) -> list[int]:
        """Types of the messages in what was written."""
        data, kinds = b"".join(written), []
        while data:
            header = decode_header(data)
            kinds.append(header.type)
            data = data[header.length :]
        return kinds

    def test_replies(self) -> None:
        """Many calls in one read are answered in one write, refusals among them."""
        calls = [self.pair.client.call(Size(name)) for name in ["disk", "absent"] * 20]
        written = self.read_at_once()
        self.assertEqual(len(written), 1)
        self.assertEqual(self.kinds(written), [MessageType.REPLY] * 40)
        self.pair.pump()
        self.assertEqual([self.successResultOf(each) for each in calls[::2]], [1000] * 20)
        for each in calls[1::2]:
            self.failureResultOf(each)

    def test_many(self) -> None:
        """The caller has the first answers while the last calls are answered."""
        for _ in range(200):
            self.pair.client.call(Size("disk"))
        written = self.read_at_once()
        self.assertEqual([len(self.kinds([each])) for each in written], [64, 64, 64, 8])

    def test_large(self) -> None:
        """Large answers are not held back: a transport that is full says so while they are made."""
        for _ in range(8):
            self.pair.client.call(Bytes(20 * KIB))
        written = self.read_at_once()
        self.assertEqual([len(each) // KIB for each in written], [40] * 4)
        self.assertFalse(self.pair.server.link.is_writable)

    def test_before_bulk(self) -> None:
        """Replies go before the packets of a stream that was opened in the same read."""
        self.pair.client.open(Fetch("disk"))
        self.pair.client.call(Size("disk"))
        kinds = self.kinds(self.read_at_once())
        reply, stream = MessageType.REPLY, MessageType.STREAM
        self.assertEqual(kinds[0], reply)
        self.assertEqual(sorted(kinds), [reply, reply, stream, stream])

    def test_before_the_end(self) -> None:
        """What was answered is written although a later call of the same read ends the connection."""
        self.pair.client.call(Size("disk"))
        self.pair.client.call(Bytes(0))
        self.assertEqual(self.kinds(self.read_at_once()), [MessageType.REPLY])
        self.assertTrue(self.pair.server_transport.disconnecting)

    def test_half_closed(self) -> None:
        """The last answer to a peer that has closed its half is written before we close."""
        self.pair.client.call(Size("disk"))
        data = b"".join(self.pair.client_transport._queue)
        self.pair.server.link.dataReceived(data[:-1])
        self.pair.server.link._is_half_closed = True
        self.pair.server.link.dataReceived(data[-1:])
        self.assertEqual(self.kinds(list(self.pair.server_transport._queue)), [MessageType.REPLY])
        self.assertTrue(self.pair.server_transport.disconnecting)
