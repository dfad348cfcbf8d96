"""
The exclusive lane, for data that comes from memory and is forgotten.

What files have of it goes the way of every transfer, by
L{rpcstream.services.sending}.
"""

from __future__ import annotations

from typing import Any

from rpcstream.bench.program import BENCH, Begin, End, Measure, Sink
from rpcstream.net.lane.lane import Lane, can_have_lane, take_lane
from rpcstream.net.lane.negotiation import offers_lane
from rpcstream.net.streams import StreamBase

__all__ = ["agreed_packet_bytes", "can_ask", "lane_for"]

_CALLS = frozenset((BENCH.number, each.__procedure__.number) for each in (Begin, End, Measure, Sink))


def can_ask(connection: Any) -> bool:
    """Whether the next stream of this connection may have it for itself."""
    return offers_lane(connection) and can_have_lane(connection.link)


def agreed_packet_bytes(connection: Any, asked_bytes: int) -> int:
    """What the accepting end answers: 0 for the shared lane."""
    return asked_bytes if asked_bytes and can_ask(connection) else 0


def lane_for(stream: StreamBase[Any]) -> Lane:
    """The lane of a stream that both ends have agreed on."""
    return take_lane(stream, _CALLS)
