"""
Edges that nothing else comes near: descriptor 0, times that are equal, the order of removals.
"""

from __future__ import annotations

import errno
import os
import threading
from collections.abc import Callable
from typing import Any

from rpcstream.errors import BadState, NameExists
from rpcstream.limits import Limits
from rpcstream.storage import AsideFile, Finished, PipeSource, Pool, digest_file
from rpcstream.storage.extent_map import ExtentMap
from rpcstream.storage.files import read_exactly
from rpcstream.storage.journal import Journal, _record, read_header, replay
from rpcstream.storage.marks import Mark
from rpcstream.storage.publish import recover
from tests.storage.faults import FaultyFiles, fail_nth
from tests.storage.power import PowerFiles
from tests.storage.support import EXTENT, OWNER, StorageTestCase, transfer, transfer_id
from tests.storage.test_power_loss import CONTENT, OLD, put, source_of


class ZeroFiles(PowerFiles):
    """The n-th file that is opened gets descriptor 0, as in a daemon without standard input."""

    def __init__(self, zero_at: int) -> None:
        super().__init__()
        self.zero_at = zero_at

    def open(self, *arguments: Any, **keywords: Any) -> int:
        fd = super().open(*arguments, **keywords)
        self.zero_at -= 1
        if self.zero_at or 0 in self._fds:
            return fd
        self._fds[0] = self._fds.pop(fd)
        return 0


class DescriptorZeroTests(StorageTestCase):
    """0 is a descriptor like others."""

    def with_zero(self, run: Callable[[ZeroFiles], None]) -> int:
        """Run with each file in turn as descriptor 0; how many there are."""
        number = 0
        while True:
            number += 1
            files = ZeroFiles(number)
            run(files)
            self.assertEqual(files.open_count, 0, f"the {number}. file stays open")
            if files.zero_at > 0:
                return number - 1

    def transfer(self, files: ZeroFiles) -> None:
        pool = Pool("/", extent_bytes=EXTENT, files=files)
        options = {
            "size_bytes": len(CONTENT), "sparse": True, "replace": False, "mode": None,
            "owner": OWNER, "transfer_id": transfer_id(),
        }  # fmt: skip
        abandoned = pool.begin("disk", **options)  # type: ignore[arg-type]
        assert not isinstance(abandoned, Finished)
        abandoned.write(CONTENT[:EXTENT])
        abandoned.abandon()
        receiving = pool.begin("disk", **options)  # type: ignore[arg-type]
        assert not isinstance(receiving, Finished)
        with source_of(CONTENT) as source:
            transfer(source, receiving)
            receiving.commit(len(CONTENT), source.content_digest())
        with pool.open_source("disk") as published:
            self.assertEqual(published.content_digest(), pool.stat("disk").digest)
        pool.close()

    def upload(self, files: ZeroFiles) -> None:
        pool = Pool("/", extent_bytes=EXTENT, files=files)
        pool.volumes.create("disk", 10_000, 0)
        upload = pool.volumes.open_in_place("disk", 0, None)
        upload.write(b"abc")
        upload.finish()
        cut_short = pool.volumes.open_in_place("disk", 5000, None)
        cut_short.write(b"abc")
        cut_short.abandon()
        self.assertTrue(pool.stat("disk").incomplete)
        pool.close()

    def aside(self, files: ZeroFiles) -> None:
        with AsideFile("/file", files=files) as file:
            file.write(b"abc")
            file.commit()
        AsideFile("/other", files=files).remove()
        self.assertEqual(files.tree(), {"file": b"abc"})

    def test_all(self) -> None:
        """Transfers, uploads in place, files written aside."""
        for run in (self.transfer, self.upload, self.aside):
            self.assertGreater(self.with_zero(run), 3)


class AsideTests(StorageTestCase):
    """Files for user code, beyond the usual."""

    def test_without_a_context(self) -> None:
        """A commit that fails removes the file by itself; a committed one takes no hole."""
        path = self.store / "file"
        path.write_bytes(OLD)
        file = AsideFile(path, replace=False)
        with self.assertRaises(NameExists):
            file.commit()
        self.assertEqual(os.listdir(self.store), ["file"])
        files = FaultyFiles()
        file = AsideFile(path, files=files)
        files.rule = fail_nth({"fsync"}, 0)
        with self.assertRaises(OSError):
            file.commit()
        self.assertEqual((os.listdir(self.store), files.open_fds), (["file"], set()))
        file = AsideFile(path)
        file.commit()
        for late in (lambda: file.write(b""), lambda: file.write_hole(1), file.commit):
            with self.assertRaises(BadState):
                late()

    def test_power_loss(self) -> None:
        """Committed is durable, name and all; before, the name shows what it showed."""
        for replace in (False, True):
            files = PowerFiles()
            if replace:
                files.close(put(files, "file", OLD))
            states: list[PowerFiles] = []
            files.on_step = lambda files=files, states=states: states.append(files.surely())  # type: ignore[misc]
            with AsideFile("/file", replace=replace, files=files) as file:
                file.write(CONTENT)
                file.commit()
            self.assertEqual(files.surely().tree()["file"], CONTENT)
            shown = {state.tree().get("file") for state in states}
            self.assertEqual(shown, {OLD if replace else None, CONTENT})


