"""
The libvirt server's answers about volumes: the files and devices of a pool.

A volume's key is its path, as in libvirt's own directory pools; what a client may
name is nevertheless one name in one pool, opened below the pool's directory.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from typing import TypeVar

from rpcstream.errors import NameNotFound, NameRefused, NotRegular, StorageError
from rpcstream.libvirt.server_errors import (
    as_libvirt_error,
    no_volume,
    refuse_flags,
    unsupported_configuration,
)
from rpcstream.libvirt.server_pools import PoolTable
from rpcstream.libvirt.server_xml import parse_volume, volume_xml
from rpcstream.net.calls import Call
from rpcstream.net.threads import Runner
from rpcstream.programs import remote
from rpcstream.programs import remote_storage_names as names
from rpcstream.programs.remote import VolumeHandle, VolumeInfo, VolumeList, VolumeType
from rpcstream.programs.remote_types import LIST_COUNT
from rpcstream.storage.listing import Entry
from rpcstream.storage.pool import Pool

__all__ = ["VolumeResponders", "volume_path"]

T = TypeVar("T")

PHYSICAL = 1
"""Flag of STORAGE_VOL_GET_INFO_FLAGS: the size of the file in place of its allocation."""
PREALLOCATE_METADATA = 1
"""Flag of STORAGE_VOL_CREATE_XML: for qcow2 only."""


def volume_path(pool: Pool, name: str) -> str:
    """Where a volume is on this host."""
    return os.path.join(pool.directory, name)


class VolumeResponders:
    """Finding, describing, making and deleting volumes."""

    def __init__(self, table: PoolTable, runner: Runner) -> None:
        self._table = table
        self._runner = runner

    def _handle(self, pool: Pool, name: str) -> VolumeHandle:
        return VolumeHandle(pool.name, name, volume_path(pool, name))

    def _found(self, call: Call, handle: VolumeHandle) -> tuple[Pool, str]:
        """Where a handle's volume would be; its pool is there and the caller may do this to the volume."""
        pool = self._table.named(call, handle.pool)
        self._table.check(call, pool, handle.name)
        return pool, handle.name

    async def _run(self, name: str, what: str, function: Callable[[], T]) -> T:
        """Run something in a thread; its errors in libvirt's words."""
        try:
            return await self._runner.run(function)
        except NameRefused:
            # What cannot be a name names no volume.
            raise no_volume(f"name '{name}'") from None
        except (StorageError, OSError) as error:
            raise as_libvirt_error(error, name, what) from error

    async def _entry(self, pool: Pool, name: str) -> Entry:
        what = f"cannot stat '{volume_path(pool, name)}'"
        return await self._run(name, what, lambda: pool.stat(name))

    # --- finding -----------------------------------------------------------------------------

    @remote.StoragePoolListAllVolumes.responder
    async def list_volumes(self, call: Call, request: remote.StoragePoolListAllVolumes) -> VolumeList:
        """Those that the caller may see, the first 16,384 of them."""
        refuse_flags(request.flags, 0, "storagePoolListAllVolumes")
        pool = self._table.of(call, request.pool)
        found = await self._names(call, pool)
        handles = tuple(self._handle(pool, name) for name in found) if request.need_results else ()
        return VolumeList(handles, len(found))

    @names.StoragePoolNumOfVolumes.responder
    async def count(self, call: Call, request: names.StoragePoolNumOfVolumes) -> int:
        """How many there are."""
        return len(await self._names(call, self._table.of(call, request.pool)))

    @names.StoragePoolListVolumes.responder
    async def volume_names(self, call: Call, request: names.StoragePoolListVolumes) -> tuple[str, ...]:
        """Their names."""
        found = await self._names(call, self._table.of(call, request.pool))
        return tuple(found)[: max(0, request.limit)]

    async def _names(self, call: Call, pool: Pool) -> list[str]:
        what = f"cannot open path '{pool.directory}'"
        entries = await self._run("", what, lambda: pool.entries("", LIST_COUNT))
        return [entry.name for entry in entries if self._table.allows(call, pool, entry.name)]

    @remote.StorageVolLookupByName.responder
    async def by_name(self, call: Call, request: remote.StorageVolLookupByName) -> VolumeHandle:
        """By its name in a pool."""
        pool = self._table.of(call, request.pool)
        self._table.check(call, pool, request.name)
        await self._entry(pool, request.name)
        return self._handle(pool, request.name)

    @remote.StorageVolLookupByKey.responder
    async def by_key(self, call: Call, request: remote.StorageVolLookupByKey) -> VolumeHandle:
        """By its key, which is its path."""
        return await self._at(call, request.key) or self._missing(f"key {request.key}")

    @remote.StorageVolLookupByPath.responder
    async def by_path(self, call: Call, request: remote.StorageVolLookupByPath) -> VolumeHandle:
        """By its path on this host."""
        found = await self._at(call, os.path.normpath(request.path))
        return found or self._missing(f"path '{request.path}'")

    def _missing(self, detail: str) -> VolumeHandle:
        raise no_volume(detail)

    async def _at(self, call: Call, path: str) -> VolumeHandle | None:
        place = self._table.at(call, path)
        if place is None or not self._table.allows(call, *place):
            return None
        pool, name = place
        try:
            await self._runner.run(pool.stat, name)
        except (NameNotFound, NameRefused, NotRegular):
            return None
        return self._handle(pool, name)

    # --- describing --------------------------------------------------------------------------

    @remote.StorageVolGetInfo.responder
    async def info(self, call: Call, request: remote.StorageVolGetInfo) -> VolumeInfo:
        """Type and sizes."""
        return _info(await self._entry(*self._found(call, request.volume)), is_physical=False)

    @remote.StorageVolGetInfoFlags.responder
    async def info_flags(self, call: Call, request: remote.StorageVolGetInfoFlags) -> VolumeInfo:
        """The same, with the physical size if that is asked for."""
        refuse_flags(request.flags, PHYSICAL, "storageVolGetInfoFlags")
        entry = await self._entry(*self._found(call, request.volume))
        return _info(entry, is_physical=bool(request.flags & PHYSICAL))

    @remote.StorageVolGetXMLDesc.responder
    async def xml(self, call: Call, request: remote.StorageVolGetXMLDesc) -> str:
        """The whole description."""
        refuse_flags(request.flags, 0, "storageVolGetXMLDesc")
        pool, name = self._found(call, request.volume)
        path = volume_path(pool, name)

        def describe() -> str:
            return volume_xml(pool.stat(name), path, pool.volumes.status(name))

        return await self._run(name, f"cannot stat '{path}'", describe)

    @remote.StorageVolGetPath.responder
    async def path(self, call: Call, request: remote.StorageVolGetPath) -> str:
        """Where it is on this host."""
        pool, name = self._found(call, request.volume)
        await self._entry(pool, name)
        return volume_path(pool, name)

    # --- making and deleting ---------------------------------------------------------------------

    @remote.StorageVolCreateXML.responder
    async def create(self, call: Call, request: remote.StorageVolCreateXML) -> VolumeHandle:
        """A file of zeros, as large as its capacity."""
        refuse_flags(request.flags, PREALLOCATE_METADATA, "storageVolCreateXML")
        if request.flags & PREALLOCATE_METADATA:
            raise unsupported_configuration("metadata preallocation is not supported for raw volumes")
        pool = self._table.of(call, request.pool)
        new = parse_volume(request.xml)
        self._table.check(call, pool, new.name)
        path = volume_path(pool, new.name)

        def make() -> None:
            pool.volumes.create(new.name, new.capacity_bytes, new.allocation_bytes, new.mode)

        try:
            await self._runner.run(make)
        except (StorageError, OSError) as error:
            what = f"cannot allocate {new.allocation_bytes} bytes in file '{path}'"
            raise as_libvirt_error(error, new.name, what) from error
        _log_change(call, "made", pool, new.name)
        return self._handle(pool, new.name)

    @remote.StorageVolDelete.responder
    async def delete(self, call: Call, request: remote.StorageVolDelete) -> None:
        """Delete the file; a device cannot be deleted."""
        refuse_flags(request.flags, 0, "virStorageBackendVolDeleteLocal")
        pool, name = self._found(call, request.volume)
        path = volume_path(pool, name)
        await self._run(name, f"cannot unlink file '{path}'", lambda: pool.remove(name))
        _log_change(call, "deleted", pool, name)


def _info(entry: Entry, *, is_physical: bool) -> VolumeInfo:
    kind = VolumeType.BLOCK if entry.kind else VolumeType.FILE
    return VolumeInfo(kind, entry.size_bytes, entry.size_bytes if is_physical else entry.allocated_bytes)


def _log_change(call: Call, what: str, pool: Pool, name: str) -> None:
    who = call.principal.name
    call.log.info("{principal} {what} {name} in {pool}", principal=who, what=what, name=name, pool=pool.name)
