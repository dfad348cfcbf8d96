"""
What the storage tests share: pools with small extents, and a transfer by hand.
"""

from __future__ import annotations

import os
import random
from collections.abc import Iterable
from contextlib import closing, suppress
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from rpcstream.storage import CommitOutcome, FileSource, Finished, Hole, Pool, Receiving, Source, open_path

EXTENT = 4096
"""Extent size of most tests: a disk block, so that holes are holes."""
OWNER = "alice"


def transfer_id(number: int = 1) -> bytes:
    """Some transfer id."""
    return number.to_bytes(16, "big")


def feed(receiving: Receiving, pieces: Iterable[bytes | Hole]) -> None:
    """Hand a source's pieces to a receiver."""
    for piece in pieces:
        if isinstance(piece, Hole):
            receiving.write_hole(piece.length)
        else:
            receiving.write(piece)


def transfer(source: Source, receiving: Receiving, **options: Any) -> None:
    """All that the receiver does not hold."""
    with closing(source.pieces(receiving.held.bitmap, **options)) as pieces:
        feed(receiving, pieces)


class StorageTestCase(SynchronousTestCase):
    """Has a directory, and checks at the end that no descriptor stayed open."""

    def setUp(self) -> None:
        self.directory = Path(self.mktemp())
        self.directory.mkdir(parents=True)
        self.store = self.directory / "store"
        self.store.mkdir()
        before = self.open_files()
        self.addCleanup(lambda: self.assertEqual(self.open_files(), before))

    def open_files(self) -> dict[str, str]:
        """The descriptors that are open inside the directory of this test."""
        found = {}
        for fd in os.listdir("/proc/self/fd"):
            with suppress(OSError):
                found[fd] = os.readlink(f"/proc/self/fd/{fd}")
        return {fd: path for fd, path in found.items() if path.startswith(str(self.directory.resolve()))}

    def make_pool(self, **options: Any) -> Pool:
        """A pool with small extents, closed at the end."""
        options = {"extent_bytes": EXTENT, **options}
        pool = Pool(self.store, **options)
        self.addCleanup(pool.close)
        return pool

    def begin(self, pool: Pool, name: str = "disk", **options: Any) -> Receiving:
        """A transfer that is not complete yet."""
        result = self.begin_any(pool, name, **options)
        assert isinstance(result, Receiving)
        return result

    def begin_any(self, pool: Pool, name: str = "disk", **options: Any) -> Receiving | Finished:
        """As L{Pool.begin}, with defaults."""
        options = {
            "size_bytes": None, "sparse": True, "replace": False, "mode": None,
            "owner": OWNER, "transfer_id": transfer_id(), **options,
        }  # fmt: skip
        return pool.begin(name, **options)

    def make_file(self, name: str, content: bytes) -> Path:
        """A file outside the pool."""
        path = self.directory / name
        path.write_bytes(content)
        return path

    def make_sparse_file(self, name: str, parts: Iterable[tuple[bool, int]]) -> Path:
        """A file outside the pool; of each part: whether it is data, or else a hole, and its length."""
        path = self.directory / name
        with path.open("wb") as file:
            for is_data, length in parts:
                if is_data:
                    file.write(random.Random(length).randbytes(length))
                else:
                    file.seek(length, os.SEEK_CUR)
            file.truncate()
        return path

    def open_file(self, path: Path, **options: Any) -> FileSource:
        """A source of a file outside the pool, closed at the end."""
        source = open_path(path, **{"extent_bytes": EXTENT, **options})
        self.addCleanup(source.close)
        return source

    def send(self, source: Source, receiving: Receiving) -> CommitOutcome:
        """A whole transfer, as the network would do it."""
        transfer(source, receiving)
        receiving.finish()
        source.verify(receiving.held)
        assert source.size_bytes is not None
        return receiving.commit(source.size_bytes, source.content_digest())

    def state_names(self) -> list[str]:
        """Partials and journals that are left."""
        state = self.store / ".rpcstream"
        return sorted(
            f"{part}/{name}"
            for part in ("partials", "journals")
            for name in os.listdir(state / part)
            if not name.startswith(".probe")
        )
