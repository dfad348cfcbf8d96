"""
A relay that delays: C{python -m rpcstream.bench.relay PORT ROUND_TRIP_MS}.

A process of its own, so that it takes no time from the ends.  Each way takes
half of the round trip; nothing else is limited but by what the machine can copy.
It prints one line of JSON, its port, and ends with its parent.
"""

from __future__ import annotations

import json
import select
import socket
import sys
import time
from collections import deque

__all__ = ["Relay", "main"]

READ_BYTES = 1024 * 1024
HELD_BYTES = 256 * 1024 * 1024
"""On its way in one direction; past it reading stops.  2 GB/s over 100 ms take less."""


class _Way:
    """One direction: what was read from C{source} is due at C{target} later."""

    def __init__(self, source: socket.socket, target: socket.socket, delay_seconds: float) -> None:
        self.source, self.target = source, target
        self.held_bytes = 0
        self.is_at_end = False
        self.is_done = False
        self._delay_seconds = delay_seconds
        self._queue: deque[tuple[float, memoryview]] = deque()

    @property
    def reads(self) -> bool:
        """Whether more can be taken."""
        return not self.is_at_end and self.held_bytes < HELD_BYTES

    def due_in(self, now: float) -> float | None:
        """Seconds until something is to be written; C{None} if there is nothing."""
        return max(0.0, self._queue[0][0] - now) if self._queue else None

    def read(self) -> None:
        """Take what has come; its end, too, takes the time of the way."""
        try:
            data = self.source.recv(READ_BYTES)
        except BlockingIOError:
            return
        self.is_at_end = not data
        self.held_bytes += len(data)
        self._queue.append((time.monotonic() + self._delay_seconds, memoryview(data)))

    def write(self, now: float) -> None:
        """Give what is due, as far as it is taken."""
        while self._queue and self._queue[0][0] <= now:
            due, data = self._queue[0]
            if not data:
                self.is_done = True
                self._queue.clear()
                self.target.shutdown(socket.SHUT_WR)
                return
            try:
                count = self.target.send(data)
            except BlockingIOError:
                return
            self.held_bytes -= count
            if count < len(data):
                self._queue[0] = (due, data[count:])
                return
            self._queue.popleft()


class Relay:
    """
    Connections to one port, each with a delay.

    @ivar port: where it listens.
    """

    def __init__(self, target_port: int, round_trip_seconds: float) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._listening.setblocking(False)
        self.port: int = self._listening.getsockname()[1]
        self._target = ("127.0.0.1", target_port)
        self._delay_seconds = round_trip_seconds / 2
        self._ways: list[_Way] = []

    def turn(self, longest_seconds: float = 1.0) -> None:
        """
        Wait for something to do, and do it.

        C{select}, whose time-out counts microseconds: a round trip of 1 ms must
        not become one of 2.
        """
        now = time.monotonic()
        waiting, blocked = longest_seconds, []
        for way in self._ways:
            due = way.due_in(now)
            if due is not None and due <= 0:
                blocked.append(way.target)
            elif due is not None:
                waiting = min(waiting, due)
        reading = [way.source for way in self._ways if way.reads]
        readable, _, _ = select.select([self._listening, *reading], blocked, [], waiting)
        if self._listening in readable:
            self._accept()
        for way in list(self._ways):
            try:
                if way.source in readable:
                    way.read()
                way.write(time.monotonic())
            except OSError:
                self._drop(way.source)
        for way in [each for each in self._ways if each.is_done]:
            if all(each.is_done for each in self._pair(way.source)):
                self._drop(way.source)

    def _pair(self, side: socket.socket) -> list[_Way]:
        return [way for way in self._ways if side in (way.source, way.target)]

    def _accept(self) -> None:
        near, _ = self._listening.accept()
        try:
            far = socket.create_connection(self._target)
        except OSError:
            near.close()
            return
        for side in (near, far):
            side.setblocking(False)
            side.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        self._ways += [_Way(near, far, self._delay_seconds), _Way(far, near, self._delay_seconds)]

    def _drop(self, side: socket.socket) -> None:
        for way in self._pair(side):
            self._ways.remove(way)
            way.source.close()

    def close(self) -> None:
        """Drop everything."""
        for way in list(self._ways):
            self._drop(way.source)
        self._listening.close()


def main(target_port: str, round_trip_ms: str) -> None:
    """Relay until the process is ended."""
    relay = Relay(int(target_port), float(round_trip_ms) / 1000)
    sys.stdout.write(json.dumps({"port": relay.port}) + "\n")
    sys.stdout.flush()
    while True:
        relay.turn()


if __name__ == "__main__":
    main(*sys.argv[1:3])
