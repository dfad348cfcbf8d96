"""
The stream's way to the disk: placed, digested, synced and journaled.

L{Intake} knows which ranges of the content the stream carries, and nothing of
threads or of publishing: L{rpcstream.storage.receiving} does.
"""

from __future__ import annotations

from rpcstream.errors import BadState, QuotaExceeded, SizeMismatch
from rpcstream.storage.extents import missing_ranges
from rpcstream.storage.files import PIECE_BYTES, write_all
from rpcstream.storage.quota import Quota
from rpcstream.storage.recorder import ExtentRecorder, Run
from rpcstream.storage.system_calls import UNSUPPORTED
from rpcstream.storage.targets import Target

__all__ = ["Intake"]

_PENDING_COUNT = 256
"""Complete extents noted in memory, after which a sync comes even if little was written."""


class Intake:
    """
    Takes one stream into one target.  Not thread-safe.

    @ivar plan: flags of the extents held when the stream began.  Fixed: the
        stream carries the others, whatever is found out later.
    @ivar size_bytes: of the content, C{None} as long as it is not known.
    @ivar received_bytes: bytes of the stream so far, holes included.
    @ivar durable_bytes: bytes that would not have to be sent again after a crash.
    @ivar is_finished: whether the stream has ended as it should.
    """

    def __init__(
        self,
        target: Target,
        name: str,
        size_bytes: int | None,
        *,
        sparse: bool,
        quota: Quota,
        sync_bytes: int,
    ) -> None:
        """
        @param sync_bytes: data after which a sync comes.
        @raise OSError: C{ENOSPC} if there is no room.
        @raise QuotaExceeded: likewise.
        """
        self._target = target
        self._name = name
        self._files = target.layout.files
        self._extents = target.extents
        self._quota = quota
        self._sync_bytes = sync_bytes
        self._pending: list[Run] = []
        self._unsynced_bytes = 0
        self._unwritten = self._unwritten_bytes = 0
        self._is_charged_in_advance = False
        self.plan = bytes(self._extents.flags)
        self.size_bytes = size_bytes
        self.received_bytes = 0
        self.durable_bytes = self._extents.known_bytes(size_bytes)
        self.is_finished = False
        self._plan_stream()
        if size_bytes is not None:
            self._prepare(size_bytes, sparse)

    @property
    def largest_bytes(self) -> int:
        """The size of the content, or the largest it can be."""
        return self._target.largest_bytes if self.size_bytes is None else self.size_bytes

    def declare(self, size_bytes: int, *, sparse: bool) -> None:
        """Tell the size before anything comes; errors as the constructor."""
        if self.size_bytes is not None or self.received_bytes or self.is_finished:
            raise BadState("the size is known, or data came before it")
        self._set_size(size_bytes)
        header = self._target.journal.header
        if header is not None:
            self._target.journal.change(header._replace(size_bytes=size_bytes))
        self._plan_stream()
        self._prepare(size_bytes, sparse)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Take the next bytes."""
        view = memoryview(data)
        if not self._is_charged_in_advance:
            self._quota.charge(len(view), self._name)
        while view:
            part = view[: self._room(len(view))]
            write_all(self._files, self._target.fd, part, self._recorder.offset)
            self._start_writeback(self._recorder.offset, len(part))
            self._recorder.data(part)
            self._unsynced_bytes += len(part)
            self._moved(len(part))
            view = view[len(part) :]

    def write_hole(self, length: int) -> None:
        """Take the next C{length} bytes, which are zeros."""
        if length > self._expected_bytes - self.received_bytes:
            # Before anything is done: the hole may be of any size.
            raise SizeMismatch("a hole reaches past the end of the content", self._name)
        while length:
            part = min(length, self._room(length))
            self._target.zero(self._recorder.offset, part)
            self._recorder.hole(part)
            self._moved(part)
            length -= part

    def finish(self) -> None:
        """The stream has ended."""
        if self.is_finished:
            return
        if self.size_bytes is not None and self.received_bytes != self._expected_bytes:
            missing = self._expected_bytes - self.received_bytes
            raise SizeMismatch(f"the stream ended {missing} bytes too soon", self._name)
        self._recorder.end()
        self.is_finished = True

    def settle_size(self, size_bytes: int) -> None:
        """
        Compare the size with the sender's, or learn it.

        @raise SizeMismatch: it is not what was declared, or what came.
        """
        if self.size_bytes is not None:
            if self.size_bytes != size_bytes:
                raise SizeMismatch(
                    f"the sender has {size_bytes} bytes, {self.size_bytes} were declared", self._name
                )
            return
        ranges = missing_ranges(self.plan, size_bytes, self._extents.extent_bytes)
        if sum(stop - start for start, stop in ranges) != self.received_bytes:
            raise SizeMismatch(
                f"{self.received_bytes} bytes came, which do not make {size_bytes}", self._name
            )
        self._set_size(size_bytes)

    def sync(self) -> None:
        """Make complete extents durable, then say so in the journal; never the other way round."""
        if self._pending:
            self._files.fdatasync(self._target.fd)
            self._target.journal.add(self._pending)
            self.durable_bytes += sum(run.extent_count * run.length for run in self._pending)
            self._pending.clear()
        self._unsynced_bytes = 0

    def forget(self, index: int) -> None:
        """An extent that was held is not what it should be: it must come again."""
        self._extents.drop(index)
        self._target.journal.forget([(index, index + 1)])
        self.durable_bytes = max(0, self.durable_bytes - self._extents.extent_bytes)

    def _plan_stream(self) -> None:
        """Work out which ranges the stream carries."""
        extent_bytes = self._extents.extent_bytes
        self._ranges = missing_ranges(self.plan, self.largest_bytes, extent_bytes)
        self._range_stop = 0
        self._recorder = ExtentRecorder(self._extents, self.largest_bytes, self._pending.append)
        ranges = missing_ranges(self.plan, self.largest_bytes, extent_bytes)
        self._expected_bytes = sum(stop - start for start, stop in ranges)

    def _prepare(self, size_bytes: int, sparse: bool) -> None:
        """Make room; a dense stream's is all charged now, a sparse one's as it comes."""
        if not sparse:
            # What an earlier stream reserved or wrote is counted already.
            self._quota.charge(max(0, size_bytes - self._target.allocated_bytes), self._name)
            self._is_charged_in_advance = True
        self._target.prepare(size_bytes, sparse)

    def _set_size(self, size_bytes: int) -> None:
        if size_bytes > self._target.largest_bytes:
            raise QuotaExceeded(f"{size_bytes} bytes are too many for {self._name!r}", self._name)
        self._extents.set_size(size_bytes)
        last = len(self._extents) - 1
        if size_bytes % self._extents.extent_bytes and last < len(self.plan) and self.plan[last]:
            # It was held in full and now is the shorter last one: it comes again, later.
            self._extents.drop(last)
        self.size_bytes = size_bytes

    def _room(self, wanted: int) -> int:
        """How many of the next bytes lie together; goes on to the next range if need be."""
        if self.is_finished:
            raise SizeMismatch("data came after the end of the stream", self._name)
        if self._recorder.offset >= self._range_stop:
            start, self._range_stop = next(self._ranges, (0, 0))
            if not self._range_stop:
                raise SizeMismatch(f"more than the {self._expected_bytes} bytes expected", self._name)
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

    def _moved(self, length: int) -> None:
        self.received_bytes += length
        if self._unsynced_bytes >= self._sync_bytes or len(self._pending) >= _PENDING_COUNT:
            self.sync()
