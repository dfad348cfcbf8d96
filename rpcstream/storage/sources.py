"""
Content on its way out: files, block devices, and windows of them.

A source yields the extents that the receiver does not hold, concatenated, and
digests them on the way; what the receiver does hold is read and compared by
L{Source.verify}.  For pipes see L{rpcstream.storage.pipes}.
"""

from __future__ import annotations

import os
import stat
import threading
from abc import ABC, abstractmethod
from collections.abc import Callable, Generator, Iterator
from contextlib import contextmanager
from enum import IntEnum
from pathlib import Path
from typing import NamedTuple

from rpcstream.errors import BadState, NotRegular, SizeMismatch, SourceChanged
from rpcstream.limits import EXTENT_BYTES
from rpcstream.storage.extent_map import ExtentMap
from rpcstream.storage.extents import (
    LARGEST_BYTES,
    Held,
    bitmap_of,
    extent_count,
    flags_of_bitmap,
    missing_ranges,
    zero_digest,
)
from rpcstream.storage.file_part import FilePart
from rpcstream.storage.files import PIECE_BYTES, ZEROS, FileOperations, read_exactly
from rpcstream.storage.reading import ExtentReader, Segments
from rpcstream.storage.recorder import ExtentRecorder

__all__ = ["ContentKind", "FileSource", "Hole", "Source", "open_path"]


class ContentKind(IntEnum):
    """What content comes from; the numbers are those of the transfer program."""

    FILE = 0
    DEVICE = 1
    PIPE = 2


class Hole(NamedTuple):
    """A stretch of zeros that needs no bytes."""

    length: int


class Source(ABC):
    """
    What every kind of source can do.

    The methods block on the disk: call them from threads.  What L{pieces} gives is
    used by one thread; L{verify} may run in another at the same time; L{content_digest}
    comes after both.  A file may be divided: then several L{pieces} are used at once.

    @ivar kind: file, device or pipe.
    @ivar size_bytes: of the content, C{None} if not known before the end.
    @ivar mode: permission bits of the file.
    @ivar sent_bytes: content taken from L{pieces} so far, holes included.
    @ivar is_at_end: whether a pipe has been read to its end.
    """

    kind: ContentKind
    size_bytes: int | None
    mode: int | None = None
    sent_bytes = 0
    is_at_end = False

    @abstractmethod
    def pieces(
        self,
        skip: bytes = b"",
        packet_bytes: int = PIECE_BYTES,
        *,
        sparse: bool = True,
        within: tuple[int, int] | None = None,
    ) -> Generator[bytes | Hole, None, None]:
        """
        The content without the extents that the receiver holds.

        @param skip: bitmap of those.
        @param packet_bytes: longest piece wanted; none is longer than 1 MiB.
        @param sparse: yield L{Hole}s; otherwise zeros are bytes like others.
        @param within: only the extents from the first of these indexes up to the
            second; of a pipe these must be the next ones.
        @return: pieces in order.
        @raise SourceChanged: the file became shorter.
        @raise BadState: the source was closed meanwhile.
        @raise OSError: a read failed.
        """

    def file_parts(
        self,
        skip: bytes = b"",
        packet_bytes: int = PIECE_BYTES,
        *,
        sparse: bool = True,
        within: tuple[int, int] | None = None,
        digests: bool = True,
    ) -> Generator[bytes | FilePart | Hole, None, None]:
        """
        As L{pieces}, for who can send parts of files: where there is a file they come instead of bytes.

        @param packet_bytes: longest part wanted.
        @param digests: as they are read; otherwise nothing is, and L{content_digest} does it later.
        """
        yield from self.pieces(skip, packet_bytes, sparse=sparse, within=within)

    @abstractmethod
    def verify(self, held: Held, cancelled: Callable[[], bool] = lambda: False) -> bytes:
        """
        Compare what the receiver claims to hold with the content.

        @param held: checked with L{Held.check}.
        @param cancelled: asked before each extent; true ends the work.
        @return: bitmap of the extents that differ or do not exist: they must be
            discarded by the receiver and sent.
        """

    @abstractmethod
    def content_digest(self) -> bytes:
        """The digest of the whole content, 32 bytes; reads what was neither sent nor verified."""

    @abstractmethod
    def check_unchanged(self) -> None:
        """@raise SourceChanged: the file is not what it was when it was opened."""

    @abstractmethod
    def close(self) -> None:
        """Close the descriptor, after the read that another thread is in.  Idempotent, never waits."""

    def __enter__(self) -> Source:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()


