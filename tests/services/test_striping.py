"""One transfer over several connections, at once and one after the other, over real sockets."""

from __future__ import annotations

import dataclasses
import os
import random
import threading
from typing import Any

from twisted.internet.defer import Deferred, DeferredList

from rpcstream.errors import RPCStreamError
from rpcstream.limits import EXTENT_BYTES, MIB, Limits
from rpcstream.net.moving import Moving
from rpcstream.net.opening import Opening
from rpcstream.net.progress import Progress
from rpcstream.programs import transfer
from rpcstream.programs.parts import FEATURE, PartRequest
from rpcstream.services.connections import Connections
from rpcstream.services.receiving import ReceiveOptions, receive
from rpcstream.services.sending import SendOptions, Sent, send
from rpcstream.storage.pipes import PipeSource
from rpcstream.storage.sources import Source, open_path
from tests.net.lane.relay import Relay
from tests.net.lane.support import LIMITS, LaneCase, random_bytes

ID = b"0123456789abcdef"
SIZE = 9 * EXTENT_BYTES + 4321
SHARED = dataclasses.replace(LIMITS, exclusive_lanes=0)
RUNS = int(os.environ.get("RPCSTREAM_LANE_RUNS", "3"))


class StripeCase(LaneCase):
    """
    @ivar dialed: connections that were made, besides each first one.
    """

    timeout = 60

    def setUp(self) -> None:
        super().setUp()
        self.dialed: list[Any] = []

    def partials(self) -> list[Any]:
        """The destination's."""
        return self.service.pools["default"].partials()

    def dial(self, url: str, limits: Limits | None) -> Opening[Any]:
        opening = self.connect(url, limits)
        opening.addCallback(self._dialed)
        return opening

    def _dialed(self, connection: Any) -> Any:
        self.dialed.append(connection)
        return connection

    async def send_striped(
        self, url: str, source: Source, count: int = 4, stripe_url: str = "", **options: Any
    ) -> Sent:
        """Send over C{count} connections, of which all but the first go to C{stripe_url}."""
        limits, opened = options.pop("limits", None), options.pop("opened", lambda moving, held: None)
        chosen = {"name": "a", "transfer_id": ID, **options}
        async with self.connect(url, limits) as first:
            several = Connections(first, lambda: self.dial(stripe_url or url, limits), count)
            try:
                return await send(several, source, SendOptions(**chosen), self.runner, opened=opened)
            finally:
                await several.close()

    async def receive_striped(self, url: str, count: int = 4, stripe_url: str = "", **options: Any) -> Sent:
        """The other way."""
        limits = options.pop("limits", None)
        chosen = {"name": "a", "target": "b", "transfer_id": ID, **options}
        async with self.connect(url, limits) as first:
            several = Connections(first, lambda: self.dial(stripe_url or url, limits), count)
            try:
                return await receive(several, self.pool, ReceiveOptions(**chosen), self.runner)
            finally:
                await several.close()


