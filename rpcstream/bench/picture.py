"""
The results as a picture, by matplotlib, which is the extra C{plot}.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from rpcstream.errors import ConfigurationError
from rpcstream.limits import MIB

__all__ = ["check_plotting", "draw"]


def _load(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError:
        raise ConfigurationError(
            "--plot needs matplotlib, which is not installed: pip install 'rpcstream[plot]'"
        ) from None


def check_plotting(path: Path) -> None:
    """
    Find out before the measuring whether a picture can be made.

    @raise ConfigurationError: it cannot; the text names the remedy.
    """
    if path.suffix.lower() not in (".png", ".svg", ".pdf"):
        raise ConfigurationError(f"{path}: name a file that ends in .png, .svg or .pdf")
    if not path.absolute().parent.is_dir():
        raise ConfigurationError(f"{path}: there is no directory {path.absolute().parent}")
    _load("matplotlib.figure")


def draw(results: dict[str, Any], path: Path) -> None:
    """
    Four panels: rate by round trip, rate by packet size, where the time goes, calls.

    @raise OSError: it cannot be written.
    """
    figure = _load("matplotlib.figure").Figure(figsize=(13, 9), layout="constrained")
    panels = figure.subplots(2, 2)
    rows = [row for row in results["modes"]["rows"] if row["tls"]]
    _by_round_trip(panels[0][0], rows)
    _by_packet(panels[0][1], [row for row in rows if not row["round_trip_ms"]])
    _ledger(panels[1][0], results["costs"]["lanes"])
    _latency(panels[1][1], results["calls"]["rows"])
    about = results["machine"]
    figure.suptitle(f"rpcstream bench ({results['plan']}): {about['processor']}, {about['cores']} cores")
    figure.savefig(path)


def _by_round_trip(panel: Any, rows: list[dict[str, Any]]) -> None:
    for mode in dict.fromkeys(row["mode"] for row in rows):
        best: dict[float, float] = {}
        for row in rows:
            if row["mode"] == mode:
                trip = row["round_trip_ms"]
                best[trip] = max(best.get(trip, 0.0), row["bytes_per_second"] / MIB)
        panel.plot(list(best), list(best.values()), marker="o", label=mode)
    panel.set(title="best rate, TLS", xlabel="round trip, ms", ylabel="MiB/s", yscale="log")
    panel.legend()


def _by_packet(panel: Any, rows: list[dict[str, Any]]) -> None:
    for mode in dict.fromkeys(row["mode"] for row in rows):
        found = [row for row in rows if row["mode"] == mode]
        sizes = [row["packet_bytes"] / 1024 for row in found]
        panel.plot(sizes, [row["bytes_per_second"] / MIB for row in found], marker="o", label=mode)
    panel.set(title="by packet size, TLS, no relay", xlabel="KiB", ylabel="MiB/s", xscale="log")
    panel.legend()


def _ledger(panel: Any, lanes: list[dict[str, Any]]) -> None:
    height = 0.8 / max(1, len(lanes))
    for number, lane in enumerate(lanes):
        places = [place + number * height for place in range(len(lane["rows"]))]
        panel.barh(places, [row["seconds_per_gib"] for row in lane["rows"]], height, label=lane["lane"])
        panel.set_yticks(range(len(lane["rows"])), [row["what"] for row in lane["rows"]])
    panel.invert_yaxis()
    panel.set(title="where the time goes, file to file, TLS", xlabel="s per GiB")
    panel.legend()


def _latency(panel: Any, rows: list[dict[str, Any]]) -> None:
    names = ("p50_ms", "p99_ms", "p99_9_ms")
    for number, row in enumerate(rows):
        values = [row[name] or 0.0 for name in names]
        panel.bar([place + number * 0.25 for place in range(len(names))], values, 0.25, label=row["what"])
    panel.set_xticks([0.25, 1.25, 2.25], ["p50", "p99", "p99.9"])
    panel.set(title="latency of calls", ylabel="ms", yscale="log")
    panel.legend()
