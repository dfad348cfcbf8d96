"""
What the relays between two ends under measurement have in common.

They share the processors with the ends, so whatever they take falsifies the figure.
Bytes are moved by splice(2) from socket to pipe to socket, as pages, without being
copied.  And after something was read nobody looks at the sockets for a step: what
arrives meanwhile costs one wake-up together, and the next end is woken once for it, too.
"""

from __future__ import annotations

import contextlib
import fcntl
import json
import math
import os
import select
import socket
import sys
import time
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial

__all__ = ["Relay", "Way", "serve"]

PIPE_BYTES = 1024 * 1024
"""Without privileges no pipe is larger."""
PIPE_COUNT = 32
"""Of one direction; few for C{select}, and enough for 32 MiB in pages that are small."""
AGAIN_BYTES = 16 * 1024
"""Where so much was read at once there may be more."""
_SET_PIPE_SIZE = 1031
_FLAGS = os.SPLICE_F_NONBLOCK | os.SPLICE_F_MOVE


class _Pipe:
    """Pages on their way."""

    def __init__(self) -> None:
        self.held_bytes = 0
        self._out, self._in = os.pipe()
        # Above the limit of all the pipes of a user it stays small.
        with contextlib.suppress(PermissionError):
            fcntl.fcntl(self._in, _SET_PIPE_SIZE, PIPE_BYTES)

    def fill(self, source: socket.socket, most_bytes: int) -> int:
        """
        @raise BlockingIOError: nothing has come, or the pipe is full: of pieces, however small.
        """
        count = os.splice(source.fileno(), self._in, most_bytes, flags=_FLAGS)
        self.held_bytes += count
        return count

    def drain(self, target: socket.socket, most_bytes: int) -> int:
        """
        @raise BlockingIOError: the target takes nothing.
        """
        count = os.splice(self._out, target.fileno(), min(most_bytes, self.held_bytes), flags=_FLAGS)
        self.held_bytes -= count
        return count

    def close(self) -> None:
        """Whatever is in it is lost."""
        os.close(self._in)
        os.close(self._out)


class Way:
    """
    One direction of a connection: what was read is due later.

    @ivar held_bytes: on their way.
    @ivar due: when there is something to be written; never if the target must move first.
    @ivar has_room: whether more can be taken.
    @ivar is_done: the end was passed on.
    @ivar is_blocked: the target takes no more of what is due.
    """

    def __init__(self, source: socket.socket, target: socket.socket, most_bytes: int) -> None:
        """
        @param most_bytes: held; past it reading stops, and TCP holds the sender back.
        """
        self.source, self.target = source, target
        self.held_bytes = 0
        self.due = math.inf
        self.has_room = True
        self.is_at_end = self.is_done = self.is_blocked = False
        self._most_bytes = most_bytes
        self._queue: deque[tuple[float, int]] = deque()
        self._pipes = deque([_Pipe()])
        self._spare: list[_Pipe] = []

    def schedule(self, now: float, byte_count: int) -> Iterable[tuple[float, int]]:
        """
        When is what due that has just come?

        @return: times and bytes, in order; the end is 0 bytes.
        """
        raise NotImplementedError

    def read(self) -> None:
        """Take what has come, and is known to have come; its end, too, takes its time."""
        if self._pipes[-1].held_bytes >= PIPE_BYTES // 4:
            # It may be full soon.
            self._add_pipe()
        total = self._fill()
        if total is None:
            # Not empty, so the pipe is full: of pieces, however small.
            self._add_pipe()
            total = self._fill()
        if total is None:
            # With all pipes full, there is room again when something is given.
            self.has_room = len(self._pipes) < PIPE_COUNT
            return
        count: int | None = total
        while count and count >= AGAIN_BYTES and self.held_bytes < self._most_bytes:
            count = self._fill()
            total += count or 0
        # The moment after the last byte has come: nothing is ever early.
        now = time.monotonic()
        if total:
            self._queue.extend(self.schedule(now, total))
        if count == 0:
            self.is_at_end = True
            self._queue.extend(self.schedule(now, 0))
        self._look_ahead()

    def _fill(self) -> int | None:
        try:
            count = self._pipes[-1].fill(self.source, self._most_bytes - self.held_bytes)
        except BlockingIOError:
            return None
        self.held_bytes += count
        return count

    def _add_pipe(self) -> None:
        if self._pipes[-1].held_bytes and len(self._pipes) < PIPE_COUNT:
            self._pipes.append(self._spare.pop() if self._spare else _Pipe())

    def write(self, now: float) -> None:
        """Give what is due, as far as it is taken."""
        queue = self._queue
        self.is_blocked = False
        while queue and queue[0][0] <= now and not self.is_blocked:
            due, left = queue.popleft()
            if not left:
                self.is_done = True
                self.target.shutdown(socket.SHUT_WR)
                break
            try:
                left -= self._drain(left)
            except BlockingIOError:
                self.is_blocked = True
            if left:
                queue.appendleft((due, left))
        self._look_ahead()

    def _drain(self, most_bytes: int) -> int:
        pipes = self._pipes
        count = pipes[0].drain(self.target, most_bytes)
        self.held_bytes -= count
        if not pipes[0].held_bytes and len(pipes) > 1:
            self._spare.append(pipes.popleft())
        return count

    def _look_ahead(self) -> None:
        self.has_room = not self.is_at_end and self.held_bytes < self._most_bytes
        self.due = self._queue[0][0] if self._queue and not self.is_blocked else math.inf

    def close(self) -> None:
        """Close the source and what is between."""
        for pipe in (*self._pipes, *self._spare):
            pipe.close()
        self.source.close()


