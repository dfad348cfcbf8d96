"""
libvirt's remote program: lists of names, as clients from before libvirt 0.10.2 ask for pools and volumes.
"""

from __future__ import annotations

from typing import Annotated

from rpcstream.programs.base import Procedure
from rpcstream.programs.remote_types import LIST_COUNT, REMOTE, PoolHandle
from rpcstream.wire import Int, Max, Text, UInt

__all__ = [
    "ConnectListDefinedStoragePools",
    "ConnectListStoragePools",
    "ConnectNumOfDefinedStoragePools",
    "ConnectNumOfStoragePools",
    "StoragePoolListVolumes",
    "StoragePoolLookupByTargetPath",
    "StoragePoolNumOfVolumes",
]

Names = Annotated[tuple[Text, ...], Max(LIST_COUNT)]


class ConnectNumOfStoragePools(
    Procedure[Int], program=REMOTE, number=71, permission="storage.read", idempotent=True
):
    """How many pools are active."""


class ConnectListStoragePools(
    Procedure[Names], program=REMOTE, number=72, permission="storage.read", idempotent=True
):
    """Their names, C{limit} at most."""

    limit: Int


class ConnectNumOfDefinedStoragePools(
    Procedure[Int], program=REMOTE, number=73, permission="storage.read", idempotent=True
):
    """How many pools are defined and not active."""


class ConnectListDefinedStoragePools(
    Procedure[Names], program=REMOTE, number=74, permission="storage.read", idempotent=True
):
    """Their names, C{limit} at most."""

    limit: Int


class StoragePoolNumOfVolumes(
    Procedure[Int], program=REMOTE, number=91, permission="storage.read", idempotent=True
):
    """How many volumes a pool has."""

    pool: PoolHandle


class StoragePoolListVolumes(
    Procedure[Names], program=REMOTE, number=92, permission="storage.read", idempotent=True
):
    """Their names, C{limit} at most."""

    pool: PoolHandle
    limit: Int


class StoragePoolLookupByTargetPath(
    Procedure[PoolHandle], program=REMOTE, number=391, permission="storage.read", idempotent=True
):
    """Find the pool that lies in a directory."""

    path: Text
    flags: UInt = 0
