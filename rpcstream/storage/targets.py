"""
What a transfer is received into: a partial file, or a declared block device.

A target owns the descriptor, the journal (and with it the lock) and the map of
the extents it holds; L{rpcstream.storage.receiving.Receiving} drives it.
"""

from __future__ import annotations

import errno
import os
from abc import ABC, abstractmethod
from contextlib import suppress

from rpcstream.errors import NameBusy, QuotaExceeded, StorageError
from rpcstream.storage import publish
from rpcstream.storage.extent_map import ExtentMap
from rpcstream.storage.extents import LARGEST_BYTES, missing_ranges
from rpcstream.storage.files import find_room, reserve_ranges, zero_range
from rpcstream.storage.journal import Header, Journal
from rpcstream.storage.layout import Layout
from rpcstream.storage.records import Record, Records

__all__ = ["DeviceTarget", "PartialTarget", "Target"]

PARTIAL_MODE = 0o600


class Target(ABC):
    """
    @ivar fd: where the content goes, at the content's own offsets.
    @ivar extents: those that are held.
    @ivar reads_zeros: whether the target is new, so that it reads as zeros.
    @ivar inode: what the journal knows the target by.
    @ivar largest_bytes: how much fits at most.
    """

    fd: int
    inode: int
    largest_bytes = LARGEST_BYTES

    def __init__(self, layout: Layout, records: Records, name: str, journal: Journal) -> None:
        self.layout = layout
        self.records = records
        self.name = name
        self.journal = journal
        self.extents = ExtentMap()
        self.reads_zeros = False

    def enter(self, header: Header) -> None:
        """Take over what the journal claims, as far as it fits, and go on as C{header}."""
        old = self.journal.header
        if old is not None and old[3:] == header[3:]:
            self.extents = self.journal.replay(header.size_bytes, header.extent_bytes)
            # Even if nothing changes: what a killed process wrote there may not be durable yet.
            self.journal.change(header)
        else:
            self.extents = ExtentMap(0, header.extent_bytes)
            self.journal.start(header)

    @abstractmethod
    def prepare(self, size_bytes: int, sparse: bool) -> None:
        """
        Make room for content of this size.

        @raise OSError: C{ENOSPC} or C{EDQUOT} when there is none.
        @raise QuotaExceeded: a device is smaller.
        """

    @property
    def allocated_bytes(self) -> int:
        """Bytes of the pool that the target takes already."""
        return 0

    def zero(self, offset: int, length: int) -> None:
        """Make a range read as zeros."""
        if not self.reads_zeros:
            zero_range(self.layout.files, self.fd, offset, length)

    @abstractmethod
    def publish(self, record: Record, *, replace: bool, mode: int) -> None:
        """
        Make durable, complete content visible, durably; see L{rpcstream.storage.publish}.

        @param record: without inode and mtime.
        """

    @abstractmethod
    def remove(self) -> None:
        """Give up what was received; the target is closed."""

    def close(self) -> None:
        """Close everything and give up the lock; what was received stays.  Idempotent."""
        fd, self.fd = self.fd, -1
        try:
            if fd >= 0:
                self.layout.files.close(fd)
        finally:
            self.journal.close()


