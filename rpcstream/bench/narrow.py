"""
A relay that limits the rate: C{python -m rpcstream.bench.narrow PORT BYTES_PER_SECOND}.

Each connection may carry so much a second in each direction, as if it had a link
of its own.  A process of its own, which moves pages by splice(2) in place of
copying bytes, so that it takes next to nothing from the ends.  It prints one line of JSON,
its port, and ends with its parent.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import os
import select
import socket
import sys
import time

__all__ = ["NarrowRelay", "main"]

PIPE_BYTES = 1024 * 1024
"""Of one direction on its way; without privileges no pipe holds more."""
STEPS = 200
"""Into so many steps a second is divided: fewer cost less, more go more smoothly."""
_SET_PIPE_SIZE = 1031
_FLAGS = os.SPLICE_F_NONBLOCK | os.SPLICE_F_MOVE


class _Way:
    """One direction of a connection."""

    def __init__(self, source: socket.socket, target: socket.socket, bytes_per_second: float) -> None:
        self.source, self.target = source, target
        self.is_at_end = self.is_done = False
        self.held_bytes = 0
        self._out, self._in = os.pipe()
        fcntl.fcntl(self._in, _SET_PIPE_SIZE, PIPE_BYTES)
        self._rate = bytes_per_second
        self._step_bytes = min(bytes_per_second / STEPS, PIPE_BYTES / 2)
        self._tokens = self._step_bytes
        self._at = time.monotonic()

    def due_in(self, now: float) -> float:
        """Seconds until it may read again, 0 if it may now; at most two steps' worth is saved up."""
        self._tokens = min(2 * self._step_bytes, self._tokens + (now - self._at) * self._rate)
        self._at = now
        return max(0.0, (self._step_bytes - self._tokens) / self._rate)

    @property
    def has_room(self) -> bool:
        """Whether more can be taken; half of the pipe, for a page may be filled only in part."""
        return not self.is_at_end and self.held_bytes < PIPE_BYTES / 2

    def read(self) -> None:
        """Take what has come, as much as the rate permits."""
        try:
            count = os.splice(self.source.fileno(), self._in, int(self._tokens), flags=_FLAGS)
        except BlockingIOError:
            return
        self.is_at_end = not count
        self.held_bytes += count
        self._tokens -= count

    def write(self) -> None:
        """Give it on, as far as it is taken."""
        while self.held_bytes:
            try:
                self.held_bytes -= os.splice(self._out, self.target.fileno(), self.held_bytes, flags=_FLAGS)
            except BlockingIOError:
                return
        if self.is_at_end and not self.is_done:
            self.is_done = True
            with contextlib.suppress(OSError):
                self.target.shutdown(socket.SHUT_WR)

    def close(self) -> None:
        """Close the source and what is between."""
        os.close(self._in)
        os.close(self._out)
        self.source.close()


class NarrowRelay:
    """
    Connections to one port, each with a limited rate.

    @ivar port: where it listens.
    """

    def __init__(self, target_port: int, bytes_per_second: float) -> None:
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listening.getsockname()[1]
        self._target = ("127.0.0.1", target_port)
        self._rate = bytes_per_second
        self._ways: list[_Way] = []

    def turn(self, longest_seconds: float = 1.0) -> None:
        """Wait for something to do, and do it."""
        now, waiting = time.monotonic(), longest_seconds
        reading: list[socket.socket] = [self._listening]
        for way in self._ways:
            if way.has_room:
                due = way.due_in(now)
                if due <= 0:
                    reading.append(way.source)
                else:
                    waiting = min(waiting, due)
        writing = [way.target for way in self._ways if way.held_bytes]
        readable, _, _ = select.select(reading, writing, [], waiting)
        if self._listening in readable:
            self._accept()
        for way in list(self._ways):
            if way not in self._ways:
                continue
            try:
                if way.source in readable:
                    way.read()
                way.write()
            except OSError:
                self._drop(way)
        for way in [each for each in self._ways if each.is_done]:
            if all(each.is_done for each in self._pair(way)):
                self._drop(way)

    def _pair(self, way: _Way) -> list[_Way]:
        return [each for each in self._ways if way.source in (each.source, each.target)]

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
        self._ways += [_Way(near, far, self._rate), _Way(far, near, self._rate)]

    def _drop(self, way: _Way) -> None:
        for each in self._pair(way):
            self._ways.remove(each)
            each.close()

    def close(self) -> None:
        """Drop everything."""
        while self._ways:
            self._drop(self._ways[0])
        self._listening.close()


def main(target_port: str, bytes_per_second: str) -> None:
    """Relay until the process is ended."""
    relay = NarrowRelay(int(target_port), float(bytes_per_second))
    sys.stdout.write(json.dumps({"port": relay.port}) + "\n")
    sys.stdout.flush()
    while True:
        relay.turn()


if __name__ == "__main__":
    main(*sys.argv[1:3])
