"""
When a transfer gets a connection to itself, and what may still be called there.

The lane itself is L{rpcstream.net.lane}'s.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from rpcstream.errors import ResourceBusy
from rpcstream.net.calls import StreamCall
from rpcstream.net.client import ClientConnection
from rpcstream.net.lane.lane import Lane, can_have_lane, has_lane, take_lane
from rpcstream.net.lane.negotiation import asked_packet_bytes, lane_parameters, offers_lane
from rpcstream.net.streams import StreamBase
from rpcstream.programs import transfer
from rpcstream.programs.parameters import Parameter
from rpcstream.storage.sources import Source

__all__ = ["Decision", "ask_for_lane", "decide_lane", "lane_of", "pieces_for"]

CONTROL_CALLS = frozenset(
    (transfer.TRANSFER.number, request.__procedure__.number)
    for request in (transfer.Incoming, transfer.Outgoing, transfer.Commit, transfer.Cancel)
)
"""A further round of the same transfer is asked for by INCOMING or OUTGOING again."""


class Decision(NamedTuple):
    """What the reply says."""

    lane: transfer.Lane
    packet_bytes: int


def ask_for_lane(connection: ClientConnection) -> tuple[Parameter, ...]:
    """The parameters of a request for a stream that may have C{connection} for itself."""
    if offers_lane(connection) and can_have_lane(connection.link):
        return lane_parameters(connection.limits)
    return ()


def decide_lane(call: StreamCall[Any], parameters: tuple[Parameter, ...], size_bytes: int | None) -> Decision:
    """
    Decide which lane a stream gets, before it is accepted.

    @param size_bytes: of the content, C{None} if it is not known.
    @raise ResourceBusy: the connection is a lane's, and carries another stream now.
    """
    connection = call.connection
    link = connection.link
    packet_bytes = asked_packet_bytes(parameters, connection.limits)
    is_long = size_bytes is None or size_bytes >= connection.limits.exclusive_least_bytes
    if has_lane(link):
        if not can_have_lane(link):
            raise ResourceBusy("this connection carries another stream")
        return Decision(transfer.Lane.EXCLUSIVE, packet_bytes or link.packet_bytes)
    if packet_bytes and is_long and offers_lane(connection) and can_have_lane(link):
        return Decision(transfer.Lane.EXCLUSIVE, packet_bytes)
    return Decision(transfer.Lane.SHARED, link.packet_bytes)


def lane_of(stream: StreamBase[Any], lane: transfer.Lane) -> Lane | None:
    """
    The lane that was agreed on, C{None} for the shared one.  To be called as soon
    as the stream is there.
    """
    return take_lane(stream, CONTROL_CALLS) if lane is transfer.Lane.EXCLUSIVE else None


def pieces_for(
    lane: Lane | None,
    source: Source,
    skip: bytes,
    packet_bytes: int,
    *,
    sparse: bool,
    within: tuple[int, int] | None,
    digests: bool = True,
) -> Iterator[Any]:
    """
    What is to be sent: parts of files where the kernel can move them, otherwise bytes.

    @param lane: C{None} for the shared one; for the others see L{Source.file_parts}.
    """
    if lane is not None and lane.takes_files:
        return source.file_parts(skip, packet_bytes, sparse=sparse, within=within, digests=digests)
    return source.pieces(skip, packet_bytes, sparse=sparse, within=within)
