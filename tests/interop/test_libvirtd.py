"""
Our client against the real libvirtd: UNIX, TCP and TLS; values, volumes, events, a restart.
"""

from __future__ import annotations

import dataclasses
import os
import signal
import zlib
from collections.abc import Callable, Coroutine, Iterable
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from rpcstream import libvirt
from rpcstream.errors import ConnectionClosed, ConnectRefused, RemoteError
from rpcstream.limits import DEFAULT_LIMITS, MIB
from rpcstream.programs.remote import AuthType
from rpcstream.storage.reading import digest_file
from tests.interop.harness import random_file
from tests.interop.libvirt_case import LibvirtCase, asynchronous, virsh
from tests.interop.libvirtd import Libvirtd, require_libvirtd, shared_libvirtd

LARGE_BYTES = 1024 * MIB if os.environ.get("RPCSTREAM_LARGE") == "1" else 64 * MIB
KINDS = ("unix", "tcp", "tls")


def sleep(seconds: float) -> Any:
    return deferLater(reactor, seconds)  # type: ignore[arg-type]


def png_chunks(data: bytes) -> list[bytes]:
    """Names of the chunks of a PNG, their checksums verified."""
    assert data[:8] == b"\x89PNG\r\n\x1a\n", data[:8]
    names = []
    offset = 8
    while offset < len(data):
        length = int.from_bytes(data[offset : offset + 4], "big")
        body = data[offset + 4 : offset + 8 + length]
        assert zlib.crc32(body) == int.from_bytes(data[offset + 8 + length : offset + 12 + length], "big")
        names.append(body[:4])
        offset += 12 + length
    return names


class ValueTests(LibvirtCase):
    """Calls, typed results and typed errors."""

    @asynchronous
    async def test_values(self) -> None:
        """The same values by each transport as virsh prints."""
        daemon = shared_libvirtd()
        hostname = daemon.virsh("hostname").stdout.strip()
        for kind in KINDS:
            async with libvirt.connect(daemon.uri(kind=kind)) as host:
                self.assertEqual(hostname, await host.hostname())
                self.assertEqual((9, 0), (await host.libvirt_version())[:2])
                self.assertEqual("TEST", await host.type())
                self.assertEqual("test:///default", await host.uri())
                self.assertIn("<capabilities>", await host.capabilities())
                self.assertEqual("i686", (await host.node_info()).model)
                self.assertGreater(await host.free_memory(), 0)
                self.assertIs(AuthType.NONE, host.authentication)
                (domain,) = await host.domains()
                self.assertEqual(domain, await host.domain("test"))
                self.assertEqual(domain, await host.domain_by_uuid(str(domain.uuid)))
                self.assertEqual(domain, await host.domain_by_id(domain.id))
                self.assertEqual(libvirt.DomainState.RUNNING, (await domain.info()).state)
                self.assertIn("<name>test</name>", await domain.xml())
                self.assertEqual(bytes(range(16)), await domain.peek_memory(0, 16))

    @asynchronous
    async def test_a_domain_s_life(self) -> None:
        """Define, start, suspend, resume, shut down, undefine."""
        host = await self.connected(shared_libvirtd().uri())
        xml = "<domain type='test'><name>life</name><memory>8192</memory><os><type>hvm</type></os></domain>"
        domain = await host.define_domain(xml)
        self.assertFalse(await domain.is_active())
        error = await self.failure_of(domain.destroy(), libvirt.OperationInvalid)
        self.assertEqual((55, 2), (error.code, error.level))
        running = await domain.start()
        self.assertEqual(domain, running)
        self.assertGreater(running.id, 0)
        await domain.suspend()
        self.assertEqual(libvirt.DomainState.PAUSED, (await domain.state()).state)
        await domain.resume()
        await domain.shutdown()
        self.assertEqual(libvirt.DomainState.SHUT_OFF, (await domain.state()).state)
        await domain.start()
        await domain.destroy()
        await domain.undefine()
        transient = await host.create_domain(xml.replace("life", "transient"))
        await transient.destroy()
        error = await self.failure_of(host.domain("life"), libvirt.NoDomain)
        self.assertEqual(
            (42, 12, 2, "Domain not found"), (error.code, error.domain, error.level, error.message)
        )

    @asynchronous
    async def test_refusals(self) -> None:
        """A driver that is not there, a read-only connection, a procedure that the driver lacks."""
        daemon = shared_libvirtd()
        await self.failure_of(libvirt.connect(daemon.uri("nosuch", "/system")), libvirt.NoConnect)
        await self.failure_of(libvirt.connect(daemon.uri(more="&auth=sasl.scram-sha-256")), ConnectRefused)
        host = await self.connected(daemon.uri(), read_only=True)
        await self.failure_of((await host.domain("test")).destroy(), libvirt.OperationDenied)
        error = await self.failure_of(
            (await host.domain("test")).peek_block("vda", 0, 16), libvirt.OperationDenied
        )
        self.assertEqual(29, error.code)

    @asynchronous
    async def test_calls_at_once(self) -> None:
        """Many at once are all answered, also when nobody ever pings: each begins a TLS record."""
        daemon = Libvirtd(settings={"keepalive_interval": -1})
        self.addCleanup(daemon.close)
        await deferToThread(daemon.start)
        limits = dataclasses.replace(DEFAULT_LIMITS, keepalive_seconds=3600.0)
        for kind in KINDS:
            host = await self.connected(daemon.uri(kind=kind), limits=limits)
            names = await gatherResults([host.hostname() for _ in range(200)])
            self.assertEqual(200, len(names))

    @asynchronous
    async def test_screenshot(self) -> None:
        """The test driver's picture is a valid PNG, in memory and as a file."""
        host = await self.connected(shared_libvirtd().uri(kind="tls"))
        domain = await host.domain("test")
        picture = await domain.screenshot()
        self.assertEqual("image/png", picture.mime)
        names = png_chunks(picture.data)
        self.assertEqual((b"IHDR", b"IEND"), (names[0], names[-1]))
        path = self.folder / "picture.png"
        self.assertEqual("image/png", await domain.save_screenshot(path))
        self.assertEqual(picture.data, path.read_bytes())
        self.assertEqual(picture, await domain.screenshot(shared=True))


