"""
What was aimed at, and whether a run has met it.

A target looks at the rows of one run, and at nothing else: what could not be
measured is said to be so, and what falls short says by how much.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from statistics import median
from typing import Any

from rpcstream.bench.holds import LIMIT_SECONDS
from rpcstream.limits import KIB, MIB
from rpcstream.units import format_size

__all__ = ["TARGETS", "Figure", "Target", "figures_of", "verdicts"]


@dataclass(frozen=True)
class Figure:
    """
    What was measured for a target: medians over runs.

    @ivar value: in the target's unit.
    @ivar wall_value: a ratio by the time of whole processes, beside it.
    @ivar low: of the single runs, and C{high}.
    @ivar count: of runs.
    @ivar problem: why there is no value.
    """

    value: float = 0.0
    wall_value: float | None = None
    low: float = 0.0
    high: float = 0.0
    count: int = 0
    problem: str = ""


@dataclass(frozen=True)
class Target:
    """
    @ivar lane: the row of the table of targets.
    @ivar what: what is compared with what.
    @ivar figure: name of what is looked at (see L{figures_of}).
    @ivar bound: to be reached.
    @ivar is_most: not to be passed, instead.
    @ivar unit: C{x} for a ratio, C{ms}, C{bytes}, C{rate}.
    """

    lane: str
    what: str
    figure: str
    bound: float
    is_most: bool = False
    unit: str = "x"

    def share(self, value: float) -> float:
        """How much of the target was reached: 1 or more is met."""
        if not self.is_most:
            return value / self.bound
        return self.bound / value if value else float("inf")

    def show(self, value: float) -> str:
        """A value in the target's unit."""
        if self.unit == "bytes":
            return format_size(value)
        if self.unit == "rate":
            return f"{value / 1e6:.0f} MB/s"
        return f"{value:.1f} ms" if self.unit == "ms" else f"{value:.2f} x"

    @property
    def text(self) -> str:
        """What is aimed at."""
        shown = f"{self.bound:g} {self.unit}" if self.unit in ("x", "ms") else self.show(self.bound)
        return f"{'≤' if self.is_most else '≥'} {shown}"


_LOOP = "bare pyOpenSSL loop"
_FILES = "exclusive lane, TLS, file to file, digest and fsync"
_PLAIN = "plain TCP, UNIX socket"
_CALLS = "calls"
_STREAM = "a stream against a call per 64 KiB"

TARGETS = (
    Target("exclusive lane, TLS, memory to memory", "bare blocking pyOpenSSL loop",
           f"memory-worker/{_LOOP}", 0.95),
    Target(_FILES, "the same loop with files and fsync, no digest", f"files-tls/{_LOOP}, files", 0.97),
    Target(_FILES, "nbdcopy over TLS to nbdkit", "files-tls/nbdcopy to nbdkit", 1.0),
    Target(_FILES, "ssh, aes-gcm", "files-tls/ssh host 'cat > file'", 1.6),
    Target(_FILES, "scp", "files-tls/scp", 1.0),
    Target(_FILES, "virsh vol-upload over TLS", "files-tls/virsh vol-upload to libvirtd", 2.5),
    Target(_FILES, "gRPC streaming over TLS", "files-tls/gRPC streaming", 1.0),
    Target("the same over 4 connections, each behind a 100 MB/s relay", "together",
           "rate/files-narrow", 380e6, unit="rate"),
    Target("shared lane, TLS", "bare Twisted TLS", "memory-shared/bare Twisted TLS", 0.9),
    Target(_PLAIN, "file to a sink, TCP: os.sendfile", "file-sink/os.sendfile", 0.9),
    Target(_PLAIN, "file to a sink, UNIX socket: os.sendfile", "file-sink-unix/os.sendfile", 0.9),
    Target(_PLAIN, "file to file: nbdcopy over TCP to nbdkit", "files-tcp/nbdcopy to nbdkit", 1.0),
    Target(_CALLS, "one at a time: Twisted AMP", "calls-one/Twisted AMP", 1.5),
    Target(_CALLS, "200 in flight: Twisted AMP", "calls-many/Twisted AMP", 4.0),
    Target("calls while 8 streams fill the same connection", "p99 of a call", "load-p99", 25.0, True, "ms"),
    Target("calls while 8 streams fill the same connection", "streams: their rate without calls",
           "load-keeps", 0.9),
    Target(_STREAM, "no latency, exclusive lane", "stream-0-exclusive", 1.5),
    Target(_STREAM, "no latency, shared lane", "stream-0-shared", 1.5),
    Target(_STREAM, "round trip of 10 ms, exclusive lane", "stream-10-exclusive", 50.0),
    Target(_STREAM, "round trip of 10 ms, shared lane", "stream-10-shared", 50.0),
    Target("memory", "any one transfer, either end, over idle", "memory-transfer", 32 * MIB, True, "bytes"),
    Target("memory", "an idle connection", "memory-idle", 100 * KIB, True, "bytes"),
    Target("memory", "a shared stream that nobody consumes: spool", "memory-spool", 4 * MIB, True, "bytes"),
    Target("reactor", "longest hold in any of these runs", "holds", LIMIT_SECONDS * 1000, True, "ms"),
)  # fmt: skip


