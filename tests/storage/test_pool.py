"""
What is in a pool, and keeping it tidy.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from rpcstream.errors import (
    BadValue,
    ConfigurationError,
    NameBusy,
    NameNotFound,
    NotRegular,
    QuotaExceeded,
    SizeMismatch,
)
from rpcstream.limits import Limits
from rpcstream.storage import ContentKind, Finished, Pool, digest_file
from rpcstream.storage.files import FileOperations
from tests.storage.faults import FaultyFiles, fail_nth
from tests.storage.support import EXTENT, StorageTestCase, transfer, transfer_id

LIMITS = Limits(sync_bytes=EXTENT)


class ListingTests(StorageTestCase):
    """Entries, in pages."""

    def test_pages(self) -> None:
        """Sorted by name, page after page, without what is not served."""
        names = sorted(["b", "a", "ä", "c 1", "z", "B"])
        for name in names:
            (self.store / name).write_bytes(b"x" * 5000)
        (self.store / ".dot").write_bytes(b"")
        (self.store / "directory").mkdir()
        Path(os.fsdecode(os.fsencode(self.store) + b"/\xff")).write_bytes(b"")
        pool = self.make_pool()
        found: list[str] = []
        while page := pool.entries(found[-1] if found else "", 2):
            self.assertLessEqual(len(page), 2)
            found += [entry.name for entry in page]
        self.assertEqual(found, names)
        entry = pool.stat("a")
        self.assertEqual((entry.kind, entry.size_bytes, entry.digest), (ContentKind.FILE, 5000, None))
        self.assertEqual(entry.allocated_bytes, 8192)
        self.assertFalse(entry.incomplete)

    def test_remove(self) -> None:
        """A removed name is gone, its record too."""
        pool = self.make_pool()
        path = self.make_file("source", b"x")
        self.send(self.open_file(path), self.begin(pool, size_bytes=1))
        pool.remove("disk")
        self.assertEqual(os.listdir(self.store / ".rpcstream" / "records"), [])
        self.assertIsNone(pool.finished(transfer_id()))
        with self.assertRaises(NameNotFound):
            pool.remove("disk")

    def test_remove_while_replacing(self) -> None:
        """The old file can be removed while a transfer is to replace it."""
        (self.store / "disk").write_bytes(b"old")
        pool = self.make_pool()
        receiving = self.begin(pool, size_bytes=1, replace=True)
        pool.remove("disk")
        self.assertTrue(self.send(self.open_file(self.make_file("source", b"x")), receiving).published)

    def test_windows(self) -> None:
        """A window of a file is content of its own."""
        content = os.urandom(5 * EXTENT)
        (self.store / "disk").write_bytes(content)
        pool = self.make_pool()
        with pool.open_source("disk", offset=100, length=2 * EXTENT) as source:
            self.assertEqual((source.size_bytes, source.whole_bytes), (2 * EXTENT, 5 * EXTENT))
            self.assertEqual(
                b"".join(piece for piece in source.pieces() if isinstance(piece, bytes)),
                content[100 : 100 + 2 * EXTENT],
            )
            window = self.make_file("window", content[100 : 100 + 2 * EXTENT])
            self.assertEqual(source.content_digest(), digest_file(window, extent_bytes=EXTENT))
        for offset, length in ((0, 5 * EXTENT + 1), (5 * EXTENT + 1, None), (-1, 1), (5 * EXTENT, 1)):
            with self.assertRaises(SizeMismatch):
                pool.open_source("disk", offset=offset, length=length)

    def test_bad_arguments(self) -> None:
        """Values that cannot be are refused before anything is made."""
        pool = self.make_pool()
        for options in ({"transfer_id": b"short"}, {"mode": 0o4755}, {"mode": -1}, {"owner": "x" * 5000}):
            with self.assertRaises(BadValue):
                self.begin(pool, **options)
        for size in (-1, (1 << 45) + 1):
            with self.assertRaises(QuotaExceeded):
                self.begin(pool, size_bytes=size)
        self.assertEqual(self.state_names(), [])


class QuotaTests(StorageTestCase):
    """What a pool may hold."""

    def test_dense(self) -> None:
        """A dense file is refused before any data; what was reserved before counts once."""
        pool = self.make_pool(quota_bytes=10 * EXTENT, limits=LIMITS)
        (self.store / "there").write_bytes(os.urandom(3 * EXTENT))
        with self.assertRaises(QuotaExceeded):
            self.begin(pool, size_bytes=8 * EXTENT, sparse=False)
        self.assertEqual(self.state_names(), [])
        for _ in range(3):
            receiving = self.begin(pool, size_bytes=6 * EXTENT, sparse=False)
            receiving.write(bytes([1]) * 2 * EXTENT)
            receiving.abandon()
        with self.assertRaises(QuotaExceeded):
            self.begin(pool, "other", size_bytes=2 * EXTENT, sparse=False)
        pool.remove("there")
        self.begin(pool, "other", size_bytes=2 * EXTENT, sparse=False)

    def test_sparse(self) -> None:
        """A sparse or endless stream ends when the quota does."""
        pool = self.make_pool(quota_bytes=10 * EXTENT, limits=LIMITS)
        receiving = self.begin(pool, size_bytes=1 << 40)
        receiving.write_hole(1 << 30)
        receiving.write(os.urandom(9 * EXTENT))
        with self.assertRaises(QuotaExceeded):
            receiving.write(os.urandom(2 * EXTENT))
        with self.assertRaises(QuotaExceeded):
            receiving.write(b"x")


class UpkeepTests(StorageTestCase):
    """Partials, expiry, recovery."""

    def test_partials(self) -> None:
        """What was begun is listed; discarding deletes it."""
        pool = self.make_pool(limits=LIMITS)
        receiving = self.begin(pool, size_bytes=4 * EXTENT)
        receiving.write(b"x" * 2 * EXTENT)
        (entry,) = pool.partials()
        self.assertEqual(entry[:5], ("disk", 4 * EXTENT, 2 * EXTENT, "alice", transfer_id()))
        self.assertTrue(entry.active)
        with self.assertRaises(NameBusy):
            pool.discard("disk")
        receiving.abandon()
        (entry,) = pool.partials()
        self.assertFalse(entry.active)
        pool.discard("disk")
        self.assertEqual(pool.partials(), [])
        self.assertEqual(self.state_names(), [])
        with self.assertRaises(NameNotFound):
            pool.discard("disk")

    def test_expire(self) -> None:
        """After 7 days a partial goes, with what else crashes have left; nothing else does."""
        now = [1e9]
        pool = self.make_pool(limits=LIMITS, clock=lambda: now[0])
        state = self.store / ".rpcstream"
        for name in ("old", "new", "running"):
            receiving = self.begin(pool, name, size_bytes=4 * EXTENT)
            receiving.write(b"x" * 2 * EXTENT)
            if name != "running":
                receiving.abandon()
            os.utime(state / "journals" / name, (now[0], now[0]))
        self.send(self.open_file(self.make_file("source", b"x")), self.begin(pool, "kept", size_bytes=1))
        self.send(self.open_file(self.make_file("source", b"x")), self.begin(pool, "gone", size_bytes=1))
        (self.store / "gone").unlink()
        for stray in ("partials/.probe-1", "records/.new-1"):
            (state / stray).write_bytes(b"")
            os.utime(state / stray, (now[0], now[0]))
        now[0] += 8 * 86400
        os.utime(state / "journals" / "new", (now[0], now[0]))
        self.assertEqual(pool.expire(), ["old"])
        self.assertEqual(
            self.state_names(), ["journals/new", "journals/running", "partials/new", "partials/running"]
        )
        self.assertEqual(os.listdir(state / "records"), ["kept"])
        self.assertEqual([name for name in os.listdir(state / "partials") if name[0] == "."], [])

    def test_leftover_of_publishing(self) -> None:
        """When the partial's name cannot be unlinked it is served all the same, and tidied up later."""
        files = FaultyFiles()
        pool = self.make_pool(files=files)
        source = self.open_file(self.make_file("source", b"x"))
        receiving = self.begin(pool, size_bytes=1)
        transfer(source, receiving)
        files.rule = fail_nth({"unlink"}, 0)
        self.assertTrue(receiving.commit(1, source.content_digest()).published)
        self.assertEqual((self.store / "disk").stat().st_nlink, 2)
        self.assertEqual(pool.stat("disk").digest, source.content_digest())
        pool.open_source("disk").close()
        self.assertIsInstance(self.begin_any(pool, size_bytes=1), Finished)
        self.assertEqual(self.state_names(), [])
        self.assertEqual((self.store / "disk").stat().st_nlink, 1)

    def test_removed_with_leftover(self) -> None:
        """What is left of publishing does not turn into a partial when the file is removed."""
        files = FaultyFiles()
        pool = self.make_pool(files=files)
        source = self.open_file(self.make_file("source", b"x"))
        receiving = self.begin(pool, size_bytes=1)
        transfer(source, receiving)
        files.rule = fail_nth({"unlink"}, 0)
        receiving.commit(1, source.content_digest())
        pool.remove("disk")
        self.assertEqual(self.state_names(), [])

    def test_orphans(self) -> None:
        """Journals of nothing and partials without a journal go when the pool is opened."""
        self.make_pool().close()
        state = self.store / ".rpcstream"
        (state / "partials" / "orphan").write_bytes(b"x")
        (state / "partials" / "both").write_bytes(b"x")
        (state / "journals" / "both").write_bytes(b"nonsense")
        (state / "journals" / "empty").write_bytes(b"")
        self.make_pool()
        self.assertEqual([name for name in self.state_names() if "both" not in name], [])
        self.make_pool()
        self.assertEqual(self.state_names(), [])

    def test_close_abandons(self) -> None:
        """Closing the pool keeps what is durable."""
        pool = self.make_pool(limits=LIMITS)
        self.begin(pool, size_bytes=4 * EXTENT).write(b"x" * 2 * EXTENT)
        pool.close()
        self.assertEqual(self.begin(self.make_pool(), size_bytes=4 * EXTENT).durable_bytes, 2 * EXTENT)


