"""Volumes: files made empty, written in place, and marked incomplete until all is durable."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from rpcstream.errors import (
    BadState,
    NameBusy,
    NameExists,
    NameNotFound,
    NameRefused,
    NotRegular,
    QuotaExceeded,
    SourceChanged,
)
from rpcstream.storage import Pool
from rpcstream.storage.extents import LARGEST_BYTES
from rpcstream.storage.inplace import InPlace
from tests.storage.faults import FaultyFiles, Killed, fail_nth, kill_at
from tests.storage.support import StorageTestCase

KIB = 1024


class InPlaceCase(StorageTestCase):
    """A pool with one volume of 16 KiB, all of it C{o}."""

    def setUp(self) -> None:
        super().setUp()
        (self.store / "disk").write_bytes(b"o" * 16 * KIB)
        self.pool = self.make_pool()

    def upload(self, offset: int = 0, length: int | None = None) -> InPlace:
        """An upload into the volume."""
        writer = self.pool.volumes.open_in_place("disk", offset, length)
        self.addCleanup(writer.abandon)
        return writer

    def content(self) -> bytes:
        """Of the volume."""
        return (self.store / "disk").read_bytes()

    @property
    def is_incomplete(self) -> bool:
        """What the pool says of the volume."""
        return self.pool.stat("disk").incomplete


class CreateTests(InPlaceCase):
    """Making volumes."""

    def test_sparse(self) -> None:
        """A volume without allocation takes no room; it has the pool's mode."""
        self.pool.volumes.create("new", 1 << 20, 0)
        entry = self.pool.stat("new")
        self.assertEqual((entry.size_bytes, entry.allocated_bytes, entry.incomplete), (1 << 20, 0, False))
        self.assertEqual((self.store / "new").stat().st_mode & 0o777, 0o600)
        self.assertEqual(self.state_names(), [])

    def test_allocated(self) -> None:
        """Room is reserved, also beyond the capacity, and a mode can be given."""
        self.pool.volumes.create("new", 1, 64 * KIB, 0o640)
        entry = self.pool.stat("new")
        self.assertEqual((entry.size_bytes, entry.allocated_bytes), (64 * KIB, 64 * KIB))
        self.assertEqual((self.store / "new").stat().st_mode & 0o777, 0o640)

    def test_taken(self) -> None:
        """A name that exists, whatever it is, is refused; so is one with an unfinished transfer."""
        (self.store / "link").symlink_to("/nowhere")
        for name in ("disk", "link"):
            self.assertRaises(NameExists, self.pool.volumes.create, name, 1, 0)
        receiving = self.begin(self.pool, "partial", size_bytes=8192)
        receiving.write(bytes(8192))
        receiving.finish()
        self.assertRaises(NameBusy, self.pool.volumes.create, "partial", 1, 0)
        receiving.abandon()
        self.assertRaises(NameBusy, self.pool.volumes.create, "partial", 1, 0)
        self.assertRaises(NameRefused, self.pool.volumes.create, "a/b", 1, 0)
        self.assertEqual([partial.name for partial in self.pool.partials()], ["partial"])

    def test_too_large(self) -> None:
        """Sizes past the largest and past the quota are refused, and leave nothing."""
        with self.assertRaises(OSError) as caught:
            self.pool.volumes.create("new", LARGEST_BYTES + 1, 0)
        self.assertEqual(caught.exception.errno, errno.EFBIG)
        small = Pool(self.store, quota_bytes=64 * KIB)
        self.addCleanup(small.close)
        self.assertRaises(QuotaExceeded, small.volumes.create, "new", 128 * KIB, 128 * KIB)
        self.assertEqual(self.state_names(), [])

    def test_no_fallocate(self) -> None:
        """Where room cannot be reserved it is only looked for."""
        files = FaultyFiles(fail_nth({"reserve"}, 0, errno.EOPNOTSUPP, for_good=True))
        pool = self.other_pool(files)
        pool.volumes.create("new", 64 * KIB, 64 * KIB)
        self.assertEqual(pool.stat("new").allocated_bytes, 0)
        with self.assertRaises(OSError) as caught:
            pool.volumes.create("large", 1 << 43, 1 << 43)
        self.assertEqual(caught.exception.errno, errno.ENOSPC)
        files.rule = fail_nth({"reserve"}, 0, errno.EIO)
        self.assertRaises(OSError, pool.volumes.create, "large", 1, 1)
        self.assertFalse((self.store / "large").exists())

    def test_crash(self) -> None:
        """Killed at any step, the volume is there or not, and nothing else is left after a restart or two."""
        number = 0
        while True:
            directory = self.directory / f"crash-{number}"
            directory.mkdir()
            files = FaultyFiles()
            pool = Pool(directory, files=files)
            begin = len(files.calls)
            files.rule = kill_at(begin + number)
            try:
                pool.volumes.create("new", 4096, 4096)
                pool.close()
                break
            except Killed:
                files.reap()
            for _ in range(2):
                pool = Pool(directory)
                names = [entry.name for entry in pool.entries()]
                pool.close()
            self.assertIn(names, ([], ["new"]))
            for part in ("partials", "journals"):
                self.assertEqual(os.listdir(directory / ".rpcstream" / part), [])
            number += 1
        self.assertGreater(number, 5)

    def other_pool(self, files: FaultyFiles) -> Pool:
        """A second pool on the directory."""
        pool = Pool(self.store, files=files)
        self.addCleanup(pool.close)
        return pool

    def test_space(self) -> None:
        """A quota, where it is less, is the pool's size."""
        space = self.pool.volumes.space()
        found = os.statvfs(self.store)
        self.assertEqual(space.capacity_bytes, found.f_blocks * found.f_frsize)
        self.assertGreater(space.available_bytes, 0)
        small = Pool(self.store, quota_bytes=64 * KIB)
        self.addCleanup(small.close)
        capacity, available = small.volumes.space()
        self.assertEqual(capacity, 64 * KIB)
        # The directories take some, too.
        self.assertTrue(32 * KIB < available <= 48 * KIB)

    def test_status(self) -> None:
        """Owner, mode and times; of files that are served only."""
        self.assertEqual(self.pool.volumes.status("disk").st_size, 16 * KIB)
        self.assertRaises(NameNotFound, self.pool.volumes.status, "none")
        self.assertEqual(self.pool.volumes.directory_status().st_ino, self.store.stat().st_ino)


