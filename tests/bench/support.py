"""
A plan that takes seconds, and results that were never measured.
"""

from __future__ import annotations

from typing import Any

from rpcstream.bench.plan import Plan
from rpcstream.limits import KIB, MIB

__all__ = ["TINY", "results"]

TINY = Plan(
    name="tiny",
    round_trips_ms=(0, 2),
    packet_sizes=(64 * KIB,),
    delayed_packet_sizes=(64 * KIB,),
    move_seconds=0.01,
    sample_count=2,
    cost_bytes=8 * MIB,
    call_seconds=0.1,
    in_flight=20,
    stream_count=2,
    connection_counts=(1, 2),
    stream_counts=(1, 2),
    stream_seconds=0.05,
    sizes=(1 * MIB, 64 * MIB),
    sparse_data_bytes=1 * MIB,
    share_seconds=(60.0, 60.0, 60.0, 60.0),
)


def _mode(mode: str, round_trip_ms: float, rate: int) -> dict[str, Any]:
    return {
        "mode": mode,
        "tls": True,
        "round_trip_ms": round_trip_ms,
        "packet_bytes": 65536,
        "sample_count": 1,
        "bytes_per_second": rate,
        "ratio_to_call": rate / 100,
    }


def results() -> dict[str, Any]:
    """As L{rpcstream.bench.whole.measure} returns them."""
    row = {"what": "framing", "seconds_per_gib": 0.5, "count_per_gib": None, "how": "alone"}
    call = {
        "what": "one at a time",
        "calls_per_second": 10,
        "p50_ms": 1.0,
        "p99_ms": 2.0,
        "p99_9_ms": None,
        "sample_count": 100,
    }
    return {
        "machine": {
            "processor": "a processor",
            "cores": 2,
            "memory_bytes": 1 << 30,
            "kernel": "Linux",
            "python": "3",
            "openssl": "OpenSSL",
            "load": 0.0,
        },
        "plan": "tiny",
        "seconds": 1.0,
        "modes": {
            "method": "m",
            "left_out": ["x"],
            "rows": [
                _mode("call per 64 KiB", 0, 100),
                _mode("stream", 0, 300),
                _mode("stream", 0, 200),
                _mode("stream", 10, 150),
            ],
        },
        "costs": {
            "method": "m",
            "left_out": [],
            "lanes": [{"lane": "shared", "sample_count": 1, "rows": [row]}],
        },
        "calls": {"method": "m", "left_out": [], "rows": [call]},
        "memory": {"method": "m", "left_out": [], "idle": [], "streams": [], "sizes": []},
    }