class OpeningTests(StorageTestCase):
    """Directories that cannot be a pool."""

    def refused(self, files: FileOperations | None = None) -> str:
        """Why the pool cannot be opened."""
        with self.assertRaises(ConfigurationError) as caught:
            Pool(self.store, files=files)
        return str(caught.exception)

    def test_missing(self) -> None:
        """There is no such directory, or it is a file."""
        self.store.rmdir()
        self.assertIn("cannot be used", self.refused())
        self.store.write_bytes(b"")
        self.assertIn("cannot be used", self.refused())

    def test_no_hard_links(self) -> None:
        """A file system without hard links is refused at the start."""
        self.assertIn("hard links", self.refused(FaultyFiles(fail_nth({"link"}, 0))))

    def test_state_is_a_link(self) -> None:
        """The state directory is not taken from elsewhere."""
        (self.directory / "elsewhere").mkdir()
        os.symlink("../elsewhere", self.store / ".rpcstream")
        self.assertIn("cannot be used", self.refused())

    def test_state_of_somebody_else(self) -> None:
        """Nor from another user."""
        if os.geteuid() != 0:
            self.skipTest("only root can give a directory away")
        (self.store / ".rpcstream").mkdir()
        os.chown(self.store / ".rpcstream", 12345, -1)
        self.assertIn("12345", self.refused())

    def test_open_state_is_closed(self) -> None:
        """A state directory that others can enter is made private."""
        (self.store / ".rpcstream").mkdir(mode=0o755)
        self.make_pool()
        self.assertEqual(stat.S_IMODE((self.store / ".rpcstream").stat().st_mode), 0o700)

    def test_other_file_system(self) -> None:
        """Partials must be where the pool is, or they could not be linked; nor is a foreign file served."""
        (self.store / "disk").write_bytes(b"x")
        files = FileOperations()
        pool = self.make_pool()
        pool._layout.device += 1
        with self.assertRaises(NotRegular):
            pool.stat("disk")

        class Elsewhere(FileOperations):
            calls = 0

            def fstat(self, fd: int) -> os.stat_result:
                Elsewhere.calls += 1
                found = list(files.fstat(fd))
                if Elsewhere.calls == 1:
                    found[stat.ST_DEV] += 1
                return os.stat_result(found)

        self.assertIn("another file system", self.refused(Elsewhere()))

    def test_state_directory(self) -> None:
        """Journals and records may lie elsewhere."""
        state = self.directory / "state"
        pool = self.make_pool(state_directory=state)
        self.begin(pool, size_bytes=1)
        self.assertEqual(os.listdir(state / "journals"), ["disk"])
        self.assertEqual(os.listdir(self.store / ".rpcstream"), ["partials"])
