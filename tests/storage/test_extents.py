"""
Extent arithmetic, digests and bitmaps.
"""

from __future__ import annotations

import struct
from itertools import pairwise
from unittest import TestCase

from blake3 import blake3
from hypothesis import given, settings
from hypothesis import strategies as st

from rpcstream.errors import BadValue
from rpcstream.storage import (
    NOTHING_HELD,
    ContentDigest,
    Held,
    bitmap_of,
    extent_count,
    extent_digest,
    extent_length,
    indexes_of,
)
from rpcstream.storage.extent_map import ExtentMap
from rpcstream.storage.extents import (
    ExtentHasher,
    bitmap_of_flags,
    flags_of_bitmap,
    missing_ranges,
    zero_digest,
)
from rpcstream.storage.recorder import ExtentRecorder, Run

quick = settings(max_examples=60, derandomize=True, deadline=None, database=None)
index_sets = st.sets(st.integers(0, 100))


class ArithmeticTests(TestCase):
    """Sizes around the borders of extents."""

    def test_borders(self) -> None:
        """Counts and lengths at 0, 1 and around one extent."""
        extent = 4 << 20
        for size, count, last in (
            (1, 1, 1),
            (extent - 1, 1, extent - 1),
            (extent, 1, extent),
            (extent + 1, 2, 1),
        ):
            self.assertEqual(extent_count(size), count)
            self.assertEqual(extent_length(count - 1, size), last)
            self.assertEqual(extent_length(count, size), 0)
        self.assertEqual(extent_count(0), 0)

    @quick
    @given(index_sets, st.integers(0, 1000))
    def test_missing_ranges(self, held: set[int], size: int) -> None:
        """The ranges are exactly the bytes of extents not held, in order, joined."""
        flags = flags_of_bitmap(bitmap_of(held))
        ranges = list(missing_ranges(flags, size, 10))
        found = [offset for start, stop in ranges for offset in range(start, stop)]
        self.assertEqual(found, [offset for offset in range(size) if offset // 10 not in held])
        for (_, stop), (start, _) in pairwise(ranges):
            self.assertLess(stop, start)


class DigestTests(TestCase):
    """The digest's definition, written out once more."""

    def test_content_digest_is_as_defined(self) -> None:
        """BLAKE3 over label, u64 size, u32 extent size and the digests."""
        digests = [extent_digest(b"a" * 10), extent_digest(b"b")]
        content = ContentDigest(11, 10)
        for digest in digests:
            content.update(digest)
        expected = blake3(b"rpcstream content 1\n" + struct.pack(">QI", 11, 10) + b"".join(digests))
        self.assertEqual(content.digest(), expected.digest())

    def test_zeros(self) -> None:
        """Many zero extents at once are the same as each on its own."""
        one, many = ContentDigest(10 * 5000, 10), ContentDigest(10 * 5000, 10)
        for _ in range(5000):
            one.update(zero_digest(10))
        many.update_zeros(5000, 10)
        self.assertEqual(one.digest(), many.digest())
        self.assertEqual(zero_digest(3_000_000), extent_digest(bytes(3_000_000)))

    @quick
    @given(st.lists(st.one_of(st.binary(max_size=20), st.integers(0, 40))))
    def test_hasher(self, parts: list[bytes | int]) -> None:
        """Holes and zeros are the same."""
        hasher = ExtentHasher()
        for part in parts:
            if isinstance(part, int):
                hasher.zeros(part)
            else:
                hasher.data(part)
        content = b"".join(bytes(part) if isinstance(part, int) else part for part in parts)
        self.assertEqual(hasher.length, len(content))
        self.assertEqual(hasher.digest(), extent_digest(content))

    @quick
    @given(st.lists(st.one_of(st.binary(max_size=25), st.integers(0, 60)), max_size=20), st.booleans())
    def test_recorder(self, parts: list[bytes | int], is_size_known: bool) -> None:
        """However content is cut, its extents have the digests of its bytes."""
        content = b"".join(bytes(part) if isinstance(part, int) else part for part in parts)
        runs: list[Run] = []
        extents = ExtentMap(0, 10)
        recorder = ExtentRecorder(extents, len(content) if is_size_known else 1 << 40, runs.append)
        for part in parts:
            if isinstance(part, int):
                recorder.hole(part)
            else:
                recorder.data(part)
        recorder.end()
        self.assertEqual(
            [extents.digest(index) for index in range(len(extents))],
            [extent_digest(content[start : start + 10]) for start in range(0, len(content), 10)],
        )
        self.assertTrue(extents.is_complete)
        self.assertEqual(sum(run.extent_count * run.length for run in runs), len(content))


class BitmapTests(TestCase):
    """Bits, least significant first."""

    def test_order(self) -> None:
        """Extent 0 is the lowest bit of the first byte."""
        self.assertEqual(bitmap_of([0, 9]), b"\x01\x02")
        self.assertEqual(indexes_of(b"\x01\x02"), [0, 9])

    @quick
    @given(index_sets)
    def test_round_trip(self, indexes: set[int]) -> None:
        """All forms say the same."""
        bitmap = bitmap_of(indexes)
        self.assertEqual(indexes_of(bitmap), sorted(indexes))
        self.assertEqual(bitmap_of_flags(flags_of_bitmap(bitmap + b"\0")), bitmap)

    @quick
    @given(index_sets, index_sets, st.integers(0, 110))
    def test_map(self, known: set[int], discarded: set[int], kept_count: int) -> None:
        """What is known, dropped and kept."""
        extents = ExtentMap(0, 10)
        for index in known:
            extents.put(index, extent_digest(str(index).encode()))
        held = extents.held().check()
        self.assertEqual(held.bitmap, bitmap_of(known))
        self.assertEqual(held.extent_count, len(known))
        self.assertEqual(
            list(held.claims()), [(index, extent_digest(str(index).encode())) for index in sorted(known)]
        )
        dropped = extents.drop_bitmap(bitmap_of(discarded))
        self.assertEqual(
            {index for first, stop in dropped for index in range(first, stop)}, known & discarded
        )
        missing = set(range(len(extents))) - (known - discarded)
        self.assertEqual(extents.missing(), bitmap_of(missing))
        extents.keep_first(kept_count)
        left = sorted(known - discarded)[:kept_count]
        self.assertEqual(extents.held().bitmap, bitmap_of(left))
        self.assertEqual(extents.known_count, len(left))

    def test_check(self) -> None:
        """Bits and digests must fit each other."""
        NOTHING_HELD.check()
        with self.assertRaises(BadValue):
            Held(b"\x03", bytes(32)).check()

    def test_large(self) -> None:
        """The longest bitmap is worked on in a moment."""
        flags = flags_of_bitmap(b"\xff" * (1 << 20))
        self.assertEqual(bitmap_of_flags(flags), b"\xff" * (1 << 20))
        self.assertEqual(list(missing_ranges(flags, 1 << 45)), [])