def figures_of(run: dict[str, Any]) -> dict[str, Figure]:
    """
    Everything that a target may name.

    @param run: C{groups}, the rows of all contestants, and C{alone}, what has no peer, by name.
    """
    found: dict[str, Figure] = {}
    for row in run["groups"]:
        if row["is_ours"]:
            rates = [each["amount"] / (each["seconds"] or each["wall_seconds"]) for each in row["samples"]]
            problem = row["problem"] or "not measured"
            found[f"rate/{row['group']}"] = _figure(rates) if rates else Figure(problem=problem)
        else:
            found[f"{row['group']}/{row['name']}"] = _ratio_figure(row, run["groups"])
    for name, part in run["alone"].items():
        if "problem" in part:
            found[name] = Figure(problem=part["problem"])
        else:
            found.update(_alone_figures(name, part))
    held = [each["longest_hold_ms"] for each in all_holds(run)]
    if held:
        found["holds"] = Figure(max(held), None, min(held), max(held), len(held))
    return found


def all_holds(run: dict[str, Any]) -> list[dict[str, Any]]:
    """The holds of every run of ours, each with C{where}."""
    rows: list[dict[str, Any]] = []
    for row in run["groups"]:
        rows += [{"where": row["title"], **each} for each in row["holds"]]
    for name, part in run["alone"].items():
        rows += [{"where": part.get("title", name), **each} for each in part.get("holds", [])]
    for name in ("modes", "costs", "calls", "memory"):
        part = (run.get("bench") or {}).get(name, {})
        rows += [{"where": f"rpcstream bench: {name}", **each} for each in part.get("holds", [])]
    return rows


def _figure(values: Sequence[float], wall: Sequence[float] = ()) -> Figure:
    return Figure(median(values), median(wall) if wall else None, min(values), max(values), len(values))


def _ratio_figure(row: dict[str, Any], rows: list[dict[str, Any]]) -> Figure:
    if row["problem"]:
        return Figure(problem=row["problem"])
    if not row["ratios"]:
        ours = next((each for each in rows if each["is_ours"] and each["group"] == row["group"]), None)
        return Figure(problem=(ours or {}).get("problem") or "not measured: nothing of ours beside it")
    return _figure(row["ratios"], row["wall_ratios"])


def _alone_figures(name: str, part: dict[str, Any]) -> dict[str, Figure]:
    """@param name: as in C{benchmarks.alone}."""
    if name == "load":
        p99s = [each for each in part["p99s_ms"] if each is not None]
        few = Figure(problem="not measured: too few calls for a p99")
        return {"load-p99": _figure(p99s) if p99s else few, "load-keeps": _figure(part["keeps"])}
    if name == "memory-transfer":
        return {name: _figure_of_worst([max(each["growth_bytes"].values()) for each in part["rows"]])}
    if name == "memory-idle":
        return {name: _figure([part["bytes_per_connection"]])}
    if name == "memory-spool":
        return {name: _figure([part["spool_bytes"]])}
    return {f"{name}-{lane}": _figure(ratios) for lane, ratios in part["ratios"].items()}


def _figure_of_worst(values: list[float]) -> Figure:
    return Figure(max(values), None, min(values), max(values), len(values))


def verdicts(run: dict[str, Any]) -> list[tuple[Target, Figure, str]]:
    """Every target with what was measured, and C{met}, C{0.93 of the target} or why it is not known."""
    figures = figures_of(run)
    found = []
    for target in TARGETS:
        figure = figures.get(target.figure) or figures.get(target.figure.rpartition("-")[0])
        if figure is None or figure.problem:
            figure = Figure(problem=figure.problem if figure else "not measured in this run")
            found.append((target, figure, figure.problem))
            continue
        share = target.share(figure.value)
        # Never rounded up to what was not reached.
        verdict = "met" if share >= 1 else f"**{int(share * 100) / 100:.2f} of the target**"
        found.append((target, figure, verdict))
    return found
