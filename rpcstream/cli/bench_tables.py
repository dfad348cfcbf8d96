"""
The results of C{rpcstream bench} as tables.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from rpcstream.bench.moving import Mode
from rpcstream.cli.tables import Column, Table
from rpcstream.units import format_rate, format_size

__all__ = ["tables_of"]


def _rate(value: Any) -> str:
    return format_rate(value)


def _size(value: Any) -> str:
    return format_size(value)


def _seconds(value: Any) -> str:
    return f"{value:.3f}"


def _ratio(value: Any) -> str:
    return f"{value:.2f}"


def _number(value: Any) -> str:
    return f"{value:,}"


def _kind(value: Any) -> str:
    return "TLS" if value else "plain"


_MODES = Table(
    "mode",
    (
        Column("mode", "WAY"),
        Column("tls", "CONNECTION", _kind),
        Column("round_trip_ms", "ROUND TRIP ms", is_right=True),
        Column("packet_bytes", "PACKET", _size, True),
        Column("bytes_per_second", "RATE", _rate, True),
        Column("ratio_to_call", "x CALL", _ratio, True),
        Column("sample_count", "SAMPLES", is_right=True),
    ),
)
_COSTS = Table(
    "cost",
    (
        Column("what", "WHERE THE TIME GOES"),
        Column("lane", "LANE"),
        Column("seconds_per_gib", "s/GiB", _seconds, True),
        Column("count_per_gib", "COUNT/GiB", _number, True),
        Column("how", "MEASURED BY"),
        Column("sample_count", "SAMPLES", is_right=True),
    ),
)
_CALLS = Table(
    "calls",
    (
        Column("what", "CALLS"),
        Column("calls_per_second", "PER SECOND", _number, True),
        Column("p50_ms", "p50 ms", _seconds, True),
        Column("p99_ms", "p99 ms", _seconds, True),
        Column("p99_9_ms", "p99.9 ms", _seconds, True),
        Column("streams_keep", "STREAMS KEEP", _ratio, True),
        Column("sample_count", "SAMPLES", is_right=True),
    ),
)
_IDLE = Table(
    "idle",
    (
        Column("connections", "IDLE CONNECTIONS", is_right=True),
        Column("growth_bytes", "MEMORY", _size, True),
        Column("bytes_per_connection", "EACH", _size, True),
    ),
)
_STREAMS = Table(
    "streams",
    (
        Column("streams", "STREAMS", is_right=True),
        Column("growth_bytes", "MEMORY", _size, True),
        Column("bytes_per_stream", "EACH", _size, True),
        Column("bytes_per_second", "RATE", _rate, True),
        Column("sample_count", "SAMPLES", is_right=True),
    ),
)
_SIZES = Table(
    "sizes",
    (
        Column("size", "SPARSE SIZE", _size, True),
        Column("data_bytes", "DATA", _size, True),
        Column("seconds", "SECONDS", _seconds, True),
        Column("processor_seconds", "PROCESSOR s", _seconds, True),
        Column("growth_bytes", "MEMORY", _size, True),
        Column("lane", "LANE"),
    ),
)
_HOLDS = Table(
    "holds",
    (
        Column("part", "REACTOR HELD"),
        Column("end", "END"),
        Column("longest_hold_ms", "LONGEST ms", is_right=True),
        Column("processor_ms", "AT WORK IN IT ms", is_right=True),
        Column("over_count", "OVER 20 ms", is_right=True),
        Column("taken_ms", "TAKEN BY OTHERS ms", is_right=True),
        Column("tick_count", "TICKS", is_right=True),
    ),
)


def _modes(part: dict[str, Any]) -> Iterator[tuple[Table, list[dict[str, Any]]]]:
    """Calls beside the best stream and the best message of each kind of connection; JSON has all."""
    best: dict[tuple[Any, ...], dict[str, Any]] = {}
    for row in part["rows"]:
        key = (row["tls"], row["round_trip_ms"], row["mode"])
        if key not in best or row["bytes_per_second"] > best[key]["bytes_per_second"]:
            best[key] = row
    order = [mode.value for mode in (Mode.CALL, Mode.MESSAGE, Mode.STREAM, Mode.EXCLUSIVE)]
    yield (
        _MODES,
        sorted(
            best.values(), key=lambda row: (not row["tls"], row["round_trip_ms"], order.index(row["mode"]))
        ),
    )
    # By packet size, where nothing but the ends counts.
    yield (
        _MODES,
        [row for row in part["rows"] if not row["round_trip_ms"] and row["mode"] != Mode.CALL.value],
    )


def _costs(part: dict[str, Any]) -> Iterator[tuple[Table, list[dict[str, Any]]]]:
    for lane in part["lanes"]:
        extra = {"lane": lane["lane"], "sample_count": lane["sample_count"]}
        yield _COSTS, [{**row, **extra} for row in lane["rows"]]


def _calls(part: dict[str, Any]) -> Iterator[tuple[Table, list[dict[str, Any]]]]:
    yield _CALLS, [{"streams_keep": None, **row} for row in part["rows"]]


def _memory(part: dict[str, Any]) -> Iterator[tuple[Table, list[dict[str, Any]]]]:
    yield _IDLE, part["idle"]
    yield _STREAMS, part["streams"]
    yield _SIZES, part["sizes"]


_TABLES = {"modes": _modes, "costs": _costs, "calls": _calls, "memory": _memory}


def tables_of(name: str, part: dict[str, Any]) -> Iterator[tuple[Table, list[dict[str, Any]]]]:
    """
    The tables of one part of the results, with their rows.

    @param name: of the part.
    """
    for table, rows in (*_TABLES[name](part), (_HOLDS, part.get("holds", []))):
        if rows:
            yield table, rows
