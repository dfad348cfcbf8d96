"""
Content on its way into a pool.

L{Receiving} takes a stream, in order: all extents that were not held when it
began, concatenated.  It writes, digests, syncs and journals them; checks the
held ones by reading them again; and publishes when both ends agree.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import NamedTuple

from rpcstream.errors import (
    BadState,
    DigestMismatch,
    QuotaExceeded,
    SizeMismatch,
    StorageError,
    TransferFenced,
)
from rpcstream.limits import Limits
from rpcstream.storage.extents import Held, missing_ranges, zero_digest
from rpcstream.storage.files import write_all
from rpcstream.storage.quota import Quota
from rpcstream.storage.reading import ExtentReader
from rpcstream.storage.recorder import ExtentRecorder, Run
from rpcstream.storage.records import Record
from rpcstream.storage.targets import Target

__all__ = ["CommitOutcome", "Receiving", "Request"]

_PENDING_COUNT = 256
"""Complete extents noted in memory, after which a sync comes even if little was written."""


class Request(NamedTuple):
    """
    What a sender asked for.

    @ivar name: in the pool; C{owner}: identity of the sender.
    @ivar transfer_id: 16 bytes.
    @ivar size_bytes: C{None} if not known.
    @ivar sparse: whether holes may come; if not, all the space is reserved.
    @ivar replace: whether an existing file gives way.
    @ivar mode: permission bits of the published file, C{None} for the pool's.
    """

    name: str
    owner: str
    transfer_id: bytes
    size_bytes: int | None
    sparse: bool
    replace: bool
    mode: int | None


class CommitOutcome(NamedTuple):
    """
    @ivar published: whether the content is durable and published.
    @ivar digest: of the content, if it is.
    @ivar missing: if not, the bitmap of extents that must be sent again.
    """

    published: bool
    digest: bytes | None
    missing: bytes


class Receiving:
    """
    One transfer into one name; made by L{rpcstream.storage.pool.Pool.begin}.

    Every method blocks on the disk: call them from threads.  C{write},
    C{write_hole} and C{finish} come from one thread at a time, in stream order;
    L{verify_held} may run in another meanwhile; L{commit}, L{abandon},
    L{remove} and L{fence} may come from any, at any time, and wait for each
    other: what L{commit} has published, L{remove} does not take back.

    Whatever fails while data comes in (a full disk, a failed fsync) fails the
    transfer: each later call raises the same again.  What was durable before
    can be resumed.

    @ivar request: what was asked for.
    @ivar held: the extents that are not to be sent: claims, until checked.
    @ivar size_bytes: of the content, C{None} as long as it is not known.
    @ivar durable_bytes: bytes that would not have to be sent again after a crash.
    @ivar received_bytes: bytes of the stream so far, holes included.
    """

    def __init__(
        self,
        target: Target,
        request: Request,
        *,
        quota: Quota,
        limits: Limits,
        clock: Callable[[], float],
        on_end: Callable[[Receiving], None],
    ) -> None:
        self.request = request
        self.size_bytes = request.size_bytes
        self.received_bytes = 0
        self._target = target
        self._files = target.layout.files
        self._extents = target.extents
        self._quota = quota
        self._limits = limits
        self._clock = clock
        self._on_end = on_end
        self.held: Held = self._extents.held()
        # Fixed now: the stream carries what was not held when it began, whatever is found out later.
        self._plan = bytes(self._extents.flags)
        self.durable_bytes = self._extents.known_bytes(self.size_bytes)
        self._pending: list[Run] = []
        self._unsynced_bytes = 0
        self._is_finished = False
        self._verified_count = 0
        self._outcome: CommitOutcome | None = None
        self._failure: Exception | None = None
        self._end: StorageError | BadState | None = None
        # Taken in this order.  The first guards the descriptor against being closed, the second all state.
        self._verify_lock = threading.RLock()
        self._lock = threading.RLock()
        self._plan_stream()
        if self.size_bytes is not None:
            self._prepare(self.size_bytes, request.sparse)

    # --- the stream ------------------------------------------------------------------

    def declare(self, size_bytes: int, *, sparse: bool) -> None:
        """
        Tell the size, for a transfer begun without one, before anything is written.

        @raise OSError: C{ENOSPC} if there is no room.
        @raise QuotaExceeded: likewise.
        """
        with self._using(OSError, StorageError):
            if self.size_bytes is not None or self.received_bytes:
                raise BadState("the size is known, or data came before it")
            self._set_size(size_bytes)
            header = self._target.journal.header
            if header is not None:
                self._target.journal.change(header._replace(size_bytes=size_bytes))
            self._plan_stream()
            self._prepare(size_bytes, sparse)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """
        Take the stream's next bytes; they are not kept.

        @raise SizeMismatch: they are more than the missing extents.
        @raise OSError: as writing and fsync raise it.
        """
        with self._using(OSError, StorageError):
            view = memoryview(data)
            if self._is_charged:
                self._quota.charge(len(view), self.request.name)
            while view:
                part = view[: self._room(len(view))]
                write_all(self._files, self._target.fd, part, self._recorder.offset)
                self._recorder.data(part)
                self._unsynced_bytes += len(part)
                self._moved(len(part))
                view = view[len(part) :]

    def write_hole(self, length: int) -> None:
        """
        Take the stream's next C{length} bytes, which are zeros.

        @raise SizeMismatch: they are more than the missing extents.
        """
        with self._using(OSError, StorageError):
            if self.size_bytes is not None and length > self._expected_bytes - self.received_bytes:
                raise SizeMismatch("a hole reaches past the end of the content", self.request.name)
            while length:
                part = min(length, self._room(length))
                self._target.zero(self._recorder.offset, part)
                self._recorder.hole(part)
                self._moved(part)
                length -= part

    def finish(self) -> None:
        """
        The stream has ended.  Nothing is durable yet; L{commit} sees to that.

        @raise SizeMismatch: bytes are missing.
        """
        with self._using(OSError, StorageError):
            if self._is_finished:
                return
            if self.size_bytes is not None and self.received_bytes != self._expected_bytes:
                missing = self._expected_bytes - self.received_bytes
                raise SizeMismatch(f"the stream ended {missing} bytes too soon", self.request.name)
            self._recorder.end()
            self._is_finished = True

    def _plan_stream(self) -> None:
        """Work out which ranges the stream carries."""
        largest = self._target.largest_bytes if self.size_bytes is None else self.size_bytes
        extent_bytes = self._extents.extent_bytes
        self._ranges = missing_ranges(self._plan, largest, extent_bytes)
        self._range_stop = 0
        self._recorder = ExtentRecorder(self._extents, largest, self._complete)
        self._expected_bytes = sum(
            stop - start for start, stop in missing_ranges(self._plan, largest, extent_bytes)
        )

    def _prepare(self, size_bytes: int, sparse: bool) -> None:
        """Make room; a dense stream's is all charged now, a sparse one's as it comes."""
        self._is_charged = sparse
        if not sparse:
            self._quota.charge(self._expected_bytes, self.request.name)
        self._target.prepare(size_bytes, sparse)

    _is_charged = True

    def _set_size(self, size_bytes: int) -> None:
        if size_bytes > self._target.largest_bytes:
            raise QuotaExceeded(
                f"{size_bytes} bytes are too many for {self.request.name!r}", self.request.name
            )
        self._extents.set_size(size_bytes)
        last = len(self._extents) - 1
        if size_bytes % self._extents.extent_bytes and last < len(self._plan) and self._plan[last]:
            # It was held in full and now is the shorter last one: it comes again, later.
            self._extents.drop(last)
        self.size_bytes = size_bytes

    def _room(self, wanted: int) -> int:
        """How many of the next bytes lie together; goes on to the next range if need be."""
        if self._is_finished:
            raise SizeMismatch("data came after the end of the stream", self.request.name)
        if self._recorder.offset == self._range_stop:
            start, self._range_stop = next(self._ranges, (0, 0))
            if not self._range_stop:
                raise SizeMismatch(f"more than the {self._expected_bytes} bytes expected", self.request.name)
            self._recorder.move(start)
        return min(wanted, self._range_stop - self._recorder.offset)

    def _moved(self, length: int) -> None:
        self.received_bytes += length
        if self._unsynced_bytes >= self._limits.sync_bytes or len(self._pending) >= _PENDING_COUNT:
            self._sync()

    def _complete(self, run: Run) -> None:
        self._pending.append(run)

    def _sync(self) -> None:
        """Make complete extents durable, then say so in the journal; never the other way round."""
        if self._pending:
            self._files.fdatasync(self._target.fd)
            self._target.journal.add(self._pending)
            self.durable_bytes += sum(run.extent_count * run.length for run in self._pending)
            self._pending.clear()
        self._unsynced_bytes = 0

    # --- what was held ---------------------------------------------------------------

    def verify_held(self, cancelled: Callable[[], bool] = lambda: False) -> bytes:
        """
        Read every held extent again from the disk and compare its digest.

        Those that differ are forgotten; L{commit} reports them as missing.
        Where this was not called, or was cancelled, L{commit} does the rest.

        @param cancelled: asked before each extent; true ends the work.
        @return: the bitmap of all that is missing now.
        @raise OSError: a read failed.
        """
        with self._verify_lock:
            self._check_usable()
            largest = self._target.largest_bytes if self.size_bytes is None else self.size_bytes
            reader = ExtentReader(
                self._files, self._target.fd, largest, extent_bytes=self._extents.extent_bytes, from_disk=True
            )
            index = self._plan.find(1, self._verified_count)
            while index >= 0 and not cancelled():
                self._verified_count = index + self._verify_at(reader, index)
                index = self._plan.find(1, self._verified_count)
            return self._extents.missing()

    def _verify_at(self, reader: ExtentReader, index: int) -> int:
        """@return: how many extents from C{index} on are done now, or were not held."""
        self._check_usable()
        if index >= len(self._extents):
            # The content became shorter than what was held.
            return len(self._plan) - index
        zeros = zero_digest(self._extents.extent_bytes)
        zero_count = reader.hole_run(index)
        known_count = self._extents.known_run(index, zero_count)
        if known_count and self._extents.are(index, known_count, zeros):
            return known_count
        if self._extents.has(index) and reader.digest(index) != self._extents.digest(index):
            with self._lock:
                self._check_usable()
                self._extents.drop(index)
                self._target.journal.forget([(index, index + 1)])
                self.durable_bytes -= min(self._extents.extent_bytes, self.durable_bytes)
        return 1

    # --- the end -----------------------------------------------------------------------

    def commit(self, size_bytes: int, digest: bytes) -> CommitOutcome:
        """
        Make the content durable and publish it, if both ends agree on it.

        May be repeated.  The steps and their order are L{rpcstream.storage.publish}'s.

        @param size_bytes: of the sender's content.
        @param digest: of the sender's content.
        @return: published; or which extents must come again: then begin anew
            with the same transfer id.
        @raise SizeMismatch: the stream was too short, or the sizes differ.
        @raise DigestMismatch: the contents differ.  What is durable is kept; the
            sender finds the extents to discard by comparing the claims.
        @raise NameExists: the name came into being meanwhile.
        @raise OSError: something failed; nothing is published.
        """
        with self._verify_lock:
            if self._outcome is not None:
                self._compare(self._outcome.digest, digest)
                return self._outcome
            self.finish()
            with self._using(OSError):
                self._settle_size(size_bytes)
                self._sync()
            self.verify_held()
            with self._using(OSError):
                if not self._extents.is_complete:
                    return CommitOutcome(False, None, self._extents.missing())
                own_digest = self._extents.content_digest(size_bytes)
                self._compare(own_digest, digest)
                request = self.request
                record = Record(
                    own_digest, request.transfer_id, request.owner, size_bytes, 0, 0, self._clock()
                )
                self._target.publish(record, replace=request.replace, mode=request.mode)
                self._outcome = CommitOutcome(True, own_digest, b"")
                self._close(BadState("the transfer is committed"), self._target.close)
                return self._outcome

    def _settle_size(self, size_bytes: int) -> None:
        if self.size_bytes is not None:
            if self.size_bytes != size_bytes:
                raise SizeMismatch(
                    f"the sender has {size_bytes} bytes, {self.size_bytes} were declared", self.request.name
                )
            return
        ranges = missing_ranges(self._plan, size_bytes, self._extents.extent_bytes)
        if sum(stop - start for start, stop in ranges) != self.received_bytes:
            raise SizeMismatch(
                f"{self.received_bytes} bytes came, which do not make {size_bytes}", self.request.name
            )
        self._set_size(size_bytes)

    def _compare(self, own: bytes | None, digest: bytes) -> None:
        if own != digest:
            raise DigestMismatch(
                f"the content has digest {(own or b'').hex()} here, {digest.hex()} at the sender",
                self.request.name,
            )

    def abandon(self) -> None:
        """
        End the transfer; what is durable is kept for resuming, if there is any.

        Makes complete extents durable first.  Idempotent; does nothing after L{commit}.
        """
        self._stop(BadState("the transfer was abandoned"))

    def fence(self) -> None:
        """As L{abandon}, for a newer stream of the same transfer: whoever uses this one is told so."""
        self._stop(TransferFenced("a newer stream of this transfer took over", self.request.name))

    def remove(self) -> bool:
        """
        End the transfer and delete what was received.

        @return: whether that was done; C{False} if it is published, or has ended.
        """
        self._end = self._end or BadState("the transfer was cancelled")
        with self._verify_lock, self._lock:
            if self._is_closed:
                return False
            self._close(self._end, self._target.remove)
            return True

    _is_closed = False

    def _stop(self, end: StorageError | BadState) -> None:
        # Seen by a verify_held that runs: it gives way at the next extent.
        self._end = self._end or end
        with self._verify_lock, self._lock:
            if self._is_closed:
                return
            if self._failure is None:
                try:
                    self._sync()
                except OSError as error:
                    self._failure = error
            self._close(end, self._target.close if self.durable_bytes else self._target.remove)

    def _close(self, end: StorageError | BadState, close: Callable[[], None]) -> None:
        self._end = end
        self._is_closed = True
        try:
            close()
        finally:
            self._on_end(self)

    def _check_usable(self) -> None:
        if self._end is not None:
            raise self._end
        if self._failure is not None:
            raise self._failure

    @contextmanager
    def _using(self, *fatal: type[Exception]) -> Iterator[None]:
        """Hold the state; remember an error of the types C{fatal} as the end of this transfer."""
        with self._lock:
            self._check_usable()
            try:
                yield
            except fatal as error:
                self._failure = error
                raise