class WriteTests(InPlaceCase):
    """Uploads."""

    def test_write(self) -> None:
        """Bytes go where they belong; the volume is incomplete from the first one to the finish."""
        writer = self.upload(offset=4096)
        self.assertFalse(self.is_incomplete)
        writer.write(b"n" * 100)
        self.assertTrue(self.is_incomplete)
        self.assertRaises(NameBusy, self.pool.open_source, "disk")
        writer.write(memoryview(b"m" * 100))
        writer.finish()
        self.assertFalse(self.is_incomplete)
        self.assertEqual(self.content(), b"o" * 4096 + b"n" * 100 + b"m" * 100 + b"o" * (12 * KIB - 200))
        self.assertEqual(self.state_names(), [])
        self.assertRaises(BadState, writer.write, b"x")
        self.assertRaises(BadState, writer.finish)

    def test_grows(self) -> None:
        """Without a limit the file may grow, by data and by holes, and never shrinks."""
        writer = self.upload(offset=12 * KIB)
        writer.write(b"n" * 8 * KIB)
        writer.write_hole(KIB)
        writer.finish()
        self.assertEqual(self.content(), b"o" * 12 * KIB + b"n" * 8 * KIB + bytes(KIB))
        self.assertEqual(writer.position, 21 * KIB)

    def test_hole_up_to_the_end(self) -> None:
        """A hole that ends where the volume does changes no size."""
        files = FaultyFiles()
        pool = Pool(self.store, files=files)
        self.addCleanup(pool.close)
        writer = pool.volumes.open_in_place("disk", 12 * KIB, None)
        self.addCleanup(writer.abandon)
        writer.write_hole(4 * KIB)
        self.assertNotIn("ftruncate", files.calls)
        self.assertEqual(self.content(), b"o" * 12 * KIB + bytes(4 * KIB))

    def test_hole_inside(self) -> None:
        """A hole makes zeros of what was there, and the rest stays."""
        writer = self.upload()
        writer.write_hole(4 * KIB)
        writer.write(b"n")
        writer.finish()
        self.assertEqual(self.content(), bytes(4 * KIB) + b"n" + b"o" * (12 * KIB - 1))

    def test_limit(self) -> None:
        """What fits is written, then there is no space."""
        for is_hole in (False, True):
            writer = self.upload(length=100)
            writer.write(b"n" * 60)
            with self.assertRaises(OSError) as caught:
                writer.write_hole(60) if is_hole else writer.write(b"m" * 60)
            self.assertEqual(caught.exception.errno, errno.ENOSPC)
            writer.abandon()
            self.assertTrue(self.is_incomplete)
            self.assertEqual(len(self.content()), 16 * KIB)
            self.assertEqual(self.content()[60:101], (bytes(40) if is_hole else b"m" * 40) + b"o")

    def test_largest(self) -> None:
        """No hole makes a file of any size."""
        writer = self.upload()
        with self.assertRaises(OSError) as caught:
            writer.write_hole(1 << 62)
        self.assertEqual(caught.exception.errno, errno.EFBIG)
        self.assertFalse(self.is_incomplete)

    def test_writeback(self) -> None:
        """The kernel is asked now and then to write; that it cannot is no harm."""
        files = FaultyFiles(fail_nth({"start_writeback"}, 0))
        pool = Pool(self.store, files=files)
        self.addCleanup(pool.close)
        writer = pool.volumes.open_in_place("disk", 0, None)
        for _ in range(20):
            writer.write(bytes(1 << 20))
        writer.finish()
        self.assertEqual(files.calls.count("start_writeback"), 2)

    def test_one_writer(self) -> None:
        """A volume has one writer, be it an upload or a transfer."""
        self.upload()
        self.assertRaises(NameBusy, self.pool.volumes.open_in_place, "disk", 0, None)
        self.assertRaises(NameBusy, self.begin_any, self.pool, replace=True)

    def test_beside_a_partial(self) -> None:
        """What an interrupted transfer keeps for later is not touched."""
        receiving = self.begin(self.pool, replace=True, size_bytes=8192)
        receiving.write(bytes(8192))
        receiving.finish()
        receiving.abandon()
        writer = self.upload()
        writer.write(b"n")
        writer.finish()
        self.assertEqual([partial.held_bytes for partial in self.pool.partials()], [8192])

    def test_nothing_written(self) -> None:
        """An upload without a byte leaves no trace."""
        self.upload().finish()
        writer = self.upload()
        writer.abandon()
        writer.abandon()
        self.assertFalse(self.is_incomplete)

    def test_links(self) -> None:
        """What is not a plain file of the pool is not opened."""
        outside = self.make_file("outside", b"secret")
        (self.store / "link").symlink_to(outside.resolve())
        (self.store / "hard").hardlink_to(outside)
        (self.store / "directory").mkdir()
        for name in ("link", "hard", "directory"):
            self.assertRaises(NotRegular, self.pool.volumes.open_in_place, name, 0, None)
        self.assertRaises(NameNotFound, self.pool.volumes.open_in_place, "none", 0, None)
        self.assertRaises(NameRefused, self.pool.volumes.open_in_place, "../outside", 0, None)
        self.assertEqual(self.state_names(), [])

    def test_digest_is_forgotten(self) -> None:
        """The digest of what came by a transfer does not describe what was written into it."""
        path = self.make_file("source", b"s" * 8192)
        receiving = self.begin(self.pool, "sent", size_bytes=8192)
        self.send(self.open_file(path), receiving)
        self.assertIsNotNone(self.pool.stat("sent").digest)
        writer = self.pool.volumes.open_in_place("sent", 0, None)
        writer.write(b"n")
        writer.finish()
        self.assertIsNone(self.pool.stat("sent").digest)

    def test_quota(self) -> None:
        """The quota holds for uploads, too."""
        pool = Pool(self.store, quota_bytes=64 * KIB)
        self.addCleanup(pool.close)
        writer = pool.volumes.open_in_place("disk", 0, None)
        self.assertRaises(QuotaExceeded, writer.write, bytes(128 * KIB))
        writer.abandon()


