"""
The extents known of one content: for each a flag and a digest.

The only thing in storage that grows with the size of the content: 33 bytes for
4 MiB of it.
"""

from __future__ import annotations

import threading

from rpcstream.limits import DIGEST_BYTES, EXTENT_BYTES
from rpcstream.storage.extents import (
    ContentDigest,
    Held,
    bitmap_of_flags,
    extent_count,
    extent_length,
    flags_of_bitmap,
)

__all__ = ["ExtentMap"]


class ExtentMap:
    """
    Which extents are known, with their digests.

    Threads may put and drop different extents at the same time.

    @ivar flags: a byte of 0 or 1 for each extent.
    @ivar extent_bytes: size of an extent.
    """

    __slots__ = ("_digests", "_lock", "extent_bytes", "flags")

    def __init__(self, count: int = 0, extent_bytes: int = EXTENT_BYTES) -> None:
        self.extent_bytes = extent_bytes
        self.flags = bytearray(count)
        self._digests = bytearray(count * DIGEST_BYTES)
        # Flags and digests are two arrays, and a new extent may make both longer.
        self._lock = threading.RLock()

    def __len__(self) -> int:
        return len(self.flags)

    @property
    def known_count(self) -> int:
        """How many extents are known."""
        return self.flags.count(1)

    @property
    def is_complete(self) -> bool:
        """Whether every extent is known."""
        return 0 not in self.flags

    def known_bytes(self, size_bytes: int | None) -> int:
        """Bytes of the known extents; with no size all count in full."""
        total = self.known_count * self.extent_bytes
        last = len(self.flags) - 1
        if size_bytes is not None and last >= 0 and self.flags[last]:
            total -= self.extent_bytes - extent_length(last, size_bytes, self.extent_bytes)
        return total

    def resize(self, count: int) -> None:
        """Cut the map, or lengthen it by unknown extents."""
        with self._lock:
            if count < len(self.flags):
                del self.flags[count:]
                del self._digests[count * DIGEST_BYTES :]
            else:
                self.flags.extend(bytes(count - len(self.flags)))
                self._digests.extend(bytes(count * DIGEST_BYTES - len(self._digests)))

    def put(self, index: int, digest: bytes, count: int = 1) -> None:
        """C{count} extents from C{index} on are known, all with this digest."""
        with self._lock:
            if index + count > len(self.flags):
                self.resize(index + count)
            self._digests[index * DIGEST_BYTES : (index + count) * DIGEST_BYTES] = digest * count
            self.flags[index : index + count] = b"\1" * count

    def drop(self, index: int, count: int = 1) -> None:
        """C{count} extents from C{index} on are not known any more."""
        with self._lock:
            count = min(count, len(self.flags) - index)
            if count > 0:
                self.flags[index : index + count] = bytes(count)

    def has(self, index: int) -> bool:
        """Whether the extent is known."""
        return index < len(self.flags) and self.flags[index] == 1

    def digest(self, index: int) -> bytes:
        """The digest of a known extent."""
        return bytes(self._digests[index * DIGEST_BYTES : (index + 1) * DIGEST_BYTES])

    def set_size(self, size_bytes: int) -> None:
        """Cut or lengthen the map to the extents of content of this size."""
        self.resize(extent_count(size_bytes, self.extent_bytes))

    def are(self, index: int, count: int, digest: bytes) -> bool:
        """Whether C{count} known extents from C{index} on have this digest."""
        return self._digests[index * DIGEST_BYTES : (index + count) * DIGEST_BYTES] == digest * count

    def known_run(self, index: int, limit: int) -> int:
        """How many extents from C{index} on are known without a gap, up to C{limit}."""
        stop = min(index + limit, len(self.flags))
        gap = self.flags.find(0, index, stop)
        return max(0, (stop if gap < 0 else gap) - index)

    def runs(self, flag: int, start: int = 0) -> list[tuple[int, int]]:
        """The runs of known (1) or unknown (0) extents, as C{(first, stop)}."""
        found = []
        first = self.flags.find(flag, start)
        while first >= 0:
            stop = self.flags.find(1 - flag, first)
            stop = len(self.flags) if stop < 0 else stop
            found.append((first, stop))
            first = self.flags.find(flag, stop)
        return found

    def held(self) -> Held:
        """The known extents as claims for the peer."""
        digests = b"".join(
            self._digests[first * DIGEST_BYTES : stop * DIGEST_BYTES] for first, stop in self.runs(1)
        )
        return Held(bitmap_of_flags(self.flags), digests)

    def missing(self) -> bytes:
        """The bitmap of the unknown extents."""
        return bitmap_of_flags(self.flags.translate(b"\1" + bytes(255)))

    def drop_bitmap(self, bitmap: bytes) -> list[tuple[int, int]]:
        """
        Drop those of a bitmap.

        @return: the runs of extents that were known until now and got dropped.
        """
        flags = flags_of_bitmap(bitmap)[: len(self.flags)]
        both = int.from_bytes(self.flags, "little") & int.from_bytes(flags, "little")
        dropped = ExtentMap(0, self.extent_bytes)
        dropped.flags = bytearray(both.to_bytes(len(self.flags), "little"))
        runs = dropped.runs(1)
        for first, stop in runs:
            self.drop(first, stop - first)
        return runs

    def keep_first(self, count: int) -> None:
        """Drop all but the first C{count} known extents."""
        for first, stop in self.runs(1):
            kept = min(count, stop - first)
            self.drop(first + kept, stop - first - kept)
            count -= kept

    def content_digest(self, size_bytes: int) -> bytes:
        """The digest of the whole content; every extent must be known."""
        content = ContentDigest(size_bytes, self.extent_bytes)
        content.update(self._digests)
        return content.digest()
