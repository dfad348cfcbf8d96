"""
The table in docs/benchmarks.rst, between two marks; the rest of the page is left alone.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from statistics import median
from typing import Any

from benchmarks.pairs import Result
from rpcstream.units import format_rate, format_size

__all__ = ["BEGIN", "BUSY_LOAD", "END", "rewrite", "table"]

BEGIN = ".. benchmarks begin: rewritten by python benchmarks/run.py"
END = ".. benchmarks end"
BUSY_LOAD = 0.5
"""Load average a core, before anything is measured, above which the machine counts as busy."""


def _rate(result: Result, rate: float) -> str:
    return format_rate(rate) if result.group.unit == "bytes" else f"{rate:,.0f}/s"


def _cells(result: Result) -> tuple[str, ...]:
    if result.problem:
        return (result.name, result.problem, "", "", "", result.note)
    has_own_time = result.samples[0].seconds is not None
    return (
        f"**{result.name}**" if result.is_ours else result.name,
        _rate(result, result.rate) if has_own_time else "(tells none)",
        _rate(result, result.wall_rate),
        f"{median(result.ratios):.2f}" if result.ratios else "",
        f"{median(result.wall_ratios):.2f}" if result.wall_ratios else "",
        result.note,
    )


def table(results: Sequence[Result], machine: dict[str, Any], size: int, call_count: int, runs: int) -> str:
    """
    The part of the page that is rewritten.

    @param size: bytes that are moved.
    @param runs: rounds.
    """
    is_busy = machine["load"] > BUSY_LOAD * machine["cores"]
    lines = [
        f"Measured on {machine['date']}{' **on a busy machine**' if is_busy else ''}: "
        f"{machine['processor']}, {machine['cores']} cores, {format_size(machine['memory_bytes'])}, "
        f"{machine['kernel']}, Python {machine['python']}, {machine['openssl']}, Twisted "
        f"{machine['twisted']}; load {machine['load']} before the first run.",
        f"Peers: {machine['peers']}.",
        f"{format_size(size)} of random data, or {call_count:,} calls; medians of {runs} alternating runs.",
        "",
    ]
    if is_busy:
        lines += [
            "These figures are provisional: others used the processors at the same time.  "
            f"To redo them: ``python benchmarks/run.py --runs {max(5, runs)}``.",
            "",
        ]
    titles = ("who", "rate, own time", "rate, whole process", "ours ÷ it", "ours ÷ it, whole process", "note")
    for group in dict.fromkeys(result.group for result in results):
        lines += [f".. list-table:: {group.title}", "   :header-rows: 1", ""]
        for cells in (titles, *(_cells(each) for each in results if each.group == group)):
            for place, cell in enumerate(cells):
                lines.append(f"   {'* -' if not place else '  -'} {cell}".rstrip())
        lines.append("")
    return "\n".join(lines)


def rewrite(page: Path, text: str) -> None:
    """
    Put C{text} between the marks.

    @raise ValueError: the page has no marks.
    """
    before, begin, rest = page.read_text("utf-8").partition(BEGIN)
    _, end, after = rest.partition(END)
    if not begin or not end:
        raise ValueError(f"{page} has no lines {BEGIN!r} and {END!r}")
    page.write_text(f"{before}{BEGIN}\n\n{text}\n{END}{after}", "utf-8")
