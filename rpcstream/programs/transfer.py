"""
The transfer program: whole files and devices, verified, resumed, published.

Content is cut into extents of 4 MiB.  A transfer's stream carries the extents
that the receiver does not hold, in ascending order, one after the other; held
ones are skipped by both ends.  The receiver's digests of held extents are
claims, which the sender compares with its own content.  COMMIT ends a transfer:
its answer says that the content is durable, equal and published, or names the
extents to send again (under the same transfer id, with C{discard} naming them).
"""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated

from rpcstream.errors import RemoteError
from rpcstream.limits import DIGEST_BYTES, MIB, NAME_BYTES
from rpcstream.programs.base import Download, Event, Procedure, Program, Upload
from rpcstream.programs.parameters import Parameters
from rpcstream.wire import Fixed, Hyper, Max, Struct, UHyper, UInt

__all__ = [
    "ENTRY_COUNT",
    "TRANSFER",
    "BadName",
    "Bitmap",
    "Busy",
    "Cancel",
    "Changed",
    "Commit",
    "Committed",
    "Denied",
    "Digest",
    "DigestDiffers",
    "Discard",
    "Entry",
    "Fenced",
    "Grant",
    "Held",
    "Incoming",
    "Lane",
    "ListNames",
    "Listing",
    "Name",
    "NameTaken",
    "NoSuchName",
    "NoSuchTransfer",
    "NotServed",
    "Offer",
    "Outgoing",
    "PartialEntry",
    "Partials",
    "PoolName",
    "Progress",
    "Remove",
    "Short",
    "SourceKind",
    "Stat",
    "TooLarge",
    "TransferId",
    "Verdict",
]

TRANSFER = Program("transfer", number=0x78666572, version=1)

ENTRY_COUNT = 1000
"""Most entries of one listing."""

Name = Annotated[str, Max(NAME_BYTES)]
"""A name in a pool."""
PoolName = Annotated[str, Max(64)]
"""C{""} is the default pool."""
TransferId = Annotated[bytes, Fixed(16)]
"""Chosen by the sender or receiver at random; the same when a transfer is resumed."""
Digest = Annotated[bytes, Fixed(DIGEST_BYTES)]
"""BLAKE3."""
Bitmap = Annotated[bytes, Max(1 * MIB)]
"""Bit i stands for extent i, the lowest bit of each byte first."""


class Lane(IntEnum):
    """Who moves the data: the reactor, or a worker that takes the connection over."""

    SHARED = 0
    EXCLUSIVE = 1


class SourceKind(IntEnum):
    """What the content comes from."""

    FILE = 0
    DEVICE = 1
    PIPE = 2


class Verdict(IntEnum):
    """What the receiver says to L{Incoming}: send it, or it is here already."""

    SEND = 0
    COMPLETE = 1


class Held(Struct):
    """
    Extents that the receiver has, and what it takes them for.

    @ivar digests: 32 bytes for each bit that is set, in ascending order.
    """

    bitmap: Bitmap = b""
    digests: Annotated[bytes, Max(24 * MIB)] = b""


# --- storing ----------------------------------------------------------------------------


class Grant(Struct):
    """
    The destination's answer to L{Incoming}.

    @ivar digest: of the published content, for C{Verdict.COMPLETE}.
    @ivar packet_bytes: most payload of a stream packet.
    """

    verdict: Verdict
    digest: Digest | None
    held: Held
    packet_bytes: UInt
    lane: Lane
    parameters: Parameters = ()


class Incoming(
    Upload[Grant],
    program=TRANSFER,
    number=1,
    permission="transfer.write",
    resource="name",
    exclusive=True,
):
    """
    May I send? The call the destination decides on.

    @ivar size: bytes of the content, C{None} if not known yet (a pipe).
    @ivar replace: an existing name is replaced when this one is published.
    @ivar mode: permission bits, C{None} for the destination's default.
    @ivar discard: extents to forget, because they turned out to be wrong.
    """

    name: Name
    pool: PoolName
    kind: SourceKind
    size: UHyper | None
    sparse: bool
    replace: bool
    mode: UInt | None
    transfer_id: TransferId
    discard: Bitmap = b""
    parameters: Parameters = ()


class Committed(Struct):
    """
    The answer to L{Commit}.

    @ivar published: durable, equal on both ends and visible under its name.
    @ivar digest: what the answering end found.
    @ivar missing: extents that must be sent again.
    """

    published: bool
    digest: Digest | None
    missing: Bitmap = b""
    parameters: Parameters = ()


class Commit(Procedure[Committed], program=TRANSFER, number=2, permission="transfer.commit", idempotent=True):
    """
    Conclude the transfer, whichever way it went.

    @ivar size: bytes of the content.
    @ivar digest: of the content at the caller; C{None} after a download, whose
        receiver compares the digest in the reply before it publishes.
    """

    transfer_id: TransferId
    size: UHyper
    digest: Digest | None
    parameters: Parameters = ()