class MarkTests(InPlaceCase):
    """How long the mark stays."""

    def cut(self, offset: int, byte_count: int) -> None:
        """An upload that is cut short."""
        writer = self.upload(offset)
        writer.write(b"c" * byte_count)
        writer.abandon()

    def full(self, offset: int, byte_count: int) -> None:
        """One that is not."""
        writer = self.upload(offset)
        writer.write(b"f" * byte_count)
        writer.finish()

    def test_stays(self) -> None:
        """An upload that was cut short leaves the mark, and a restart does not change that."""
        self.cut(0, 100)
        self.assertTrue(self.is_incomplete)
        self.pool.close()
        self.pool = self.make_pool()
        self.assertTrue(self.is_incomplete)
        self.full(0, 100)
        self.assertFalse(self.is_incomplete)

    def test_must_be_covered(self) -> None:
        """Only an upload over all that was left behind makes the volume complete."""
        self.cut(100, 100)
        self.full(0, 150)
        self.assertTrue(self.is_incomplete)
        self.full(150, 1000)
        self.assertTrue(self.is_incomplete)
        self.cut(150, 500)
        self.full(100, 500)
        self.assertTrue(self.is_incomplete)
        self.full(100, 550)
        self.assertFalse(self.is_incomplete)

    def test_crash(self) -> None:
        """Killed at any step: with a byte written and not synced, the volume is marked."""
        number = 0
        while True:
            path = self.store / f"crash-{number}"
            path.write_bytes(b"o" * 8192)
            files = FaultyFiles()
            pool = Pool(self.store, files=files)
            files.rule = kill_at(len(files.calls) + number)
            try:
                writer = pool.volumes.open_in_place(path.name, 0, None)
                writer.write(b"n" * 8192)
                writer.finish()
                pool.close()
                break
            except Killed:
                files.reap()
            after = Pool(self.store)
            entry = after.stat(path.name)
            if b"n" in path.read_bytes() and not entry.incomplete:
                # Only after the fsync of the content.
                after_content = files.calls[::-1][: files.calls[::-1].index("pwrite")]
                self.assertIn("fsync", after_content)
            if entry.incomplete:
                # Nothing is known but that all of it may be anything.
                writer = after.volumes.open_in_place(path.name, 0, None)
                writer.write(b"m" * 8191)
                writer.finish()
                self.assertTrue(after.stat(path.name).incomplete)
                writer = after.volumes.open_in_place(path.name, 0, None)
                writer.write(b"m" * 8192)
                writer.finish()
                self.assertFalse(after.stat(path.name).incomplete)
            after.close()
            number += 1
        self.assertFalse(self.pool.stat(path.name).incomplete)
        self.assertGreater(number, 10)

    def test_fsync_fails(self) -> None:
        """What may not be durable stays marked."""
        files = FaultyFiles()
        pool = Pool(self.store, files=files)
        self.addCleanup(pool.close)
        writer = pool.volumes.open_in_place("disk", 0, None)
        writer.write(b"n")
        files.rule = fail_nth({"fsync"}, 0)
        self.assertRaises(OSError, writer.finish)
        files.rule = fail_nth({"rename"}, 0)
        writer.abandon()
        self.assertTrue(pool.stat("disk").incomplete)

    def test_mark_cannot_be_written(self) -> None:
        """Without the mark nothing is written."""
        files = FaultyFiles()
        pool = Pool(self.store, files=files)
        self.addCleanup(pool.close)
        writer = pool.volumes.open_in_place("disk", 0, None)
        files.rule = fail_nth({"rename"}, 0)
        self.assertRaises(OSError, writer.write, b"n")
        writer.abandon()
        self.assertEqual(self.content(), b"o" * 16 * KIB)
        self.assertEqual(os.listdir(self.store / ".rpcstream" / "marks"), [])

    def test_removed_meanwhile(self) -> None:
        """What was removed or replaced under an upload is not reported as written."""
        for is_replaced in (False, True):
            if is_replaced:
                (self.store / "disk").write_bytes(b"o")
            writer = self.upload()
            writer.write(b"n")
            self.pool.remove("disk")
            if is_replaced:
                (self.store / "disk").write_bytes(b"another")
            self.assertRaises(SourceChanged, writer.finish)
            writer.abandon()
            if is_replaced:
                self.assertFalse(self.is_incomplete)
                self.assertEqual(self.content(), b"another")

    def test_replaced_by_transfer(self) -> None:
        """A transfer that replaces an incomplete volume makes it complete."""
        self.cut(0, 10)
        path = self.make_file("source", b"s" * 8192)
        receiving = self.begin(self.pool, "disk", size_bytes=8192, replace=True)
        self.send(self.open_file(path), receiving)
        self.assertFalse(self.is_incomplete)
        self.assertEqual(os.listdir(self.store / ".rpcstream" / "marks"), [])

    def test_strange_mark(self) -> None:
        """A mark that cannot be read says that nothing is known; a link is none."""
        marks = self.store / ".rpcstream" / "marks"
        (marks / "disk").write_bytes(b"{}")
        self.assertTrue(self.is_incomplete)
        (marks / "disk").unlink()
        (marks / "disk").symlink_to("/etc/passwd")
        self.assertFalse(self.is_incomplete)
        (marks / "disk").unlink()
        (marks / "disk").mkdir()
        self.assertRaises(OSError, self.pool.stat, "disk")


