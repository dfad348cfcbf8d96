"""
Whole transfers from a source into a pool.
"""

from __future__ import annotations

import os
import stat
from pathlib import Path

from rpcstream.storage import digest_file
from tests.storage.support import EXTENT, StorageTestCase


class TransferTests(StorageTestCase):
    """Everything goes well."""

    def test_file_arrives(self) -> None:
        """A file is published with equal content, and nothing else is left."""
        content = os.urandom(5 * EXTENT + 77)
        path = self.make_file("source", content)
        pool = self.make_pool()
        receiving = self.begin(pool, size_bytes=len(content), sparse=False)
        self.assertFalse((self.store / "disk").exists())
        outcome = self.send(self.open_file(path), receiving)
        self.assertTrue(outcome.published)
        self.assertEqual(outcome.digest, digest_file(path, extent_bytes=EXTENT))
        self.assertEqual((self.store / "disk").read_bytes(), content)
        self.assertEqual(stat.S_IMODE((self.store / "disk").stat().st_mode), 0o600)
        self.assertEqual(self.state_names(), [])
        entry = pool.stat("disk")
        self.assertEqual((entry.size_bytes, entry.digest), (len(content), outcome.digest))

    def test_sparse_stays_sparse(self) -> None:
        """A 100 GiB hole with a few bytes in it takes no more blocks at the destination."""
        path = Path(self.directory / "source")
        with path.open("wb") as file:
            file.truncate(100 << 30)
            file.seek(50 << 30)
            file.write(b"x" * 5000)
        pool = self.make_pool(extent_bytes=4 << 20)
        receiving = self.begin(pool, size_bytes=100 << 30)
        outcome = self.send(self.open_file(path, extent_bytes=4 << 20), receiving)
        self.assertEqual(outcome.digest, digest_file(path))
        found = (self.store / "disk").stat()
        self.assertEqual(found.st_size, 100 << 30)
        self.assertLessEqual(found.st_blocks, path.stat().st_blocks)

    def test_resume(self) -> None:
        """After a cut only what was not durable comes again."""
        content = os.urandom(8 * EXTENT)
        source = self.open_file(self.make_file("source", content))
        pool = self.make_pool()
        receiving = self.begin(pool, size_bytes=len(content))
        receiving.write(content[: 3 * EXTENT + 5])
        receiving.abandon()
        receiving = self.begin(pool, size_bytes=len(content))
        self.assertEqual(receiving.held.bitmap, b"\x07")
        self.assertEqual(receiving.durable_bytes, 3 * EXTENT)
        self.assertTrue(self.send(source, receiving).published)
        self.assertEqual(source.sent_bytes, 5 * EXTENT)
        self.assertEqual((self.store / "disk").read_bytes(), content)
