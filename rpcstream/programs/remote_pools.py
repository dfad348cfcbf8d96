"""
libvirt's remote program: storage pools.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import Annotated

from rpcstream.programs.base import Procedure
from rpcstream.programs.remote_types import LIST_COUNT, REMOTE, PoolHandle, UUIDBytes, VolumeHandle
from rpcstream.wire import Int, Max, Struct, Text, UChar, UHyper, UInt

__all__ = [
    "ConnectListAllStoragePools",
    "PoolFilter",
    "PoolInfo",
    "PoolList",
    "PoolState",
    "StoragePoolBuild",
    "StoragePoolCreate",
    "StoragePoolCreateXML",
    "StoragePoolDefineXML",
    "StoragePoolDelete",
    "StoragePoolDestroy",
    "StoragePoolGetAutostart",
    "StoragePoolGetInfo",
    "StoragePoolGetXMLDesc",
    "StoragePoolIsActive",
    "StoragePoolIsPersistent",
    "StoragePoolLookupByName",
    "StoragePoolLookupByUUID",
    "StoragePoolLookupByVolume",
    "StoragePoolRefresh",
    "StoragePoolSetAutostart",
    "StoragePoolUndefine",
]


class PoolState(IntEnum):
    """What a pool is doing."""

    INACTIVE = 0
    BUILDING = 1
    RUNNING = 2
    DEGRADED = 3
    INACCESSIBLE = 4


class PoolFilter(IntFlag):
    """Which pools L{ConnectListAllStoragePools} lists; none of a pair means both."""

    ALL = 0
    INACTIVE = 1
    ACTIVE = 2
    PERSISTENT = 4
    TRANSIENT = 8
    AUTOSTART = 16
    NO_AUTOSTART = 32


class PoolList(Struct):
    """
    @ivar count: how many there are, also when none were asked for.
    """

    pools: Annotated[tuple[PoolHandle, ...], Max(LIST_COUNT)]
    count: UInt


class ConnectListAllStoragePools(
    Procedure[PoolList], program=REMOTE, number=281, permission="storage.read", idempotent=True
):
    """Pools; C{flags} is a L{PoolFilter}."""

    need_results: Int = 1
    flags: UInt = 0


class StoragePoolLookupByName(
    Procedure[PoolHandle], program=REMOTE, number=84, permission="storage.read", idempotent=True
):
    """Find a pool."""

    name: Text


class StoragePoolLookupByUUID(
    Procedure[PoolHandle], program=REMOTE, number=85, permission="storage.read", idempotent=True
):
    """Find a pool."""

    uuid: UUIDBytes


class StoragePoolLookupByVolume(
    Procedure[PoolHandle], program=REMOTE, number=86, permission="storage.read", idempotent=True
):
    """Find the pool of a volume."""

    volume: VolumeHandle


class PoolInfo(Struct):
    """
    @ivar state: a L{PoolState}.
    @ivar capacity_bytes: of all; C{allocation_bytes} is used, C{available_bytes} is free.
    """

    state: UChar
    capacity_bytes: UHyper
    allocation_bytes: UHyper
    available_bytes: UHyper


class StoragePoolGetInfo(
    Procedure[PoolInfo], program=REMOTE, number=87, permission="storage.read", idempotent=True
):
    """State and space."""

    pool: PoolHandle


class StoragePoolGetXMLDesc(
    Procedure[Text], program=REMOTE, number=88, permission="storage.read", idempotent=True
):
    """The pool's description."""

    pool: PoolHandle
    flags: UInt = 0


class StoragePoolGetAutostart(
    Procedure[bool], program=REMOTE, number=89, permission="storage.read", idempotent=True
):
    """Whether it starts with the daemon."""

    pool: PoolHandle


class StoragePoolIsActive(
    Procedure[bool], program=REMOTE, number=154, permission="storage.read", idempotent=True
):
    """Whether its volumes can be used."""

    pool: PoolHandle


class StoragePoolIsPersistent(
    Procedure[bool], program=REMOTE, number=155, permission="storage.read", idempotent=True
):
    """Whether it is defined."""

    pool: PoolHandle


class StoragePoolCreateXML(Procedure[PoolHandle], program=REMOTE, number=76, permission="storage.write"):
    """Start a pool that is not defined."""

    xml: Text
    flags: UInt = 0


class StoragePoolDefineXML(Procedure[PoolHandle], program=REMOTE, number=77, permission="storage.write"):
    """Define a pool."""

    xml: Text
    flags: UInt = 0


class StoragePoolCreate(Procedure[None], program=REMOTE, number=78, permission="storage.write"):
    """Start a defined pool."""

    pool: PoolHandle
    flags: UInt = 0


class StoragePoolBuild(Procedure[None], program=REMOTE, number=79, permission="storage.write"):
    """Make what it lies on: a directory, a file system."""

    pool: PoolHandle
    flags: UInt = 0


class StoragePoolDestroy(Procedure[None], program=REMOTE, number=80, permission="storage.write"):
    """Stop it; its content stays."""

    pool: PoolHandle


class StoragePoolDelete(Procedure[None], program=REMOTE, number=81, permission="storage.write"):
    """Remove what it lies on."""

    pool: PoolHandle
    flags: UInt = 0


class StoragePoolUndefine(Procedure[None], program=REMOTE, number=82, permission="storage.write"):
    """Forget the definition."""

    pool: PoolHandle


class StoragePoolRefresh(Procedure[None], program=REMOTE, number=83, permission="storage.write"):
    """Read its list of volumes again."""

    pool: PoolHandle
    flags: UInt = 0


class StoragePoolSetAutostart(Procedure[None], program=REMOTE, number=90, permission="storage.write"):
    """Whether it starts with the daemon."""

    pool: PoolHandle
    autostart: bool