class VolumeTests(LibvirtCase):
    """Volumes, up and down."""

    def setUp(self) -> None:
        super().setUp()
        self.daemon = shared_libvirtd()
        self.pool_folder = self.daemon.folder / "pools/p"

    async def _pool(self, kind: str = "unix") -> libvirt.Pool:
        host = await self.connected(self.daemon.uri("storage", "/session", kind))
        return await host.pool("p")

    @asynchronous
    async def test_sizes(self) -> None:
        """Random content of awkward and of large size: on the daemon's disk and back, equal."""
        for kind in KINDS:
            pool = await self._pool(kind)
            for size in (0, 1, 262_121, LARGE_BYTES):
                source = random_file(self.folder / "source", size, seed=size)
                volume = await pool.create_volume("random", capacity_bytes=size)
                self.assertEqual(size, (await volume.upload(source)).byte_count)
                there = self.pool_folder / "random"
                self.assertEqual(str(there), await volume.path())
                digest = await deferToThread(digest_file, source)
                self.assertEqual(digest, await deferToThread(digest_file, there))
                progress = await volume.download(self.folder / "copy", replace=True)
                self.assertEqual(size, progress.byte_count)
                self.assertEqual(digest, await deferToThread(digest_file, self.folder / "copy"))
                await volume.delete()

    @asynchronous
    async def test_sparse(self) -> None:
        """10 GiB with 3 MiB of data: only that crosses the wire, and takes space."""
        source = self.folder / "sparse"
        with source.open("wb") as file:
            file.truncate(10 << 30)
            for offset in (0, 5 << 30, (10 << 30) - MIB):
                file.seek(offset)
                file.write(os.urandom(MIB))
        volume = await (await self._pool("tls")).create_volume(
            "sparse", capacity_bytes=10 << 30, allocation_bytes=0
        )
        progress = await volume.upload(source, sparse=True)
        self.assertEqual(
            (10 << 30, 3 * MIB), (progress.byte_count + progress.hole_bytes, progress.byte_count)
        )
        copy = self.folder / "copy"
        progress = await volume.download(copy, sparse=True)
        self.assertEqual(3 * MIB, progress.byte_count)
        digest = await deferToThread(digest_file, source)
        for path in (self.pool_folder / "sparse", copy):
            self.assertEqual(digest, await deferToThread(digest_file, path))
            self.assertLess(path.stat().st_blocks * 512, 4 * MIB)
        await volume.delete()

    @asynchronous
    async def test_windows(self) -> None:
        """Offset and length of both directions; too much is an error with its errno."""
        pool = await self._pool()
        volume = await pool.create_volume("window", capacity_bytes=MIB)
        content = bytearray(os.urandom(MIB))
        await volume.upload(bytes(content))
        await volume.upload(b"x" * 1000, offset=5000, length=1000)
        content[5000:6000] = b"x" * 1000
        await volume.download(self.folder / "part", offset=4990, length=1020)
        self.assertEqual(content[4990:6010], (self.folder / "part").read_bytes())
        source = random_file(self.folder / "source", MIB)
        await volume.upload(source, length=10)
        self.assertEqual(source.read_bytes()[:10] + content[10:], (self.pool_folder / "window").read_bytes())
        error = await self.failure_of(volume.upload(bytes(2000), length=1000), RemoteError)
        self.assertEqual((38, 28), (error.code, error.int1))
        await volume.resize(2 * MIB)
        self.assertEqual(2 * MIB, (await volume.info()).capacity_bytes)
        self.assertEqual(pool, await volume.pool())
        self.assertIn(volume, await pool.volumes())
        await volume.delete()
        await self.failure_of(pool.volume("window"), libvirt.NoVolume)

    @asynchronous
    async def test_names_that_are_not_utf8(self) -> None:
        """One such name does not fail the list, and names its volume."""
        name = b"caf\xe9 \xff".decode("utf-8", "surrogateescape")
        path = self.pool_folder / name
        path.write_bytes(b"content")
        self.addCleanup(path.unlink)
        pool = await self._pool()
        await pool.refresh()
        volume = next(each for each in await pool.volumes() if each.name == name)
        self.assertEqual(volume, await pool.volume(name))
        await volume.download(self.folder / "copy")
        self.assertEqual(b"content", (self.folder / "copy").read_bytes())

    @asynchronous
    async def test_several(self) -> None:
        """Four uploads at once, then four downloads, calls in between: on one connection and on their own."""
        for kind in KINDS:
            pool = await self._pool(kind)
            contents = [os.urandom(2 * MIB) for _ in range(4)]
            volumes = [
                await pool.create_volume(f"several-{number}", capacity_bytes=2 * MIB) for number in range(4)
            ]
            for shared in (False, True):
                pairs = list(zip(volumes, contents, strict=True))
                await self._at_once(self._written(pool, *pair, shared) for pair in pairs)
                for volume, content in pairs:
                    self.assertEqual(content, (self.pool_folder / volume.name).read_bytes())
                back = await self._at_once(self._read(volume, shared) for volume in volumes)
                self.assertEqual(contents, back)
            for volume in volumes:
                await volume.delete()

    async def _at_once(self, several: Iterable[Coroutine[Any, Any, Any]]) -> list[Any]:
        return await gatherResults(map(Deferred.fromCoroutine, several), consumeErrors=True)

    async def _written(
        self, pool: libvirt.Pool, volume: libvirt.Volume, content: bytes, shared: bool
    ) -> None:
        stream = await volume.open_upload(shared=shared)
        for start in range(0, len(content), 100_000):
            await stream.send(content[start : start + 100_000])
            self.assertTrue(await pool.is_active())
        await stream.finish()

    async def _read(self, volume: libvirt.Volume, shared: bool) -> bytes:
        async with volume.open_download(shared=shared) as stream:
            return b"".join([part async for part in stream])

    @asynchronous
    async def test_aborts(self) -> None:
        """Streams broken off half way leave daemon and connection as they were."""
        pool = await self._pool()
        volume = await pool.create_volume("aborted", capacity_bytes=8 * MIB)
        stream = await volume.open_upload()
        await stream.send(bytes(MIB))
        stream.abort("changed my mind")
        async with volume.open_download() as reading:
            await anext(reading)
        for shared in (False, True):
            stream = await volume.open_upload(shared=shared)
            await stream.send(b"x" * 1000)
            await stream.finish()
        self.assertEqual(b"x" * 1000, (self.pool_folder / "aborted").read_bytes()[:1000])
        await volume.delete()