class PartialTarget(Target):
    """A file in C{.rpcstream/partials}, mode 0600, that gets its name when it is complete."""

    def __init__(self, layout: Layout, records: Records, name: str, journal: Journal) -> None:
        """
        Open the partial that the journal describes, or make a new one.

        @raise OSError: as the system says; nothing new is left behind.
        """
        super().__init__(layout, records, name, journal)
        self.fd = -1
        try:
            if journal.header is not None:
                self._open(journal.header.inode)
            if self.fd < 0:
                self._create()
            self.inode = layout.files.fstat(self.fd).st_ino
        except BaseException:
            if self.fd >= 0:
                layout.files.close(self.fd)
            if self.reads_zeros:
                layout.unlink_in(layout.partials_fd, name)
            raise

    def _open(self, inode: int) -> None:
        """Open the partial if it is there and the one it should be."""
        layout = self.layout
        found = layout.stat_in(layout.partials_fd, self.name)
        if found is None or found.st_ino != inode or found.st_nlink != 1:
            return
        self.fd = layout.files.open(self.name, os.O_RDWR | os.O_NOFOLLOW, dir_fd=layout.partials_fd)
        if found.st_mode & 0o777 != PARTIAL_MODE:
            # A COMMIT got as far as setting the final mode.
            layout.files.fchmod(self.fd, PARTIAL_MODE)

    def _create(self) -> None:
        files, partials = self.layout.files, self.layout.partials_fd
        self.layout.unlink_in(partials, self.name)
        self.fd = files.open(
            self.name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, PARTIAL_MODE, dir_fd=partials
        )
        self.reads_zeros = True
        files.fsync(partials)

    @property
    def allocated_bytes(self) -> int:
        return self.layout.files.fstat(self.fd).st_blocks * 512

    def prepare(self, size_bytes: int, sparse: bool) -> None:
        files = self.layout.files
        files.ftruncate(self.fd, size_bytes)
        if sparse:
            return
        ranges = list(missing_ranges(self.extents.flags, size_bytes, self.extents.extent_bytes))
        # There it would be filled with zeros, while the sender waits.
        make_room = find_room if files.is_in_memory(self.fd) else reserve_ranges
        make_room(files, self.fd, ranges)

    def publish(self, record: Record, *, replace: bool, mode: int) -> None:
        files = self.layout.files
        try:
            files.ftruncate(self.fd, record.size_bytes)
            files.fchmod(self.fd, mode)
            files.fsync(self.fd)
            found = files.fstat(self.fd)
            record = record._replace(inode=found.st_ino, mtime_ns=found.st_mtime_ns)
            self.records.write(self.name, record)
            publish.make_name(self.layout, self.name, replace=replace)
        except (OSError, StorageError):
            with suppress(OSError):
                files.fchmod(self.fd, PARTIAL_MODE)
            raise
        # It is published and durable.  What cannot be removed now, recover() removes at the next use.
        with suppress(OSError):
            publish.remove_leftovers(self.layout, self.name, self.journal)
            if replace:
                # It spoke of the file that had the name before, and tells so itself (by its inode).
                self.layout.unlink_in(self.layout.marks_fd, self.name)

    def remove(self) -> None:
        try:
            self.layout.unlink_in(self.layout.partials_fd, self.name)
            self.journal.remove()
        finally:
            self.close()


class DeviceTarget(Target):
    """
    A declared block device (or existing file), written in place.

    The existence of its journal is the mark "incomplete": it is durable before
    the first byte is written, and goes when the content is committed.
    """

    def __init__(self, layout: Layout, records: Records, name: str, journal: Journal, path: str) -> None:
        super().__init__(layout, records, name, journal)
        try:
            # Without O_CREAT it refuses a device that is mounted or otherwise in use.
            self.fd = layout.files.open(path, os.O_RDWR | os.O_EXCL)
        except OSError as error:
            if error.errno == errno.EBUSY:
                raise NameBusy(f"the device of {name!r} is in use", name) from error
            raise
        try:
            found = layout.files.fstat(self.fd)
            self.inode = found.st_rdev or found.st_ino
            self.largest_bytes = layout.files.seek(self.fd, 0, os.SEEK_END)
        except BaseException:
            layout.files.close(self.fd)
            raise

    def enter(self, header: Header) -> None:
        super().enter(header)
        # What the record says is no longer true from the first byte on.
        self.records.remove(self.name, durably=True)

    def prepare(self, size_bytes: int, sparse: bool) -> None:
        if size_bytes > self.largest_bytes:
            raise QuotaExceeded(f"{self.name!r} is a device of {self.largest_bytes} bytes", self.name)

    def publish(self, record: Record, *, replace: bool, mode: int) -> None:
        files = self.layout.files
        files.fsync(self.fd)
        self.records.write(self.name, record._replace(inode=self.inode, mtime_ns=0))
        self.layout.unlink_in(self.layout.marks_fd, self.name)
        self.journal.remove()
        files.fsync(self.layout.journals_fd)

    def remove(self) -> None:
        """What was written cannot be taken back: the device stays incomplete, with no extent held."""
        try:
            if self.journal.header is not None:
                self.journal.start(self.journal.header)
        finally:
            self.close()
