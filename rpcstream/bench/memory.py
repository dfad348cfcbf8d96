"""
What the serving process needs: per idle connection, per stream, by size of the content.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.task import LoopingCall, deferLater

from rpcstream.bench.ends import Bench, FarEnd
from rpcstream.bench.files import make_file, send_file, stored_digest
from rpcstream.bench.moving import PIECE_BYTES, Mode, Supply, prove
from rpcstream.bench.plan import Plan, Share
from rpcstream.bench.processes import BenchFailed
from rpcstream.bench.program import Begin, End, Measure, Sink, Sum
from rpcstream.bench.usage import TimedFiles, difference, own_usage, resident_bytes
from rpcstream.bench.waiting import together
from rpcstream.limits import DEFAULT_LIMITS, MIB
from rpcstream.net.client import ClientConnection

__all__ = ["METHOD", "Watch", "idle_connections", "measure_memory"]

METHOD = (
    "Resident memory of the serving process, read from /proc by the other one; a new process for each "
    "part, used once before its baseline is taken. Idle connections: TLS, HELLO exchanged, one call "
    "answered; the memory half a second later, per connection. Streams: uploads from memory, as fast as "
    "they go, 16 to a connection at most; the highest memory seen over the baseline with all "
    "connections open and idle, and the rate of all together. Sizes: sparse files, random data first "
    "and then one hole, sent as every file is; the highest memory over the baseline, processor time of "
    "both ends, and both files' digests compared afterwards."
)
SETTLE_SECONDS = 0.5
LOOK_SECONDS = 0.02
AT_ONCE = 32


class Watch:
    """
    The highest memory of a process while something runs.

    @ivar baseline: when it began.
    """

    def __init__(self, bench: Bench, pid: int) -> None:
        self._pid = pid
        self.baseline = self._highest = resident_bytes(pid)
        self.look_count = 0
        self._looking = LoopingCall(self._look)
        self._looking.clock = bench.reactor
        self._looking.start(LOOK_SECONDS)

    def _look(self) -> None:
        self._highest = max(self._highest, resident_bytes(self._pid))
        self.look_count += 1

    def stop(self) -> int:
        """@return: the growth."""
        self._look()
        self._looking.stop()
        return self._highest - self.baseline


async def _open(far_end: FarEnd, count: int) -> list[ClientConnection]:
    """Some at a time: a server takes so many handshakes from one address."""
    opened: list[ClientConnection] = []
    while len(opened) < count:
        some = min(AT_ONCE, count - len(opened))
        opened += await together([far_end.connect() for _ in range(some)])
    await together([each.call(Sum(1, 2)) for each in opened])
    return opened


async def _close(opened: list[ClientConnection]) -> None:
    """Some at a time, as they were opened: it is not the closing that is measured."""
    for start in range(0, len(opened), AT_ONCE):
        await together([each.close() for each in opened[start : start + AT_ONCE]])


async def idle_connections(bench: Bench, far_end: FarEnd, count: int) -> dict[str, Any]:
    """What so many need beside the first one."""
    opened = await _open(far_end, 1)
    await deferLater(bench.reactor, SETTLE_SECONDS)
    baseline = resident_bytes(far_end.pid)
    row = await _idle_row(bench, far_end, opened, count, baseline)
    await _close(opened)
    return row


async def _idle_row(
    bench: Bench, far_end: FarEnd, opened: list[ClientConnection], count: int, baseline: int
) -> dict[str, Any]:
    opened += await _open(far_end, count + 1 - len(opened))
    await deferLater(bench.reactor, SETTLE_SECONDS)
    growth = resident_bytes(far_end.pid) - baseline
    return {
        "connections": count,
        "growth_bytes": growth,
        "bytes_per_connection": round(growth / count),
        "sample_count": 1,
    }


async def _idle(bench: Bench, far_end: FarEnd, plan: Plan, share: Share) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    opened = await _open(far_end, 1)
    await deferLater(bench.reactor, SETTLE_SECONDS)
    baseline = resident_bytes(far_end.pid)
    for count in plan.connection_counts:
        if not share.has_room(f"{count} idle connections", SETTLE_SECONDS):
            break
        rows.append(await _idle_row(bench, far_end, opened, count, baseline))
    await _close(opened)
    return rows


async def _pour(connection: ClientConnection, seconds: float) -> int:
    supply = Supply(PIECE_BYTES, connection.clock, seconds)
    async with connection.open(Sink(0)) as stream:
        for piece in supply:
            await stream.send(piece)
    return supply.byte_count


async def _streams(bench: Bench, plan: Plan, share: Share) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = []
    per_connection = DEFAULT_LIMITS.streams
    for count in plan.stream_counts:
        if not share.has_room(f"{count} streams", plan.stream_seconds + 1):
            break
        with bench.far_end() as far_end:
            opened = await _open(far_end, -(-count // per_connection))
            await prove(opened[0], Mode.STREAM, PIECE_BYTES, 4 * MIB)
            await together([each.call(Begin(False)) for each in opened])
            watch = Watch(bench, far_end.pid)
            started = bench.reactor.seconds()
            with bench.watched():
                sent = await together(
                    [_pour(opened[number // per_connection], plan.stream_seconds) for number in range(count)]
                )
            seconds = bench.reactor.seconds() - started
            growth = watch.stop()
            came = sum(tally.byte_count for tally in await together([each.call(End()) for each in opened]))
            await _close(opened)
        if came != sum(sent):
            raise BenchFailed(f"{count} streams: {sum(sent)} bytes were sent, {came} came")
        rows.append(
            {
                "streams": count,
                "connections": len(opened),
                "growth_bytes": growth,
                "bytes_per_stream": round(growth / count),
                "bytes": came,
                "bytes_per_second": round(came / seconds),
                "least_bytes_of_a_stream": min(sent),
                "sample_count": watch.look_count,
            }
        )
    return rows


async def _size(bench: Bench, far_end: FarEnd, size: int, data_bytes: int) -> dict[str, Any]:
    path, files = bench.folder / f"size{size}", TimedFiles()
    await bench.runner.run(make_file, path, data_bytes, size)
    try:
        # A lane's connection refuses other calls, so another one asks what was used.
        async with far_end.connect() as asking, far_end.connect() as connection:
            far, near = await asking.call(Measure()), own_usage(files)
            watch = Watch(bench, far_end.pid)
            with bench.watched():
                sent = await send_file(bench, connection, path, files)
            growth = watch.stop()
            near = difference(near, own_usage(files))
            far = difference(far, await asking.call(Measure()))
        digest = await stored_digest(bench, far_end, path, sent)
    finally:
        path.unlink()
    busy = sum(used.user_ns + used.system_ns for used in (near, far)) / 1e9
    return {
        "size": size,
        "data_bytes": data_bytes,
        "sent_bytes": sent.sent_bytes,
        "seconds": round(sent.seconds, 4),
        "processor_seconds": round(busy, 4),
        "growth_bytes": growth,
        "lane": sent.lane,
        "digest": digest.hex(),
        "sample_count": 1,
    }


async def _sizes(bench: Bench, far_end: FarEnd, plan: Plan, share: Share) -> list[dict[str, Any]]:
    # The first transfer of a process brings code and threads into memory.
    await _size(bench, far_end, MIB, MIB)
    await _size(bench, far_end, plan.sizes[0], min(plan.sizes[0], plan.sparse_data_bytes))
    return [
        await _size(bench, far_end, size, min(size, plan.sparse_data_bytes))
        for size in plan.sizes
        if share.has_room(f"{size} bytes", 1.0)
    ]


async def measure_memory(bench: Bench, plan: Plan, share: Share) -> dict[str, Any]:
    """
    @return: C{method}, C{idle}, C{streams}, C{sizes}, C{left_out}.
    """
    with bench.far_end() as far_end:
        idle = await _idle(bench, far_end, plan, share)
    streams = await _streams(bench, plan, share)
    with bench.far_end() as far_end:
        sizes = await _sizes(bench, far_end, plan, share)
    return {
        "method": METHOD,
        "idle": idle,
        "streams": streams,
        "sizes": sizes,
        "left_out": share.left_out,
    }
