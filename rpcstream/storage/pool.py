"""
A pool: one directory in which content rests, and the transfers into it.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import NamedTuple

from rpcstream.errors import (
    BadValue,
    NameBusy,
    NameExists,
    NameNotFound,
    NotRegular,
    QuotaExceeded,
)
from rpcstream.limits import DEFAULT_LIMITS, EXTENT_BYTES, Limits
from rpcstream.storage.extents import LARGEST_BYTES, LARGEST_HELD_COUNT
from rpcstream.storage.files import FileOperations
from rpcstream.storage.journal import Header, Journal
from rpcstream.storage.layout import Layout
from rpcstream.storage.listing import Entry, Listing, PartialEntry
from rpcstream.storage.marks import Marks
from rpcstream.storage.names import check_name
from rpcstream.storage.quota import Quota
from rpcstream.storage.receiving import Receiving, Request
from rpcstream.storage.records import Record, Records
from rpcstream.storage.sources import FileSource
from rpcstream.storage.targets import DeviceTarget, PartialTarget, Target
from rpcstream.storage.upkeep import Upkeep
from rpcstream.storage.volumes import Volumes

__all__ = ["Finished", "Pool"]


OWNER_BYTES = 4096
"""Longest identity: it has to fit into a record of the journal."""


class Finished(NamedTuple):
    """
    A transfer that is complete already.

    @ivar name: under which it is published.
    @ivar digest: of the content, 32 bytes; C{size_bytes}: of the content.
    @ivar owner: identity of who sent it.
    """

    name: str
    digest: bytes
    size_bytes: int
    owner: str


class Pool:
    """
    One directory; every method blocks on the disk and may be called from any thread.

    @ivar name: of the pool.
    @ivar directory: where it is.
    @ivar volumes: its content as libvirt sees it, written in place.
    """

    def __init__(
        self,
        directory: str | Path,
        *,
        name: str = "default",
        devices: Mapping[str, str | Path] | None = None,
        quota_bytes: int | None = None,
        mode: int = 0o600,
        state_directory: str | Path | None = None,
        extent_bytes: int = EXTENT_BYTES,
        files: FileOperations | None = None,
        limits: Limits = DEFAULT_LIMITS,
        clock: Callable[[], float] = time.time,
    ) -> None:
        """
        Open the pool and finish what a crash interrupted.

        @param devices: names that are block devices, with their paths.
        @param quota_bytes: of disk, for all files and partials together.
        @param mode: permission bits of published files, where none are asked for.
        @param state_directory: for journals and records, of this pool alone;
            C{.rpcstream} in the pool by default.
        @param extent_bytes: for tests; the wire knows one size only.
        @raise ConfigurationError: the directory cannot be used.
        @raise OSError: what a crash left could not be put in order.
        """
        self.name = name
        self.directory = Path(directory)
        self._mode = mode
        self._extent_bytes = extent_bytes
        self._limits = limits
        self._clock = clock
        self._devices = {check_name(key): os.fspath(path) for key, path in (devices or {}).items()}
        self._layout = Layout(
            self.directory,
            None if state_directory is None else Path(state_directory),
            files or FileOperations(),
        )
        self._records = Records(self._layout)
        self._marks = Marks(self._layout)
        self._listing = Listing(self._layout, self._records, self._marks, self._devices)
        self._upkeep = Upkeep(self._layout, self._records, self._listing, self._devices)
        self._quota = Quota(quota_bytes, self._listing.used_bytes)
        self.volumes = Volumes(
            self._layout, self._upkeep, self._marks, self._records, self._quota, self._devices, mode
        )
        self._active: dict[str, Receiving | None] = {}
        self._lock = threading.Lock()
        try:
            self._upkeep.recover()
        except BaseException:
            self._layout.close()
            raise

    def close(self) -> None:
        """Abandon all transfers, which can be resumed, and close the directory.  Idempotent."""
        with self._lock:
            active = [receiving for receiving in self._active.values() if receiving is not None]
        for receiving in active:
            # What cannot be tidied up now is found by whoever opens the pool next.
            with suppress(OSError):
                receiving.abandon()
        self._layout.close()

    # --- published names ---------------------------------------------------------------

    def entries(self, after: str = "", limit: int = 1000) -> list[Entry]:
        """See L{Listing.entries}."""
        return self._listing.entries(after, limit)

    def stat(self, name: str) -> Entry:
        """
        @raise NameRefused: see L{check_name}; so for every method with a name.
        @raise NameNotFound: there is no such name.
        @raise NotRegular: it is a link, directory or the like.
        """
        return self._listing.entry(check_name(name))

    def existing(self, name: str) -> Path:
        """The path of a published file, for code that wants one; errors as L{stat}."""
        check_name(name)
        self._layout.files.close(self._layout.open_published(name))
        return self.directory / name

    def new(self, name: str) -> Path:
        """
        The path for a file that is to be made.

        @raise NameExists: there is something of this name.
        """
        check_name(name)
        if name in self._devices or self._layout.stat_in(self._layout.pool_fd, name) is not None:
            raise NameExists(f"{name!r} exists already", name)
        return self.directory / name

    def remove(self, name: str) -> None:
        """Delete a published file, durably; errors as L{stat}.  Devices cannot be removed."""
        check_name(name)
        if name in self._devices:
            raise NotRegular(f"{name!r} is a device", name)
        if self._layout.find(name) is None:
            raise NameNotFound(f"there is no {name!r} in the pool", name)
        if self._layout.stat_in(self._layout.journals_fd, name) is not None:
            # Otherwise what a crash left of publishing it would look like a partial.
            with suppress(NameBusy):
                self._upkeep.give_back(self._upkeep.lock(name))
        try:
            self._layout.files.unlink(name, dir_fd=self._layout.pool_fd)
        except FileNotFoundError:
            raise NameNotFound(f"there is no {name!r} in the pool", name) from None
        self._layout.files.fsync(self._layout.pool_fd)
        self._records.remove(name)
        self._marks.remove(name)

    def open_source(self, name: str, *, offset: int = 0, length: int | None = None) -> FileSource:
        """
        Open a published file or declared device for sending, or a window of it.

        @raise NameBusy: it is incomplete, see L{Entry}.
        @raise SizeMismatch: the window reaches past the end.
        """
        check_name(name)
        layout = self._layout
        if self.stat(name).incomplete:
            raise NameBusy(f"{name!r} is incomplete: what writes it has not finished", name)
        if name in self._devices:
            fd = layout.files.open(self._devices[name], os.O_RDONLY | os.O_NONBLOCK)
            find = None
        else:
            fd = layout.open_published(name)

            def find() -> os.stat_result | None:
                return layout.stat_in(layout.pool_fd, name)

        return FileSource(
            fd, name=name, offset=offset, length=length, find=find,
            extent_bytes=self._extent_bytes, files=layout.files,
        )  # fmt: skip

    # --- transfers into the pool ---------------------------------------------------------

    def begin(
        self,
        name: str,
        *,
        size_bytes: int | None,
        sparse: bool,
        replace: bool,
        mode: int | None,
        owner: str,
        transfer_id: bytes,
        discard: bytes = b"",
    ) -> Receiving | Finished:
        """
        Begin or resume a transfer, and become the one writer of C{name}.

        A running transfer of the same owner and transfer id is fenced.  A
        partial of the same owner is adopted: what fits is held, as claims.

        @param size_bytes: C{None} if not known (then L{Receiving.declare} may follow).
        @param sparse: holes may come; if not, the space is reserved here.
        @param mode: permission bits to publish with; C{None}: the pool's.
        @param owner: identity of the sender.
        @param transfer_id: 16 bytes.
        @param discard: bitmap of extents that are not to be held.
        @return: L{Finished} if this very transfer is complete already.
        @raise NameExists: and C{replace} is not set.
        @raise NameBusy: another writer has the name, or another owner's partial.
        @raise NotRegular: the name is a link, directory or the like.
        @raise QuotaExceeded: it is too large for the pool or device.
        @raise OSError: C{ENOSPC} and the like; nothing new is left behind.
        """
        check_name(name)
        if len(transfer_id) != 16:
            raise BadValue("transfer_id", "not 16 bytes")
        if len(owner.encode("utf-8", "surrogatepass")) > OWNER_BYTES:
            raise BadValue("owner", f"more than {OWNER_BYTES} bytes")
        if mode is not None and not 0 <= mode <= 0o777:
            raise BadValue("mode", "not permission bits")
        if size_bytes is not None and not 0 <= size_bytes <= LARGEST_BYTES:
            raise QuotaExceeded(f"{size_bytes} bytes are more than the {LARGEST_BYTES} possible", name)
        mode = self._mode if mode is None else mode
        request = Request(name, owner, transfer_id, size_bytes, sparse, replace, mode)
        with self._starting(request) as started:
            journal = self._upkeep.lock(name)
            try:
                finished = self._finished(name, request)
                if finished is None:
                    self._check_free(request)
                    started.append(self._start(request, journal, discard))
                    return started[0]
            except BaseException:
                self._upkeep.give_back(journal)
                raise
            self._upkeep.give_back(journal)
            return finished

    def finished(self, transfer_id: bytes) -> Finished | None:
        """
        A transfer that was committed within the last days, if its file is unchanged.

        For a COMMIT whose transfer is not active any more.
        """
        found = self._records.find(transfer_id, self._clock() - self._limits.partial_seconds)
        return None if found is None else self._still_finished(*found)

    def _finished(self, name: str, request: Request) -> Finished | None:
        record = self._records.read(name)
        if record is None or record.transfer_id != request.transfer_id or record.owner != request.owner:
            return None
        if record.finished_seconds < self._clock() - self._limits.partial_seconds:
            return None
        return self._still_finished(name, record)

    def _still_finished(self, name: str, record: Record) -> Finished | None:
        try:
            entry = self._listing.entry(name)
        except (NameNotFound, NotRegular):
            return None
        if entry.digest != record.digest:
            return None
        return Finished(name, record.digest, record.size_bytes, record.owner)

    @contextmanager
    def _starting(self, request: Request) -> Iterator[list[Receiving]]:
        """Hold the name in this process until the transfer is registered, or failed to start."""
        name = request.name
        with self._lock:
            old = self._active.get(name)
            if name in self._active:
                if old is None or (old.request.owner, old.request.transfer_id) != (
                    request.owner,
                    request.transfer_id,
                ):
                    raise NameBusy(f"{name!r} is being written by another transfer", name)
                # The place stays taken until the new one is in it.
                self._active[name] = None
            else:
                self._active[name] = None
        started: list[Receiving] = []
        try:
            if old is not None:
                old.fence()
            yield started
        finally:
            with self._lock:
                if started:
                    self._active[name] = started[0]
                else:
                    self._active.pop(name, None)

    def _ended(self, receiving: Receiving) -> None:
        with self._lock:
            if self._active.get(receiving.request.name) is receiving:
                del self._active[receiving.request.name]

    def _check_free(self, request: Request) -> None:
        if request.name in self._devices:
            return
        if self._layout.find(request.name) is not None and not request.replace:
            raise NameExists(f"{request.name!r} exists already", request.name)

    def _start(self, request: Request, journal: Journal, discard: bytes) -> Receiving:
        layout, name = self._layout, request.name
        if journal.header is not None and journal.header.owner != request.owner:
            raise NameBusy(f"{name!r} has a partial of another owner; that must be removed first", name)
        target: Target
        if name in self._devices:
            target = DeviceTarget(layout, self._records, name, journal, self._devices[name])
        else:
            target = PartialTarget(layout, self._records, name, journal)
        try:
            target.enter(
                Header(
                    request.owner, request.transfer_id, request.size_bytes, target.inode, self._extent_bytes
                )
            )
            journal.forget(target.extents.drop_bitmap(discard))
            target.extents.keep_first(LARGEST_HELD_COUNT)
            return Receiving(
                target,
                request,
                quota=Quota(None, int) if name in self._devices else self._quota,
                limits=self._limits,
                clock=self._clock,
                on_end=self._ended,
            )
        except BaseException:
            if target.reads_zeros:
                target.remove()
            else:
                target.close()
            raise

    # --- partials ------------------------------------------------------------------------

    def partials(self) -> list[PartialEntry]:
        """Every transfer that was begun and is not committed, by name."""
        entries = (self._listing.partial(name) for name in self._listing.partial_names())
        return [entry for entry in entries if entry is not None]

    def discard(self, name: str) -> None:
        """
        Delete the partial of C{name}; a device stays incomplete.

        @raise NameNotFound: there is none.
        @raise NameBusy: a transfer is writing it.
        """
        self._upkeep.discard(check_name(name))

    def expire(self) -> list[str]:
        """
        Delete partials that nothing was written to for days, and records of files that are gone.

        @return: the names of the partials deleted.
        """
        return self._upkeep.expire(self._clock() - self._limits.partial_seconds)