class EventTests(LibvirtCase):
    """Lifecycle events."""

    @asynchronous
    async def test_thousand_in_order(self) -> None:
        """What a scripted virsh does arrives in order, by iterator and by callback."""
        daemon = shared_libvirtd()
        host = await self.connected(daemon.uri(kind="tls"))
        domain = await host.domain("test")
        called: list[libvirt.LifecycleEvent] = []
        await host.on_domain_event(called.append, domain).confirmed
        expected = [libvirt.Lifecycle.SUSPENDED, libvirt.Lifecycle.RESUMED] * 500
        async with host.domain_events() as events:
            script = virsh(daemon, "suspend test; resume test;" * 500)
            seen = [(await anext(events)) for _ in expected]
            await script
        self.assertEqual(expected, [event.event for event in seen])
        self.assertEqual({domain}, {event.domain for event in seen})
        self.assertEqual(seen, called)

    @asynchronous
    async def test_restart(self) -> None:
        """The daemon dies: calls fail or are made again, events are registered again with a gap."""
        require_libvirtd()
        daemon = Libvirtd()
        self.addCleanup(daemon.close)
        await deferToThread(daemon.start)
        service = libvirt.ConnectionService(
            daemon.uri(kind="tls"), reactor=reactor, retry_policy=lambda attempt: 0.2
        )
        service.startService()
        self.addCleanup(service.stopService)
        domain = await service.domain("test")
        async with service.domain_events(gaps=True) as events:
            await domain.suspend()
            self.assertEqual(libvirt.Lifecycle.SUSPENDED, (await anext(events)).event)
            assert daemon.process is not None
            daemon.process.send_signal(signal.SIGSTOP)
            changing, looking = domain.resume(), service.hostname()
            await sleep(0.2)
            await deferToThread(daemon.cut)
            error = await self.failure_of(changing, ConnectionClosed)
            self.assertTrue(error.may_have_run)
            await deferToThread(daemon.start)
            self.assertTrue(await looking)
            self.assertIsInstance(await anext(events), libvirt.Gap)
            await domain.suspend()
            self.assertEqual(libvirt.Lifecycle.SUSPENDED, (await anext(events)).event)


