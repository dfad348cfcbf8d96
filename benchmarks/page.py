"""
docs/benchmarks.rst: what stands between marks is made of the JSON of a run.

The rest of the page is left alone.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.targets import all_holds, verdicts
from rpcstream.units import format_rate, format_size

__all__ = [
    "BUSY_LOAD",
    "COSTS",
    "GROWTH",
    "PEERS",
    "TARGETS",
    "about",
    "list_table",
    "peers",
    "rewrite",
    "targets",
]

TARGETS, PEERS, COSTS, GROWTH = "targets", "peers", "costs", "growth"
"""Parts of the page."""
BUSY_LOAD = 0.5
"""Load average a core, before anything is measured, above which the machine counts as busy."""


def begin_mark(name: str) -> str:
    """The line before a part."""
    command = "growth.py" if name == GROWTH else "run.py"
    return f".. {name} begin: rewritten by python benchmarks/{command}"


def end_mark(name: str) -> str:
    """The line behind it."""
    return f".. {name} end"


def rewrite(page: Path, name: str, text: str) -> None:
    """
    Put C{text} between the marks of a part.

    @raise ValueError: the page has no such marks.
    """
    begin, end = begin_mark(name), end_mark(name)
    before, found_begin, rest = page.read_text("utf-8").partition(f"{begin}\n")
    _, found_end, after = rest.partition(f"\n{end}\n")
    if not found_begin or not found_end:
        raise ValueError(f"{page} has no lines {begin!r} and {end!r}")
    page.write_text(f"{before}{begin}\n\n{text.strip()}\n\n{end}\n{after}", "utf-8")


def list_table(title: str, head: Sequence[str], rows: Iterable[Sequence[str]]) -> list[str]:
    """A table as lines of reStructuredText."""
    lines = [f".. list-table:: {title}", "   :header-rows: 1", ""]
    for cells in (head, *rows):
        for place, cell in enumerate(cells):
            lines.append(f"   {'* -' if not place else '  -'} {cell}".rstrip())
    return [*lines, ""]


def about(run: dict[str, Any]) -> list[str]:
    """The machine, what was moved, and whether others were at work."""
    machine = run["machine"]
    is_busy = machine["load"] > BUSY_LOAD * machine["cores"]
    lines = [
        f"Measured on {machine['date']}{' **on a busy machine**' if is_busy else ''}: "
        f"{machine['processor']}, {machine['cores']} cores, {format_size(machine['memory_bytes'])}, "
        f"{machine['kernel']}, Python {machine['python']}, {machine['openssl']}, Twisted "
        f"{machine['twisted']}; load {machine['load']} before the first run.",
        f"{format_size(run['size'])} of random data, or {run['calls']:,} calls; medians of {run['runs']} "
        f"alternating runs; files on {run['place']}; all of it took {run['seconds'] / 60:.0f} minutes.",
        "",
    ]
    if is_busy:
        lines += [
            "These figures are provisional: others used the processors at the same time.  "
            f"To redo them: ``python benchmarks/run.py --runs {max(5, run['runs'])}``.",
            "",
        ]
    return lines


def targets(run: dict[str, Any]) -> str:
    """Every target, and whether it is met."""
    rows = []
    for target, figure, verdict in verdicts(run):
        if figure.problem:
            rows.append((target.lane, target.what, target.text, "", "", "", verdict))
            continue
        spread = f"{target.show(figure.low)} to {target.show(figure.high)}" if figure.count > 1 else ""
        wall = "" if figure.wall_value is None else f"{figure.wall_value:.2f} x"
        rows.append((target.lane, target.what, target.text, target.show(figure.value), spread, wall, verdict))
    head = ("lane", "against, or what", "target", "measured", "single runs", "whole processes", "")
    return "\n".join([*about(run), *list_table("Targets", head, rows), *_held(run)])


def _held(run: dict[str, Any]) -> list[str]:
    """How long reactors of ours were held, the worst first, and by what."""
    rows = []
    for each in sorted(all_holds(run), key=lambda each: -float(each["longest_hold_ms"])):
        cause = each["causes"][0] if each["causes"] else None
        rows.append(
            (
                each["where"],
                each["end"],
                f"{each['longest_hold_ms']:.1f} ms",
                f"{each['processor_ms']:.1f} ms",
                f"{each['taken_ms']:.1f} ms",
                str(each["over_count"]),
                f"{each['tick_count']:,}",
                f"{cause['count']} x ``{cause['where']}``" if cause else "",
            )
        )
    head = (
        "run", "end", "longest", "at work in it", "taken by other processes, most", "over 20 ms", "ticks",
        "in what, those over 20 ms",
    )  # fmt: skip
    return list_table("Longest hold of the reactor", head, rows) if rows else []


def _rate(row: dict[str, Any], rate: float) -> str:
    return format_rate(rate) if row["unit"] == "bytes" else f"{rate:,.0f}/s"


def _cells(row: dict[str, Any]) -> tuple[str, ...]:
    if row["problem"]:
        return (row["name"], row["problem"], "", "", "", "", row["note"])
    held = ", ".join(f"{each['longest_hold_ms']:.0f} ms ({each['end']})" for each in row["holds"])
    return (
        f"**{row['name']}**" if row["is_ours"] else row["name"],
        _rate(row, row["rate"]) if row["tells_time"] else "(tells none)",
        _rate(row, row["wall_rate"]),
        f"{median(row['ratios']):.2f}" if row["ratios"] else "",
        f"{median(row['wall_ratios']):.2f}" if row["wall_ratios"] else "",
        held,
        row["note"],
    )


def peers(run: dict[str, Any]) -> str:
    """A table for each kind of work."""
    head = (
        "who", "rate, own time", "rate, whole process", "ours ÷ it", "ours ÷ it, whole process",
        "longest hold", "note",
    )  # fmt: skip
    lines = [f"Peers: {run['machine']['peers']}.", ""]
    for title in dict.fromkeys(row["title"] for row in run["groups"]):
        lines += list_table(title, head, [_cells(row) for row in run["groups"] if row["title"] == title])
    return "\n".join(lines)
