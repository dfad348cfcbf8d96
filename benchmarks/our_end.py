"""
Our sending end, as a process: C{python -m benchmarks.our_end WHAT PORT SIZE [PKI] [FILE]}.

PORT is the path of a UNIX socket where WHAT is C{file-unix}.  Its server is
L{rpcstream.bench.server}.  It prints one line of JSON.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any
from urllib.parse import quote

from twisted.internet import task
from twisted.internet.defer import Deferred

from rpcstream.bench.holds import Holds, holds_wanted
from rpcstream.bench.lanes import can_ask, lane_for
from rpcstream.bench.moving import PIECE_BYTES, Mode, make_supplies, move
from rpcstream.bench.program import Begin, End, Sink, Sum
from rpcstream.bench.waiting import together
from rpcstream.limits import DEFAULT_LIMITS
from rpcstream.net.connect import connect
from rpcstream.services.loaded import keep_loaded
from rpcstream.storage.sources import open_path

IN_FLIGHT = 200


async def _file(connection: Any, path: Path) -> tuple[int, str]:
    """A file to a sink that forgets it, without a digest: what C{os.sendfile} does, in frames."""
    await connection.call(Begin(False))
    packet_bytes = DEFAULT_LIMITS.exclusive_packet_bytes if can_ask(connection) else 0
    stream = await connection.open(Sink(packet_bytes), packet_bytes=packet_bytes or None)
    async with stream:
        if stream.reply:
            lane = lane_for(stream)
            with open_path(path) as source:
                pieces = source.file_parts(packet_bytes=packet_bytes, digests=False)
                await lane.send(stream, pieces, packet_bytes)
        else:
            await stream.send_from(path)
    tally = await connection.call(End())
    return tally.byte_count, stream.lane


async def _calls(connection: Any, count: int, in_flight: int) -> None:
    numbers = iter(range(count))

    async def some() -> None:
        for number in numbers:
            if await connection.call(Sum(number, 1)) != number + 1:
                raise ValueError("a wrong sum")

    await together(some() for _ in range(in_flight))


async def run(reactor: Any, what: str, port: str, size: str, pki: str = "", path: str = "") -> None:
    """Do it, and print what was done."""
    scheme = "tls" if what in ("shared", "exclusive") else "tcp"
    url = f"rpcstream+{scheme}://127.0.0.1:{port}/"
    if what == "file-unix":
        url = f"rpcstream+unix:///?socket={quote(port)}"
    if what in ("shared", "exclusive"):
        make_supplies(PIECE_BYTES, DEFAULT_LIMITS.exclusive_packet_bytes)
    holds = Holds(reactor)
    keep_loaded()
    if holds_wanted():
        holds.start()
    async with connect(url, pki=pki or None, reactor=reactor) as connection:
        await connection.call(Sum(1, 2))
        started, amount, lane = reactor.seconds(), int(size), "shared"
        if what in ("file", "file-unix"):
            amount, lane = await _file(connection, Path(path))
        elif what in ("calls-one", "calls-many"):
            await _calls(connection, amount, 1 if what == "calls-one" else IN_FLIGHT)
        else:
            mode = Mode.STREAM if what == "shared" else Mode.EXCLUSIVE
            limits = DEFAULT_LIMITS
            packet = limits.packet_bytes if mode is Mode.STREAM else limits.exclusive_packet_bytes
            moved = await move(connection, mode, packet, 900.0, amount)
            amount, lane = moved.byte_count, what
        seconds = reactor.seconds() - started
    holds.stop()
    told = {"amount": amount, "seconds": seconds, "lane": lane, "holds": holds.report().fields()}
    print(json.dumps(told))


if __name__ == "__main__":
    task.react(lambda reactor, *words: Deferred.fromCoroutine(run(reactor, *words)), sys.argv[1:])
