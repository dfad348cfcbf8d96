"""New keys in the midst of a lane's data, at both ends and in both directions (row T16)."""

from __future__ import annotations

from unittest import SkipTest

from twisted.internet.threads import deferToThread

from rpcstream.limits import KIB, MIB
from tests.net.lane.key_updates import KeyUpdateRelay, can_update_keys
from tests.net.lane.support import LaneCase, random_bytes


class KeyUpdateTests(LaneCase):
    """Through a relay that asks for new keys after every so many bytes."""

    def setUp(self) -> None:
        if not can_update_keys():
            raise SkipTest("Python's ssl has no libssl of its own to ask")
        super().setUp()

    async def through(self, every_bytes: int) -> tuple[str, KeyUpdateRelay]:
        url = self.serve()
        relay = KeyUpdateRelay(self.folder / "pki", int(url.rpartition(":")[2]), every_bytes)
        self.addCleanup(deferToThread, relay.stop)
        return f"rpcstream+tls://127.0.0.1:{relay.port}", relay

    async def test_upload(self) -> None:
        """An upload arrives whole; COMMIT and its reply, too."""
        url, relay = await self.through(300 * KIB)
        content = random_bytes(24 * MIB)
        sent = await self.upload(url, self.file(content))
        self.assertEqual((self.store / "a").read_bytes(), content)
        self.assertEqual(sent.lane, "exclusive")
        self.assertGreater(relay.update_count, 40)

    async def test_download(self) -> None:
        """A download does."""
        url = self.serve()
        content = random_bytes(24 * MIB)
        await self.upload(url, self.file(content))
        await self.stop()
        url, relay = await self.through(300 * KIB)
        got = await self.download(url)
        self.assertEqual((self.here / "b").read_bytes(), content)
        self.assertEqual(got.lane, "exclusive")
        self.assertGreater(relay.update_count, 40)
