"""
Sources: files, windows, pipes; and what changes while it is read.
"""

from __future__ import annotations

import errno
import os
import threading
from pathlib import Path
from unittest import TestCase

from hypothesis import given, settings
from hypothesis import strategies as st

from rpcstream.errors import BadState, NotRegular, SizeMismatch, SourceChanged
from rpcstream.storage import (
    Held,
    Hole,
    PipeSource,
    Source,
    bitmap_of,
    digest_file,
    extent_digest,
    indexes_of,
    open_path,
)
from rpcstream.storage.reading import Segments
from tests.storage.faults import FaultyFiles, fail_nth
from tests.storage.support import EXTENT, StorageTestCase

quick = settings(max_examples=40, derandomize=True, deadline=None, database=None)


def content_of(source: Source, *arguments: object, **options: object) -> bytes:
    """All pieces, joined."""
    return b"".join(
        bytes(piece.length) if isinstance(piece, Hole) else piece
        for piece in source.pieces(*arguments, **options)  # type: ignore[arg-type]
    )


def without(content: bytes, skipped: set[int]) -> bytes:
    """Content without some extents."""
    return b"".join(
        content[start : start + EXTENT]
        for start in range(0, len(content), EXTENT)
        if start // EXTENT not in skipped
    )


class _InMemory(FaultyFiles):
    """Every file counts as one of a tmpfs."""

    def is_in_memory(self, fd: int) -> bool:
        return True


