"""
Moving data to the far end in one of three ways, for a while: as a stream, as
calls, as messages.

The time is from the first request to the far end's word that it has all.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from enum import Enum
from functools import lru_cache
from typing import Any, NamedTuple

from blake3 import blake3
from twisted.internet.defer import Deferred

from rpcstream.bench.lanes import can_ask, lane_for
from rpcstream.bench.processes import BenchFailed
from rpcstream.bench.program import CALL_BYTES, Begin, End, Fire, Put, Sink
from rpcstream.limits import KIB, MIB
from rpcstream.net.client import ClientConnection

__all__ = ["Mode", "Moved", "Supply", "make_supplies", "move", "prove"]

PIECE_BYTES = 256 * KIB
"""What is given to a stream at a time, unless a packet is larger."""
RANDOM_BYTES = 8 * MIB
"""Sent over and over: more than a processor's cache of one core holds."""


class Mode(Enum):
    """How data goes."""

    STREAM = "stream"
    EXCLUSIVE = "stream, exclusive lane"
    CALL = "call per 64 KiB"
    MESSAGE = "message"


class Moved(NamedTuple):
    """
    @ivar byte_count: sent, and told by the far end to have come.
    @ivar seconds: from the first request to that.
    @ivar packet_count: stream packets, calls or messages.
    """

    byte_count: int
    seconds: float
    packet_count: int

    @property
    def bytes_per_second(self) -> float:
        """The rate."""
        return self.byte_count / self.seconds


@lru_cache(maxsize=1)
def _random() -> bytes:
    return os.urandom(RANDOM_BYTES)


@lru_cache(maxsize=8)
def _pieces(piece_bytes: int) -> tuple[bytes, ...]:
    data = _random()
    return tuple(
        data[start : start + piece_bytes] for start in range(0, RANDOM_BYTES - piece_bytes + 1, piece_bytes)
    )


def make_supplies(*piece_sizes: int) -> None:
    """Make random data before anything is measured: it takes longer than the reactor may be held."""
    for piece_bytes in piece_sizes:
        _pieces(piece_bytes)


class Supply:
    """
    Random data, over and over, until the time is up or enough was taken; one piece in any case.

    @ivar byte_count: what was taken.
    @ivar piece_count: in how many pieces.
    """

    def __init__(self, piece_bytes: int, clock: Any, seconds: float, most_bytes: int | None = None) -> None:
        self.byte_count = 0
        self.piece_count = 0
        self._pieces = _pieces(piece_bytes)
        self._clock = clock
        self._until = clock.seconds() + seconds
        self._most_bytes = most_bytes

    def __iter__(self) -> Iterator[bytes]:
        return self

    def __next__(self) -> bytes:
        is_enough = self._most_bytes is not None and self.byte_count >= self._most_bytes
        # The time may be up before the first: opening takes some, too.
        if self.piece_count and (is_enough or self._clock.seconds() >= self._until):
            raise StopIteration
        piece = self._pieces[self.piece_count % len(self._pieces)]
        self.byte_count += len(piece)
        self.piece_count += 1
        return piece

    def digest(self) -> bytes:
        """BLAKE3 of all that was taken."""
        hasher = blake3()
        for number in range(self.piece_count):
            hasher.update(self._pieces[number % len(self._pieces)])
        return hasher.digest()


class _Firing:
    """A sender of messages, which the link asks for one whenever the transport takes more."""

    def __init__(self, connection: ClientConnection, supply: Supply) -> None:
        self.done: Deferred[None] = Deferred()
        self._core = connection.link.core
        self._supply = supply

    def next_frame(self) -> bytes | None:
        """The next message."""
        procedure = Fire.__procedure__
        for data in self._supply:
            payload = procedure.arguments.encode(Fire(data))
            return self._core.message(
                procedure.program.number, procedure.program.version, procedure.number, payload
            )
        if not self.done.called:
            self.done.callback(None)
        return None

    def frame_written(self) -> None:
        """Nothing waits for it."""


async def _stream(connection: ClientConnection, supply: Supply, packet_bytes: int) -> int:
    stream = await connection.open(Sink(0), packet_bytes=packet_bytes)
    async with stream:
        for piece in supply:
            await stream.send(piece)
    return stream.progress.packet_count


async def _exclusive(connection: ClientConnection, supply: Supply, packet_bytes: int) -> int:
    if not can_ask(connection):
        raise BenchFailed("this connection cannot be taken over by a worker")
    stream = await connection.open(Sink(packet_bytes), packet_bytes=packet_bytes)
    if not stream.reply:
        raise BenchFailed("the far end does not give its connection to a worker")
    async with stream:
        await lane_for(stream).send(stream, supply, packet_bytes)
    return stream.progress.packet_count


async def _calls(connection: ClientConnection, supply: Supply, packet_bytes: int) -> int:
    for piece in supply:
        await connection.call(Put(piece))
    return supply.piece_count


async def _messages(connection: ClientConnection, supply: Supply, packet_bytes: int) -> int:
    firing = _Firing(connection, supply)
    connection.link.want_write(firing)
    await firing.done
    return supply.piece_count


_WAYS = {
    Mode.STREAM: _stream,
    Mode.EXCLUSIVE: _exclusive,
    Mode.CALL: _calls,
    Mode.MESSAGE: _messages,
}


async def _move(
    connection: ClientConnection,
    mode: Mode,
    packet_bytes: int,
    seconds: float,
    most_bytes: int | None,
    is_digested: bool,
) -> Moved:
    await connection.call(Begin(is_digested))
    piece_bytes = {Mode.CALL: CALL_BYTES, Mode.MESSAGE: packet_bytes}.get(
        mode, max(packet_bytes, PIECE_BYTES)
    )
    clock = connection.clock
    started = clock.seconds()
    supply = Supply(piece_bytes, clock, seconds, most_bytes)
    packet_count = await _WAYS[mode](connection, supply, packet_bytes)
    if mode is Mode.MESSAGE:
        # Nothing confirms messages; a call behind them does.
        tally = await connection.call(End(), timeout_seconds=None)
        took = clock.seconds() - started
    else:
        took = clock.seconds() - started
        tally = await connection.call(End(), timeout_seconds=None)
    if tally.byte_count != supply.byte_count:
        raise BenchFailed(f"{mode.value}: {supply.byte_count} bytes were sent, {tally.byte_count} came")
    if is_digested and tally.digest != supply.digest():
        raise BenchFailed(f"{mode.value}: what came is not what was sent")
    return Moved(tally.byte_count, took, packet_count)


async def move(
    connection: ClientConnection,
    mode: Mode,
    packet_bytes: int,
    seconds: float,
    most_bytes: int | None = None,
) -> Moved:
    """
    Send for C{seconds}, or until C{most_bytes} are sent, whichever is first.

    @raise BenchFailed: the far end did not get as many bytes as were sent.
    """
    return await _move(connection, mode, packet_bytes, seconds, most_bytes, False)


async def prove(connection: ClientConnection, mode: Mode, packet_bytes: int, byte_count: int) -> int:
    """
    Send C{byte_count} bytes and compare digests, out of the measured time.

    @return: how many bytes were compared.
    @raise BenchFailed: the far end got something else.
    """
    moved = await _move(connection, mode, packet_bytes, 60.0, byte_count, True)
    return moved.byte_count
