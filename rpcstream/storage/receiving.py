"""
Content on its way into a pool.

L{Receiving} takes all extents that were not held when it began: as one stream,
in order, or as parts, several at once.  It checks the held ones by reading them
again, and publishes when both ends agree.  Here are the threads, the checks and
the end; what is written is L{rpcstream.storage.intake}'s.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager, suppress
from typing import NamedTuple

from rpcstream.errors import BadState, DigestMismatch, StorageError, TransferFenced
from rpcstream.limits import Limits
from rpcstream.storage.extents import Held, zero_digest
from rpcstream.storage.intake import Intake
from rpcstream.storage.part import Part
from rpcstream.storage.quota import Quota
from rpcstream.storage.reading import ExtentReader
from rpcstream.storage.records import Record
from rpcstream.storage.targets import Target

__all__ = ["CommitOutcome", "Receiving", "Request"]


class Request(NamedTuple):
    """
    What a sender asked for.

    @ivar name: in the pool; C{owner}: identity of the sender.
    @ivar transfer_id: 16 bytes.
    @ivar size_bytes: C{None} if not known.
    @ivar sparse: whether holes may come; if not, all the space is reserved.
    @ivar replace: whether an existing file gives way.
    @ivar mode: permission bits of the published file.
    """

    name: str
    owner: str
    transfer_id: bytes
    size_bytes: int | None
    sparse: bool
    replace: bool
    mode: int


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

    Every method blocks on the disk: call them from threads.  L{write},
    L{write_hole} and L{finish} come from one thread at a time, in stream order,
    and so for each L{part}, which may be written at the same time;
    L{verify_held} may run in another meanwhile; L{commit}, L{abandon},
    L{remove} and L{fence} may come from any, at any time, and wait for each
    other: what L{commit} has published, L{remove} does not take back.

    Whatever fails while data comes in (a full disk, a failed fsync) fails the
    transfer: each later call raises the same again.  What was durable before
    can be resumed.

    @ivar request: what was asked for.
    @ivar held: the extents that are not to be sent: claims, until checked.
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
        """
        @param target: entered; owned from here on, if this does not raise.
        @param on_end: called once, when the name is free again.
        @raise OSError: C{ENOSPC} if there is no room.
        @raise QuotaExceeded: likewise.
        """
        self.request = request
        self.held: Held = target.extents.held()
        self._target = target
        self._extents = target.extents
        self._clock = clock
        self._on_end = on_end
        self._intake = Intake(
            target,
            request.name,
            request.size_bytes,
            sparse=request.sparse,
            quota=quota,
            sync_bytes=limits.sync_bytes,
        )
        self._verified_count = 0
        self._outcome: CommitOutcome | None = None
        self._failure: Exception | None = None
        self._end: StorageError | BadState | None = None
        self._is_closed = False
        self._whole: Part | None = None
        # Taken in this order, the locks of parts between them.  The first and the parts' guard the
        # descriptor against being closed, the last all state.
        self._verify_lock = threading.RLock()
        self._lock = threading.RLock()

    @property
    def size_bytes(self) -> int | None:
        """Of the content, C{None} as long as it is not known."""
        return self._intake.size_bytes

    @property
    def durable_bytes(self) -> int:
        """Bytes that would not have to be sent again after a crash."""
        return self._intake.durable_bytes

    @property
    def received_bytes(self) -> int:
        """Bytes of the stream so far, holes included."""
        return self._intake.received_bytes

    # --- the stream ------------------------------------------------------------------

    def declare(self, size_bytes: int, *, sparse: bool) -> None:
        """
        Tell the size, for a transfer begun without one, before anything is written.

        @raise OSError: C{ENOSPC} if there is no room.
        @raise QuotaExceeded: likewise.
        """
        with self._using(OSError, StorageError):
            self._intake.declare(size_bytes, sparse=sparse)

    def part(self, first: int, count: int) -> Part:
        """
        Take a part as a stream of its own: C{count} extents from C{first} on, or as
        many as there are, without the held ones.

        @raise BadValue: some are in another part already, or there are none; as long as
            the size is not known: it does not follow the part before.
        """
        with self._using(OSError, StorageError):
            return self._intake.part(first, count, self._guarding)

    def _stream(self) -> Part:
        """The one stream, of a transfer that is not divided."""
        with self._lock:
            if self._whole is None:
                self._check_usable()
                self._whole = self._intake.part(0, max(1, self._intake.largest_count), self._guarding)
            return self._whole

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """See L{Part.write}: all is one stream."""
        self._stream().write(data)

    def write_hole(self, length: int) -> None:
        """See L{Part.write_hole}."""
        self._stream().write_hole(length)

    def finish(self) -> None:
        """See L{Part.finish}; L{commit} makes it durable."""
        self._stream().finish()

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
            reader = ExtentReader(
                self._target.layout.files,
                self._target.fd,
                self._intake.largest_bytes,
                extent_bytes=self._extents.extent_bytes,
                from_disk=True,
            )
            plan = self._intake.plan
            index = plan.find(1, self._verified_count)
            while index >= 0 and not cancelled():
                self._verified_count = index + self._verify_at(reader, index)
                index = plan.find(1, self._verified_count)
            return self._extents.missing()

    def _verify_at(self, reader: ExtentReader, index: int) -> int:
        """@return: how many extents from C{index} on are done now."""
        self._check_usable()
        if index >= len(self._extents):
            # The content became shorter than what was held.
            return len(self._intake.plan) - index
        known_count = self._extents.known_run(index, reader.hole_run(index))
        if known_count and self._extents.are(index, known_count, zero_digest(self._extents.extent_bytes)):
            return known_count
        if self._extents.has(index) and reader.digest(index) != self._extents.digest(index):
            with self._using(OSError):
                self._intake.forget(index)
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
            if self._whole is not None or not self._intake.has_parts:
                self.finish()
            with self._using(OSError):
                self._intake.finish()
                self._intake.settle_size(size_bytes)
                self._intake.sync()
            self.verify_held()
            with self._using(OSError):
                if not self._extents.is_complete:
                    return CommitOutcome(False, None, self._extents.missing())
                own_digest = self._extents.content_digest(size_bytes)
                self._compare(own_digest, digest)
                self._publish(size_bytes, own_digest)
                self._outcome = CommitOutcome(True, own_digest, b"")
                self._close(BadState("the transfer is committed"), self._target.close)
                return self._outcome

    def _compare(self, own: bytes | None, digest: bytes) -> None:
        if own != digest:
            raise DigestMismatch(
                f"the content has digest {(own or b'').hex()} here, {digest.hex()} at the sender",
                self.request.name,
            )

    def _publish(self, size_bytes: int, digest: bytes) -> None:
        request = self.request
        record = Record(digest, request.transfer_id, request.owner, size_bytes, 0, 0, self._clock())
        self._target.publish(record, replace=request.replace, mode=request.mode)

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
        @raise OSError: something could not be deleted; the transfer has ended all the same.
        """
        self._end = self._end or BadState("the transfer was cancelled")
        with self._verify_lock, self._still(), self._lock:
            if self._is_closed:
                return False
            self._close(self._end, self._target.remove)
            return True

    def _stop(self, end: StorageError | BadState) -> None:
        # Seen by a verify_held that runs: it gives way at the next extent.
        self._end = self._end or end
        with self._verify_lock, self._still(), self._lock:
            if self._is_closed:
                return
            if self._failure is None:
                # What cannot be made durable is not kept; whoever resumes finds what was before.
                with suppress(OSError):
                    self._intake.sync()
            self._close(end, self._target.close if self.durable_bytes else self._target.remove)

    @contextmanager
    def _still(self) -> Iterator[None]:
        """No part is being written; those that go on see why not."""
        with ExitStack() as locks:
            for part in list(self._intake.open_parts):
                locks.enter_context(part.lock)
            yield

    def _close(self, end: StorageError | BadState, close: Callable[[], None]) -> None:
        self._end = end
        self._is_closed = True
        try:
            close()
        finally:
            self._on_end(self)

    def _check_usable(self) -> None:
        # The failure first: the other parts end because of it, and shall say so.
        if self._failure is not None:
            raise self._failure
        if self._end is not None:
            raise self._end

    @contextmanager
    def _guarding(self) -> Iterator[None]:
        """What a part does, without the lock: others do the same meanwhile."""
        self._check_usable()
        try:
            yield
        except (OSError, StorageError) as error:
            self._failure = self._failure or error
            raise

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
