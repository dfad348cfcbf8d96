"""
A pipe, socket or terminal as source: read once, from the beginning.
"""

from __future__ import annotations

from collections.abc import Callable, Generator

from rpcstream.errors import BadState, SizeMismatch
from rpcstream.limits import EXTENT_BYTES
from rpcstream.storage.extent_map import ExtentMap
from rpcstream.storage.extents import LARGEST_BYTES, Held, bitmap_of, flags_of_bitmap
from rpcstream.storage.files import PIECE_BYTES, FileOperations
from rpcstream.storage.recorder import ExtentRecorder
from rpcstream.storage.sources import ContentKind, Hole, Source

__all__ = ["PipeSource"]


class PipeSource(Source):
    """
    What comes out of a descriptor that cannot seek.

    Extents that the receiver holds are read and digested, but not yielded;
    those that turn out to differ cannot be sent again.
    """

    kind = ContentKind.PIPE

    def __init__(
        self,
        fd: int,
        size_bytes: int | None = None,
        *,
        name: str = "-",
        extent_bytes: int = EXTENT_BYTES,
        files: FileOperations | None = None,
    ) -> None:
        """
        @param fd: owned from here on.
        @param size_bytes: how many bytes must come, C{None} for as many as do.
        """
        self.name = name
        self.size_bytes = size_bytes
        self._declared_bytes = size_bytes
        self._fd = fd
        self._files = files or FileOperations()
        self._extents = ExtentMap(0, extent_bytes)
        limit = LARGEST_BYTES if size_bytes is None else size_bytes
        self._recorder = ExtentRecorder(self._extents, limit)
        self._limit = limit
        self.is_at_end = False

    def pieces(
        self,
        skip: bytes = b"",
        packet_bytes: int = PIECE_BYTES,
        *,
        sparse: bool = True,
        within: tuple[int, int] | None = None,
    ) -> Generator[bytes | Hole, None, None]:
        """
        See L{Source.pieces}; there are no holes.

        @raise SizeMismatch: more or fewer bytes came than declared.
        """
        held = flags_of_bitmap(skip)
        extent_bytes = self._extents.extent_bytes
        limit, recorder = self._limit, self._recorder
        stop = limit if within is None else min(limit, within[1] * extent_bytes)
        largest = min(packet_bytes, PIECE_BYTES)
        while (offset := recorder.offset) < stop:
            index = offset // extent_bytes
            data = self._files.read(
                self._fd, min(largest, extent_bytes - offset % extent_bytes, stop - offset)
            )
            if not data:
                break
            recorder.data(data)
            if index < len(held) and held[index]:
                continue
            self.sent_bytes += len(data)
            yield data
        else:
            if stop < limit:
                return  # the rest is another part's
            if self._files.read(self._fd, 1):
                raise SizeMismatch(f"{self.name!r} gives more than the {limit} bytes declared", self.name)
        recorder.end()
        if self._declared_bytes not in (None, recorder.offset):
            raise SizeMismatch(
                f"{self.name!r} gave {recorder.offset} of the {self._declared_bytes} bytes declared",
                self.name,
            )
        self.size_bytes = recorder.offset
        self.is_at_end = True

    def verify(self, held: Held, cancelled: Callable[[], bool] = lambda: False) -> bytes:
        """See L{Source.verify}; only after L{pieces} ended, and without reading anything."""
        self._check_ended()
        return bitmap_of(
            index
            for index, digest in held.claims()
            if not self._extents.has(index) or self._extents.digest(index) != digest
        )

    def content_digest(self) -> bytes:
        self._check_ended()
        return self._extents.content_digest(self.size_bytes or 0)

    def check_unchanged(self) -> None:
        """A pipe is read only once: nothing can be compared."""

    def close(self) -> None:
        fd, self._fd = self._fd, -1
        if fd >= 0:
            self._files.close(fd)

    def _check_ended(self) -> None:
        if not self.is_at_end:
            raise BadState("the pipe has not been read to its end")
