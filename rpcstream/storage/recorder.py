"""
Digests content extent by extent while it passes, in either direction.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

from rpcstream.storage.extent_map import ExtentMap
from rpcstream.storage.extents import ExtentHasher, extent_length, zero_digest

__all__ = ["ExtentRecorder", "Run"]


class Run(NamedTuple):
    """
    Neighbouring extents with equal content: mostly one, or many of zeros.

    @ivar first: index of the first.
    @ivar extent_count: how many.
    @ivar length: bytes of each.
    @ivar digest: of each.
    """

    first: int
    extent_count: int
    length: int
    digest: bytes


class ExtentRecorder:
    """
    Takes the bytes and holes of a stream in order and notes whole extents.

    Not thread-safe.

    @ivar offset: position in the content of what comes next.
    """

    __slots__ = ("_extents", "_hasher", "_on_run", "_size_bytes", "offset")

    def __init__(
        self, extents: ExtentMap, size_bytes: int, on_run: Callable[[Run], None] | None = None
    ) -> None:
        """
        @param extents: gets the digest of each extent that is complete.
        @param size_bytes: of the content; the largest size there is when it is
            not known yet (then L{end} tells).
        @param on_run: told of each complete extent, or run of zero extents.
        """
        self._extents = extents
        self._size_bytes = size_bytes
        self._on_run = on_run
        self._hasher = ExtentHasher()
        self.offset = 0

    @property
    def is_inside(self) -> bool:
        """Whether an extent has begun and is not complete."""
        return self._hasher.length > 0

    def move(self, offset: int) -> None:
        """Go on at the start of another extent; none may be begun."""
        self.offset = offset

    def take(self, offset: int, length: int, data: bytes | None) -> None:
        """Take what stands at C{offset}: bytes, or without them a hole."""
        if self.offset != offset:
            self.move(offset)
        if data is None:
            self.hole(length)
        else:
            self.data(data)

    def data(self, data: bytes | memoryview) -> None:
        """Take bytes; they are not kept."""
        view = memoryview(data)
        while view:
            part = view[: self._room()]
            self._hasher.data(part)
            self._advance(len(part))
            view = view[len(part) :]

    def hole(self, length: int) -> None:
        """Take a hole of any length; whole extents in it cost next to nothing."""
        extent_bytes = self._extents.extent_bytes
        while length:
            count = length // extent_bytes
            if count and not self.is_inside:
                self._note(self.offset // extent_bytes, count, extent_bytes, zero_digest(extent_bytes))
                self.offset += count * extent_bytes
                length -= count * extent_bytes
                continue
            part = min(length, self._room())
            self._hasher.zeros(part)
            self._advance(part)
            length -= part

    def end(self) -> None:
        """The content ends here: an extent that has begun is the last, shorter one."""
        if self.is_inside:
            self._complete()

    def _room(self) -> int:
        """Bytes missing in the present extent; at least one as long as the content has not ended."""
        extent_bytes = self._extents.extent_bytes
        index = self.offset // extent_bytes
        return extent_length(index, self._size_bytes, extent_bytes) - self.offset % extent_bytes

    def _advance(self, length: int) -> None:
        self.offset += length
        extent_bytes = self._extents.extent_bytes
        if self.offset % extent_bytes == 0 or self.offset == self._size_bytes:
            self._complete()

    def _complete(self) -> None:
        hasher, self._hasher = self._hasher, ExtentHasher()
        index = (self.offset - 1) // self._extents.extent_bytes
        self._note(index, 1, hasher.length, hasher.digest())

    def _note(self, index: int, count: int, length: int, digest: bytes) -> None:
        self._extents.put(index, digest, count)
        if self._on_run is not None:
            self._on_run(Run(index, count, length, digest))