class StripingTests(StripeCase):
    """Several connections at once."""

    async def check(self, kind: str, limits: Limits, lane: str) -> None:
        url = self.serve(kind, limits)
        content = random_bytes(SIZE)
        with open_path(self.file(content)) as source:
            sent = await self.send_striped(url, source, 3, limits=limits)
        self.assertEqual((self.store / "a").read_bytes(), content)
        self.assertEqual((sent.sent_bytes, sent.connection_count, sent.lane), (SIZE, 3, lane))
        self.assertGreater(sent.written_bytes, SIZE)
        received = await self.receive_striped(url, 3, limits=limits)
        self.assertEqual((self.here / "b").read_bytes(), content)
        self.assertEqual((received.sent_bytes, received.connection_count, received.lane), (SIZE, 3, lane))
        self.assertEqual(received.digest, sent.digest)
        # The digest of the same content over one connection.
        with open_path(self.here / "b") as source:
            self.assertEqual((await self.send_striped(url, source, 1, name="c")).digest, sent.digest)
        for connection in self.dialed:
            self.assertFalse(connection.link.is_connected)

    async def test_lanes(self) -> None:
        """Each connection has a lane of its own; nothing crosses twice."""
        await self.check("tls", LIMITS, "exclusive")

    async def test_plain(self) -> None:
        """The same without TLS."""
        await self.check("tcp", LIMITS, "exclusive")

    async def test_shared(self) -> None:
        """The same by the reactor."""
        await self.check("tls", SHARED, "shared")

    async def test_small(self) -> None:
        """What is not worth several connections goes over one, whatever its size."""
        url = self.serve("unix")
        for size in (0, 1, EXTENT_BYTES):
            with open_path(self.file(random_bytes(size))) as source:
                sent = await self.send_striped(
                    url, source, transfer_id=size.to_bytes(16, "big"), replace=True
                )
            self.assertEqual((self.store / "a").read_bytes(), random_bytes(size))
            received = await self.receive_striped(url, replace=True, transfer_id=size.to_bytes(16, "big"))
            self.assertEqual((self.here / "b").read_bytes(), random_bytes(size))
            self.assertEqual((sent.connection_count, received.connection_count), (1, 1))

    async def test_sparse(self) -> None:
        """Holes are holes in every stripe."""
        url = self.serve()
        path = self.here / "source"
        with path.open("wb") as file:
            file.truncate(600 * EXTENT_BYTES)
            for index in (0, 77, 300, 599):
                file.seek(index * EXTENT_BYTES)
                file.write(random_bytes(100_000, index))
        with open_path(path) as source:
            sent = await self.send_striped(url, source)
        self.assertLess(sent.sent_bytes, 2 * MIB)
        await self.receive_striped(url)
        for copy in (self.store / "a", self.here / "b"):
            self.assertEqual(copy.stat().st_size, path.stat().st_size)
            self.assertLessEqual(copy.stat().st_blocks, path.stat().st_blocks)
            with copy.open("rb") as left, path.open("rb") as right:
                for index in (0, 77, 300, 599):
                    left.seek(index * EXTENT_BYTES)
                    right.seek(index * EXTENT_BYTES)
                    self.assertEqual(left.read(100_001), right.read(100_001))

    async def test_progress_and_rate(self) -> None:
        """The rate limit is that of all connections together, and so is the progress."""
        url = self.serve()
        seen: list[Progress] = []

        def opened(moving: Moving, held_bytes: int) -> None:
            async def look() -> None:
                while not moving.is_closed:
                    seen.append(moving.progress)
                    await self.pause(0.05)

            looking.append(Deferred.fromCoroutine(look()))

        looking: list[Deferred[None]] = []
        size = 8 * EXTENT_BYTES
        with open_path(self.file(random_bytes(size))) as source:
            sent = await self.send_striped(url, source, bytes_per_second=32 * MIB, opened=opened)
        await DeferredList(looking)
        # The first quarter of a second is free, and each of four may overdraw by a packet of 1 MiB.
        self.assertGreater(sent.seconds, (size - 8 * MIB - 4 * MIB) / (32 * MIB) - 0.01)
        counts = [progress.byte_count for progress in seen]
        self.assertEqual(counts, sorted(counts))
        self.assertLessEqual(counts[-1], size)
        self.assertEqual({progress.total_bytes for progress in seen}, {size})
        self.assertIn("exclusive", {progress.lane for progress in seen})

    async def test_changed(self) -> None:
        """What was kept and is wrong by now goes over in a further round, and all is of one digest."""
        url = self.serve()
        content = bytearray(random_bytes(SIZE))
        path = self.file(bytes(content))
        with open_path(path) as source:
            going = Deferred.fromCoroutine(self.send_striped(url, source, bytes_per_second=64 * MIB))
            await self.until(lambda: self.held() >= 3 * EXTENT_BYTES)
            going.cancel()
            await self.assertFailure(going, Exception)
        await self.until(lambda: not any(partial.active for partial in self.partials()))
        for index in range(10):
            content[index * EXTENT_BYTES + 5] ^= 1
        path.write_bytes(bytes(content))
        with open_path(path) as source:
            sent = await self.send_striped(url, source)
        self.assertGreater(sent.resumed_from, 0)
        self.assertEqual((self.store / "a").read_bytes(), bytes(content))

    def held(self) -> int:
        return sum(partial.held_bytes for partial in self.partials())

    async def test_older_peer(self) -> None:
        """A server that knows no parts gets the whole over one connection."""
        url = self.serve()
        async with self.connect(url) as first:
            first.features = tuple(feature for feature in first.features if feature != FEATURE)
            several = Connections(first, lambda: self.dial(url, None), 4)
            with open_path(self.file(random_bytes(SIZE))) as source:
                sent = await send(several, source, SendOptions("a", ID), self.runner)
            self.assertEqual((sent.connection_count, sent.sent_bytes), (1, SIZE))
            await receive(several, self.pool, ReceiveOptions("a", "b", ID), self.runner)
            self.assertEqual((self.here / "b").read_bytes(), random_bytes(SIZE))

    async def test_refused(self) -> None:
        """A stripe that does not belong to an attempt, or asks for what another has, is refused."""
        url = self.serve()
        async with self.connect(url) as first, self.connect(url) as second:
            stream = await first.open(_incoming(PartRequest(0, 4)))
            key = stream.reply.parameters[0].value.value  # type: ignore[union-attr]
            for part, error in (
                (PartRequest(4, 4, bytes(16)), transfer.Fenced),
                (PartRequest(3, 4, key), RPCStreamError),
            ):
                with self.assertRaises(error):
                    await second.open(_incoming(part))
            # The second had the key: what is wrong with it is wrong with the transfer.
            with self.assertRaises(RPCStreamError):
                await stream.when_closed()
            with self.assertRaises(transfer.Fenced):
                await second.open(_incoming(PartRequest(8, 4, key)))