class Relay:
    """
    Connections to one port, each of two ways.

    @ivar port: where it listens.
    """

    def __init__(self, target_port: int, step_seconds: float) -> None:
        """
        @param step_seconds: so long is not looked again after something was read.
        """
        self._listening = socket.create_server(("127.0.0.1", 0))
        self._listening.setblocking(False)
        self.port: int = self._listening.getsockname()[1]
        self._target = ("127.0.0.1", target_port)
        self._step_seconds = step_seconds
        self._others: dict[Way, Way] = {}
        """Every way with the one back."""
        self._read_at = 0.0
        """When something was read, if something was when one looked last."""

    @property
    def ways(self) -> tuple[Way, ...]:
        """Of all connections."""
        return tuple(self._others)

    def make_way(self, source: socket.socket, target: socket.socket) -> Way:
        """What passes on one direction of a new connection."""
        raise NotImplementedError

    def turn(self, longest_seconds: float = 1.0) -> None:
        """
        Wait for something to do, and do it.

        C{select}, whose time-out counts microseconds: a round trip of 1 ms must
        not become one of 2.
        """
        waiting = self._pause(longest_seconds)
        looks = time.monotonic() >= self._read_at + self._step_seconds / 2
        reading: dict[socket.socket, Way] = {}
        writing: dict[socket.socket, Way] = {}
        for way in self._others:
            if way.has_room and looks:
                reading[way.source] = way
            if way.is_blocked:
                writing[way.target] = way
        readable, writable, _ = select.select([self._listening, *reading], writing, [], waiting)
        if looks:
            self._read_at = 0.0
        for side in readable:
            if side is self._listening:
                self._accept()
            elif (way := reading[side]) in self._others:
                self._guarded(way, way.read)
                self._read_at = time.monotonic()
        now = time.monotonic()
        due = [way for way in self._others if way.due <= now]
        for way in (*due, *(writing[side] for side in writable)):
            if way in self._others:
                self._guarded(way, partial(way.write, now))

    def _pause(self, longest_seconds: float) -> float:
        """
        Sleep, whatever comes, for the rest of the step.

        @return: how long to wait for what comes.
        """
        due = min((way.due for way in self._others), default=math.inf)
        now = time.monotonic()
        if not self._read_at:
            return min(longest_seconds, max(0.0, due - now))
        # One wake-up to read and to write, if they are near each other.
        look = self._read_at + self._step_seconds
        until = due if due < look + self._step_seconds / 2 else look
        if until > now:
            time.sleep(until - now)
        return 0.0

    def _guarded(self, way: Way, work: Callable[[], None]) -> None:
        """Both ways end together: in order, or by the first thing that goes wrong."""
        try:
            work()
            if not (way.is_done and self._others[way].is_done):
                return
        except OSError:
            pass
        self._drop(way)

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
            # Not one that paces what is sent: that is a timer a packet, and a delay that nobody asked for.
            side.setsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, b"reno")
        there, back = self.make_way(near, far), self.make_way(far, near)
        self._others |= {there: back, back: there}

    def _drop(self, way: Way) -> None:
        for each in (way, self._others[way]):
            del self._others[each]
            each.close()

    def close(self) -> None:
        """Drop everything."""
        while self._others:
            self._drop(next(iter(self._others)))
        self._listening.close()


def serve(relay: Relay) -> None:
    """Say where it listens, and relay until the process is ended."""
    sys.stdout.write(json.dumps({"port": relay.port}) + "\n")
    sys.stdout.flush()
    while True:
        relay.turn()
