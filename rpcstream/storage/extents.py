"""
Extents: what content is divided into, digested by, journaled by and resumed by.

An extent is L{EXTENT_BYTES} of content at an aligned offset; the last one may be
shorter.  The content digest is BLAKE3 over a label, the size, the extent size
and the extents' digests in order, so that it is the same however the content
travelled.  No file is opened here.
"""

from __future__ import annotations

import struct
from collections.abc import Iterable, Iterator
from functools import lru_cache
from typing import Final, NamedTuple

from blake3 import blake3

from rpcstream.errors import BadValue
from rpcstream.limits import DIGEST_BYTES, EXTENT_BYTES, MIB
from rpcstream.storage.files import PIECE_BYTES, ZEROS

__all__ = [
    "LARGEST_BYTES",
    "LARGEST_HELD_COUNT",
    "NOTHING_HELD",
    "ContentDigest",
    "ExtentHasher",
    "Held",
    "bitmap_of",
    "bitmap_of_flags",
    "extent_count",
    "extent_digest",
    "extent_length",
    "flags_of_bitmap",
    "indexes_of",
    "missing_ranges",
    "zero_digest",
]

LABEL: Final = b"rpcstream content 1\n"
BITMAP_BYTES: Final = 1 * MIB
"""Longest bitmap on the wire."""
LARGEST_BYTES: Final = BITMAP_BYTES * 8 * EXTENT_BYTES
"""Largest content: what the longest bitmap covers, 32 TiB."""
LARGEST_HELD_COUNT: Final = 24 * MIB // DIGEST_BYTES
"""How many digests of held extents one message may carry (3 TiB of content)."""


