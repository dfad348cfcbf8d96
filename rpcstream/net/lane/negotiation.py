"""
How two ends agree on a lane.

Both say in HELLO that they know it.  Who opens a stream asks with a parameter,
whose value is the longest packet it takes; who decides on the stream answers in
the reply, in a field of the program's own.  A stock peer never sees any of it.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from rpcstream.limits import KIB, MIB, Limits
from rpcstream.net.lane import takeover
from rpcstream.programs.parameters import Parameter, UIntValue

__all__ = ["FEATURE", "asked_packet_bytes", "lane_features", "lane_parameters", "offers_lane"]

FEATURE = "exclusive"
"""In HELLO, and the name of the parameter."""
LARGEST_PACKET_BYTES = 4 * MIB
LEAST_PACKET_BYTES = 64 * KIB


def lane_features(limits: Limits) -> tuple[str, ...]:
    """What HELLO says about lanes."""
    return (FEATURE,) if limits.exclusive_lanes and takeover.is_supported() else ()


def offers_lane(connection: Any) -> bool:
    """Whether the peer of a client's or server's connection has said that it knows lanes."""
    return FEATURE in connection.features


def _packet_bytes(limits: Limits) -> int:
    # The first packet may come right behind the grant, while credit is still counted.
    return min(limits.exclusive_packet_bytes, limits.initial_credit_bytes // 2, LARGEST_PACKET_BYTES)


def lane_parameters(limits: Limits) -> tuple[Parameter, ...]:
    """What to ask with."""
    return (Parameter(FEATURE, UIntValue(_packet_bytes(limits))),)


def asked_packet_bytes(parameters: Iterable[Parameter], limits: Limits) -> int:
    """
    @return: the longest packet both take on a lane; 0 if no lane is asked for.
    """
    for parameter in parameters:
        if parameter.name == FEATURE and isinstance(parameter.value, UIntValue):
            both = min(parameter.value.value, _packet_bytes(limits))
            return both if both >= LEAST_PACKET_BYTES else 0
    return 0
