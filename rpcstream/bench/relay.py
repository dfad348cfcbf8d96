"""
A relay that delays: C{python -m rpcstream.bench.relay PORT ROUND_TRIP_MS}.

A process of its own, so that it takes no time from the ends.  Each way takes
half of the round trip, never less; under load up to a fifth more.  Nothing else is
limited.  It prints one line of JSON, its port, and ends with its parent.
"""

from __future__ import annotations

import socket
import sys
from collections.abc import Iterator

from rpcstream.bench.splicing import Relay, Way, serve

__all__ = ["DelayingRelay", "main"]

HELD_BYTES = 64 * 1024 * 1024
"""On its way in one direction; past it reading stops.  1.2 GB/s over 100 ms take less."""
STEP_SHARE = 1 / 5
"""Of the time of one way: smaller costs more wake-ups, larger delays more than was asked for."""
LONGEST_STEP_SECONDS = 0.001


class _DelayingWay(Way):
    """Everything is due a fixed time later."""

    def __init__(self, source: socket.socket, target: socket.socket, delay_seconds: float) -> None:
        super().__init__(source, target, HELD_BYTES)
        self._delay_seconds = delay_seconds

    def schedule(self, now: float, byte_count: int) -> Iterator[tuple[float, int]]:
        yield now + self._delay_seconds, byte_count


class DelayingRelay(Relay):
    """Connections to one port, each with a delay."""

    def __init__(self, target_port: int, round_trip_seconds: float) -> None:
        self._delay_seconds = round_trip_seconds / 2
        super().__init__(target_port, min(LONGEST_STEP_SECONDS, self._delay_seconds * STEP_SHARE))

    def make_way(self, source: socket.socket, target: socket.socket) -> Way:
        return _DelayingWay(source, target, self._delay_seconds)


def main(target_port: str, round_trip_ms: str) -> None:
    """Relay until the process is ended."""
    serve(DelayingRelay(int(target_port), float(round_trip_ms) / 1000))


if __name__ == "__main__":
    main(*sys.argv[1:3])