def extent_count(size_bytes: int, extent_bytes: int = EXTENT_BYTES) -> int:
    """How many extents content of that size has."""
    return -(-size_bytes // extent_bytes)


def extent_length(index: int, size_bytes: int, extent_bytes: int = EXTENT_BYTES) -> int:
    """Bytes of the extent C{index}: fewer than C{extent_bytes} only for the last; 0 past the end."""
    return max(0, min(extent_bytes, size_bytes - index * extent_bytes))


def extent_digest(data: bytes | bytearray | memoryview) -> bytes:
    """The digest of one extent's content, 32 bytes."""
    return blake3(data).digest()


@lru_cache(maxsize=64)
def zero_digest(length: int) -> bytes:
    """The digest of an extent of C{length} zeros: a constant, found once."""
    hasher = ExtentHasher()
    hasher.hash_zeros(length)
    return hasher.digest()


class ExtentHasher:
    """
    Digests one extent as its bytes and holes come, in order.

    Zeros at the beginning are only counted: an extent that is one hole costs
    nothing.  Not thread-safe.

    @ivar length: bytes taken so far.
    """

    __slots__ = ("_hasher", "_leading_zeros", "length")

    def __init__(self) -> None:
        self._hasher: blake3 | None = None
        self._leading_zeros = 0
        self.length = 0

    def data(self, data: bytes | memoryview) -> None:
        """Take bytes; they are not kept."""
        if self._hasher is None:
            self._hasher = blake3()
            self.hash_zeros(self._leading_zeros)
        self._hasher.update(data)
        self.length += len(data)

    def zeros(self, length: int) -> None:
        """Take a hole."""
        if self._hasher is None:
            self._leading_zeros += length
        else:
            self.hash_zeros(length)
        self.length += length

    def hash_zeros(self, length: int) -> None:
        """Really hash zeros, without counting them."""
        if self._hasher is None:
            self._hasher = blake3()
        while length:
            part = min(length, PIECE_BYTES)
            self._hasher.update(memoryview(ZEROS)[:part])
            length -= part

    def digest(self) -> bytes:
        """@return: the digest of what was taken, 32 bytes."""
        if self._hasher is None:
            return zero_digest(self._leading_zeros) if self._leading_zeros else extent_digest(b"")
        return self._hasher.digest()


class ContentDigest:
    """
    The digest of whole content, fed with its extents' digests in order.

    @param size_bytes: of the content, holes included.
    """

    __slots__ = ("_hasher",)

    def __init__(self, size_bytes: int, extent_bytes: int = EXTENT_BYTES) -> None:
        self._hasher = blake3(LABEL + struct.pack(">QI", size_bytes, extent_bytes))

    def update(self, digests: bytes | bytearray | memoryview) -> None:
        """Take the next extents' digests, concatenated."""
        self._hasher.update(digests)

    def update_zeros(self, count: int, extent_bytes: int = EXTENT_BYTES) -> None:
        """Take C{count} full extents of zeros."""
        digest = zero_digest(extent_bytes)
        while count:
            part = min(count, 4096)
            self._hasher.update(digest * part)
            count -= part

    def digest(self) -> bytes:
        """@return: 32 bytes."""
        return self._hasher.digest()


# --- bitmaps ---------------------------------------------------------------------------
# On the wire bit i of a bitmap stands for extent i, least significant bit first in each byte.  In memory
# there is a byte of 0 or 1 for each ("flags"), because bytes can be searched at the speed of C.

_BIT_OF_BYTE: Final = tuple(bytes(byte >> bit & 1 for byte in range(256)) for bit in range(8))


def flags_of_bitmap(bitmap: bytes) -> bytearray:
    """One byte, 0 or 1, for every bit of C{bitmap}."""
    flags = bytearray(len(bitmap) * 8)
    for bit in range(8):
        flags[bit::8] = bitmap.translate(_BIT_OF_BYTE[bit])
    return flags


def bitmap_of_flags(flags: bytes | bytearray) -> bytes:
    """The shortest bitmap that says the same."""
    packed = 0
    for bit in range(8):
        packed |= int.from_bytes(flags[bit::8], "little") << bit
    return packed.to_bytes((packed.bit_length() + 7) // 8, "little")


def bitmap_of(indexes: Iterable[int]) -> bytes:
    """The shortest bitmap with exactly these bits set."""
    packed = bytearray()
    for index in indexes:
        if index // 8 >= len(packed):
            packed.extend(bytes(index // 8 + 1 - len(packed)))
        packed[index // 8] |= 1 << index % 8
    return bytes(packed)


def indexes_of(bitmap: bytes) -> list[int]:
    """The bits that are set, ascending.  One int each: for bitmaps with few bits, or small ones."""
    return [index for index, flag in enumerate(flags_of_bitmap(bitmap)) if flag]


class Held(NamedTuple):
    """
    Which extents a receiver holds, with what digests: claims, to be checked.

    @ivar bitmap: bit i set = extent i is held.
    @ivar digests: 32 bytes for each set bit, ascending.
    """

    bitmap: bytes
    digests: bytes

    @property
    def extent_count(self) -> int:
        """How many extents are held."""
        return len(self.digests) // DIGEST_BYTES

    def check(self) -> Held:
        """
        Accept what a peer sent.

        @raise BadValue: bits and digests do not fit each other.
        """
        if int.from_bytes(self.bitmap, "little").bit_count() * DIGEST_BYTES != len(self.digests):
            raise BadValue("held.digests", f"not {DIGEST_BYTES} bytes for each bit of the bitmap")
        return self

    def claims(self) -> Iterator[tuple[int, bytes]]:
        """Each held extent's index and digest, ascending."""
        flags = flags_of_bitmap(self.bitmap)
        index, position = flags.find(1), 0
        while index >= 0:
            yield index, self.digests[position : position + DIGEST_BYTES]
            index, position = flags.find(1, index + 1), position + DIGEST_BYTES


NOTHING_HELD: Final = Held(b"", b"")


def missing_ranges(
    held: bytes | bytearray,
    size_bytes: int,
    extent_bytes: int = EXTENT_BYTES,
    first_index: int = 0,
    stop_index: int | None = None,
) -> Iterator[tuple[int, int]]:
    """
    The byte ranges that a stream carries: all extents that are not held.

    @param held: flags; extents past their end are not held.
    @param first_index: extents before it do not count.
    @param stop_index: nor those from it on.
    @return: C{(start, stop)} ascending, never empty nor adjacent to each other.
    """
    count = extent_count(size_bytes, extent_bytes)
    if stop_index is not None:
        count = min(count, stop_index)
    stop = first_index
    while True:
        first = held.find(0, stop)
        if first < 0:
            first = max(stop, len(held))
        if first >= count:
            return
        stop = held.find(1, first)
        if stop < 0 or stop > count:
            stop = count
        yield first * extent_bytes, min(stop * extent_bytes, size_bytes)
