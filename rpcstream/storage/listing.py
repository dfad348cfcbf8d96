"""
What is in a pool: published names, and partials.
"""

from __future__ import annotations

import heapq
import os
from collections.abc import Mapping
from typing import NamedTuple

from rpcstream.errors import NameNotFound, NameRefused, NotRegular
from rpcstream.storage.journal import read_header, replay
from rpcstream.storage.layout import Layout
from rpcstream.storage.marks import Marks
from rpcstream.storage.names import check_name
from rpcstream.storage.records import Record, Records
from rpcstream.storage.sources import ContentKind

__all__ = ["Entry", "Listing", "PartialEntry"]


class Entry(NamedTuple):
    """
    @ivar name: in the pool.
    @ivar kind: file or device.
    @ivar size_bytes: of the content; C{allocated_bytes}: of the disk it takes.
    @ivar mtime_ns: last change, since the epoch.
    @ivar digest: of the content, if it came by a transfer and is unchanged.
    @ivar incomplete: a device of which a transfer is not committed, or content that an upload in
        place writes, or has left unfinished.
    """

    name: str
    kind: ContentKind
    size_bytes: int
    allocated_bytes: int
    mtime_ns: int
    digest: bytes | None
    incomplete: bool


class PartialEntry(NamedTuple):
    """
    @ivar size_bytes: declared, C{None} if not known.
    @ivar held_bytes: what the journal says is durable.
    @ivar owner: identity of the sender.
    @ivar modified_ns: last change of the journal, since the epoch.
    @ivar active: whether a transfer writes it now.
    """

    name: str
    size_bytes: int | None
    held_bytes: int
    owner: str
    transfer_id: bytes
    modified_ns: int
    active: bool


class Listing:
    """Looks at a pool without changing anything.  Thread-safe."""

    def __init__(self, layout: Layout, records: Records, marks: Marks, devices: Mapping[str, str]) -> None:
        self._layout = layout
        self._marks = marks
        self._files = layout.files
        self._records = records
        self._devices = devices

    def entries(self, after: str, limit: int) -> list[Entry]:
        """
        The first C{limit} entries with names greater than C{after}, sorted by UTF-8 bytes.

        What is not served (links, directories, names we refuse) is left out.
        """
        names = {*self._files.listdir(self._layout.pool_fd), *self._devices}
        # Some of them are not served: take names until there are enough.
        candidates = [name for name in names if name > after and not name.startswith(".")]
        heapq.heapify(candidates)
        found: list[Entry] = []
        while candidates and len(found) < limit:
            name = heapq.heappop(candidates)
            try:
                found.append(self.entry(check_name(name)))
            except (NameRefused, NameNotFound, NotRegular):
                continue
        return found

    def entry(self, name: str) -> Entry:
        """
        One name.

        @raise NameNotFound: there is none.
        @raise NotRegular: it is not served.
        """
        record = self._records.read(name)
        if name in self._devices:
            return self._device_entry(name, record)
        found = self._layout.find(name)
        if found is None:
            raise NameNotFound(f"there is no {name!r} in the pool", name)
        is_incomplete = self._marks.read(name, found.st_ino) is not None
        is_known = record is not None and not is_incomplete and record.describes(found)
        return Entry(
            name,
            ContentKind.FILE,
            found.st_size,
            found.st_blocks * 512,
            found.st_mtime_ns,
            record.digest if record is not None and is_known else None,
            is_incomplete,
        )

    def _device_entry(self, name: str, record: Record | None) -> Entry:
        try:
            fd = self._files.open(self._devices[name], os.O_RDONLY | os.O_NONBLOCK)
        except FileNotFoundError:
            raise NameNotFound(f"the device of {name!r} does not exist", name) from None
        try:
            size_bytes = self._files.seek(fd, 0, os.SEEK_END)
            found = self._files.fstat(fd)
        finally:
            self._files.close(fd)
        inode = found.st_rdev or found.st_ino
        is_incomplete = self.is_incomplete(name) or self._marks.read(name, inode) is not None
        # Nobody can tell whether something else has written to a device since; only whether it is the same.
        is_known = record is not None and not is_incomplete and record.inode == inode
        digest = record.digest if record is not None and is_known else None
        return Entry(
            name, ContentKind.DEVICE, size_bytes, size_bytes, found.st_mtime_ns,
            digest, is_incomplete,
        )  # fmt: skip

    def is_incomplete(self, name: str) -> bool:
        """Whether a device has been written to by a transfer that is not committed."""
        journal = self._layout.stat_in(self._layout.journals_fd, name)
        return journal is not None and journal.st_size > 0

    def partial_names(self) -> list[str]:
        """Every name with a journal, sorted."""
        return sorted(self._files.listdir(self._layout.journals_fd))

    def partial(self, name: str) -> PartialEntry | None:
        """What the journal of C{name} says; C{None} if it says nothing."""
        try:
            fd = self._files.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=self._layout.journals_fd)
        except FileNotFoundError:
            return None
        try:
            header, _ = read_header(self._files, fd)
            if header is None:
                return None
            extents = replay(self._files, fd, header.size_bytes, header.extent_bytes)
            return PartialEntry(
                name,
                header.size_bytes,
                extents.known_bytes(header.size_bytes),
                header.owner,
                header.transfer_id,
                self._files.fstat(fd).st_mtime_ns,
                not self._files.lock(fd),
            )
        finally:
            self._files.close(fd)

    def used_bytes(self) -> int:
        """Bytes of disk that published files and partials take."""
        used: dict[int, int] = {}
        for dir_fd in (self._layout.pool_fd, self._layout.partials_fd):
            for name in self._files.listdir(dir_fd):
                found = self._layout.stat_in(dir_fd, name)
                if found is not None:
                    # By inode: just after publishing there are two names for one file.
                    used[found.st_ino] = found.st_blocks * 512
        return sum(used.values())