class FileSource(Source):
    """
    A regular file or block device, or a window of one.

    @ivar whole_bytes: size of the whole file; C{size_bytes} is the window's.
    """

    size_bytes: int

    def __init__(
        self,
        fd: int,
        *,
        name: str = "",
        offset: int = 0,
        length: int | None = None,
        find: Callable[[], os.stat_result | None] | None = None,
        extent_bytes: int = EXTENT_BYTES,
        files: FileOperations | None = None,
    ) -> None:
        """
        @param fd: owned from here on, also when this raises.
        @param name: for error texts.
        @param offset: where the window begins.
        @param length: of the window; C{None}: to the end.
        @param find: looks the name up again, to notice that it was replaced.
        @raise NotRegular: it is neither file nor device.
        @raise SizeMismatch: the window reaches past the end.
        """
        self.name = name
        self._files = files or FileOperations()
        self._fd = fd
        self._find = find
        self._base = offset
        self._lock = threading.Lock()
        self._reader_count = 0
        self._is_closing = False
        try:
            self._opened = self._files.fstat(fd)
            is_device = stat.S_ISBLK(self._opened.st_mode)
            if not is_device and not stat.S_ISREG(self._opened.st_mode):
                raise NotRegular(f"{name!r} is neither a file nor a block device", name)
            self.kind = ContentKind.DEVICE if is_device else ContentKind.FILE
            self.mode = None if is_device else stat.S_IMODE(self._opened.st_mode) & 0o777
            self.whole_bytes = self._files.seek(fd, 0, os.SEEK_END)
            self.size_bytes = self.whole_bytes - offset if length is None else length
            if offset < 0 or self.size_bytes < 0 or offset + self.size_bytes > self.whole_bytes:
                raise SizeMismatch(f"{name!r} has {self.whole_bytes} bytes, fewer than asked for", name)
            if self.size_bytes > LARGEST_BYTES:
                raise SizeMismatch(f"{name!r} is larger than {LARGEST_BYTES} bytes", name)
        except BaseException:
            self.close()
            raise
        self._extents = ExtentMap(extent_count(self.size_bytes, extent_bytes), extent_bytes)

    def pieces(
        self,
        skip: bytes = b"",
        packet_bytes: int = PIECE_BYTES,
        *,
        sparse: bool = True,
        within: tuple[int, int] | None = None,
    ) -> Generator[bytes | Hole, None, None]:
        largest = min(packet_bytes, PIECE_BYTES)
        recorder = ExtentRecorder(self._extents, self.size_bytes)
        for offset, length, is_data in self._stretches(skip, largest, within):
            piece = self._read(offset, length, sparse) if is_data else Hole(length)
            recorder.take(offset, length, piece if isinstance(piece, bytes) else None)
            if isinstance(piece, bytes) or sparse:
                yield piece
            else:
                yield from _zeros(length, largest)

    def file_parts(
        self,
        skip: bytes = b"",
        packet_bytes: int = PIECE_BYTES,
        *,
        sparse: bool = True,
        within: tuple[int, int] | None = None,
        digests: bool = True,
    ) -> Generator[bytes | FilePart | Hole, None, None]:
        # A device cannot say where it has holes: they are found by reading it.
        is_read = digests or (sparse and self.kind is ContentKind.DEVICE)
        recorder = ExtentRecorder(self._extents, self.size_bytes) if digests else None
        largest = min(packet_bytes, PIECE_BYTES) if is_read else packet_bytes
        for offset, length, is_data in self._stretches(skip, largest, within):
            piece = self._read(offset, length, sparse) if is_data and is_read else None
            if recorder is not None:
                recorder.take(offset, length, piece if isinstance(piece, bytes) else None)
            if isinstance(piece, Hole) or (sparse and not is_data):
                yield Hole(length)
            elif is_data:
                yield FilePart(self._files, self._reading, self._base + offset, length, self.name)
            else:
                yield from _zeros(length, min(largest, PIECE_BYTES))

    def _stretches(
        self, skip: bytes, largest: int, within: tuple[int, int] | None
    ) -> Iterator[tuple[int, int, bool]]:
        """
        What is to be sent: offset, length, and whether there is data, or else a hole.

        @param largest: longest stretch of data.
        """
        extent_bytes = self._extents.extent_bytes
        segments = Segments(self._files, self._fd, self._base + self.size_bytes)
        held, (first, last) = flags_of_bitmap(skip), within or (0, None)
        for start, stop in missing_ranges(held, self.size_bytes, extent_bytes, first, last):
            offset = start
            while offset < stop:
                with self._reading():
                    is_data, segment_stop = segments.at(self._base + offset)
                length = min(stop, segment_stop - self._base) - offset
                if is_data:
                    # Not across the end of an extent, so that reads stay aligned to it.
                    length = min(length, largest, extent_bytes - offset % extent_bytes)
                with self._lock:
                    self.sent_bytes += length
                yield offset, length, is_data
                offset += length

    def _read(self, offset: int, length: int, sparse: bool) -> bytes | Hole:
        with self._reading() as fd:
            data = read_exactly(self._files, fd, length, self._base + offset)
        if len(data) != length:
            raise SourceChanged(f"{self.name!r} became shorter while it was read", self.name)
        # Whole pieces of zeros are taken for holes.
        if sparse and self.kind is ContentKind.DEVICE and not data[0] and data == ZEROS[:length]:
            return Hole(length)
        return data

    def verify(self, held: Held, cancelled: Callable[[], bool] = lambda: False) -> bytes:
        different = []
        hole_stop = 0
        zeros = zero_digest(self._extents.extent_bytes)
        reader = self._reader()
        for index, digest in held.claims():
            if cancelled():
                break
            if index >= len(self._extents):
                different.append(index)
                continue
            if index >= hole_stop:
                with self._reading():
                    hole_stop = index + reader.hole_run(index)
            if index < hole_stop:
                self._extents.put(index, zeros)
            elif not self._extents.has(index):
                self._digest(reader, index)
            if self._extents.digest(index) != digest:
                different.append(index)
        return bitmap_of(different)

    def content_digest(self) -> bytes:
        reader = self._reader()
        for first, stop in self._extents.runs(0):
            for index in range(first, stop):
                self._digest(reader, index)
        return self._extents.content_digest(self.size_bytes)

    def _reader(self) -> ExtentReader:
        return ExtentReader(
            self._files, self._fd, self.size_bytes, base=self._base, extent_bytes=self._extents.extent_bytes
        )

    def _digest(self, reader: ExtentReader, index: int) -> None:
        with self._reading():
            digest = reader.digest(index)
        if digest is None:
            raise SourceChanged(f"{self.name!r} became shorter while it was read", self.name)
        self._extents.put(index, digest)

    @contextmanager
    def _reading(self) -> Iterator[int]:
        """The descriptor, which close() in another thread leaves open as long as this lasts."""
        with self._lock:
            if self._is_closing:
                raise BadState("the source is closed")
            self._reader_count += 1
        try:
            yield self._fd
        finally:
            with self._lock:
                self._reader_count -= 1
                self._close_if_unused()

    def check_unchanged(self) -> None:
        with self._reading() as fd:
            now = self._files.fstat(fd)
        is_same = _identity(now) == _identity(self._opened)
        if is_same and self._find is not None:
            found = self._find()
            is_same = found is not None and _identity(found) == _identity(self._opened)
        if not is_same:
            raise SourceChanged(f"{self.name!r} was changed or replaced while it was read", self.name)

    def close(self) -> None:
        with self._lock:
            self._is_closing = True
            self._close_if_unused()

    def _close_if_unused(self) -> None:
        if self._is_closing and not self._reader_count and self._fd >= 0:
            fd, self._fd = self._fd, -1
            self._files.close(fd)


def _identity(found: os.stat_result) -> tuple[int, ...]:
    # A device's times change by being written or even opened; its content cannot be watched.
    if stat.S_ISBLK(found.st_mode):
        return (found.st_rdev,)
    return found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns


def _zeros(length: int, packet_bytes: int) -> Iterator[bytes]:
    packet = ZEROS[:packet_bytes]
    while length >= len(packet):
        yield packet
        length -= len(packet)
    if length:
        yield packet[:length]


def open_path(
    path: str | Path,
    *,
    offset: int = 0,
    length: int | None = None,
    extent_bytes: int = EXTENT_BYTES,
    files: FileOperations | None = None,
) -> FileSource:
    """
    Open a file or block device of the local user, who may name it through links.

    @raise NotRegular: it is something else.
    @raise OSError: it cannot be opened.
    """
    files = files or FileOperations()
    text = os.fspath(path)

    def find() -> os.stat_result | None:
        try:
            return os.stat(text)
        except OSError:
            return None

    fd = files.open(text, os.O_RDONLY | os.O_NONBLOCK)
    return FileSource(
        fd, name=text, offset=offset, length=length, find=find, extent_bytes=extent_bytes, files=files
    )
