"""
Losing a lane's connection, cancelling and stopping at seeded points: handshake,
hand-over, data, finish, COMMIT.  Both ends forget it, and the next try resumes.

C{RPCSTREAM_LANE_RUNS} says how many points each test tries.
"""

from __future__ import annotations

import dataclasses
import os
import random
from typing import Any

from twisted.internet.defer import Deferred

from rpcstream.errors import RPCStreamError
from rpcstream.limits import MIB
from tests.net.lane.relay import Relay
from tests.net.lane.support import LIMITS, LaneCase, random_bytes

RUNS = int(os.environ.get("RPCSTREAM_LANE_RUNS", "8"))
SIZE = 12 * MIB + 1000
BEFORE = 9_000
"""About what the handshake, HELLO and INCOMING take, both ways."""
WHOLE = SIZE + SIZE // 700 + BEFORE


def points(seed: int) -> list[int]:
    """Bytes after which to cut: some in each part of a transfer."""
    chance = random.Random(seed)
    parts = ((1, 4000), (4000, BEFORE), (BEFORE, BEFORE + 70_000), (BEFORE, SIZE), (SIZE, WHOLE))
    return [chance.randint(*parts[number % len(parts)]) for number in range(RUNS)]


class LossTests(LaneCase):
    """Through a relay that cuts."""

    timeout = 30 + RUNS * 5

    async def begin(self) -> tuple[str, Relay]:
        url = self.serve()
        relay = Relay(int(url.rpartition(":")[2]))
        port = relay.listen()
        self.addCleanup(relay.stop)
        return f"rpcstream+tls://127.0.0.1:{port}", relay

    async def check_uploads(self, how: str, seed: int) -> None:
        url, relay = await self.begin()
        relay.how = how
        content = random_bytes(SIZE)
        path = self.file(content)
        for number, point in enumerate(points(seed)):
            name, transfer_id = f"file-{number}", number.to_bytes(16, "big")
            relay.passed, relay.cut_at = 0, point
            try:
                await self.upload(url, path, name, transfer_id)
            except RPCStreamError:
                self.assertFalse((self.store / name).exists() and point < SIZE, point)
            if (self.store / name).exists():
                self.assertEqual((self.store / name).read_bytes(), content, point)
            await self.lanes_gone()
            relay.cut_at = None
            sent = await self.upload(url, path, name, transfer_id)
            self.assertEqual((self.store / name).read_bytes(), content, point)
            if sent.lane == "exclusive":
                self.assertLessEqual(sent.sent_bytes, len(content) - sent.resumed_from)
            await self.lanes_gone()

    async def test_reset(self) -> None:
        """TCP resets, while uploading."""
        await self.check_uploads("reset", 1)

    async def test_end_without_leave(self) -> None:
        """TCP ends without TLS's close: truncation, never success."""
        await self.check_uploads("end", 2)

    async def test_downloads(self) -> None:
        """The same for downloads."""
        url, relay = await self.begin()
        content = random_bytes(SIZE)
        await self.upload(url, self.file(content))
        for number, point in enumerate(points(3)):
            target, transfer_id = f"got-{number}", number.to_bytes(16, "big")
            relay.how = ("reset", "end")[number % 2]
            relay.passed, relay.cut_at = 0, point
            try:
                await self.download(url, "a", target, transfer_id)
            except RPCStreamError:
                self.assertFalse((self.here / target).exists(), point)
            await self.lanes_gone()
            relay.cut_at = None
            await self.download(url, "a", target, transfer_id)
            self.assertEqual((self.here / target).read_bytes(), content, point)

    async def test_cancelled(self) -> None:
        """The client is cancelled after so many bytes, in either direction."""
        url, relay = await self.begin()
        content = random_bytes(SIZE)
        path = self.file(content)
        await self.upload(url, path)
        for number, point in enumerate(points(4)):
            name, transfer_id = f"file-{number}", number.to_bytes(16, "big")
            relay.passed = 0
            going: Deferred[Any]
            if number % 2:
                going = Deferred.fromCoroutine(self.upload(url, path, name, transfer_id))
            else:
                going = Deferred.fromCoroutine(self.download(url, "a", name, transfer_id))
            ended: list[Any] = []
            going.addBoth(ended.append)
            while relay.passed < point and not ended:
                await self.pause(0)
            going.cancel()
            await self.until(lambda ended=ended: ended)
            await self.lanes_gone()
            place = self.store if number % 2 else self.here
            if (place / name).exists():
                self.assertEqual((place / name).read_bytes(), content, point)
            if number % 2:
                await self.upload(url, path, name, transfer_id)
            else:
                await self.download(url, "a", name, transfer_id)
            self.assertEqual((place / name).read_bytes(), content, point)

    async def test_stopped(self) -> None:
        """The destination is stopped after so many bytes; started again, it goes on."""
        content = random_bytes(SIZE)
        path = self.file(content)
        for number, point in enumerate(points(5)):
            url, relay = await self.begin()
            name, transfer_id = f"file-{number}", number.to_bytes(16, "big")
            going = Deferred.fromCoroutine(self.upload(url, path, name, transfer_id))
            ended: list[Any] = []
            going.addBoth(ended.append)
            while relay.passed < point and not ended:
                await self.pause(0)
            await self.stop()
            await self.until(lambda ended=ended: ended)
            await self.lanes_gone()
            if (self.store / name).exists():
                self.assertEqual((self.store / name).read_bytes(), content, point)
            url = self.serve()
            await self.upload(url, path, name, transfer_id)
            self.assertEqual((self.store / name).read_bytes(), content, point)
            await self.stop()
            await relay.stop()

    async def test_silence(self) -> None:
        """The peer says nothing more: the limits of the connection end it, at both ends."""
        self.limits = dataclasses.replace(
            LIMITS,
            handshake_seconds=0.5,
            first_message_seconds=0.5,
            keepalive_seconds=0.1,
            keepalive_count=4,
            close_seconds=0.2,
        )
        await self.check_uploads("silence", 6)