class Progress(Event, program=TRANSFER, number=10, permission="transfer.write"):
    """So much of the transfer is durable at the destination."""

    transfer_id: TransferId
    durable_bytes: UHyper


# --- fetching ---------------------------------------------------------------------------


class Offer(Struct):
    """
    The answer to L{Outgoing}.

    @ivar size: bytes of the whole content, whatever part was asked for.
    """

    size: UHyper
    kind: SourceKind
    sparse: bool
    mode: UInt
    packet_bytes: UInt
    lane: Lane
    parameters: Parameters = ()


class Outgoing(
    Download[Offer],
    program=TRANSFER,
    number=3,
    permission="transfer.read",
    resource="name",
    exclusive=True,
):
    """
    Send me this; with offset and length, a part of it.

    @ivar length: bytes from C{offset}, C{None} for all that follow.
    """

    name: Name
    pool: PoolName
    offset: UHyper
    length: UHyper | None
    sparse: bool
    transfer_id: TransferId
    held: Held = Held()
    parameters: Parameters = ()


# --- looking and tidying ------------------------------------------------------------------


class Entry(Struct):
    """
    A name in a pool.

    @ivar allocated: bytes it takes on disk.
    @ivar digest: as recorded when it was published, if it has not changed since.
    @ivar incomplete: its content is being written in place and not concluded.
    """

    name: Name
    kind: SourceKind
    size: UHyper
    allocated: UHyper
    mtime_ns: Hyper
    digest: Digest | None
    incomplete: bool


class Listing(Struct):
    """Part of a pool, in the order of names; C{more} follow the last one."""

    entries: Annotated[tuple[Entry, ...], Max(ENTRY_COUNT)]
    more: bool


class ListNames(Procedure[Listing], program=TRANSFER, number=4, permission="transfer.list", idempotent=True):
    """Names that follow C{after}, at most C{limit} of them."""

    pool: PoolName = ""
    after: Name = ""
    limit: UInt = ENTRY_COUNT


class Stat(
    Procedure[Entry], program=TRANSFER, number=5, permission="transfer.list", resource="name", idempotent=True
):
    """One name."""

    name: Name
    pool: PoolName = ""


class Remove(Procedure[None], program=TRANSFER, number=6, permission="transfer.remove", resource="name"):
    """Remove a name and its content."""

    name: Name
    pool: PoolName = ""


class Cancel(Procedure[bool], program=TRANSFER, number=7, permission="transfer.write"):
    """Give a transfer up; the reply says whether it was still running."""

    transfer_id: TransferId


class PartialEntry(Struct):
    """
    A transfer that was begun and not concluded.

    @ivar owner: the principal whose it is.
    @ivar active: somebody is writing it.
    """

    name: Name
    size: UHyper | None
    held_bytes: UHyper
    owner: Annotated[str, Max(1024)]
    transfer_id: TransferId
    modified_ns: Hyper
    active: bool


class Partials(
    Procedure[Annotated[tuple[PartialEntry, ...], Max(ENTRY_COUNT)]],
    program=TRANSFER,
    number=8,
    permission="transfer.list",
    idempotent=True,
):
    """The transfers of a pool that were begun and not concluded."""

    pool: PoolName = ""


class Discard(Procedure[None], program=TRANSFER, number=9, permission="transfer.remove", resource="name"):
    """Remove the partial of a name."""

    name: Name
    pool: PoolName = ""


# --- errors ---------------------------------------------------------------------------------


class Denied(RemoteError, program=TRANSFER, code=1001):
    """The destination does not want it; the text says why."""


class BadName(RemoteError, program=TRANSFER, code=1002):
    """Not a name that a pool can have."""


class NoSuchName(RemoteError, program=TRANSFER, code=1003):
    """Nothing has this name."""


class NameTaken(RemoteError, program=TRANSFER, code=1004):
    """The name exists and replacing it was not asked for."""


class Busy(RemoteError, program=TRANSFER, code=1005):
    """Another writer holds the name."""


class Short(RemoteError, program=TRANSFER, code=1006):
    """COMMIT came before all bytes."""


class DigestDiffers(RemoteError, program=TRANSFER, code=1007):
    """The content is not the same on both ends."""


class TooLarge(RemoteError, program=TRANSFER, code=1008):
    """More data than declared, or than the quota allows."""


class Changed(RemoteError, program=TRANSFER, code=1009):
    """The source was changed while it was read."""


class NotServed(RemoteError, program=TRANSFER, code=1010):
    """The name is a link, a directory or something else that is not served."""


class NoSuchTransfer(RemoteError, program=TRANSFER, code=1011):
    """No transfer has this id."""


class Fenced(RemoteError, program=TRANSFER, code=1012):
    """A newer stream of the same transfer took over."""
