"""
What the procedures of libvirt's remote program have in common: the program and its values.

Layouts are facts of the protocol (wire-protocol.md section 7.3); the words are ours.
"""

from __future__ import annotations

from typing import Annotated

from rpcstream.programs.program import Program
from rpcstream.programs.remote_errors import LIBVIRT_ERRORS
from rpcstream.wire import Double, Fixed, Hyper, Int, Max, Struct, Switch, Text, UHyper, UInt

__all__ = [
    "LIST_COUNT",
    "PEEK_BYTES",
    "REMOTE",
    "DomainHandle",
    "NetworkHandle",
    "PoolHandle",
    "TypedBool",
    "TypedDouble",
    "TypedHyper",
    "TypedInt",
    "TypedParameter",
    "TypedText",
    "TypedUHyper",
    "TypedUInt",
    "TypedValue",
    "UUIDBytes",
    "VolumeHandle",
]

REMOTE = Program("remote", number=0x20008086, version=1, lenient=True)
"""libvirt's main program, as virsh speaks it."""
REMOTE.errors.update(LIBVIRT_ERRORS)

LIST_COUNT = 16384
"""Most domains, pools or volumes of one list."""
PEEK_BYTES = 4 * 1024 * 1024
"""Most bytes of one peek."""

UUIDBytes = Annotated[bytes, Fixed(16)]


class DomainHandle(Struct):
    """
    How a domain is named in calls.

    @ivar id: number of the running domain, -1 of one that is off.
    """

    name: Text
    uuid: UUIDBytes
    id: Int = -1


class NetworkHandle(Struct):
    """How a virtual network is named in calls."""

    name: Text
    uuid: UUIDBytes


class PoolHandle(Struct):
    """How a storage pool is named in calls."""

    name: Text
    uuid: UUIDBytes


class VolumeHandle(Struct):
    """
    How a volume is named in calls.

    @ivar pool: name of its pool.
    @ivar key: names it everywhere; mostly its path.
    """

    pool: Text
    name: Text
    key: Text


# --- typed parameters -------------------------------------------------------------------


class TypedInt(Struct):
    """A signed 32-bit number."""

    value: Int


class TypedUInt(Struct):
    """An unsigned 32-bit number."""

    value: UInt


class TypedHyper(Struct):
    """A signed 64-bit number."""

    value: Hyper


class TypedUHyper(Struct):
    """An unsigned 64-bit number."""

    value: UHyper


class TypedDouble(Struct):
    """A floating point number."""

    value: Double


class TypedBool(Struct):
    """True or false."""

    value: bool


class TypedText(Struct):
    """Text."""

    value: Text


TypedValue = Annotated[
    TypedInt | TypedUInt | TypedHyper | TypedUHyper | TypedDouble | TypedBool | TypedText,
    Switch(
        {
            1: TypedInt,
            2: TypedUInt,
            3: TypedHyper,
            4: TypedUHyper,
            5: TypedDouble,
            6: TypedBool,
            7: TypedText,
        }
    ),
]
"""A value with its type."""


class TypedParameter(Struct):
    """
    A named value, as libvirt grows its structs.

    @ivar field: its name, 79 usable bytes.
    """

    field: Annotated[str, Max(80)]
    value: TypedValue
