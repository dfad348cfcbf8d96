"""
libvirt's remote program: finding domains (virtual machines and containers) and looking at them.
"""

from __future__ import annotations

from enum import IntEnum, IntFlag
from typing import Annotated

from rpcstream.programs.base import Procedure
from rpcstream.programs.remote_types import (
    LIST_COUNT,
    PEEK_BYTES,
    REMOTE,
    DomainHandle,
    TypedParameter,
    UUIDBytes,
)
from rpcstream.wire import Int, Max, Struct, Text, UChar, UHyper, UInt, UShort

__all__ = [
    "ConnectGetAllDomainStats",
    "ConnectListAllDomains",
    "DomainBlockInfo",
    "DomainBlockPeek",
    "DomainFilter",
    "DomainGetAutostart",
    "DomainGetBlockInfo",
    "DomainGetInfo",
    "DomainGetOSType",
    "DomainGetState",
    "DomainGetXMLDesc",
    "DomainInfo",
    "DomainIsActive",
    "DomainIsPersistent",
    "DomainList",
    "DomainLookupByID",
    "DomainLookupByName",
    "DomainLookupByUUID",
    "DomainMemoryPeek",
    "DomainState",
    "DomainStateReply",
    "DomainStatsRecord",
]

DOMAIN_STATS_COUNT = 16_384
STATS_PARAMETER_COUNT = 262144


class DomainState(IntEnum):
    """What a domain is doing."""

    NONE = 0
    RUNNING = 1
    BLOCKED = 2
    PAUSED = 3
    SHUTTING_DOWN = 4
    SHUT_OFF = 5
    CRASHED = 6
    SUSPENDED = 7


class DomainFilter(IntFlag):
    """Which domains L{ConnectListAllDomains} lists; none of a pair means both."""

    ALL = 0
    ACTIVE = 1
    INACTIVE = 2
    PERSISTENT = 4
    TRANSIENT = 8
    RUNNING = 16
    PAUSED = 32
    SHUT_OFF = 64


# --- finding -----------------------------------------------------------------------------


class DomainList(Struct):
    """
    @ivar count: how many there are, also when none were asked for.
    """

    domains: Annotated[tuple[DomainHandle, ...], Max(LIST_COUNT)]
    count: UInt


class ConnectListAllDomains(
    Procedure[DomainList], program=REMOTE, number=273, permission="domain.read", idempotent=True
):
    """
    Domains.

    @ivar need_results: 0 asks for the count only.
    @ivar flags: a L{DomainFilter}.
    """

    need_results: Int = 1
    flags: UInt = 0


class DomainLookupByID(
    Procedure[DomainHandle], program=REMOTE, number=22, permission="domain.read", idempotent=True
):
    """Find a running domain."""

    id: Int


class DomainLookupByName(
    Procedure[DomainHandle], program=REMOTE, number=23, permission="domain.read", idempotent=True
):
    """Find a domain."""

    name: Text


class DomainLookupByUUID(
    Procedure[DomainHandle], program=REMOTE, number=24, permission="domain.read", idempotent=True
):
    """Find a domain."""

    uuid: UUIDBytes


# --- looking -----------------------------------------------------------------------------


class DomainInfo(Struct):
    """
    @ivar state: a L{DomainState}; newer daemons may have further ones.
    @ivar max_memory_kib: in units of 1024 bytes; so is C{memory_kib}.
    @ivar cpu_time_ns: processor time used.
    """

    state: UChar
    max_memory_kib: UHyper
    memory_kib: UHyper
    vcpu_count: UShort
    cpu_time_ns: UHyper


class DomainGetInfo(
    Procedure[DomainInfo], program=REMOTE, number=16, permission="domain.read", idempotent=True
):
    """State, memory, processors."""

    domain: DomainHandle


class DomainStateReply(Struct):
    """
    @ivar state: a L{DomainState}.
    @ivar reason: what it means depends on the state.
    """

    state: Int
    reason: Int


class DomainGetState(
    Procedure[DomainStateReply], program=REMOTE, number=212, permission="domain.read", idempotent=True
):
    """State and how it came to it."""

    domain: DomainHandle
    flags: UInt = 0


class DomainGetXMLDesc(Procedure[Text], program=REMOTE, number=14, permission="domain.read", idempotent=True):
    """
    The domain's description.

    @ivar flags: 1 with secrets (not on read-only connections), 2 as at the next start.
    """

    domain: DomainHandle
    flags: UInt = 0


class DomainGetAutostart(
    Procedure[bool], program=REMOTE, number=15, permission="domain.read", idempotent=True
):
    """Whether it starts with the host."""

    domain: DomainHandle


class DomainGetOSType(Procedure[Text], program=REMOTE, number=19, permission="domain.read", idempotent=True):
    """C{hvm}, C{linux}, C{exe}."""

    domain: DomainHandle


class DomainIsActive(Procedure[bool], program=REMOTE, number=150, permission="domain.read", idempotent=True):
    """Whether it runs."""

    domain: DomainHandle


class DomainIsPersistent(
    Procedure[bool], program=REMOTE, number=151, permission="domain.read", idempotent=True
):
    """Whether it is there when it is off."""

    domain: DomainHandle


class DomainBlockInfo(Struct):
    """Sizes of a disk in bytes: used by its image, as the guest sees it, and end of the image."""

    allocation: UHyper
    capacity: UHyper
    physical: UHyper


class DomainGetBlockInfo(
    Procedure[DomainBlockInfo], program=REMOTE, number=194, permission="domain.read", idempotent=True
):
    """Sizes of a disk."""

    domain: DomainHandle
    path: Text
    flags: UInt = 0


class DomainStatsRecord(Struct):
    """What is measured of one domain."""

    domain: DomainHandle
    parameters: Annotated[tuple[TypedParameter, ...], Max(STATS_PARAMETER_COUNT)]


class ConnectGetAllDomainStats(
    Procedure[Annotated[tuple[DomainStatsRecord, ...], Max(DOMAIN_STATS_COUNT)]],
    program=REMOTE,
    number=344,
    permission="domain.read",
    idempotent=True,
):
    """
    Measurements of many domains at once.

    @ivar domains: none for all.
    @ivar stats: which groups, 0 for all.
    """

    domains: Annotated[tuple[DomainHandle, ...], Max(DOMAIN_STATS_COUNT)] = ()
    stats: UInt = 0
    flags: UInt = 0


class DomainBlockPeek(
    Procedure[Annotated[bytes, Max(PEEK_BYTES)]],
    program=REMOTE,
    number=103,
    permission="domain.peek",
    idempotent=True,
):
    """Read a disk of a domain, behind its back."""

    domain: DomainHandle
    path: Text
    offset: UHyper
    size: UInt
    flags: UInt = 0


class DomainMemoryPeek(
    Procedure[Annotated[bytes, Max(PEEK_BYTES)]],
    program=REMOTE,
    number=104,
    permission="domain.peek",
    idempotent=True,
):
    """
    Read the memory of a domain.

    @ivar flags: 1 virtual addresses, 2 physical ones; one of them.
    """

    domain: DomainHandle
    offset: UHyper
    size: UInt
    flags: UInt = 1
