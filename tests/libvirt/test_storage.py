"""
Pools and volumes, up and down.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from rpcstream import libvirt
from rpcstream.errors import BadValue, NameExists, SizeMismatch, SourceChanged, StreamAborted
from rpcstream.libvirt.pool import volume_xml
from rpcstream.limits import MIB
from rpcstream.storage.pipes import PipeSource
from tests.libvirt.daemon import DaemonCase


class PoolTests(DaemonCase):
    """Storage pools."""

    def setUp(self) -> None:
        super().setUp()
        self.host = self.connect()
        self.pool = self.result_of(self.host.pool("p"))

    def test_values(self) -> None:
        """Finding and looking."""
        pool = self.pool
        self.assertEqual([pool], self.result_of(self.host.pools(libvirt.PoolFilter.ACTIVE)))
        self.assertEqual(pool, self.result_of(self.host.pool_by_uuid(pool.uuid)))
        self.assertEqual((libvirt.PoolState.RUNNING, 100, 60, 40), self.result_of(pool.info()))
        self.assertTrue(self.result_of(pool.is_active()))
        self.assertEqual("StoragePoolGetXMLDesc", self.result_of(pool.xml()))
        self.error_of(libvirt.NoStoragePool, self.host.pool("q"))

    def test_life(self) -> None:
        """Each verb calls its procedure."""
        for start, name in (
            (lambda: self.host.define_pool("<pool/>"), "StoragePoolDefineXML"),
            (lambda: self.host.create_pool("<pool/>"), "StoragePoolCreateXML"),
            (lambda: self.pool.build(), "StoragePoolBuild"),
            (lambda: self.pool.start(), "StoragePoolCreate"),
            (lambda: self.pool.refresh(), "StoragePoolRefresh"),
            (lambda: self.pool.destroy(), "StoragePoolDestroy"),
            (lambda: self.pool.delete(1), "StoragePoolDelete 1"),
            (lambda: self.pool.undefine(), "StoragePoolUndefine"),
        ):
            self.result_of(start())
            self.assertEqual(name, self.daemon.called[-1])

    def test_volume_xml(self) -> None:
        """Whatever is in a name stays a name."""
        self.assertEqual(
            "<volume><name>a&lt;&amp;b</name><capacity>5</capacity><allocation>0</allocation>"
            '<target><format type="q\'x"/></target></volume>',
            volume_xml("a<&b", 5, allocation_bytes=0, format="q'x"),
        )
        self.assertRaises(BadValue, volume_xml, "a", -1)
        self.error_of(BadValue, self.pool.create_volume("a", capacity_bytes=-1))

    def test_volumes(self) -> None:
        """Make, find, look, change, delete."""
        volume = self.result_of(self.pool.create_volume("v", capacity_bytes=5))
        self.assertIn("<capacity>5</capacity></volume>", self.daemon.called[-1])
        self.assertEqual(("v", "/p/v", "p"), (volume.name, volume.key, volume.pool_name))
        self.error_of(libvirt.VolumeExists, self.pool.create_volume("v", capacity_bytes=5))
        self.assertEqual([volume], self.result_of(self.pool.volumes()))
        for deferred in (
            self.pool.volume("v"),
            self.host.volume_by_path("/p/v"),
            self.host.volume_by_key("/p/v"),
        ):
            self.assertEqual(volume, self.result_of(deferred))
        self.assertEqual(self.pool, self.result_of(volume.pool()))
        self.assertEqual((libvirt.VolumeType.FILE, 0, 0), self.result_of(volume.info()))
        self.assertEqual("StorageVolGetPath", self.result_of(volume.path()))
        self.assertEqual("StorageVolGetXMLDesc", self.result_of(volume.xml()))
        self.result_of(volume.resize(10, allocate=True, shrink=True))
        self.assertEqual("StorageVolResize 5", self.daemon.called[-1])
        self.result_of(volume.wipe())
        self.result_of(volume.delete())
        self.error_of(libvirt.NoVolume, self.pool.volume("v"))


class TransferTests(DaemonCase):
    """Content."""

    def setUp(self) -> None:
        super().setUp()
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        host = self.connect()
        pool = self.result_of(host.pool("p"))
        self.volume = self.result_of(pool.create_volume("v", capacity_bytes=0))

    @property
    def content(self) -> bytes:
        return bytes(self.daemon.volumes["v"])

    def _file(self, data: bytes) -> Path:
        path = self.folder / "source"
        path.write_bytes(data)
        return path

    def test_upload(self) -> None:
        """Files, bytes, iterables; windows of a file; a rate; one's own callback."""
        data = os.urandom(MIB + 1)
        seen: list[Any] = []
        progress = self.result_of(self.volume.upload(self._file(data), opened=seen.append))
        self.assertEqual((MIB + 1, MIB + 1), (progress.byte_count, progress.total_bytes))
        self.assertEqual(data, self.content)
        self.assertTrue(seen[0].is_closed)
        self.result_of(self.volume.upload(b"xyz", offset=1, shared=True))
        self.assertEqual(data[:1] + b"xyz" + data[4:], self.content)
        self.result_of(self.volume.upload(self._file(b"123456"), length=2))
        self.assertEqual(b"12xyz"[:2], self.content[:2])
        self.result_of(self.volume.upload([b"ab", b"cd"], bytes_per_second=1e9))
        self.assertEqual(b"abcd", self.content[:4])
        self.assertIn("upload 0 2 0", self.daemon.called)

    def test_sparse(self) -> None:
        """Holes cross as holes, both ways."""
        path = self.folder / "source"
        with path.open("wb") as file:
            file.truncate(8 * MIB)
            file.seek(4 * MIB)
            file.write(b"x" * 4096)
        progress = self.result_of(self.volume.upload(path, sparse=True))
        self.assertEqual((4096, 8 * MIB - 4096), (progress.byte_count, progress.hole_bytes))
        self.assertEqual(path.read_bytes(), self.content)
        copy = self.folder / "copy"
        progress = self.result_of(self.volume.download(copy, sparse=True))
        self.assertEqual((4096, 8 * MIB - 4096), (progress.byte_count, progress.hole_bytes))
        self.assertEqual(self.content, copy.read_bytes())
        self.assertLess(copy.stat().st_blocks * 512, MIB)

    def test_pipe(self) -> None:
        """A source of the storage layer: too many bytes are found before they are sent."""
        for size, fits in ((4, True), (3, False), (5, False)):
            reading, writing = os.pipe()
            os.write(writing, b"1234")
            os.close(writing)
            uploading = self.volume.upload(PipeSource(reading, size), length=size)
            if fits:
                self.assertEqual(4, self.result_of(uploading).byte_count)
            else:
                self.error_of(SizeMismatch, uploading)

    def test_source_that_changes(self) -> None:
        """It is noticed before the upload is called done."""
        path = self._file(bytes(MIB))
        uploading = self.volume.upload(path, opened=lambda stream: path.write_bytes(bytes(MIB + 5)))
        self.error_of(SourceChanged, uploading)

    def test_source_that_is_missing(self) -> None:
        """Nothing is opened for it."""
        self.error_of(FileNotFoundError, self.volume.upload(self.folder / "nosuch"))
        self.assertEqual(1, len(self.network.connections))

    def test_volume_that_is_missing(self) -> None:
        """The daemon refuses; the file is closed."""
        self.daemon.volumes.clear()
        self.error_of(libvirt.NoVolume, self.volume.upload(self._file(b"x")))

    def test_iterable_that_fails(self) -> None:
        """The stream is aborted, not finished."""

        def source() -> Any:
            yield b"1"
            raise ZeroDivisionError

        self.error_of(ZeroDivisionError, self.volume.upload(source()))
        self.network.pump()
        self.assertFalse(self.network.connections[-1].link.is_connected)

    def test_download(self) -> None:
        """All of it or a window; the file appears complete, with its mode."""
        data = os.urandom(MIB + 1)
        self.daemon.volumes["v"][:] = data
        copy = self.folder / "copy"
        progress = self.result_of(self.volume.download(copy, mode=0o640, bytes_per_second=1e12))
        self.assertEqual(MIB + 1, progress.byte_count)
        self.assertEqual((data, 0o640), (copy.read_bytes(), copy.stat().st_mode & 0o777))
        self.error_of(NameExists, self.volume.download(copy))
        self.result_of(self.volume.download(copy, replace=True, offset=10, length=20, shared=True))
        self.assertEqual((data[10:30], 0o600), (copy.read_bytes(), copy.stat().st_mode & 0o777))

    def test_slow_download(self) -> None:
        """A rate limit waits between the pieces."""
        self.daemon.volumes["v"][:] = bytes(1000)
        downloading = self.volume.download(self.folder / "copy", bytes_per_second=100)
        self.network.advance(5)
        self.assertNoResult(downloading)
        self.network.advance(10)
        self.assertEqual(1000, self.successResultOf(downloading).byte_count)

    def test_daemon_that_gives_less_or_more(self) -> None:
        """With a length, just that; otherwise no file appears."""
        self.daemon.volumes["v"][:] = b"x" * 10
        copy = self.folder / "copy"
        self.error_of(SizeMismatch, self.volume.download(copy, length=11))
        self.daemon.extra = bytes(4096)
        self.error_of(SizeMismatch, self.volume.download(copy, length=10))
        self.daemon.extra = bytes(8192)
        self.error_of(SizeMismatch, self.volume.download(copy, length=10, sparse=True))
        self.assertEqual([], list(self.folder.iterdir()))

    def test_cancelled(self) -> None:
        """Cancelling aborts the stream and leaves no file."""
        self.daemon.volumes["v"][:] = bytes(1000)
        downloading = self.volume.download(self.folder / "copy", bytes_per_second=100)
        self.network.pump()
        downloading.cancel()
        self.network.pump()
        self.failureResultOf(downloading)
        self.assertEqual([], list(self.folder.iterdir()))
        self.assertFalse(self.network.connections[-1].link.is_connected)