class DeviceTests(StorageTestCase):
    """A declared device; a file stands in for it."""

    def setUp(self) -> None:
        super().setUp()
        self.device = self.directory / "device"
        self.device.write_bytes(b"o" * 8192)
        self.pool = self.make_pool(devices={"disk": Path(self.device)})

    def test_upload(self) -> None:
        """It is written in place, marked while it is, and not created."""
        writer = self.pool.volumes.open_in_place("disk", 0, None)
        writer.write(b"n" * 100)
        self.assertTrue(self.pool.stat("disk").incomplete)
        self.assertRaises(NameBusy, self.pool.open_source, "disk")
        writer.finish()
        self.assertEqual(self.device.read_bytes(), b"n" * 100 + b"o" * 8092)
        self.assertFalse(self.pool.stat("disk").incomplete)
        self.assertRaises(NameExists, self.pool.volumes.create, "disk", 1, 0)
        self.assertEqual(self.pool.volumes.status("disk").st_size, 8192)

    def test_end(self) -> None:
        """A device does not grow."""
        for is_hole in (False, True):
            writer = self.pool.volumes.open_in_place("disk", 8000, None)
            with self.assertRaises(OSError) as caught:
                writer.write_hole(193) if is_hole else writer.write(bytes(193))
            self.assertEqual(caught.exception.errno, errno.ENOSPC)
            writer.abandon()
        self.assertEqual(self.device.stat().st_size, 8192)

    def test_transfer_in_between(self) -> None:
        """A transfer into it that was not committed keeps it."""
        receiving = self.begin(self.pool, "disk", size_bytes=8192)
        receiving.write(bytes(8192))
        receiving.abandon()
        self.assertRaises(NameBusy, self.pool.volumes.open_in_place, "disk", 0, None)
