"""
The answer to the proposal's question, made of the figures of one run: a table, a picture and a paragraph.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from benchmarks.page import list_table
from rpcstream.bench.picture import draw
from rpcstream.limits import GIB, KIB

__all__ = ["answer", "draw_picture"]

CALL_COUNT = GIB // (64 * KIB)
"""Round trips of a GiB, a call per 64 KiB."""


def draw_picture(run: dict[str, Any], path: Path) -> None:
    """
    Draw what C{rpcstream bench} found, if it found anything.

    @raise rpcstream.errors.ConfigurationError: there is no matplotlib.
    """
    if run["bench"] is not None and "problem" not in run["bench"]:
        draw(run["bench"], path)


def answer(run: dict[str, Any]) -> str:
    """The part of the page; why there is none, if the measurements are not there."""
    bench = run["bench"]
    if bench is None or "problem" in bench:
        return f"{'Not measured in this run' if bench is None else bench['problem']}."
    lanes = {lane["lane"]: lane for lane in bench["costs"]["lanes"]}
    if not lanes:
        return "Not measured in this run: there was no time for it."
    lines = [_paragraph(run, lanes, bench["modes"]["rows"]), ""]
    lines += _excess(run, lanes, bench["modes"]["rows"])
    lines += [
        ".. image:: benchmarks.png",
        "   :alt: rates by round trip and packet size, where the time goes, latency",
        "",
    ]
    lines += _ledger(lanes)
    lines += [bench["costs"]["method"], ""]
    return "\n".join(lines)


def _rows_of(lane: dict[str, Any]) -> dict[str, dict[str, Any]]:
    return {row["what"]: row for row in lane["rows"]}


def _ledger(lanes: dict[str, dict[str, Any]]) -> list[str]:
    """Each lane's rows side by side."""
    names = list(lanes)
    found = [_rows_of(lane) for lane in lanes.values()]
    rows = []
    for what in found[0]:
        cells = []
        for each in found:
            row = each[what]
            count = "" if row["count_per_gib"] is None else f" ({row['count_per_gib']:,})"
            cells.append(f"{row['seconds_per_gib']:.3f} s{count}")
        rows.append((what, *cells, found[0][what]["how"]))
    title = "Where the time goes, file to file over TLS, per GiB"
    return list_table(title, ("what", *(f"{name} lane" for name in names), "measured by"), rows)


def raw_seconds(run: dict[str, Any], lanes: dict[str, dict[str, Any]]) -> tuple[float, str]:
    """
    What a GiB takes with nothing of the protocol, and by what.

    The mail compared with a bare socket; that is C{os.sendfile} to a reader that
    forgets, or where it was not measured plain text from memory.
    """
    for row in run["groups"]:
        if (row["group"], row["name"]) == ("file-sink", "os.sendfile") and row["rate"]:
            return GIB / row["rate"], "``os.sendfile`` over plain TCP"
    lane = list(lanes.values())[-1]
    return lane["runs"][0]["seconds_per_gib"], f"plain text from memory, {lane['lane']} lane"


def _excess(
    run: dict[str, Any], lanes: dict[str, dict[str, Any]], modes: Sequence[dict[str, Any]]
) -> list[str]:
    """Seconds per GiB beyond the bare bytes, by cause."""
    raw, by = raw_seconds(run, lanes)
    causes: dict[str, list[str]] = {f"the bytes alone: {by}": [f"{raw:.3f} s"] * len(lanes)}
    for lane in lanes.values():
        for name, seconds in _parts(lane).items():
            causes.setdefault(name, []).append(f"+ {seconds:.3f} s")
    for trip, seconds in _round_trips(modes).items():
        name = f"round trips, if it were a call per 64 KiB: at {trip:g} ms"
        causes[name] = [f"+ {seconds:,.3f} s"] * len(lanes)
    head = ("cause", *(f"{name} lane" for name in lanes))
    return list_table(
        "What a GiB costs beyond its bytes", head, [(name, *cells) for name, cells in causes.items()]
    )


def _parts(lane: dict[str, Any]) -> dict[str, float]:
    """Processor seconds of both ends, but for the last, by cause."""
    rows = _rows_of(lane)
    switches = [row for what, row in rows.items() if what.startswith("context switches")]
    tls, files = lane["runs"][1], lane["runs"][2]
    return {
        "encoding (framing, both ends)": rows["framing"]["seconds_per_gib"],
        "encryption (both ends)": rows["encryption"]["seconds_per_gib"],
        "context switches": sum(row["seconds_per_gib"] for row in switches),
        "digest (both ends)": rows["digest, both ends"]["seconds_per_gib"],
        "files, journal and fsync (wall time beyond memory to memory)": max(
            0.0, files["seconds_per_gib"] - tls["seconds_per_gib"]
        ),
    }


def _round_trips(modes: Sequence[dict[str, Any]]) -> dict[float, float]:
    """By round trip: what a call per 64 KiB takes longer than the best stream of the shared lane, TLS."""
    found: dict[float, float] = {}
    for trip in dict.fromkeys(row["round_trip_ms"] for row in modes):
        here = [row for row in modes if row["tls"] and row["round_trip_ms"] == trip]
        calls = [row["bytes_per_second"] for row in here if row["mode"].startswith("call")]
        streams = [row["bytes_per_second"] for row in here if row["mode"] == "stream"]
        if calls and streams:
            found[trip] = max(0.0, GIB / max(calls) - GIB / max(streams))
    return found


def _paragraph(run: dict[str, Any], lanes: dict[str, dict[str, Any]], modes: Sequence[dict[str, Any]]) -> str:
    raw, by = raw_seconds(run, lanes)
    said = [
        "*How much of the excess time is encoding, encryption, context switches, round trips?* "
        f"On this machine a GiB takes {raw:.2f} s with nothing around it ({by})."
    ]
    for name, lane in lanes.items():
        rows = _rows_of(lane)
        busy = rows["processor time, both ends"]["seconds_per_gib"]
        wall = rows["wall time"]["seconds_per_gib"]
        parts = {
            "encryption": rows["encryption"]["seconds_per_gib"],
            "encoding": rows["framing"]["seconds_per_gib"],
            "the digest": rows["digest, both ends"]["seconds_per_gib"],
            "system calls for sockets": rows["system calls: sockets"]["seconds_per_gib"],
            "system calls for files": rows["system calls: files"]["seconds_per_gib"],
            "Python, Twisted and the rest": rows["Python, Twisted and the rest"]["seconds_per_gib"],
        }
        shares = ", ".join(
            f"{what} {seconds / busy:.0%}"
            for what, seconds in sorted(parts.items(), key=lambda each: -each[1])
        )
        switches = [row for what, row in rows.items() if what.startswith("context switches")]
        switched = sum(row["seconds_per_gib"] for row in switches)
        said.append(
            f"On the {name} lane, from file to file over TLS with digest and fsync, it takes {wall:.2f} s, "
            f"and {busy:.2f} s of processor time of both ends together: {shares}. Context switches, "
            f"{sum(row['count_per_gib'] for row in switches):,} of them and contained in these, are about "
            f"{switched / busy:.0%}."
        )
    trips = _round_trips(modes)
    if trips:
        told = ", ".join(
            f"{seconds:,.2f} s with a round trip of {trip:g} ms"
            if trip
            else f"{seconds:,.2f} s at no latency"
            for trip, seconds in trips.items()
        )
        said.append(
            f"Round trips: a stream has none for each packet. A call per 64 KiB makes "
            f"{CALL_COUNT:,} of them for a GiB and takes longer than the stream by {told}."
        )
    return "\n\n".join(said)
