"""
The libvirt server's answers about pools: the destination's own, active and there to stay.

Also how everything else finds a pool, and whether its caller may look into it.
"""

from __future__ import annotations

import os
import socket
from collections.abc import Mapping
from typing import Final
from uuid import NAMESPACE_URL, UUID, uuid5

from rpcstream.errors import AccessDenied
from rpcstream.libvirt.server_errors import no_pool, refuse_flags
from rpcstream.libvirt.server_xml import pool_xml
from rpcstream.net.calls import Call
from rpcstream.net.threads import Runner
from rpcstream.programs import remote
from rpcstream.programs import remote_storage_names as names
from rpcstream.programs.remote import PoolHandle, PoolInfo, PoolList, PoolState
from rpcstream.storage.pool import Pool

__all__ = ["PoolResponders", "PoolTable"]

_MATCHING: Final = ((1 | 2, 2), (4 | 8, 4), (16 | 32, 16), (0xFFFC0, 64))
"""Groups of filter flags, and what pools are here: active, persistent, with autostart, directories."""
_FILTERS: Final = 0xFFFFF


class PoolTable:
    """
    @param pools: by name; filled while the service runs.
    """

    def __init__(self, pools: Mapping[str, Pool]) -> None:
        self._pools = pools
        self._host = socket.gethostname()

    def uuid(self, pool: Pool) -> UUID:
        """The same as long as the pool stays where it is."""
        return uuid5(NAMESPACE_URL, f"rpcstream://{self._host}{pool.directory}#{pool.name}")

    def handle(self, pool: Pool) -> PoolHandle:
        """How clients name it."""
        return PoolHandle(pool.name, self.uuid(pool).bytes)

    def visible(self, call: Call) -> list[Pool]:
        """Those that the caller may use for what it calls, by name."""
        return [pool for name, pool in sorted(self._pools.items()) if self.allows(call, pool)]

    def allows(self, call: Call, pool: Pool, name: str | None = None) -> bool:
        """Whether the policy lets the caller do this in a pool, or to a name in it."""
        return self._decide(call, pool, name) is None

    def check(self, call: Call, pool: Pool, name: str | None = None) -> None:
        """@raise AccessDenied: it does not."""
        reason = self._decide(call, pool, name)
        if reason is not None:
            raise AccessDenied(f"access denied: {reason}")

    def _decide(self, call: Call, pool: Pool, name: str | None) -> str | None:
        policy = call.connection.serving.policy
        decision = policy.decide(call.principal.name, call.procedure.permission, name, pool.name)
        return None if decision.allowed else str(decision.reason)

    def named(self, call: Call, name: str) -> Pool:
        """
        @raise NoStoragePool: there is none.
        @raise AccessDenied: nothing in it is for the caller.
        """
        pool = self._pools.get(name)
        if pool is None:
            raise no_pool(f"name '{name}'")
        self.check(call, pool)
        return pool

    def by_uuid(self, call: Call, uuid: bytes, name: str = "") -> Pool:
        """As L{named}."""
        wanted = UUID(bytes=uuid)
        for pool in self._pools.values():
            if self.uuid(pool) == wanted:
                self.check(call, pool)
                return pool
        raise no_pool(f"uuid '{wanted}'" + (f" ({name})" if name else ""))

    def of(self, call: Call, handle: PoolHandle) -> Pool:
        """The pool that a handle names: by its UUID, as libvirt has it."""
        return self.by_uuid(call, handle.uuid, handle.name)

    def at(self, call: Call, path: str) -> tuple[Pool, str] | None:
        """Pool and name that a path would have; C{None} if it lies in no pool."""
        directory, name = os.path.split(path)
        for pool in self.visible(call):
            if name and directory == str(pool.directory):
                return pool, name
        return None


