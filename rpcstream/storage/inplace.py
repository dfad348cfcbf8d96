"""
Writing into published content, where it is: what libvirt's uploads mean.

No journal, no digest, no resume; see L{rpcstream.storage.receiving} for what
has all of them.  What is written is marked incomplete until it is durable.
"""

from __future__ import annotations

import errno
import os
from contextlib import suppress

from rpcstream.errors import BadState, SourceChanged
from rpcstream.limits import MIB
from rpcstream.storage.extents import LARGEST_BYTES
from rpcstream.storage.files import write_all, zero_range
from rpcstream.storage.journal import Journal
from rpcstream.storage.layout import Layout
from rpcstream.storage.marks import Mark, Marks
from rpcstream.storage.quota import Quota
from rpcstream.storage.records import Records
from rpcstream.storage.upkeep import Upkeep

__all__ = ["InPlace"]

WRITEBACK_BYTES = 8 * MIB
"""The kernel is asked to begin writing so often, so that the fsync at the end has little to wait for."""


class InPlace:
    """
    One upload into one file or device.  Its methods block on the disk; one thread at a time.

    @ivar position: where the next byte goes.
    """

    def __init__(
        self,
        layout: Layout,
        upkeep: Upkeep,
        marks: Marks,
        records: Records,
        quota: Quota,
        name: str,
        journal: Journal,
        fd: int,
        offset: int,
        length: int | None,
        *,
        is_device: bool,
    ) -> None:
        """
        @param journal: locked, so that this is the one writer; owned, as C{fd} is, from here on.
        @param length: most bytes taken; C{None} for no limit, then the file may grow.
        """
        self.position = offset
        self._files = layout.files
        self._layout = layout
        self._upkeep = upkeep
        self._marks = marks
        self._records = records
        self._quota = quota
        self._name = name
        self._journal = journal
        self._fd = fd
        self._start = self._written_back = offset
        self._stop = None if length is None else offset + length
        self._old: Mark | None = None
        self._is_marked = False
        self._is_device = is_device
        found = self._files.fstat(fd)
        self._inode = found.st_rdev or found.st_ino
        # What is there now is all of a device there will ever be.
        self._largest_bytes = self._size_bytes() if is_device else LARGEST_BYTES

    # --- writing ---------------------------------------------------------------------

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """
        Write at the position.

        @raise OSError: C{ENOSPC} past the limit (what fits is written) and when the disk is full,
            C{EFBIG} past the largest size.
        @raise QuotaExceeded: the pool's quota has no room.
        """
        view = memoryview(data)
        room = self._room(len(view))
        self._begin()
        # What is overwritten takes no room, but who knows; a quota that seems used up is measured again.
        self._quota.charge(room, self._name)
        write_all(self._files, self._fd, view[:room], self.position)
        self.position += room
        if self.position - self._written_back >= WRITEBACK_BYTES:
            with suppress(OSError):
                # Whatever fails here, fsync fails as well.
                length = self.position - self._written_back
                self._files.start_writeback(self._fd, self._written_back, length)
            self._written_back = self.position
        self._check_all_fitted(room, len(view))

    def write_hole(self, length: int) -> None:
        """
        Make so many bytes zeros, without blocks where possible; a file that ends before grows.

        @raise OSError: as L{write}.
        """
        room = self._room(length)
        self._begin()
        end = self.position + room
        size = self._size_bytes()
        if self.position < size:
            zero_range(self._files, self._fd, self.position, min(end, size) - self.position)
        if end > size:
            self._files.ftruncate(self._fd, end)
        self.position = end
        self._check_all_fitted(room, length)

    def _size_bytes(self) -> int:
        return self._files.seek(self._fd, 0, os.SEEK_END)

    def _room(self, length: int) -> int:
        """How much of it may be written."""
        if self._fd < 0:
            raise BadState("the upload has ended")
        if self._stop is not None:
            length = min(length, self._stop - self.position)
        if self.position + length > self._largest_bytes:
            number = errno.ENOSPC if self._is_device else errno.EFBIG
            raise OSError(number, os.strerror(number))
        return length

    def _check_all_fitted(self, room: int, length: int) -> None:
        if room < length:
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def _begin(self) -> None:
        """From here on the content is incomplete, and no digest describes it."""
        if self._is_marked:
            return
        self._old = self._marks.read(self._name, self._inode)
        mark = Mark(self._inode, self._start)
        self._marks.write(self._name, mark if self._old is None else self._old.joined(self._start, None))
        self._is_marked = True
        self._records.remove(self._name, durably=True)

    # --- the end ---------------------------------------------------------------------

    def finish(self) -> None:
        """
        All was written: durable on return, and complete, unless an earlier upload left more behind.

        @raise SourceChanged: the file was removed or replaced meanwhile.
        @raise OSError: it is not durable; it stays marked.
        """
        if self._fd < 0:
            raise BadState("the upload has ended")
        if self._is_marked:
            self._files.fsync(self._fd)
            self._check_still_there()
            if self._covers_old():
                self._marks.remove(self._name)
            elif self._old is not None:
                self._marks.write(self._name, self._old)
        self._close()

    def _check_still_there(self) -> None:
        if self._is_device:
            return
        found = self._layout.stat_in(self._layout.pool_fd, self._name)
        if found is None or found.st_ino != self._inode:
            raise SourceChanged(f"{self._name!r} was removed or replaced while it was written", self._name)

    def _covers_old(self) -> bool:
        """Whether all that an earlier upload left behind was written now."""
        old = self._old
        if old is None:
            return True
        stop = self._size_bytes() if old.stop is None else old.stop
        return self._start <= old.start and self.position >= stop

    def abandon(self) -> None:
        """The upload was cut short: what was written stays, and stays marked.  Idempotent."""
        if self._fd < 0:
            return
        try:
            if self._is_marked:
                mark = Mark(self._inode, self._start, self.position)
                if self._old is not None:
                    mark = self._old.joined(self._start, self.position)
                # Without it the mark that is there says more than is true, which is no harm.
                with suppress(OSError, SourceChanged):
                    self._check_still_there()
                    self._marks.write(self._name, mark)
        finally:
            self._close()

    def _close(self) -> None:
        fd, self._fd = self._fd, -1
        try:
            self._files.close(fd)
        finally:
            self._upkeep.give_back(self._journal)