class SharedTests(DaemonCase):
    """A stream on a connection that others use."""

    def setUp(self) -> None:
        super().setUp()
        self.host = self.connect()
        pool = self.result_of(self.host.pool("p"))
        self.volume = self.result_of(pool.create_volume("v", capacity_bytes=0))
        self.daemon.volumes["v"][:] = bytes(16 * MIB)

    def test_reader_that_stops(self) -> None:
        """Everything waits for 30 s, then the stream is aborted with the cause."""
        stream = self.result_of(self.volume.open_download(shared=True))
        ended, waiting = stream.when_closed(), self.host.hostname()
        self.network.advance(29)
        self.assertNoResult(waiting)
        self.network.advance(4)
        error = self.failureResultOf(ended).value
        self.assertIsInstance(error, StreamAborted)
        self.assertIn("held up a shared connection", error.reason)
        self.assertEqual("host", self.result_of(waiting))
        self.assertLess(stream.progress.byte_count, 5 * MIB)

    def test_reader_that_is_slow(self) -> None:
        """Whoever goes on is left alone, however long it takes."""
        stream = self.result_of(self.volume.open_download(shared=True))
        received = 0
        while received < 16 * MIB:
            for _ in range(200):
                piece = self.result_of(stream.next_piece())
                received += len(piece or b"")
            self.network.advance(2, 1)
        self.assertIsNone(self.result_of(stream.next_piece()))
        self.result_of(stream.when_closed())

    def test_reader_with_a_connection_of_its_own(self) -> None:
        """It holds up nobody, and may take its time."""
        stream = self.result_of(self.volume.open_download())
        self.network.advance(60, 1)
        self.assertEqual("host", self.result_of(self.host.hostname()))
        self.assertFalse(stream.is_closed)
        self.assertLess(stream.progress.byte_count, 5 * MIB)
        stream.abort()
