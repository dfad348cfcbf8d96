"""
The results as a picture, by matplotlib, which is the extra C{plot}.
"""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import Any

from rpcstream.errors import ConfigurationError
from rpcstream.limits import KIB, MIB
from rpcstream.units import format_size

__all__ = ["check_plotting", "draw"]

COLOURS = {
    "call per 64 KiB": "#d55e00",
    "message": "#e69f00",
    "stream": "#0072b2",
    "stream, exclusive lane": "#009e73",
    "shared": "#0072b2",
    "exclusive": "#009e73",
}
"""The same for the same thing in every panel; told apart by colour-blind people, too."""
CALL_COLOURS = ("#56b4e9", "#0072b2", "#d55e00")
DOTS_PER_INCH = 72
"""So that a picture in the manual stays small."""


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
    figure = _load("matplotlib.figure").Figure(figsize=(13, 10), layout="constrained")
    panels = figure.subplots(2, 2)
    rows = [row for row in results["modes"]["rows"] if row["tls"]]
    _by_round_trip(panels[0][0], rows)
    _by_packet(panels[0][1], [row for row in rows if not row["round_trip_ms"]])
    _ledger(panels[1][0], results["costs"]["lanes"])
    _latency(panels[1][1], results["calls"]["rows"])
    about = results["machine"]
    figure.suptitle(
        f"rpcstream bench ({results['plan']}): {about['processor']}, {about['cores']} cores, "
        f"Python {about['python']}, {about['openssl']}"
    )
    figure.savefig(path, dpi=DOTS_PER_INCH)


def _by_round_trip(panel: Any, rows: list[dict[str, Any]]) -> None:
    """Evenly spaced: no scale shows 0, 1, 10 and 50 well."""
    trips = list(dict.fromkeys(row["round_trip_ms"] for row in rows))
    for mode in dict.fromkeys(row["mode"] for row in rows):
        best: dict[float, float] = {}
        for row in rows:
            if row["mode"] == mode:
                trip = row["round_trip_ms"]
                best[trip] = max(best.get(trip, 0.0), row["bytes_per_second"] / MIB)
        places = [trips.index(trip) for trip in best]
        panel.plot(places, list(best.values()), marker="o", label=mode, color=COLOURS[mode])
    panel.set_xticks(range(len(trips)), [f"{trip:g}" for trip in trips])
    panel.set(
        title="rate by round trip, the best packet size, TLS",
        xlabel="round trip, ms (not to scale)",
        ylabel="MiB/s (logarithmic)",
        yscale="log",
    )
    panel.yaxis.set_major_formatter(_load("matplotlib.ticker").FormatStrFormatter("%g"))
    panel.grid(axis="y", which="both", alpha=0.25)
    panel.legend(loc="best")


def _by_packet(panel: Any, rows: list[dict[str, Any]]) -> None:
    sizes = sorted({row["packet_bytes"] for row in rows})
    for mode in dict.fromkeys(row["mode"] for row in rows):
        found = [row for row in rows if row["mode"] == mode]
        rates = [row["bytes_per_second"] / MIB for row in found]
        if mode.startswith("call"):
            # It has one size only: a line to compare with.
            panel.axhline(rates[0], linestyle="--", label=mode, color=COLOURS[mode])
        else:
            places = [row["packet_bytes"] / KIB for row in found]
            panel.plot(places, rates, marker="o", label=mode, color=COLOURS[mode])
    panel.set(
        title="rate by packet size, TLS, without a relay",
        xlabel="packet (logarithmic)",
        ylabel="MiB/s",
        xscale="log",
        ylim=(0, None),
    )
    panel.set_xticks([size / KIB for size in sizes], [format_size(size) for size in sizes])
    panel.set_xticks([], minor=True)
    panel.grid(axis="y", alpha=0.25)
    panel.legend(loc="best")


def _ledger(panel: Any, lanes: list[dict[str, Any]]) -> None:
    height = 0.8 / max(1, len(lanes))
    for number, lane in enumerate(lanes):
        places = [place + number * height for place in range(len(lane["rows"]))]
        values = [row["seconds_per_gib"] for row in lane["rows"]]
        name = lane["lane"]
        bars = panel.barh(places, values, height, label=f"{name} lane", color=COLOURS[name])
        panel.bar_label(bars, [f"{value:.2f}" for value in values], padding=3, fontsize=8)
        ticks = [place + height * (len(lanes) - 1) / 2 for place in range(len(lane["rows"]))]
        panel.set_yticks(ticks, [row["what"] for row in lane["rows"]])
    panel.invert_yaxis()
    panel.margins(x=0.12)
    panel.set(title="where the time goes, file to file, TLS", xlabel="s per GiB")
    panel.grid(axis="x", alpha=0.25)
    panel.legend(loc="center right")


def _latency(panel: Any, rows: list[dict[str, Any]]) -> None:
    names = {"p50_ms": "p50", "p99_ms": "p99", "p99_9_ms": "p99.9"}
    width = 0.8 / max(1, len(rows))
    for number, row in enumerate(rows):
        # What there were too few calls for has no bar.
        found = [(place, row[name]) for place, name in enumerate(names) if row[name]]
        bars = panel.bar(
            [place + number * width for place, _ in found],
            [value for _, value in found],
            width,
            label=f"{row['what']} ({row['calls_per_second']:,} calls/s)",
            color=CALL_COLOURS[number % len(CALL_COLOURS)],
        )
        panel.bar_label(bars, [f"{value:.1f}" for _, value in found], padding=2, fontsize=8)
    middle = width * (len(rows) - 1) / 2
    panel.set_xticks([place + middle for place in range(len(names))], list(names.values()))
    panel.set(title="latency of calls, TLS", ylabel="ms (logarithmic)", yscale="log")
    highest = max((row[name] for row in rows for name in names if row[name]), default=1.0)
    # Room for what the colours mean.
    panel.set_ylim(top=highest * 10)
    panel.yaxis.set_major_formatter(_load("matplotlib.ticker").FormatStrFormatter("%g"))
    panel.grid(axis="y", alpha=0.25)
    panel.legend(loc="upper left")