class EdgeTests(StorageTestCase):
    """One each."""

    def test_keep_first(self) -> None:
        """The first so many, over several runs."""
        known = ExtentMap(10)
        for index in (1, 2, 4, 5, 6, 8):
            known.put(index, bytes(32))
        known.keep_first(4)
        self.assertEqual([index for index in range(10) if known.has(index)], [1, 2, 4, 5])

    def test_empty_journal(self) -> None:
        """Of content with no known size nothing is claimed before the first extent."""
        pool = self.make_pool()
        journal = Journal.lock(pool._layout, "disk")
        self.addCleanup(journal.remove)
        self.assertEqual(len(replay(pool._layout.files, journal._fd, None, EXTENT)), 0)
        self.assertIs(recover(pool._layout, "disk", journal), False)

    def test_records_of_other_shapes(self) -> None:
        """Both the type and the size of a record must be known for it to count."""
        pool = self.make_pool()
        receiving = self.begin(pool, size_bytes=2 * EXTENT)
        journal = receiving._target.journal
        for kind, size in ((b"E", 8), (b"E", 45), (b"F", 44), (b"F", 7), (b"X", 44), (b"X", 8)):
            journal._append(_record(kind, bytes(size)))
        self.assertEqual(journal.replay(2 * EXTENT, EXTENT).known_count, 0)
        receiving.remove()

    def test_one_read(self) -> None:
        """What one read brings, or does not, is not read for again."""
        files = FaultyFiles()
        fd = os.open(self.make_file("file", b"abc"), os.O_RDONLY)
        self.addCleanup(os.close, fd)
        for offset, expected in ((0, b"abc"), (3, b"")):
            self.assertEqual(read_exactly(files, fd, 3, offset), expected)
        self.assertEqual(files.calls, ["pread", "pread"])

    def test_mode(self) -> None:
        """A source has the permission bits of its file, and none beyond."""
        path = self.make_file("file", b"abc")
        for mode in (0o640, 0o4751, 0o1777):
            path.chmod(mode)
            self.assertEqual(self.open_file(path).mode, mode & 0o777)

    def test_pool_name(self) -> None:
        """The pool knows its name."""
        self.assertEqual(self.make_pool(name="images").name, "images")

    def test_record_removed_durably(self) -> None:
        """Before content is written in place the digest of the old one is gone for good."""
        files = FaultyFiles()
        pool = self.make_pool(files=files)
        receiving = self.begin(pool, size_bytes=EXTENT)
        self.send(self.open_file(self.make_file("file", bytes(EXTENT))), receiving)
        upload = pool.volumes.open_in_place("disk", 0, None)
        start = len(files.calls)
        upload.write(b"abc")
        steps = files.calls[start:]
        self.assertEqual(steps[steps.index("unlink") + 1], "fsync")
        self.assertGreater(steps.index("pwrite", steps.index("unlink")), steps.index("unlink"))
        upload.finish()

    def test_expiry(self) -> None:
        """What is exactly as old as the limit stays; records of devices stay."""
        device = self.make_file("device", bytes(EXTENT))
        pool = self.make_pool(devices={"vda": device})
        receiving = self.begin(pool, "vda", size_bytes=EXTENT)
        self.send(self.open_file(self.make_file("file", os.urandom(EXTENT))), receiving)
        stray = self.store / ".rpcstream" / "records" / ".new-x"
        stray.write_bytes(b"")
        os.utime(stray, (1000, 1000))
        pool.expire()
        self.assertIsNotNone(pool.stat("vda").digest)
        stray.write_bytes(b"")
        os.utime(stray, (1000, 1000))
        pool._upkeep.expire(1000)
        self.assertTrue(stray.exists())
        pool._upkeep.expire(1001)
        self.assertFalse(stray.exists())

    def test_device_is_filled(self) -> None:
        """Content that is as large as the device fits, also when its size is told later."""
        device = self.make_file("device", bytes(EXTENT))
        pool = self.make_pool(devices={"vda": device})
        receiving = self.begin(pool, "vda")
        receiving.declare(EXTENT, sparse=True)
        source = self.open_file(self.make_file("file", os.urandom(EXTENT)))
        self.assertTrue(self.send(source, receiving).published)

    def test_declared_later(self) -> None:
        """Room is made when the size is told, be it later; the journal is ours alone."""
        files = FaultyFiles()
        pool = self.make_pool(files=files)
        receiving = self.begin(pool)
        receiving.declare(4 * EXTENT, sparse=False)
        self.assertIn("reserve", files.calls)
        state = self.store / ".rpcstream"
        self.assertEqual((state / "partials" / "disk").stat().st_size, 4 * EXTENT)
        self.assertEqual((state / "journals" / "disk").stat().st_mode & 0o777, 0o600)
        fd = os.open(state / "journals" / "disk", os.O_RDONLY)
        self.addCleanup(os.close, fd)
        header, _ = read_header(files, fd)
        assert header is not None
        self.assertEqual(header.size_bytes, 4 * EXTENT)
        receiving.remove()

    def test_mark_says_where(self) -> None:
        """An upload that is cut short marks what it wrote, and no more."""
        pool = self.make_pool()
        pool.volumes.create("disk", 10_000, 0)
        upload = pool.volumes.open_in_place("disk", 5000, None)
        upload.write(b"abc")
        upload.abandon()
        inode = (self.store / "disk").stat().st_ino
        self.assertEqual(pool._marks.read("disk", inode), Mark(inode, 5000, 5003))

    def test_record_of_a_device(self) -> None:
        """A device that is written again has no digest on record from the beginning."""
        device = self.make_file("device", bytes(EXTENT))
        pool = self.make_pool(devices={"vda": device})
        source = self.open_file(self.make_file("file", os.urandom(EXTENT)))
        self.send(source, self.begin(pool, "vda", size_bytes=EXTENT))
        record = self.store / ".rpcstream" / "records" / "vda"
        self.assertTrue(record.exists())
        self.begin(pool, "vda", size_bytes=EXTENT, transfer_id=transfer_id(2))
        self.assertFalse(record.exists())

    def test_probe_of_another(self) -> None:
        """A probe of the file system that another process makes stays when a pool is opened."""
        self.make_pool().close()
        probe = self.store / ".rpcstream" / "partials" / ".probe-x"
        probe.write_bytes(b"")
        self.make_pool().close()
        self.assertTrue(probe.exists())

    def test_syncs_are_counted_from_zero(self) -> None:
        """So much data, and not a byte less, between two syncs."""
        files = FaultyFiles()
        pool = self.make_pool(files=files, limits=Limits(sync_bytes=2 * EXTENT))
        receiving = self.begin(pool, size_bytes=8 * EXTENT)
        receiving.write(bytes(2 * EXTENT))
        count = files.calls.count("fdatasync")
        receiving.write(bytes(2 * EXTENT - 1))
        self.assertEqual(files.calls.count("fdatasync"), count)
        receiving.write(b"x")
        self.assertGreater(files.calls.count("fdatasync"), count)
        receiving.abandon()

    def test_digest_of_a_pipe(self) -> None:
        """It is that of the same content in a file."""
        content = os.urandom(2 * EXTENT + 5)
        expected = digest_file(self.make_file("file", content), extent_bytes=EXTENT)
        for size in (None, len(content)):
            reading, writing = os.pipe()
            thread = threading.Thread(target=lambda fd=writing: (os.write(fd, content), os.close(fd)))  # type: ignore[misc]
            thread.start()
            with PipeSource(reading, size, extent_bytes=EXTENT) as source:
                list(source.pieces())
                self.assertEqual(source.content_digest(), expected)
            thread.join()