class FileTests(StorageTestCase):
    """Regular files."""

    @quick
    @given(
        st.lists(st.tuples(st.booleans(), st.integers(1, 3 * EXTENT)), max_size=6),
        st.sets(st.integers(0, 20)),
        st.integers(1, 2 * EXTENT),
        st.booleans(),
    )
    def test_pieces(
        self, parts: list[tuple[bool, int]], skipped: set[int], packet_bytes: int, sparse: bool
    ) -> None:
        """Any file, any extents held, any packet size: the right bytes, pieces and digest."""
        path = self.make_sparse_file("file", parts)
        content = path.read_bytes()
        with open_path(path, extent_bytes=EXTENT) as source:
            pieces = list(source.pieces(bitmap_of(skipped), packet_bytes, sparse=sparse))
            joined = b"".join(bytes(p.length) if isinstance(p, Hole) else p for p in pieces)
            self.assertEqual(joined, without(content, skipped))
            self.assertEqual(source.sent_bytes, len(joined))
            for piece in pieces:
                if isinstance(piece, bytes):
                    self.assertLessEqual(len(piece), packet_bytes)
                    self.assertTrue(piece)
                else:
                    self.assertTrue(sparse)
            source.check_unchanged()
            digests = [extent_digest(content[at : at + EXTENT]) for at in range(0, len(content), EXTENT)]
            held = Held(bitmap_of(range(len(digests))), b"".join(digests))
            self.assertEqual(source.verify(held), b"")
            self.assertEqual(source.content_digest(), digest_file(path, extent_bytes=EXTENT))

    def test_verify(self) -> None:
        """Claims that differ, or of extents that do not exist, are named; it can be stopped."""
        path = self.make_file("file", os.urandom(2 * EXTENT) + bytes(EXTENT) + b"end")
        with path.open("r+b") as file:
            file.truncate(2 * EXTENT)
            file.truncate(5 * EXTENT + 3)
        zero = extent_digest(bytes(EXTENT))
        good = extent_digest(path.read_bytes()[:EXTENT])
        held = Held(bitmap_of([0, 1, 2, 3, 9]), good + good + zero + good + good).check()
        with open_path(path, extent_bytes=EXTENT) as source:
            self.assertEqual(source.verify(held, lambda: True), b"")
            self.assertEqual(indexes_of(source.verify(held)), [1, 3, 9])
            self.assertEqual(source.content_digest(), digest_file(path, extent_bytes=EXTENT))

    def test_changed(self) -> None:
        """S27: shrunk, grown, written to or replaced while it is read."""

        def shrink(path: Path) -> None:
            os.truncate(path, EXTENT)

        def grow(path: Path) -> None:
            os.truncate(path, 9 * EXTENT)

        def write(path: Path) -> None:
            with path.open("r+b") as file:
                file.write(b"x")
            os.utime(path, ns=(0, 1))

        def replace(path: Path) -> None:
            path.rename(path.with_name("away"))
            path.write_bytes(bytes(3 * EXTENT))

        def unlink(path: Path) -> None:
            path.unlink()

        for change in (shrink, grow, write, replace, unlink):
            (self.store / "disk").unlink(missing_ok=True)
            path = self.store / "disk"
            path.write_bytes(os.urandom(3 * EXTENT))
            pool = self.make_pool()
            with pool.open_source("disk") as source, self.open_file(path) as other:
                source.check_unchanged()
                pieces = source.pieces(packet_bytes=EXTENT)
                next(pieces)
                change(path)
                if change is shrink:
                    with self.assertRaises(SourceChanged):
                        list(pieces)
                pieces.close()
                for each in (source, other):
                    with self.assertRaises(SourceChanged):
                        each.check_unchanged()

    def test_replaced_in_pool(self) -> None:
        """A published file that is replaced while it is sent."""
        (self.store / "disk").write_bytes(b"old")
        with self.make_pool().open_source("disk") as source:
            (self.store / "new").write_bytes(b"old")
            os.rename(self.store / "new", self.store / "disk")
            with self.assertRaises(SourceChanged):
                source.check_unchanged()

    def test_shrinks_while_digested(self) -> None:
        """A file that becomes shorter under digest_file."""
        path = self.make_file("file", os.urandom(4 * EXTENT))
        seen: list[int] = []

        def progress(done: int) -> None:
            seen.append(done)
            os.truncate(path, EXTENT)

        with self.assertRaises(SourceChanged):
            digest_file(path, progress, extent_bytes=EXTENT)
        self.assertEqual(seen[0], EXTENT)

    def test_closed(self) -> None:
        """Nothing is read after close(), and no iterator keeps a descriptor."""
        source = self.open_file(self.make_file("file", os.urandom(3 * EXTENT)))
        pieces = source.pieces(packet_bytes=EXTENT)
        next(pieces)
        source.close()
        source.close()
        self.assertEqual(self.open_files(), {})
        for call in (lambda: next(pieces), source.content_digest, source.check_unchanged):
            with self.assertRaises(BadState):
                call()

    def test_closed_while_reading(self) -> None:
        """A read that runs in another thread is not disturbed; the descriptor goes after it."""
        content = os.urandom(EXTENT)
        files = FaultyFiles()
        source = self.open_file(self.make_file("file", content), files=files)

        def close(number: int, name: str) -> None:
            if name == "pread":
                source.close()

        files.rule = close
        self.assertEqual(content_of(source), content)
        self.assertEqual(files.open_fds, set())

    def test_not_a_file(self) -> None:
        """Directories and FIFOs are no sources."""
        os.mkfifo(self.directory / "fifo")
        for path in (self.directory, self.directory / "fifo"):
            with self.assertRaises(NotRegular):
                open_path(path)
        with self.assertRaises(FileNotFoundError):
            open_path(self.directory / "absent")

    def test_read_fails(self) -> None:
        """EIO comes through."""
        path = self.make_file("file", os.urandom(3 * EXTENT))
        with self.open_file(path, files=FaultyFiles(fail_nth({"pread"}, 1))) as source:
            pieces = source.pieces(packet_bytes=EXTENT)
            next(pieces)
            with self.assertRaises(OSError):
                next(pieces)

    def test_holes_unknown(self) -> None:
        """A file system that cannot tell holes has data only; other errors come through."""
        path = self.make_file("file", b"")
        os.truncate(path, 2 * EXTENT)
        files = FaultyFiles()
        with self.open_file(path, files=files) as source:
            files.rule = lambda number, name: OSError(errno.EINVAL, "") if name == "seek" else None
            self.assertEqual(content_of(source), bytes(2 * EXTENT))
            files.rule = lambda number, name: OSError(errno.EIO, "") if name == "seek" else None
            with self.assertRaises(OSError):
                Segments(files, source._fd, 10).at(0)

    def test_full_in_memory(self) -> None:
        """A tmpfs, which would look at every page, is asked for holes only where there can be some."""
        for length, asked in ((3 * EXTENT, False), (EXTENT, True)):
            path = self.make_file("file", os.urandom(length))
            os.truncate(path, 3 * EXTENT)
            files = _InMemory()
            with self.open_file(path, files=files) as source:
                opened = len(files.calls)
                self.assertEqual(content_of(source), path.read_bytes())
                self.assertEqual("seek" in files.calls[opened:], asked)

    def test_large_sparse(self) -> None:
        """A hole of 100 GiB costs a handful of operations at either end."""
        path = self.make_file("file", b"")
        os.truncate(path, 100 << 30)
        files = FaultyFiles()
        with open_path(path, files=files) as source:
            self.assertEqual(list(source.pieces()), [Hole(100 << 30)])
            digest = source.content_digest()
            self.assertLess(len(files.calls), 12)
            pool = self.make_pool(extent_bytes=4 << 20, files=files)
            for _ in range(2):
                receiving = self.begin(pool, size_bytes=100 << 30)
                start = len(files.calls)
                if not receiving.held.bitmap:
                    receiving.write_hole(100 << 30)
                    receiving.abandon()
            self.assertEqual(receiving.durable_bytes, 100 << 30)
            self.assertEqual(source.verify(receiving.held), b"")
            self.assertTrue(receiving.commit(100 << 30, digest).published)
            self.assertLess(len([name for name in files.calls[start:] if name != "drop_cache"]), 40)
            self.assertEqual(files.calls.count("drop_cache"), 0)


