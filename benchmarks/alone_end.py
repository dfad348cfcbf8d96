"""
What has no peer, by the pieces of C{rpcstream bench}: C{python -m benchmarks.alone_end WHAT ...}.

C{load SECONDS RUNS}: calls while 8 streams fill the same connection.
C{stream SECONDS RUNS ROUND_TRIP_MS}: a stream against a call per 64 KiB.
C{transfer LANE WAY SIZE}: memory of both ends over idle, for the first transfer of both.
C{idle COUNT}: memory of the server per idle connection.
C{spool STREAMS}: what a stream takes up that nobody consumes.
C{growth PLAN}: streams and sizes, as C{rpcstream bench} measures them.

Each prints one line of JSON, with C{holds}.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import Any

from twisted.internet import task
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from rpcstream.bench.ends import Bench
from rpcstream.bench.files import SHARED_ONLY, make_file, send_file
from rpcstream.bench.latency import WARM_CALLS, loaded_calls
from rpcstream.bench.memory import Watch, idle_connections, measure_memory
from rpcstream.bench.moving import PIECE_BYTES, Mode, Supply, make_supplies, move, prove
from rpcstream.bench.plan import FULL, QUICK, Share
from rpcstream.bench.processes import BenchFailed
from rpcstream.bench.program import CALL_BYTES, Stall, Sum
from rpcstream.bench.usage import TimedFiles
from rpcstream.bench.waiting import together
from rpcstream.limits import DEFAULT_LIMITS, MIB
from rpcstream.net.threads import ThreadRunner
from rpcstream.services.loaded import keep_loaded
from rpcstream.services.receiving import ReceiveOptions, receive
from rpcstream.storage.pool import Pool

STREAM_COUNT = 8
STALL_MS = 1500


async def load(bench: Bench, seconds: str, runs: str) -> dict[str, Any]:
    """Calls beside streams."""
    make_supplies(PIECE_BYTES)
    with bench.far_end() as far_end:
        async with far_end.connect() as connection:
            for number in range(WARM_CALLS):
                await connection.call(Sum(number, 1))
            with bench.watched():
                return await loaded_calls(connection, STREAM_COUNT, float(seconds), int(runs))


async def stream(bench: Bench, seconds: str, runs: str, round_trip_ms: str) -> dict[str, Any]:
    """
    A stream over either lane, and a call per 64 KiB, in turn; packets as they are by default.

    Each has a connection of its own: one that a worker has taken over makes no more calls.
    """
    trip = float(round_trip_ms)
    ways = {
        Mode.EXCLUSIVE: DEFAULT_LIMITS.exclusive_packet_bytes,
        Mode.STREAM: DEFAULT_LIMITS.packet_bytes,
        Mode.CALL: CALL_BYTES,
    }
    make_supplies(PIECE_BYTES, *ways.values())
    rates: dict[Mode, list[float]] = {mode: [] for mode in ways}
    with bench.far_end() as far_end:
        for number in range(int(runs) + 1):
            for mode in list(ways) if number % 2 else reversed(list(ways)):
                async with far_end.connect(round_trip_ms=trip) as connection:
                    if not number:
                        await prove(connection, mode, ways[mode], MIB)
                        continue
                    with bench.watched():
                        moved = await move(connection, mode, ways[mode], float(seconds))
                    rates[mode].append(moved.bytes_per_second)
    calls = rates[Mode.CALL]
    return {
        "round_trip_ms": trip,
        "ratios": {
            lane: [one / other for one, other in zip(rates[mode], calls, strict=True)]
            for lane, mode in (("exclusive", Mode.EXCLUSIVE), ("shared", Mode.STREAM))
        },
        "rates": {mode.value: [round(rate) for rate in found] for mode, found in rates.items()},
    }


async def transfer(bench: Bench, lane: str, way: str, size: str) -> dict[str, Any]:
    """One transfer, the first one of both processes: what it needs to begin with counts."""
    limits = SHARED_ONLY if lane == "shared" else DEFAULT_LIMITS
    with bench.far_end() as far_end:
        store = far_end.folder / "store"
        path = await bench.runner.run(
            make_file, (store if way == "receive" else bench.folder) / "file", int(size)
        )
        async with far_end.connect(limits=limits) as connection:
            await connection.call(Sum(1, 2))
            far, near = Watch(bench, far_end.pid), Watch(bench, os.getpid())
            with bench.watched():
                if way == "send":
                    done = await send_file(bench, connection, path, TimedFiles())
                else:
                    (bench.folder / "near").mkdir()
                    pool = Pool(bench.folder / "near")
                    options = ReceiveOptions("file", "file", os.urandom(16))
                    done = await receive(connection, pool, options, bench.runner)
            growth = {"sender" if way == "send" else "receiver": near.stop()}
            growth["receiver" if way == "send" else "sender"] = far.stop()
    if done.lane != lane:
        raise BenchFailed(f"the {done.lane} lane was used, not the {lane} one")
    return {"lane": lane, "way": way, "bytes": int(size), "growth_bytes": growth}


async def idle(bench: Bench, count: str) -> dict[str, Any]:
    """Idle connections."""
    with bench.far_end() as far_end:
        return await idle_connections(bench, far_end, int(count))


async def spool(bench: Bench, count: str) -> dict[str, Any]:
    """Streams that nobody consumes for a while: what was sent meanwhile lies in spools."""
    with bench.far_end() as far_end:
        async with far_end.connect() as connection:
            await prove(connection, Mode.STREAM, PIECE_BYTES, 4 * MIB)
            watch = Watch(bench, far_end.pid)

            taken: list[int] = []

            async def pour() -> None:
                async with connection.open(Stall(STALL_MS)) as one:
                    looking = deferLater(
                        bench.reactor, STALL_MS / 2000, lambda: taken.append(one.progress.byte_count)
                    )
                    for piece in Supply(PIECE_BYTES, connection.clock, STALL_MS / 1000):
                        await one.send(piece)
                    await looking

            await together([pour() for _ in range(int(count))])
            growth = watch.stop()
    return {"streams": int(count), "spool_bytes": max(taken), "growth_bytes": growth}


async def growth(bench: Bench, plan: str) -> dict[str, Any]:
    """Streams and sizes."""
    chosen = QUICK if plan == "quick" else FULL
    return await measure_memory(bench, chosen, Share(600.0, bench.reactor.seconds))


async def run(reactor: Any, what: str, *words: str) -> None:
    """Measure, and print what was found."""
    roles: dict[str, Any] = {
        "load": load, "stream": stream, "transfer": transfer, "idle": idle, "spool": spool, "growth": growth,
    }  # fmt: skip
    runner = ThreadRunner(reactor)
    folder = Path(tempfile.mkdtemp(prefix="bm-alone-"))
    try:
        bench = Bench(reactor, runner, folder)
        keep_loaded()
        found = await roles[what](bench, *words)
        found["holds"] = bench.take_holds()
    finally:
        runner.stop()
        shutil.rmtree(folder, ignore_errors=True)
    print(json.dumps(found))


if __name__ == "__main__":
    task.react(lambda reactor, *words: Deferred.fromCoroutine(run(reactor, *words)), sys.argv[1:])
