"""
libvirt's remote program: the volumes of storage pools.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import Annotated

from rpcstream.programs.base import Download, Procedure, Upload
from rpcstream.programs.remote_types import LIST_COUNT, REMOTE, PoolHandle, VolumeHandle
from rpcstream.wire import Char, Int, Max, Struct, Text, UHyper, UInt

__all__ = [
    "SPARSE",
    "StoragePoolListAllVolumes",
    "StorageVolCreateXML",
    "StorageVolCreateXMLFrom",
    "StorageVolDelete",
    "StorageVolDownload",
    "StorageVolGetInfo",
    "StorageVolGetInfoFlags",
    "StorageVolGetPath",
    "StorageVolGetXMLDesc",
    "StorageVolLookupByKey",
    "StorageVolLookupByName",
    "StorageVolLookupByPath",
    "StorageVolResize",
    "StorageVolUpload",
    "StorageVolWipe",
    "VolumeInfo",
    "VolumeList",
    "VolumeResize",
    "VolumeType",
]

SPARSE = 1
"""Flag of L{StorageVolUpload} and L{StorageVolDownload}: the stream may carry holes."""


class VolumeType(IntEnum):
    """What a volume is."""

    FILE = 0
    BLOCK = 1
    DIRECTORY = 2
    NETWORK = 3
    NETWORK_DIRECTORY = 4
    PLOOP = 5


class VolumeResize(IntFlag):
    """How L{StorageVolResize} takes its number."""

    NONE = 0
    ALLOCATE = 1
    DELTA = 2
    SHRINK = 4


class VolumeList(Struct):
    """
    @ivar count: how many there are, also when none were asked for.
    """

    volumes: Annotated[tuple[VolumeHandle, ...], Max(LIST_COUNT)]
    count: UInt


class StoragePoolListAllVolumes(
    Procedure[VolumeList], program=REMOTE, number=282, permission="storage.read", idempotent=True
):
    """The volumes of a pool."""

    pool: PoolHandle
    need_results: Int = 1
    flags: UInt = 0


class StorageVolLookupByName(
    Procedure[VolumeHandle], program=REMOTE, number=95, permission="storage.read", idempotent=True
):
    """Find a volume of a pool."""

    pool: PoolHandle
    name: Text


class StorageVolLookupByKey(
    Procedure[VolumeHandle], program=REMOTE, number=96, permission="storage.read", idempotent=True
):
    """Find a volume."""

    key: Text


class StorageVolLookupByPath(
    Procedure[VolumeHandle], program=REMOTE, number=97, permission="storage.read", idempotent=True
):
    """Find a volume."""

    path: Text


class VolumeInfo(Struct):
    """
    @ivar type: a L{VolumeType}.
    @ivar capacity_bytes: as its user sees it.
    @ivar allocation_bytes: what it takes.
    """

    type: Char
    capacity_bytes: UHyper
    allocation_bytes: UHyper


class StorageVolGetInfo(
    Procedure[VolumeInfo], program=REMOTE, number=98, permission="storage.read", idempotent=True
):
    """Type and sizes."""

    volume: VolumeHandle


class StorageVolGetInfoFlags(
    Procedure[VolumeInfo], program=REMOTE, number=378, permission="storage.read", idempotent=True
):
    """The same; with flag 1 the physical size in place of the allocation."""

    volume: VolumeHandle
    flags: UInt = 0


class StorageVolGetXMLDesc(
    Procedure[Text], program=REMOTE, number=99, permission="storage.read", idempotent=True
):
    """The volume's description."""

    volume: VolumeHandle
    flags: UInt = 0


class StorageVolGetPath(
    Procedure[Text], program=REMOTE, number=100, permission="storage.read", idempotent=True
):
    """Where it is on the host."""

    volume: VolumeHandle


class StorageVolCreateXML(Procedure[VolumeHandle], program=REMOTE, number=93, permission="storage.write"):
    """Make a volume; flag 1 allocates metadata of qcow2 at once."""

    pool: PoolHandle
    xml: Text
    flags: UInt = 0


class StorageVolCreateXMLFrom(
    Procedure[VolumeHandle], program=REMOTE, number=125, permission="storage.write"
):
    """Make a volume with the content of another."""

    pool: PoolHandle
    xml: Text
    clone: VolumeHandle
    flags: UInt = 0


class StorageVolDelete(Procedure[None], program=REMOTE, number=94, permission="storage.write"):
    """Delete a volume."""

    volume: VolumeHandle
    flags: UInt = 0


class StorageVolWipe(Procedure[None], program=REMOTE, number=165, permission="storage.write"):
    """Overwrite a volume with zeros."""

    volume: VolumeHandle
    flags: UInt = 0


class StorageVolResize(Procedure[None], program=REMOTE, number=260, permission="storage.write"):
    """Change the capacity; C{flags} is a L{VolumeResize}."""

    volume: VolumeHandle
    capacity_bytes: UHyper
    flags: UInt = 0


class StorageVolUpload(Upload[None], program=REMOTE, number=208, permission="storage.write"):
    """
    Write into a volume.

    @ivar length: most bytes taken, 0 for no limit: then it may grow.
    @ivar flags: L{SPARSE}.
    """

    volume: VolumeHandle
    offset: UHyper = 0
    length: UHyper = 0
    flags: UInt = 0


class StorageVolDownload(Download[None], program=REMOTE, number=209, permission="storage.read"):
    """
    Read a volume.

    @ivar length: most bytes wanted, 0 for all to the end.
    @ivar flags: L{SPARSE}.
    """

    volume: VolumeHandle
    offset: UHyper = 0
    length: UHyper = 0
    flags: UInt = 0