def _incoming(part: PartRequest) -> transfer.Incoming:
    return transfer.Incoming(
        "a", "", transfer.SourceKind.FILE, SIZE, True, False, None, ID, b"", part.parameters
    )


class LossTests(StripeCase):
    """One of the connections is lost, or a newer attempt comes."""

    timeout = 60 + 5 * RUNS

    async def begin(self) -> tuple[str, str, Relay]:
        url = self.serve()
        relay = Relay(int(url.rpartition(":")[2]))
        stripe_url = f"rpcstream+tls://127.0.0.1:{relay.listen()}"
        self.addCleanup(relay.stop)
        return url, stripe_url, relay

    def point(self, chance: random.Random, number: int) -> int:
        """Where to cut: in the handshakes, or in the data."""
        return chance.randint(1, 9000) if number % 3 == 2 else chance.randint(9000, SIZE // 3)

    async def test_upload(self) -> None:
        """
        Losing one stripe ends the transfer, with the cause; what is durable is resumed over
        any number of connections, and nothing of it crosses again.
        """
        url, stripe_url, relay = await self.begin()
        content = random_bytes(SIZE)
        path = self.file(content)
        chance = random.Random(11)
        for number in range(RUNS):
            name, transfer_id = f"file-{number}", number.to_bytes(16, "big")
            relay.how = ("reset", "end")[number % 2]
            relay.passed, relay.cut_at = (
                0,
                chance.choice((chance.randint(1, 9000), chance.randint(9000, SIZE // 3))),
            )
            chosen = {"name": name, "transfer_id": transfer_id}
            with open_path(path) as source, self.assertRaises(RPCStreamError):
                await self.send_striped(url, source, stripe_url=stripe_url, **chosen)
            self.assertFalse((self.store / name).exists())
            await self.lanes_gone()
            relay.cut_at = None
            with open_path(path) as source:
                sent = await self.send_striped(url, source, (1, 2, 4)[number % 3], **chosen)
            self.assertEqual((self.store / name).read_bytes(), content)
            self.assertEqual(sent.sent_bytes, SIZE - sent.resumed_from)

    async def test_download(self) -> None:
        """The same the other way."""
        url, stripe_url, relay = await self.begin()
        content = random_bytes(SIZE)
        await self.upload(url, self.file(content))
        chance = random.Random(12)
        for number in range(RUNS):
            target, transfer_id = f"got-{number}", number.to_bytes(16, "big")
            relay.how = ("reset", "end")[number % 2]
            relay.passed, relay.cut_at = (
                0,
                chance.choice((chance.randint(1, 9000), chance.randint(9000, SIZE // 3))),
            )
            chosen = {"target": target, "transfer_id": transfer_id}
            with self.assertRaises(RPCStreamError):
                await self.receive_striped(url, stripe_url=stripe_url, **chosen)
            self.assertFalse((self.here / target).exists())
            await self.lanes_gone()
            relay.cut_at = None
            received = await self.receive_striped(url, (1, 2, 4)[number % 3], **chosen)
            self.assertEqual((self.here / target).read_bytes(), content)
            self.assertEqual(received.sent_bytes, SIZE - received.resumed_from)

    async def test_fenced(self) -> None:
        """A new attempt fences every stripe of the old one, and takes over what is durable."""
        url = self.serve()
        content = random_bytes(SIZE)
        path = self.file(content)
        with open_path(path) as source, open_path(path) as again:
            old = Deferred.fromCoroutine(self.send_striped(url, source, bytes_per_second=24 * MIB))
            await self.until(lambda: len(self.dialed) == 2)
            new = Deferred.fromCoroutine(self.send_striped(url, again, 3))
            error = await self.assertFailure(old, RPCStreamError)
            self.assertIsInstance(error, transfer.Fenced)
            await new
        self.assertEqual((self.store / "a").read_bytes(), content)

    async def test_cancelled(self) -> None:
        """Cancelling ends all stripes; both ends forget them."""
        url = self.serve()
        path = self.file(random_bytes(SIZE))
        for number in range(3):
            # Another name each time: what is resumed might be done before it is cancelled.
            chosen = {"name": f"file-{number}", "transfer_id": number.to_bytes(16, "big")}
            with open_path(path) as source:
                sending = self.send_striped(url, source, bytes_per_second=16 * MIB, **chosen)
                going = Deferred.fromCoroutine(sending)
                await self.until(lambda number=number: len(self.dialed) == 2 * (number + 1))
                await self.pause(0.05 * number)
                going.cancel()
                await self.assertFailure(going, Exception)
            await self.lanes_gone()
            self.assertFalse((self.store / chosen["name"]).exists())
            await self.until(
                lambda: not any(partial.active for partial in self.service.pools["default"].partials())
            )

    async def test_disk_full(self) -> None:
        """The quota ends it for all stripes, and its own error is what the caller gets."""
        url = self.serve(quota_bytes=SIZE // 2)
        with open_path(self.file(random_bytes(SIZE))) as source, self.assertRaises(transfer.TooLarge):
            await self.send_striped(url, source)
        self.assertFalse((self.store / "a").exists())


class FreshConnectionTests(StripeCase):
    """A connection carries only so much; then a fresh one goes on."""

    limits = dataclasses.replace(LIMITS, connection_bytes=2 * EXTENT_BYTES + 100)

    async def check(self, limits: Limits) -> None:
        url = self.serve(limits=limits)
        content = random_bytes(SIZE)
        with open_path(self.file(content)) as source:
            sent = await self.send_striped(url, source, 1, limits=limits)
        self.assertEqual((self.store / "a").read_bytes(), content)
        self.assertEqual((sent.sent_bytes, sent.connection_count), (SIZE, 5))
        received = await self.receive_striped(url, 1, limits=limits)
        self.assertEqual((self.here / "b").read_bytes(), content)
        self.assertEqual((received.sent_bytes, received.connection_count), (SIZE, 5))
        self.assertEqual(len(self.dialed), 8)
        self.assertEqual((received.digest, received.resumed_from), (sent.digest, 0))
        self.assertEqual(sum(connection.link.is_connected for connection in self.dialed), 0)

    async def test_lane(self) -> None:
        """Both ways, as one transfer: nothing crosses twice, the counters go on."""
        await self.check(self.limits)

    async def test_shared(self) -> None:
        """The key wears out on the shared lane as well."""
        await self.check(dataclasses.replace(self.limits, exclusive_lanes=0))

    async def test_striped(self) -> None:
        """Each of several connections is replaced on its own."""
        url = self.serve()
        content = random_bytes(SIZE)
        with open_path(self.file(content)) as source:
            sent = await self.send_striped(url, source, 3)
        self.assertEqual((self.store / "a").read_bytes(), content)
        self.assertEqual(sent.sent_bytes, SIZE)
        self.assertGreaterEqual(sent.connection_count, 5)

    async def test_pipe(self) -> None:
        """A pipe, which ends when it ends, goes on as well; so does one whose size is known."""
        url = self.serve()
        content = random_bytes(SIZE)
        for number, size in enumerate((None, SIZE)):
            read_fd, write_fd = os.pipe()
            writing = threading.Thread(target=_write_all, args=(write_fd, content))
            writing.start()
            source = PipeSource(read_fd, size)
            try:
                chosen = {"name": f"pipe-{number}", "transfer_id": number.to_bytes(16, "big")}
                sent = await self.send_striped(url, source, 4, **chosen)
            finally:
                source.close()
                writing.join()
            self.assertEqual((self.store / f"pipe-{number}").read_bytes(), content)
            self.assertEqual((sent.connection_count, sent.sent_bytes), (5, SIZE))

    async def test_plain(self) -> None:
        """Without TLS there is no key to wear out."""
        url = self.serve("tcp")
        with open_path(self.file(random_bytes(SIZE))) as source:
            sent = await self.send_striped(url, source, 1)
        self.assertEqual(sent.connection_count, 1)

    async def test_refused(self) -> None:
        """A fresh connection that cannot be had ends the transfer with the cause; it is resumed."""
        url = self.serve()
        content = random_bytes(SIZE)
        path = self.file(content)
        with open_path(path) as source, self.assertRaises(RPCStreamError):
            async with self.connect(url) as first:
                closed = url[: url.rindex(":")] + ":1"
                several = Connections(first, lambda: self.dial(closed, None))
                await send(several, source, SendOptions("a", ID), self.runner)
        await self.lanes_gone()
        with open_path(path) as source:
            sent = await self.send_striped(url, source, 1)
        self.assertEqual((self.store / "a").read_bytes(), content)
        self.assertGreater(sent.resumed_from, 0)
        self.assertEqual(sent.sent_bytes, SIZE - sent.resumed_from)


def _write_all(fd: int, content: bytes) -> None:
    with open(fd, "wb") as pipe:
        pipe.write(content)
