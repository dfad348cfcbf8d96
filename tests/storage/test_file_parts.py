"""Parts of files: what the kernel sends is what bytes would have been."""

from __future__ import annotations

import os
import socket
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from rpcstream.errors import BadState, SourceChanged
from rpcstream.storage import FilePart, Hole, bitmap_of, digest_file, open_path
from tests.storage.faults import FaultyFiles
from tests.storage.support import EXTENT, StorageTestCase

quick = settings(max_examples=40, derandomize=True, deadline=None, database=None)


class FilePartTests(StorageTestCase):
    def part_of(self, path: Path, **options: object) -> FilePart:
        """The only part of a small file."""
        source = open_path(path, **options)  # type: ignore[arg-type]
        self.addCleanup(source.close)
        (part,) = source.file_parts(packet_bytes=1 << 20, digests=False)
        assert isinstance(part, FilePart)
        return part

    @quick
    @given(
        st.lists(st.tuples(st.booleans(), st.integers(1, 3 * EXTENT)), max_size=6),
        st.sets(st.integers(0, 20)),
        st.integers(1, 2 * EXTENT),
        st.booleans(),
        st.booleans(),
    )
    def test_same_as_pieces(
        self,
        parts: list[tuple[bool, int]],
        skipped: set[int],
        packet_bytes: int,
        sparse: bool,
        digests: bool,
    ) -> None:
        """Any file, any extents held, any packet size: cut where bytes are, with their content and digest."""
        path = self.make_sparse_file("file", parts)
        with (
            open_path(path, extent_bytes=EXTENT) as source,
            open_path(path, extent_bytes=EXTENT) as other,
        ):
            wanted = list(other.pieces(bitmap_of(skipped), packet_bytes, sparse=sparse))
            given_ = list(source.file_parts(bitmap_of(skipped), packet_bytes, sparse=sparse, digests=digests))
            read = [piece.read() if isinstance(piece, FilePart) else piece for piece in given_]
            self.assertEqual(read, wanted)
            self.assertEqual(source.sent_bytes, other.sent_bytes)
            self.assertFalse(any(isinstance(piece, bytes) and any(piece) for piece in given_))
            self.assertEqual(source.content_digest(), digest_file(path, extent_bytes=EXTENT))

    def test_not_read(self) -> None:
        """Without digests nothing passes through this process."""
        path = self.make_file("file", bytes(range(256)) * 16)
        files = FaultyFiles()
        with open_path(path, files=files, extent_bytes=EXTENT) as source:
            self.assertTrue(list(source.file_parts(digests=False)))
            self.assertNotIn("pread", files.calls)

    def test_slices(self) -> None:
        """It slices like a memoryview."""
        content = os.urandom(1000)
        part = self.part_of(self.make_file("file", content))
        view = memoryview(content)
        for start, stop in ((0, 10), (990, 2000), (5, 5), (7, 3), (-10, None)):
            cut = part[start:stop]
            self.assertEqual((len(cut), cut.read()), (len(view[start:stop]), bytes(view[start:stop])))
            self.assertEqual(cut[2:].read(), bytes(view[start:stop][2:]))

    def test_sent(self) -> None:
        """A socket gets its bytes, as many as it takes."""
        content = os.urandom(1 << 20)
        part = self.part_of(self.make_file("file", content), extent_bytes=1 << 20)
        ours, theirs = socket.socketpair()
        with ours, theirs:
            ours.setblocking(False)
            received = b""
            while len(part):
                try:
                    count = part.send_to(ours.fileno())
                except BlockingIOError:
                    received += theirs.recv(1 << 20)
                    continue
                self.assertGreater(count, 0)
                part = part[count:]
            ours.close()
            while data := theirs.recv(1 << 20):
                received += data
        self.assertEqual(received, content)

    def test_shorter(self) -> None:
        """S27: a file that has become shorter is no part any more."""
        path = self.make_file("file", bytes(1000))
        part = self.part_of(path)
        os.truncate(path, 400)
        ours, theirs = socket.socketpair()
        with ours, theirs:
            self.assertEqual(part[400:].send_to(ours.fileno()), 0)
        with self.assertRaises(SourceChanged):
            part.read()

    def test_closed(self) -> None:
        """Nor is one whose source was closed."""
        path = self.make_file("file", bytes(1000))
        with open_path(path) as source:
            (part,) = source.file_parts()
            assert isinstance(part, FilePart)
        ours, theirs = socket.socketpair()
        with ours, theirs, self.assertRaises(BadState):
            part.send_to(ours.fileno())
        with self.assertRaises(BadState):
            part.read()

    def test_device_has_no_holes_to_tell(self) -> None:
        """A window of zeros in a file is data: only devices are read for holes."""
        path = self.make_file("file", bytes(EXTENT))
        with open_path(path, extent_bytes=EXTENT) as source:
            (part,) = source.file_parts()
            self.assertNotIsInstance(part, Hole)
