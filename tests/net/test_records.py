"""Where messages begin in TLS: libvirt looks at the first of each record only."""

from __future__ import annotations

from twisted.internet import reactor

from rpcstream.errors import ConnectionClosed
from rpcstream.net.client import ClientConnection
from rpcstream.net.connect import ClientFactory
from rpcstream.net.endpoints import client_endpoint
from rpcstream.net.threads import InlineRunner
from rpcstream.programs import remote
from rpcstream.wire import HEADER_BYTES
from tests.net.loopback import LIMITS
from tests.net.odd_peers import Odd, OddServerTestCase


class Records(Odd):
    """Twisted's TLS delivers the content of one record at a time."""

    answer = b"\x01"

    def __init__(self) -> None:
        super().__init__()
        self.sizes: list[int] = []

    def dataReceived(self, data: bytes) -> None:
        super().dataReceived(data)
        self.sizes.append(len(data))


class RecordTests(OddServerTestCase):
    async def sent(self, is_rpcstream: bool) -> list[int]:
        """Sizes of the records of three calls at once."""
        port = await self.odd()
        self.server.make = Records
        connection = ClientConnection(reactor, InlineRunner(), LIMITS)
        url = f"rpcstream+tls://127.0.0.1:{port}"
        endpoint = client_endpoint(reactor, url, pki=self.pki(), limits=LIMITS)
        await endpoint.connect(ClientFactory(connection))
        connection.link.core.peer_is_rpcstream = is_rpcstream
        calls = [connection.call(remote.ConnectGetHostname()) for _ in range(3)]
        (server,) = self.server.protocols
        await self.until(lambda: sum(server.sizes) == 3 * HEADER_BYTES)
        await connection.close()
        for call in calls:
            await self.assertFailure(call, ConnectionClosed)
        return list(server.sizes)

    async def test_stranger(self) -> None:
        """Each message has a record of its own."""
        self.assertEqual([HEADER_BYTES] * 3, await self.sent(is_rpcstream=False))

    async def test_rpcstream(self) -> None:
        """Ours looks at everything: small messages are joined."""
        self.assertEqual([3 * HEADER_BYTES], await self.sent(is_rpcstream=True))