class CertificateTests(LibvirtCase):
    """TLS refusals, told in one line."""

    async def _refused(self, spoil: Callable[[Path], object]) -> str:
        daemon = shared_libvirtd()
        pki = self.folder / "pki"
        pki.mkdir()
        for path in daemon.pki.glob("*.pem"):
            (pki / path.name).write_bytes(path.read_bytes())
        spoil(pki)
        uri = daemon.uri(kind="tls").replace(str(daemon.pki), str(pki.absolute()))
        return str(await self.failure_of(libvirt.connect(uri), ConnectRefused))

    @asynchronous
    async def test_without_a_certificate(self) -> None:
        """The daemon closes without a word (no byte 0x01); the error says what is missing."""

        def spoil(pki: Path) -> None:
            (pki / "clientcert.pem").unlink()
            (pki / "clientkey.pem").unlink()

        self.assertIn("clientcert.pem", await self._refused(spoil))

    @asynchronous
    async def test_other_authority(self) -> None:
        """A daemon of somebody else is not trusted."""
        from rpcstream.net.pki import initialise

        initialise(self.folder / "other", ["127.0.0.1"], ["tester"])

        def spoil(pki: Path) -> None:
            (pki / "cacert.pem").write_bytes((self.folder / "other/cacert.pem").read_bytes())

        self.assertIn("certificate", await self._refused(spoil))
