"""
How far a stream has come, and what it waits for.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["LOCAL_DISK", "PAUSED_CONSUMER", "PEER_SOCKET", "RATE_LIMIT", "Progress"]

PEER_SOCKET = "peer socket"
LOCAL_DISK = "local disk"
RATE_LIMIT = "rate limit"
PAUSED_CONSUMER = "paused consumer"


class Progress(NamedTuple):
    """
    A snapshot of one stream.

    @ivar byte_count: data bytes moved, without holes.
    @ivar hole_bytes: bytes of holes, which did not cross the wire.
    @ivar packet_count: stream messages.
    @ivar seconds: since the stream opened.
    @ivar total_bytes: what is expected in all, C{None} if unknown.
    @ivar stalled_by: what it waits for now (C{"peer socket"}, C{"local disk"},
        C{"rate limit"}, C{"paused consumer"}), C{None} while bytes move.
    @ivar lane: C{"shared"} or C{"exclusive"}.
    """

    byte_count: int
    hole_bytes: int
    packet_count: int
    seconds: float
    total_bytes: int | None
    stalled_by: str | None
    lane: str = "shared"
