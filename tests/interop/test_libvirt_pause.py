"""
A download from the real libvirtd whose reader stops for a whole minute, with its real keepalive.
"""

from __future__ import annotations

import os
from pathlib import Path

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from rpcstream import libvirt
from rpcstream.errors import StreamAborted
from rpcstream.libvirt.sharing import SHARED_PAUSE_SECONDS
from rpcstream.limits import DEFAULT_LIMITS, KIB, MIB
from tests.interop.harness import random_file
from tests.interop.libvirt_case import LibvirtCase, asynchronous
from tests.interop.libvirtd import Libvirtd, require_libvirtd

PAUSE_SECONDS = 60
BYTE_COUNT = 256 * MIB
"""More than all buffers on the way together."""
GROWTH_BYTES = 2 * DEFAULT_LIMITS.spool_high_bytes + 16 * MIB
"""Both spools, and what Python takes for whatever else goes on."""


def sleep(seconds: float) -> Deferred[None]:
    """Wait; the reactor runs on."""
    return deferLater(reactor, seconds)  # type: ignore[arg-type]


def resident_bytes() -> int:
    """Of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class PauseTests(LibvirtCase):
    """One daemon, as it is configured by default."""

    async def _own_connection(self, volume: libvirt.Volume, source: Path) -> None:
        """Calls are answered all the time, memory stays, and afterwards it goes on."""
        host = volume.host
        async with volume.open_download() as stream:
            parts = [await anext(stream)]
            before = resident_bytes()
            growth = 0
            for _ in range(PAUSE_SECONDS):
                await sleep(1)
                self.assertTrue(await host.pools())
                growth = max(growth, resident_bytes() - before)
            self.assertLess(stream.progress.byte_count, DEFAULT_LIMITS.spool_high_bytes + 512 * KIB)
            self.assertLess(growth, GROWTH_BYTES)
            parts += [part async for part in stream]
        print(f"growth {growth / MIB:.1f} MiB")  # noqa: T201
        self.assertEqual(BYTE_COUNT, sum(map(len, parts)))
        self.assertTrue(await deferToThread(lambda: source.read_bytes() == b"".join(parts)))

    async def _shared_connection(self, volume: libvirt.Volume) -> None:
        """The stream is given up after half a minute, and says why; a call that waited is answered."""
        began = reactor.seconds()
        stream = await volume.open_download(shared=True)
        await anext(stream)
        waiting = volume.host.pools()
        error = await self.failure_of(stream.when_closed(), StreamAborted)
        self.assertIn("held up a shared connection", error.reason)
        self.assertGreater(reactor.seconds() - began, SHARED_PAUSE_SECONDS)
        self.assertTrue(await waiting)
        for _ in range(10):
            self.assertTrue(await volume.host.pools())
            await sleep(1)

    @asynchronous
    async def test_a_minute(self) -> None:
        """On a connection of its own nothing is lost; a shared one is freed."""
        require_libvirtd()
        daemon = Libvirtd()
        self.addCleanup(daemon.close)
        await deferToThread(daemon.start)
        daemon.make_pool("p")
        source = await deferToThread(random_file, self.folder / "source", BYTE_COUNT)
        uri = daemon.uri("storage", "/session", "tls")
        pool = await (await self.connected(uri)).pool("p")
        volume = await pool.create_volume("slow", capacity_bytes=BYTE_COUNT)
        await volume.upload(source)
        shared = await (await (await self.connected(uri)).pool("p")).volume("slow")
        await gatherResults(
            [
                Deferred.fromCoroutine(self._own_connection(volume, source)),
                Deferred.fromCoroutine(self._shared_connection(shared)),
            ],
            consumeErrors=True,
        )