class ShortFiles(FaultyFiles):
    """Reads and writes at most 700 bytes at a time."""

    def pread(self, fd: int, byte_count: int, offset: int) -> bytes:
        return super().pread(fd, min(700, byte_count), offset)

    def pwrite(self, fd: int, data: bytes | memoryview, offset: int) -> int:
        return super().pwrite(fd, data[:700], offset)


class ResourceTests(StorageTestCase):
    """D07: descriptors or memory run out, calls do less than asked."""

    def run_transfer(self, files: FaultyFiles) -> None:
        pool = Pool(self.store, extent_bytes=EXTENT, files=files)
        try:
            begun = self.begin_any(pool, size_bytes=len(CONTENT))
            if not isinstance(begun, Finished):
                self.send(self.open_file(self.directory / "file", files=files), begun)
            self.assertIsNotNone(pool.stat("disk").digest)
        finally:
            pool.close()

    def test_no_descriptor_no_memory(self) -> None:
        """An error or success at each operation, never a wrong file; the next try succeeds."""
        self.make_file("file", CONTENT)
        for code, operations in (
            (errno.EMFILE, {"open"}),
            (errno.ENOMEM, {"open", "pread", "pwrite", "fstat", "stat", "listdir"}),
        ):
            number, is_over = 0, False
            while not is_over:
                files = FaultyFiles()
                at = -1

                def rule(_: int, name: str, number: int = number, code: int = code) -> OSError | None:
                    nonlocal at
                    at += name in operations  # noqa: B023
                    return OSError(code, os.strerror(code)) if at == number and name in operations else None  # noqa: B023

                files.rule = rule
                try:
                    self.run_transfer(files)
                except Exception as error:
                    self.assertIn(os.strerror(code), f"{error} {error.__cause__}")
                    self.assertFalse((self.store / "disk").exists() and "link" not in files.calls)
                is_over = at < number
                for source in self.directory.glob("store/disk"):
                    self.assertEqual(source.read_bytes(), CONTENT)
                self.run_transfer(FaultyFiles())
                self.assertEqual((self.store / "disk").read_bytes(), CONTENT)
                (self.store / "disk").unlink()
                number += 1
            self.assertGreater(number, 10)

    def test_short(self) -> None:
        """Short reads and writes are gone on with, in data, journal and record."""
        self.make_file("file", CONTENT)
        self.run_transfer(ShortFiles())
        self.assertEqual((self.store / "disk").read_bytes(), CONTENT)
