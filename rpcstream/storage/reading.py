"""
Reading content back: where data and holes are, and digests of single extents.

Used to digest a file, to check what a receiver kept, and to send.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from pathlib import Path

from rpcstream.errors import SourceChanged
from rpcstream.limits import EXTENT_BYTES
from rpcstream.storage.extents import ContentDigest, ExtentHasher, extent_count, extent_length
from rpcstream.storage.files import PIECE_BYTES, FileOperations, read_exactly

__all__ = ["ExtentReader", "Segments", "digest_file"]


class Segments:
    """
    Where a file has data and where holes, asked once for each segment.

    Everything is data where the system cannot tell (block devices).  Not
    thread-safe; several may look at one descriptor.
    """

    def __init__(self, files: FileOperations, fd: int, stop: int) -> None:
        """@param stop: offset at which the content ends."""
        self._files = files
        self._fd = fd
        self._limit = stop
        self._start = self._stop = 0
        self._is_data = True
        self._is_full: bool | None = None

    def at(self, offset: int) -> tuple[bool, int]:
        """
        What is at C{offset}, which must be inside the content.

        @return: whether it is data, and the offset at which the segment ends.
        """
        if not self._start <= offset < self._stop:
            self._is_data, stop = self._look(offset)
            self._start, self._stop = offset, min(stop, self._limit)
        return self._is_data, self._stop

    def _look(self, offset: int) -> tuple[bool, int]:
        if self._is_full is None:
            self._is_full = self._look_at_size()
        if self._is_full:
            return True, self._limit
        try:
            data = self._files.seek(self._fd, offset, os.SEEK_DATA)
            if data > offset:
                return False, data
            return True, self._files.seek(self._fd, offset, os.SEEK_HOLE)
        except OSError as error:
            if error.errno == errno.ENXIO:
                return False, self._limit
            if error.errno in (errno.EINVAL, errno.EOPNOTSUPP, errno.ESPIPE):
                return True, self._limit
            raise

    def _look_at_size(self) -> bool:
        """
        Whether there can be no hole, where it is dear to be told: a tmpfs looks at every page (0.04 s/GiB).

        Elsewhere blocks that were allocated and never written are holes.
        """
        if not self._files.is_in_memory(self._fd):
            return False
        found = self._files.fstat(self._fd)
        return found.st_blocks * 512 >= found.st_size


class ExtentReader:
    """
    Reads extents from an open file and digests them; at most 1 MiB at a time.

    Not thread-safe; the descriptor is only used with explicit offsets.
    """

    def __init__(
        self,
        files: FileOperations,
        fd: int,
        size_bytes: int,
        *,
        base: int = 0,
        extent_bytes: int = EXTENT_BYTES,
        from_disk: bool = False,
    ) -> None:
        """
        @param size_bytes: of the content.
        @param base: offset in the file at which the content begins.
        @param from_disk: drop cached pages first, so that the disk is read.
        """
        self._files = files
        self._fd = fd
        self._size_bytes = size_bytes
        self._base = base
        self._extent_bytes = extent_bytes
        self._from_disk = from_disk
        self._segments = Segments(files, fd, base + size_bytes)

    def hole_run(self, index: int) -> int:
        """How many full extents from C{index} on lie in one hole."""
        start = self._base + index * self._extent_bytes
        is_data, stop = self._segments.at(start)
        return 0 if is_data else (stop - start) // self._extent_bytes

    def digest(self, index: int) -> bytes | None:
        """
        The digest of one extent as it is now; what a shorter file lacks counts as a hole.

        @return: 32 bytes; C{None} if the file became shorter while it was read.
        @raise OSError: a read failed.
        """
        length = extent_length(index, self._size_bytes, self._extent_bytes)
        offset = self._base + index * self._extent_bytes
        stop = offset + length
        if self._from_disk:
            self._files.drop_cache(self._fd, offset, length)
        hasher = ExtentHasher()
        while offset < stop:
            is_data, segment_stop = self._segments.at(offset)
            part = min(stop, segment_stop) - offset
            if not is_data:
                hasher.zeros(part)
            else:
                part = min(part, PIECE_BYTES)
                data = read_exactly(self._files, self._fd, part, offset)
                if len(data) != part:
                    return None
                hasher.data(data)
            offset += part
        return hasher.digest()


def digest_file(
    path: str | Path,
    progress: Callable[[int], None] | None = None,
    *,
    extent_bytes: int = EXTENT_BYTES,
    files: FileOperations | None = None,
) -> bytes:
    """
    The content digest of a file or block device; holes cost nothing.

    @param progress: called with the bytes done so far, from time to time.
    @return: 32 bytes.
    @raise OSError: it cannot be opened or read.
    @raise SourceChanged: its size changed meanwhile.
    """
    files = files or FileOperations()
    fd = files.open(os.fspath(path), os.O_RDONLY)
    try:
        size_bytes = files.seek(fd, 0, os.SEEK_END)
        reader = ExtentReader(files, fd, size_bytes, extent_bytes=extent_bytes)
        content = ContentDigest(size_bytes, extent_bytes)
        index, count = 0, extent_count(size_bytes, extent_bytes)
        while index < count:
            zero_count = reader.hole_run(index)
            if zero_count:
                content.update_zeros(zero_count, extent_bytes)
                index += zero_count
            else:
                content.update(reader.digest(index) or b"")
                index += 1
            if progress is not None:
                progress(min(index * extent_bytes, size_bytes))
        if files.seek(fd, 0, os.SEEK_END) != size_bytes:
            raise SourceChanged(f"{os.fspath(path)} changed its size while it was read")
        return content.digest()
    finally:
        files.close(fd)
