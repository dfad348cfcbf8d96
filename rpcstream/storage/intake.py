"""
Content's way to the disk: placed, digested, synced and journaled.

L{Intake} is what all streams of one transfer share: what is planned, claimed,
counted, synced.  One stream, or one of several at once, is a
L{rpcstream.storage.part.Part}.  Nothing of publishing is here:
L{rpcstream.storage.receiving} does that.
"""

from __future__ import annotations

import threading

from rpcstream.errors import BadState, BadValue, QuotaExceeded, SizeMismatch
from rpcstream.storage.extents import extent_count, missing_ranges
from rpcstream.storage.part import Guard, Part
from rpcstream.storage.quota import Quota
from rpcstream.storage.recorder import Run
from rpcstream.storage.targets import Target

__all__ = ["Intake"]

_PENDING_COUNT = 256
"""Complete extents noted in memory, after which a sync comes even if little was written."""


class Intake:
    """
    Takes content into one target, as one stream or as several parts at once.

    L{declare}, L{part}, L{finish} and L{settle_size} need a lock of the caller's;
    the other methods may be called from any thread at any time.

    @ivar plan: flags of the extents held when the transfer began.  Fixed: its
        streams carry the others, whatever is found out later.
    @ivar size_bytes: of the content, C{None} as long as it is not known.
    @ivar received_bytes: bytes of all streams so far, holes included.
    @ivar durable_bytes: bytes that would not have to be sent again after a crash.
    @ivar has_parts: whether one has begun; C{open_parts}: those that have not ended.
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
        self.target = target
        self.name = name
        self._extents = target.extents
        self._quota = quota
        self._sync_bytes = sync_bytes
        self._pending: list[Run] = []
        self._unsynced_bytes = 0
        self._is_charged_in_advance = False
        # Taken in this order.  The first is held while the disk and the journal are written to.
        self._sync_lock = threading.RLock()
        self._lock = threading.Lock()
        self._sync_error: OSError | None = None
        self.plan = bytes(self._extents.flags)
        self.size_bytes = size_bytes
        self.received_bytes = 0
        self.durable_bytes = self._extents.known_bytes(size_bytes)
        self.open_parts: list[Part] = []
        self._claimed = bytearray()
        self.has_parts = False
        self._is_short = False
        self._is_finished = False
        if size_bytes is not None:
            self._prepare(size_bytes, sparse)

    @property
    def largest_bytes(self) -> int:
        """The size of the content, or the largest it can be."""
        return self.target.largest_bytes if self.size_bytes is None else self.size_bytes

    @property
    def largest_count(self) -> int:
        """The same in extents."""
        return extent_count(self.largest_bytes, self._extents.extent_bytes)

    def declare(self, size_bytes: int, *, sparse: bool) -> None:
        """Tell the size before anything comes; errors as the constructor."""
        if self.size_bytes is not None or self.has_parts or self._is_finished:
            raise BadState("the size is known, or data came before it")
        self._set_size(size_bytes)
        header = self.target.journal.header
        if header is not None:
            self.target.journal.change(header._replace(size_bytes=size_bytes))
        self._prepare(size_bytes, sparse)

    # --- the streams -----------------------------------------------------------------------

    def part(self, first: int, count: int, guard: Guard) -> Part:
        """
        Begin a stream that carries the extents from C{first} on, C{count} of them or as
        many as there are, without the held ones.

        As long as the size is not known one must follow the other.

        @raise BadValue: some are in another part already, or there are none.
        @raise BadState: it is too late.
        """
        stop = min(first + count, self.largest_count)
        if first < 0 or count < 1 or (first >= stop and first > 0):
            raise BadValue("part", "there are no such extents")
        if self._is_finished:
            raise BadState("the transfer is being committed")
        claimed_count = len(self._claimed)
        if self.size_bytes is None and (first != claimed_count or self.open_parts or self._is_short):
            raise BadValue("part", "the size is not known: one part must follow the other")
        if self._claimed.find(1, first, stop) >= 0:
            # Two writers of one extent: what its digest speaks of would not be what is on disk.
            raise BadValue("part", "some of these extents are in another part")
        self.has_parts = True
        if self.size_bytes is not None or stop < self.largest_count:
            self._claimed.extend(bytes(max(0, stop - claimed_count)))
            self._claimed[first:stop] = b"\1" * (stop - first)
        else:
            self._is_short = True  # all there can ever be: nothing follows
        part = Part(self, first, stop, guard)
        self.open_parts.append(part)
        return part

    def charge(self, byte_count: int) -> None:
        """@raise QuotaExceeded: no room for so much."""
        if not self._is_charged_in_advance:
            self._quota.charge(byte_count, self.name)

    def complete(self, run: Run) -> None:
        """Extents have been written; not yet durable."""
        with self._lock:
            self._pending.append(run)

    def moved(self, length: int, data_bytes: int) -> None:
        """
        C{length} bytes have come, C{data_bytes} of which were written; syncs if it is time to.

        @raise OSError: as L{sync}.
        """
        with self._lock:
            self.received_bytes += length
            self._unsynced_bytes += data_bytes
            is_due = self._unsynced_bytes >= self._sync_bytes or len(self._pending) >= _PENDING_COUNT
            if is_due:
                # Here, so that no other thread finds it due as well.
                self._unsynced_bytes = 0
        if is_due:
            self.sync()

    def ended(self, part: Part, *, is_short: bool) -> None:
        """
        A part has all its bytes.

        @param is_short: so the content ends there, whose size was not known.
        """
        with self._lock:
            self.open_parts.remove(part)
            self._is_short = self._is_short or is_short

    def finish(self) -> None:
        """
        No further part will come.  Idempotent.

        @raise SizeMismatch: a part has not ended.
        """
        if self.open_parts:
            raise SizeMismatch("a part of the content has not ended", self.name)
        self._is_finished = True

    def settle_size(self, size_bytes: int) -> None:
        """
        Compare the size with the sender's, or learn it.

        @raise SizeMismatch: it is not what was declared, or what came.
        """
        if self.size_bytes is not None and self.size_bytes != size_bytes:
            raise SizeMismatch(
                f"the sender has {size_bytes} bytes, {self.size_bytes} were declared", self.name
            )
        ranges = missing_ranges(self.plan, size_bytes, self._extents.extent_bytes)
        if sum(stop - start for start, stop in ranges) != self.received_bytes:
            raise SizeMismatch(f"{self.received_bytes} bytes came, which do not make {size_bytes}", self.name)
        if self.size_bytes is None:
            self._set_size(size_bytes)

    # --- what is durable ---------------------------------------------------------------------

    def sync(self) -> None:
        """
        Make complete extents durable, then say so in the journal; never the other way round.

        @raise OSError: it failed now, or failed before: the system tells of lost
            data only once, so that a later success means nothing.
        """
        with self._sync_lock:
            if self._sync_error is not None:
                raise self._sync_error
            with self._lock:
                # Written, all of them; what other threads write from here on comes next time.
                runs, self._pending = self._pending, []
                self._unsynced_bytes = 0
            if not runs:
                return
            try:
                self.target.layout.files.fdatasync(self.target.fd)
                self.target.journal.add(runs)
            except OSError as error:
                self._sync_error = error
                raise
            with self._lock:
                self.durable_bytes += sum(run.extent_count * run.length for run in runs)

    def forget(self, index: int) -> None:
        """An extent that was held is not what it should be: it must come again."""
        with self._sync_lock:
            self._extents.drop(index)
            self.target.journal.forget([(index, index + 1)])
            with self._lock:
                self.durable_bytes = max(0, self.durable_bytes - self._extents.extent_bytes)

    # --- the size ----------------------------------------------------------------------------

    def _prepare(self, size_bytes: int, sparse: bool) -> None:
        """Make room; a dense stream's is all charged now, a sparse one's as it comes."""
        if not sparse:
            # What an earlier stream reserved or wrote is counted already.
            self._quota.charge(max(0, size_bytes - self.target.allocated_bytes), self.name)
            self._is_charged_in_advance = True
        self.target.prepare(size_bytes, sparse)

    def _set_size(self, size_bytes: int) -> None:
        if size_bytes > self.target.largest_bytes:
            raise QuotaExceeded(f"{size_bytes} bytes are too many for {self.name!r}", self.name)
        self._extents.set_size(size_bytes)
        last = len(self._extents) - 1
        if size_bytes % self._extents.extent_bytes and last < len(self.plan) and self.plan[last]:
            # It was held in full and now is the shorter last one: it comes again, later.
            self._extents.drop(last)
        self.size_bytes = size_bytes
