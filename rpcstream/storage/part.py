"""
One stream on its way to the disk: the whole content, or a range of its extents.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING

from rpcstream.errors import SizeMismatch
from rpcstream.storage.extents import missing_ranges
from rpcstream.storage.files import PIECE_BYTES, write_all
from rpcstream.storage.recorder import ExtentRecorder
from rpcstream.storage.system_calls import UNSUPPORTED

if TYPE_CHECKING:
    from rpcstream.storage.intake import Intake

__all__ = ["Guard", "Part"]

Guard = Callable[[], AbstractContextManager[None]]
"""Entered around everything a part does: refuses what comes too late, remembers what failed."""


class Part:
    """
    Takes some extents in order: those from C{first} to C{stop} that are not held.

    One thread at a time; parts of one transfer may be written by several threads
    at once.  L{Receiving<rpcstream.storage.receiving.Receiving>} makes them.

    @ivar lock: held as long as something is being written.
    """

    def __init__(self, intake: Intake, first: int, stop: int, guard: Guard) -> None:
        self.lock = threading.RLock()
        self._intake = intake
        self._target = intake.target
        self._files = intake.target.layout.files
        self._guard = guard
        extents = intake.target.extents
        largest = intake.largest_bytes

        self._ranges = missing_ranges(intake.plan, largest, extents.extent_bytes, first, stop)
        self._range_stop = 0
        ranges = missing_ranges(intake.plan, largest, extents.extent_bytes, first, stop)
        self._expected_bytes = sum(stop - start for start, stop in ranges)
        self._received_bytes = 0
        self._recorder = ExtentRecorder(extents, largest, intake.complete)
        self._unwritten = self._unwritten_bytes = 0
        self._is_finished = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """
        Take the stream's next bytes; they are not kept.

        @raise SizeMismatch: they are more than the missing extents.
        @raise QuotaExceeded: they are more than the pool may hold.
        @raise OSError: as writing and fsync raise it.
        """
        view = memoryview(data)
        with self.lock, self._guard():
            self._intake.charge(len(view))
            while view:
                part = view[: self._room(len(view))]
                write_all(self._files, self._target.fd, part, self._recorder.offset)
                self._start_writeback(self._recorder.offset, len(part))
                self._recorder.data(part)
                self._moved(len(part), len(part))
                view = view[len(part) :]

    def write_hole(self, length: int) -> None:
        """
        Take the stream's next C{length} bytes, which are zeros.

        @raise SizeMismatch: they are more than the missing extents; nothing is done.
        """
        with self.lock, self._guard():
            if length > self._expected_bytes - self._received_bytes:
                # Before anything is done: the hole may be of any size.
                raise SizeMismatch("a hole reaches past the end of the content", self._intake.name)
            while length:
                part = min(length, self._room(length))
                self._target.zero(self._recorder.offset, part)
                self._recorder.hole(part)
                self._moved(part, 0)
                length -= part

    def finish(self) -> None:
        """
        The stream has ended.  Nothing is durable yet.  Idempotent.

        @raise SizeMismatch: bytes are missing.
        """
        with self.lock:
            if self._is_finished:
                return
            with self._guard():
                missing = self._expected_bytes - self._received_bytes
                if self._intake.size_bytes is not None and missing:
                    raise SizeMismatch(f"the stream ended {missing} bytes too soon", self._intake.name)
                self._recorder.end()
                self._is_finished = True
                self._intake.ended(self, is_short=missing > 0)

    def _room(self, wanted: int) -> int:
        """How many of the next bytes lie together; goes on to the next range if need be."""
        if self._is_finished:
            raise SizeMismatch("data came after the end of the stream", self._intake.name)
        if self._recorder.offset >= self._range_stop:
            start, self._range_stop = next(self._ranges, (0, 0))
            if not self._range_stop:
                raise SizeMismatch(f"more than the {self._expected_bytes} bytes expected", self._intake.name)
            self._recorder.move(start)
        return min(wanted, self._range_stop - self._recorder.offset)

    def _start_writeback(self, offset: int, length: int) -> None:
        """
        Get what was written on its way to the disk, a piece at a time.

        Measured on ext4: with it syncing every 8 MiB is faster than only one
        fsync at the end, without it much slower.
        """
        if self._unwritten != offset - self._unwritten_bytes:
            self._unwritten, self._unwritten_bytes = offset, 0
        self._unwritten_bytes += length
        if self._unwritten_bytes >= PIECE_BYTES:
            try:
                self._files.start_writeback(self._target.fd, self._unwritten, self._unwritten_bytes)
            except OSError as error:
                if error.errno not in UNSUPPORTED:
                    raise
            self._unwritten, self._unwritten_bytes = offset + length, 0

    def _moved(self, length: int, data_bytes: int) -> None:
        self._received_bytes += length
        self._intake.moved(length, data_bytes)
