"""
A pool as libvirt sees one: volumes that are made empty and then written in place.

Whatever changes content goes through the same names, links, lock and quota as
the transfers of the pool do.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Mapping
from contextlib import suppress
from typing import NamedTuple

from rpcstream.errors import NameBusy, NameExists
from rpcstream.storage.extents import LARGEST_BYTES
from rpcstream.storage.files import reserve_ranges
from rpcstream.storage.inplace import InPlace
from rpcstream.storage.layout import Layout
from rpcstream.storage.marks import Marks
from rpcstream.storage.names import check_name
from rpcstream.storage.publish import make_name
from rpcstream.storage.quota import Quota
from rpcstream.storage.records import Records
from rpcstream.storage.upkeep import Upkeep

__all__ = ["Space", "Volumes"]


class Space(NamedTuple):
    """
    @ivar capacity_bytes: of the file system, or the quota if that is less.
    @ivar available_bytes: of it, what is free.
    """

    capacity_bytes: int
    available_bytes: int


class Volumes:
    """Belongs to a L{Pool<rpcstream.storage.pool.Pool>}; every method blocks, and may run in any thread."""

    def __init__(
        self,
        layout: Layout,
        upkeep: Upkeep,
        marks: Marks,
        records: Records,
        quota: Quota,
        devices: Mapping[str, str],
        mode: int,
    ) -> None:
        self._layout = layout
        self._files = layout.files
        self._upkeep = upkeep
        self._marks = marks
        self._records = records
        self._quota = quota
        self._devices = devices
        self._mode = mode

    def space(self) -> Space:
        """How large the pool is, and how much of it is free."""
        found = self._files.file_system(self._layout.pool_fd)
        whole, free = found.f_blocks * found.f_frsize, found.f_bfree * found.f_frsize
        limit, used = self._quota.measured()
        if limit is None or limit >= whole:
            return Space(whole, free)
        return Space(limit, max(0, min(free, limit - used)))

    def directory_status(self) -> os.stat_result:
        """Of the pool's directory."""
        return self._files.fstat(self._layout.pool_fd)

    def status(self, name: str) -> os.stat_result:
        """
        Of a published file, or of a device's node.

        @raise NameNotFound: there is none; NotRegular: it is not served.
        """
        if name in self._devices:
            return os.stat(self._devices[name])
        fd = self._layout.open_published(check_name(name))
        try:
            return self._files.fstat(fd)
        finally:
            self._files.close(fd)

    def create(self, name: str, capacity_bytes: int, allocation_bytes: int, mode: int | None = None) -> None:
        """
        Make a file of zeros; durable on return.

        @param allocation_bytes: of disk that is reserved now.
        @param mode: permission bits; C{None}: the pool's.
        @raise NameExists: there is something of this name.
        @raise QuotaExceeded: the quota has no room for the allocation.
        @raise OSError: C{ENOSPC}, C{EFBIG} and the like; nothing is left behind.
        """
        check_name(name)
        if name in self._devices:
            raise NameExists(f"{name!r} is a device", name)
        if max(capacity_bytes, allocation_bytes) > LARGEST_BYTES:
            raise OSError(errno.EFBIG, os.strerror(errno.EFBIG))
        journal = self._upkeep.lock(name)
        try:
            if self._layout.stat_in(self._layout.pool_fd, name) is not None:
                raise NameExists(f"{name!r} exists already", name)
            if journal.header is not None:
                raise NameBusy(f"{name!r} has an unfinished transfer; that must be removed first", name)
            self._quota.charge(allocation_bytes, name)
            # What an upload into an older file of this name has left.
            self._marks.remove(name)
            self._make(name, capacity_bytes, allocation_bytes, self._mode if mode is None else mode)
        finally:
            self._upkeep.give_back(journal)

    def _make(self, name: str, capacity_bytes: int, allocation_bytes: int, mode: int) -> None:
        files, partials = self._files, self._layout.partials_fd
        # No journal speaks of it: what a crash leaves here is removed when the pool is opened.
        self._layout.unlink_in(partials, name)
        fd = files.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, dir_fd=partials)
        try:
            files.ftruncate(fd, capacity_bytes)
            if allocation_bytes:
                reserve_ranges(files, fd, [(0, allocation_bytes)])
            files.fchmod(fd, mode)
            files.fsync(fd)
            make_name(self._layout, name, replace=False)
        finally:
            files.close(fd)
            with suppress(OSError):
                self._layout.unlink_in(partials, name)

    def open_in_place(self, name: str, offset: int, length: int | None) -> InPlace:
        """
        Become the one writer of a published file or device.

        @param length: most bytes that may come; C{None} for no limit.
        @raise NameNotFound: there is none.
        @raise NameBusy: it has a writer, or the device is in use.
        @raise NotRegular: it is a link, directory or the like.
        @raise OSError: it cannot be opened.
        """
        check_name(name)
        journal = self._upkeep.lock(name)
        fd = -1
        try:
            if name in self._devices:
                if journal.header is not None:
                    raise NameBusy(f"a transfer into the device {name!r} was not committed", name)
                fd = self._files.open(self._devices[name], os.O_RDWR | os.O_EXCL)
            else:
                fd = self._layout.open_published(name, os.O_RDWR)
            is_device = name in self._devices
            return InPlace(
                self._layout,
                self._upkeep,
                self._marks,
                self._records,
                Quota(None, int) if is_device else self._quota,
                name,
                journal,
                fd,
                offset,
                length,
                is_device=is_device,
            )
        except BaseException:
            if fd >= 0:
                self._files.close(fd)
            self._upkeep.give_back(journal)
            raise
