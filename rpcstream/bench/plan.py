"""
How much is measured: sizes, durations, counts.

The whole of a plan is bounded by its shares of time; what does not fit in is
left out and said to be.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from rpcstream.limits import GIB, KIB, MIB

__all__ = ["FULL", "QUICK", "Plan", "Share"]


@dataclass(frozen=True, slots=True)
class Plan:
    """
    @ivar round_trips_ms: through the relay; 0 is without one.
    @ivar packet_sizes: of streams and messages, without a relay.
    @ivar delayed_packet_sizes: through a relay.
    @ivar move_seconds: one sample of moving data.
    @ivar sample_count: samples of the same, of which the median counts.
    @ivar cost_bytes: content of one run that tells where the time goes.
    @ivar call_seconds: one sample of calling.
    @ivar in_flight: calls at once.
    @ivar stream_count: streams that saturate a connection while it is called.
    @ivar connection_counts: idle connections, ascending.
    @ivar stream_counts: streams at once, ascending.
    @ivar stream_seconds: how long so many run.
    @ivar sizes: of sparse content, ascending.
    @ivar sparse_data_bytes: most data in one of them; the rest is a hole.
    @ivar share_seconds: most time for data moving, costs, calls and memory each.
    """

    name: str
    round_trips_ms: tuple[float, ...]
    packet_sizes: tuple[int, ...]
    delayed_packet_sizes: tuple[int, ...]
    move_seconds: float
    sample_count: int
    cost_bytes: int
    call_seconds: float
    in_flight: int
    stream_count: int
    connection_counts: tuple[int, ...]
    stream_counts: tuple[int, ...]
    stream_seconds: float
    sizes: tuple[int, ...]
    sparse_data_bytes: int
    share_seconds: tuple[float, float, float, float]


QUICK = Plan(
    name="quick",
    round_trips_ms=(0, 1, 10, 50),
    packet_sizes=(16 * KIB, 64 * KIB, 256 * KIB, 1 * MIB, 4 * MIB),
    delayed_packet_sizes=(256 * KIB,),
    move_seconds=0.1,
    sample_count=1,
    cost_bytes=96 * MIB,
    call_seconds=1.0,
    in_flight=200,
    stream_count=8,
    connection_counts=(1, 16, 64),
    stream_counts=(1, 8, 64, 256),
    stream_seconds=0.5,
    sizes=(1 * MIB, 64 * MIB, 1 * GIB, 100 * GIB),
    sparse_data_bytes=16 * MIB,
    share_seconds=(22.0, 10.0, 6.0, 15.0),
)
"""Less than a minute in all."""

FULL = Plan(
    name="full",
    round_trips_ms=(0, 1, 10, 50),
    packet_sizes=(16 * KIB, 64 * KIB, 256 * KIB, 1 * MIB, 4 * MIB),
    delayed_packet_sizes=(16 * KIB, 64 * KIB, 256 * KIB, 1 * MIB, 4 * MIB),
    move_seconds=0.8,
    sample_count=3,
    cost_bytes=1 * GIB,
    call_seconds=8.0,
    in_flight=200,
    stream_count=8,
    connection_counts=(1, 16, 64, 128, 250),
    stream_counts=(1, 2, 4, 8, 16, 32, 64, 128, 256),
    stream_seconds=3.0,
    sizes=(1 * MIB, 16 * MIB, 256 * MIB, 1 * GIB, 10 * GIB, 100 * GIB),
    sparse_data_bytes=1 * GIB,
    share_seconds=(420.0, 150.0, 90.0, 180.0),
)
"""Less than a quarter of an hour in all."""


class Share:
    """
    A part's share of the time.

    @ivar left_out: what was not measured any more.
    """

    def __init__(self, seconds: float, clock: Callable[[], float]) -> None:
        self.left_out: list[str] = []
        self._clock = clock
        self._until = clock() + seconds

    def has_room(self, what: str, seconds: float = 0.0) -> bool:
        """
        Whether C{what} can still be measured.

        @param seconds: how long it will take, about.
        """
        if self._clock() + seconds <= self._until:
            return True
        self.left_out.append(what)
        return False
