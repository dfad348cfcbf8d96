"""
A relay that limits the rate: C{python -m rpcstream.bench.narrow PORT BYTES_PER_SECOND}.

Each connection may carry so much a second in each direction, as if it had a link
of its own.  A process of its own, that takes next to nothing from the ends.  It prints
one line of JSON, its port, and ends with its parent.
"""

from __future__ import annotations

import math
import socket
import sys
from collections.abc import Iterator

from rpcstream.bench.splicing import Relay, Way, serve

__all__ = ["NarrowRelay", "main"]

STEP_SECONDS = 0.008
"""What is sent in it goes at once: shorter costs more wake-ups, longer goes less smoothly."""
HELD_STEPS = 4
"""Held in one direction: so that a link is not idle because this process was late."""


class _NarrowWay(Way):
    """What finds the link busy waits until it is free."""

    def __init__(self, source: socket.socket, target: socket.socket, bytes_per_second: float) -> None:
        self._rate = bytes_per_second
        self._step_bytes = max(1, int(bytes_per_second * STEP_SECONDS))
        self._free_at = 0.0
        super().__init__(source, target, HELD_STEPS * self._step_bytes)

    def schedule(self, now: float, byte_count: int) -> Iterator[tuple[float, int]]:
        self._free_at = max(now, self._free_at)
        while True:
            # All connections wait for the same moments: one wake-up for all.
            due = math.ceil(self._free_at / STEP_SECONDS) * STEP_SECONDS if self._free_at > now else now
            count = min(byte_count, self._step_bytes)
            yield due, count
            self._free_at += count / self._rate
            byte_count -= count
            if not byte_count:
                return


class NarrowRelay(Relay):
    """Connections to one port, each with a limited rate."""

    def __init__(self, target_port: int, bytes_per_second: float) -> None:
        super().__init__(target_port, STEP_SECONDS)
        self._rate = bytes_per_second

    def make_way(self, source: socket.socket, target: socket.socket) -> Way:
        return _NarrowWay(source, target, self._rate)


def main(target_port: str, bytes_per_second: str) -> None:
    """Relay until the process is ended."""
    serve(NarrowRelay(int(target_port), float(bytes_per_second)))


if __name__ == "__main__":
    main(*sys.argv[1:3])
