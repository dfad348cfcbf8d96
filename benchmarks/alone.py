"""
What has no peer, measured in the same run: each in a process of its own, so that one that fails
takes nothing with it.
"""

from __future__ import annotations

import sys
import traceback
from collections.abc import Callable
from typing import Any

from benchmarks.workplace import Workplace

__all__ = ["NAMES", "measure_alone"]

LOAD_SECONDS = 20.0
STREAM_SECONDS = {0: 1.0, 10: 3.0}
IDLE_COUNT = 200
SPOOL_STREAMS = 4


def _end(place: Workplace, *words: str) -> dict[str, Any]:
    return place.timed_python("benchmarks.alone_end", *words)[1]


def _load(place: Workplace, runs: int) -> dict[str, Any]:
    seconds = LOAD_SECONDS if place.call_count >= 10_000 else 1.0 + runs
    found = _end(place, "load", str(seconds), str(runs))
    return {"title": "calls beside 8 streams", **found}


def _stream(round_trip_ms: int) -> Callable[[Workplace, int], dict[str, Any]]:
    def measure(place: Workplace, runs: int) -> dict[str, Any]:
        found = _end(place, "stream", str(STREAM_SECONDS[round_trip_ms]), str(runs), str(round_trip_ms))
        return {"title": f"a stream, a call per 64 KiB, {round_trip_ms} ms", **found}

    return measure


def _transfers(place: Workplace, runs: int) -> dict[str, Any]:
    rows, holds = [], []
    for lane in ("shared", "exclusive"):
        for way in ("send", "receive"):
            found = _end(place, "transfer", lane, way, str(place.size))
            holds += found.pop("holds")
            rows.append(found)
    return {"title": "memory of one transfer", "rows": rows, "holds": holds}


def _idle(place: Workplace, runs: int) -> dict[str, Any]:
    return {"title": f"{IDLE_COUNT} idle connections", **_end(place, "idle", str(IDLE_COUNT))}


def _spool(place: Workplace, runs: int) -> dict[str, Any]:
    return {"title": "streams that nobody consumes", **_end(place, "spool", str(SPOOL_STREAMS))}


_MEASURES: dict[str, Callable[[Workplace, int], dict[str, Any]]] = {
    "load": _load,
    "stream-0": _stream(0),
    "stream-10": _stream(10),
    "memory-transfer": _transfers,
    "memory-idle": _idle,
    "memory-spool": _spool,
}
NAMES = tuple(_MEASURES)
"""For C{--only}."""


def measure_alone(name: str, place: Workplace, runs: int) -> dict[str, Any]:
    """
    Measure one of L{NAMES}.

    @return: what was found, or C{problem}.
    """
    sys.stderr.write(f"  {name}\n")
    try:
        return _MEASURES[name](place, runs)
    except Exception as error:
        traceback.print_exc()
        lines = str(error).splitlines() or [type(error).__name__]
        return {"problem": f"not measured: failed: {lines[-1][:160]}"}
