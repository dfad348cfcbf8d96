"""
Stream against call per 64 KiB against message: by round trip, encryption and packet size.
"""

from __future__ import annotations

from collections.abc import Iterator
from statistics import median
from typing import Any, NamedTuple

from rpcstream.bench.ends import Bench, FarEnd
from rpcstream.bench.lanes import can_ask
from rpcstream.bench.moving import Mode, move, prove
from rpcstream.bench.plan import Plan, Share
from rpcstream.bench.program import CALL_BYTES
from rpcstream.limits import KIB

__all__ = ["METHOD", "measure_modes"]

METHOD = (
    "Random data from memory to a far end that counts and forgets it, for a fixed time, "
    "of 8 round trips at least; the time is "
    "from the opening call to the far end's confirmation of the last byte (of messages: to the answer "
    "of a call behind them). A round trip of 0 is a direct connection over loopback, any other goes "
    "through a relay in a process of its own. Calls: one at a time. Before each cell a proving run, not "
    "timed, compares BLAKE3 digests of both ends; in the timed run the far end counts the bytes, which "
    "must be all."
)

LEAST_ROUND_TRIPS = 8


class _Cell(NamedTuple):
    is_tls: bool
    round_trip_ms: float
    mode: Mode
    packet_bytes: int

    def seconds(self, plan: Plan) -> float:
        """A stream's credit needs some round trips to grow."""
        return max(plan.move_seconds, LEAST_ROUND_TRIPS * self.round_trip_ms / 1000)

    def __str__(self) -> str:
        kind = "TLS" if self.is_tls else "plain"
        return f"{self.mode.value}, {kind}, {self.round_trip_ms:g} ms, {self.packet_bytes // KIB} KiB"


def _cells(plan: Plan, has_exclusive: bool) -> Iterator[_Cell]:
    """All, so that what is compared comes close together."""
    for round_trip_ms in plan.round_trips_ms:
        for is_tls in (True, False):
            yield _Cell(is_tls, round_trip_ms, Mode.CALL, CALL_BYTES)
            for packet_bytes in plan.delayed_packet_sizes if round_trip_ms else plan.packet_sizes:
                yield _Cell(is_tls, round_trip_ms, Mode.MESSAGE, packet_bytes)
                yield _Cell(is_tls, round_trip_ms, Mode.STREAM, packet_bytes)
                if has_exclusive:
                    yield _Cell(is_tls, round_trip_ms, Mode.EXCLUSIVE, packet_bytes)


async def _measure(bench: Bench, far_end: FarEnd, plan: Plan, cell: _Cell) -> dict[str, Any]:
    proving_bytes = max(4 * CALL_BYTES, 2 * cell.packet_bytes)
    async with far_end.connect(is_tls=cell.is_tls, round_trip_ms=cell.round_trip_ms) as connection:
        proved = await prove(connection, cell.mode, cell.packet_bytes, proving_bytes)
        with bench.watched():
            samples = [
                await move(connection, cell.mode, cell.packet_bytes, cell.seconds(plan))
                for _ in range(plan.sample_count)
            ]
    return {
        "mode": cell.mode.value,
        "lane": "exclusive" if cell.mode is Mode.EXCLUSIVE else "shared",
        "tls": cell.is_tls,
        "round_trip_ms": cell.round_trip_ms,
        "packet_bytes": cell.packet_bytes,
        "bytes_per_second": round(median(each.bytes_per_second for each in samples)),
        "samples": [round(each.bytes_per_second) for each in samples],
        "sample_count": len(samples),
        "bytes": sum(each.byte_count for each in samples),
        "packet_count": sum(each.packet_count for each in samples),
        "seconds": round(sum(each.seconds for each in samples), 3),
        "digest_equal_bytes": proved,
    }


async def measure_modes(bench: Bench, plan: Plan, share: Share) -> dict[str, Any]:
    """
    @return: C{method}, C{rows}, C{left_out}; a row's C{ratio_to_call} is against
        calls with the same round trip and encryption.
    """
    rows: list[dict[str, Any]] = []
    with bench.far_end() as far_end:
        async with far_end.connect() as connection:
            has_exclusive = can_ask(connection)
        if not has_exclusive:
            share.left_out.append("the exclusive lane: there is none here")
        for cell in _cells(plan, has_exclusive):
            # Opening, proving and closing take about ten round trips.
            seconds = plan.sample_count * cell.seconds(plan) + cell.round_trip_ms / 100
            if share.has_room(str(cell), seconds):
                rows.append(await _measure(bench, far_end, plan, cell))
    calls = {
        (row["tls"], row["round_trip_ms"]): row["bytes_per_second"]
        for row in rows
        if row["mode"] == Mode.CALL.value
    }
    for row in rows:
        against = calls[row["tls"], row["round_trip_ms"]]
        row["ratio_to_call"] = round(row["bytes_per_second"] / against, 2)
    return {"method": METHOD, "rows": rows, "left_out": share.left_out}
