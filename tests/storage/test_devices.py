"""
Block devices as destination and source.

On a loop device where the machine lets us have one, and always on a declared
regular file as a stand-in.
"""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

from rpcstream.errors import NameBusy, NameNotFound, NotRegular, QuotaExceeded, SizeMismatch
from rpcstream.limits import Limits
from rpcstream.storage import ContentKind, FilePart, Finished, Pool, bitmap_of, digest_file, indexes_of
from tests.storage.faults import FaultyFiles, Killed, kill_at
from tests.storage.support import EXTENT, StorageTestCase, transfer, transfer_id

SIZE = 64 * EXTENT
LIMITS = Limits(sync_bytes=EXTENT)


class StandInTests(StorageTestCase):
    """A declared regular file, written in place."""

    def setUp(self) -> None:
        super().setUp()
        self.image = self.make_file("image", os.urandom(SIZE))
        self.device = self.image
        self.kind = ContentKind.FILE
        path = self.directory / "source"
        with path.open("wb") as file:
            file.write(os.urandom(3 * EXTENT + 100))
            file.seek(20 * EXTENT + 777)
            file.write(os.urandom(5000))
            file.truncate(40 * EXTENT + 123)
        self.source_path = path
        self.content = path.read_bytes()

    def make_device_pool(self, **options: object) -> Pool:
        """A pool with the device as C{vda}."""
        return self.make_pool(devices={"vda": self.device}, limits=LIMITS, **options)

    def on_device(self) -> bytes:
        """What the device holds, as far as the content goes."""
        with open(self.device, "rb") as file:
            return file.read(len(self.content))

    def test_written_in_place(self) -> None:
        """Content and holes arrive; it is incomplete from the first byte until COMMIT."""
        pool = self.make_device_pool()
        (entry,) = pool.entries()
        self.assertEqual((entry.name, entry.kind, entry.size_bytes), ("vda", ContentKind.DEVICE, SIZE))
        self.assertFalse(entry.incomplete)
        receiving = self.begin(pool, "vda", size_bytes=len(self.content))
        self.assertTrue(pool.stat("vda").incomplete)
        with self.assertRaises(NameBusy):
            pool.open_source("vda")
        source = self.open_file(self.source_path)
        outcome = self.send(source, receiving)
        self.assertTrue(outcome.published)
        self.assertEqual(self.on_device(), self.content)
        entry = pool.stat("vda")
        self.assertEqual((entry.incomplete, entry.digest), (False, outcome.digest))
        self.assertIsInstance(self.begin_any(pool, "vda", size_bytes=len(self.content)), Finished)
        finished = pool.finished(transfer_id())
        assert finished is not None
        self.assertEqual(finished.size_bytes, len(self.content))
        # Another transfer: nothing is finished any more, from the start on.
        self.begin(pool, "vda", size_bytes=5, transfer_id=transfer_id(2)).abandon()
        self.assertIsNone(pool.finished(transfer_id()))
        self.assertEqual((pool.stat("vda").incomplete, pool.stat("vda").digest), (True, None))

    def test_resumed(self) -> None:
        """A cut transfer goes on where it was; what changed on the device is noticed."""
        pool = self.make_device_pool()
        receiving = self.begin(pool, "vda", size_bytes=len(self.content))
        receiving.write(self.content[: 3 * EXTENT])
        receiving.abandon()
        with open(self.device, "r+b") as file:
            file.seek(EXTENT)
            file.write(b"rot")
            file.flush()
            os.fsync(file.fileno())
        receiving = self.begin(pool, "vda", size_bytes=len(self.content))
        self.assertEqual(receiving.held.bitmap, b"\x07")
        source = self.open_file(self.source_path)
        outcome = self.send(source, receiving)
        self.assertEqual(outcome.missing, bitmap_of([1]))
        receiving = self.begin(pool, "vda", size_bytes=len(self.content), discard=outcome.missing)
        self.assertTrue(self.send(source, receiving).published)
        self.assertEqual(self.on_device(), self.content)

    def test_discarded(self) -> None:
        """Discarding a transfer, or removing it, forgets the extents but not that it is incomplete."""
        pool = self.make_device_pool()
        for number in range(2):
            receiving = self.begin(pool, "vda", size_bytes=len(self.content))
            self.assertEqual(receiving.held.bitmap, b"")
            receiving.write(self.content[: 3 * EXTENT])
            if number:
                receiving.abandon()
                pool.discard("vda")
            else:
                receiving.remove()
        self.assertTrue(pool.stat("vda").incomplete)
        self.assertEqual([entry.held_bytes for entry in pool.partials()], [0])
        self.assertEqual(pool.expire(), [])

    def test_too_large(self) -> None:
        """More than the device has room for, declared or not."""
        pool = self.make_device_pool()
        with self.assertRaises(QuotaExceeded):
            self.begin(pool, "vda", size_bytes=SIZE + 1)
        receiving = self.begin(pool, "vda")
        with self.assertRaises(QuotaExceeded):
            receiving.declare(SIZE + 1, sparse=True)
        receiving.abandon()
        receiving = self.begin(pool, "vda")
        receiving.write(bytes(SIZE))
        with self.assertRaises(SizeMismatch):
            receiving.write(b"x")

    def test_as_source(self) -> None:
        """A device is sent like a file; its digest is that of a file with the same content."""
        pool = self.make_device_pool()
        with pool.open_source("vda") as source:
            self.assertEqual((source.kind, source.size_bytes), (self.kind, SIZE))
            receiving = self.begin(pool, "copy", size_bytes=SIZE)
            outcome = self.send(source, receiving)
            source.check_unchanged()
        with open(self.device, "rb") as file:
            self.assertEqual((self.store / "copy").read_bytes(), file.read())
        self.assertEqual(outcome.digest, digest_file(self.device, extent_bytes=EXTENT))

    def test_not_removed(self) -> None:
        """A device cannot be removed, nor a file of its name be made."""
        pool = self.make_device_pool()
        with self.assertRaises(NotRegular):
            pool.remove("vda")

    def test_missing_device(self) -> None:
        """A declared device that is not there is not listed."""
        pool = self.make_pool(devices={"vdb": self.directory / "absent"})
        self.assertEqual(pool.entries(), [])
        with self.assertRaises(NameNotFound):
            pool.stat("vdb")
        with self.assertRaises(FileNotFoundError):
            self.begin(pool, "vdb", size_bytes=1)
        self.assertEqual(self.state_names(), [])

    def test_killed(self) -> None:
        """Killed at any step: never complete with other content than the sender's."""
        number = 0
        while True:
            shutil.rmtree(self.store)
            self.store.mkdir()
            files = FaultyFiles(kill_at(number))
            done = False
            try:
                pool = Pool(
                    self.store, extent_bytes=EXTENT, limits=LIMITS, files=files, devices={"vda": self.device}
                )
                receiving = self.begin(pool, "vda", size_bytes=len(self.content))
                source = self.open_file(self.source_path)
                done = self.send(source, receiving).published
                pool.close()
            except Killed:
                pass
            files.reap()
            pool = Pool(
                self.store,
                extent_bytes=EXTENT,
                limits=LIMITS,
                devices={"vda": self.device},
                files=FaultyFiles(),
            )
            is_complete = pool.stat("vda").digest is not None
            self.assertLessEqual(done, is_complete)
            if is_complete:
                self.assertEqual(self.on_device(), self.content)
                self.assertFalse(pool.stat("vda").incomplete)
            pool.close()
            number += 1 if number < 30 else 7
            if done:
                break
        self.assertGreater(number, 60)