class PipeTests(TestCase):
    """What can be read only once."""

    def pipe(self, content: bytes, size: int | None = None) -> PipeSource:
        """A pipe out of which this content comes."""
        read_fd, write_fd = os.pipe()

        def fill() -> None:
            with os.fdopen(write_fd, "wb") as file:
                file.write(content)

        thread = threading.Thread(target=fill)
        thread.start()
        self.addCleanup(thread.join)
        source = PipeSource(read_fd, size, extent_bytes=EXTENT)
        self.addCleanup(source.close)
        return source

    def test_unknown_size(self) -> None:
        """Everything up to the end; extents held are read and checked, but not sent."""
        content = os.urandom(4 * EXTENT + 5)
        digests = [extent_digest(content[at : at + EXTENT]) for at in range(0, len(content), EXTENT)]
        source = self.pipe(content)
        with self.assertRaises(BadState):
            source.content_digest()
        self.assertEqual(content_of(source, bitmap_of([1, 2]), 1000), without(content, {1, 2}))
        self.assertEqual(source.size_bytes, len(content))
        held = Held(bitmap_of([1, 2, 9]), digests[1] + digests[1] + digests[1])
        self.assertEqual(indexes_of(source.verify(held)), [2, 9])
        source.check_unchanged()
        self.assertEqual(len(source.content_digest()), 32)

    def test_declared_size(self) -> None:
        """Exactly as many as declared."""
        content = os.urandom(EXTENT + 5)
        for size in (0, 1, EXTENT, EXTENT + 5):
            self.assertEqual(content_of(self.pipe(content[:size], size)), content[:size])
        for size in (0, EXTENT, EXTENT + 4, EXTENT + 6):
            with self.assertRaises(SizeMismatch):
                content_of(self.pipe(content, size))