class PoolResponders:
    """Looking at pools; none can be made, changed or stopped from here."""

    def __init__(self, table: PoolTable, runner: Runner) -> None:
        self._table = table
        self._runner = runner

    @remote.ConnectListAllStoragePools.responder
    def list_pools(self, call: Call, request: remote.ConnectListAllStoragePools) -> PoolList:
        """Those that the caller may see."""
        refuse_flags(request.flags, _FILTERS, "storageConnectListAllStoragePools")
        found = self._table.visible(call)
        if any(request.flags & group and not request.flags & own for group, own in _MATCHING):
            found = []
        handles = tuple(map(self._table.handle, found))
        return PoolList(handles if request.need_results else (), len(handles))

    @remote.StoragePoolLookupByName.responder
    def by_name(self, call: Call, request: remote.StoragePoolLookupByName) -> PoolHandle:
        """By name."""
        return self._table.handle(self._table.named(call, request.name))

    @remote.StoragePoolLookupByUUID.responder
    def by_uuid(self, call: Call, request: remote.StoragePoolLookupByUUID) -> PoolHandle:
        """By UUID."""
        return self._table.handle(self._table.by_uuid(call, request.uuid))

    @remote.StoragePoolLookupByVolume.responder
    def by_volume(self, call: Call, request: remote.StoragePoolLookupByVolume) -> PoolHandle:
        """By a volume of it."""
        return self._table.handle(self._table.named(call, request.volume.pool))

    @names.StoragePoolLookupByTargetPath.responder
    def by_path(self, call: Call, request: names.StoragePoolLookupByTargetPath) -> PoolHandle:
        """By its directory."""
        for pool in self._table.visible(call):
            if str(pool.directory) == os.path.normpath(request.path):
                return self._table.handle(pool)
        raise no_pool(f"target path '{request.path}'")

    @remote.StoragePoolGetInfo.responder
    async def info(self, call: Call, request: remote.StoragePoolGetInfo) -> PoolInfo:
        """State and space."""
        pool = self._table.of(call, request.pool)
        space = await self._runner.run(pool.volumes.space)
        used = space.capacity_bytes - space.available_bytes
        return PoolInfo(PoolState.RUNNING, space.capacity_bytes, used, space.available_bytes)

    @remote.StoragePoolGetXMLDesc.responder
    async def xml(self, call: Call, request: remote.StoragePoolGetXMLDesc) -> str:
        """The whole description; flag 1, of what is defined and not active, makes no difference."""
        refuse_flags(request.flags, 1, "storagePoolGetXMLDesc")
        pool = self._table.of(call, request.pool)
        uuid = self._table.uuid(pool)

        def describe() -> str:
            volumes = pool.volumes
            return pool_xml(pool.name, uuid, str(pool.directory), volumes.space(), volumes.directory_status())

        return await self._runner.run(describe)

    @remote.StoragePoolGetAutostart.responder
    def autostart(self, call: Call, request: remote.StoragePoolGetAutostart) -> bool:
        """It starts with the service."""
        self._table.of(call, request.pool)
        return True

    @remote.StoragePoolIsActive.responder
    def is_active(self, call: Call, request: remote.StoragePoolIsActive) -> bool:
        """As long as the service runs."""
        self._table.of(call, request.pool)
        return True

    @remote.StoragePoolIsPersistent.responder
    def is_persistent(self, call: Call, request: remote.StoragePoolIsPersistent) -> bool:
        """It is there again after a restart."""
        self._table.of(call, request.pool)
        return True

    @remote.StoragePoolRefresh.responder
    def refresh(self, call: Call, request: remote.StoragePoolRefresh) -> None:
        """Nothing to do: a pool is looked at whenever it is asked for."""
        refuse_flags(request.flags, 0, "storagePoolRefresh")
        self._table.of(call, request.pool)

    # --- lists of names ----------------------------------------------------------------------

    @names.ConnectNumOfStoragePools.responder
    def count(self, call: Call, request: names.ConnectNumOfStoragePools) -> int:
        """All are active."""
        return len(self._table.visible(call))

    @names.ConnectListStoragePools.responder
    def pool_names(self, call: Call, request: names.ConnectListStoragePools) -> tuple[str, ...]:
        """Their names."""
        return tuple(pool.name for pool in self._table.visible(call))[: max(0, request.limit)]

    @names.ConnectNumOfDefinedStoragePools.responder
    def inactive_count(self, call: Call, request: names.ConnectNumOfDefinedStoragePools) -> int:
        """None is inactive."""
        return 0

    @names.ConnectListDefinedStoragePools.responder
    def inactive_names(self, call: Call, request: names.ConnectListDefinedStoragePools) -> tuple[str, ...]:
        """None is inactive."""
        return ()