class LoopDeviceTests(StandInTests):
    """The same on a real block device."""

    def setUp(self) -> None:
        super().setUp()
        try:
            found = subprocess.run(
                ["losetup", "--find", "--show", os.fspath(self.image)],
                capture_output=True,
                text=True,
                check=False,
            )
        except OSError as error:
            self.skipTest(f"no losetup: {error}")
        if found.returncode != 0:
            self.skipTest(f"no loop device: {found.stderr.strip()}")
        self.device = Path(found.stdout.strip())
        self.kind = ContentKind.DEVICE
        self.addCleanup(subprocess.run, ["losetup", "--detach", os.fspath(self.device)], check=True)

    def test_zeros_are_holes(self) -> None:
        """Whole pieces of zeros on a device are sent as holes."""
        with open(self.device, "r+b") as file:
            file.write(bytes(8 * EXTENT))
        pool = self.make_device_pool()
        with pool.open_source("vda") as source:
            receiving = self.begin(pool, "copy", size_bytes=SIZE)
            transfer(source, receiving)
            digest = source.content_digest()
        self.assertTrue(receiving.commit(SIZE, digest).published)
        self.assertLessEqual((self.store / "copy").stat().st_blocks * 512, SIZE - 8 * EXTENT)
        with pool.open_source("vda") as source:
            dense = b"".join(piece for piece in source.pieces(sparse=False) if isinstance(piece, bytes))
        self.assertEqual(dense, (self.store / "copy").read_bytes())
        self.assertEqual(indexes_of(b""), [])
        with pool.open_source("vda") as source:
            parts = list(source.file_parts(digests=False))
        with pool.open_source("vda") as source:
            self.assertEqual([len(p) if isinstance(p, FilePart) else p for p in parts],
                             [len(p) if isinstance(p, bytes) else p for p in source.pieces()])  # fmt: skip

    def test_in_use(self) -> None:
        """A device that something else holds exclusively is not written to."""
        fd = os.open(self.device, os.O_RDWR | os.O_EXCL)
        try:
            with self.assertRaises(NameBusy):
                self.begin(self.make_device_pool(), "vda", size_bytes=1)
        finally:
            os.close(fd)
        self.assertEqual(self.state_names(), [])
