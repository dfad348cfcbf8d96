"""
C{rpcstream bench}: measure this machine.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

import click

from rpcstream.bench.picture import check_plotting, draw
from rpcstream.bench.plan import FULL, QUICK, Plan
from rpcstream.bench.whole import measure
from rpcstream.cli.bench_tables import tables_of
from rpcstream.cli.options import Settings, printing
from rpcstream.cli.running import Session, run
from rpcstream.units import format_seconds, format_size

__all__ = ["bench"]

_TITLES = {
    "modes": "stream, call, message",
    "costs": "where the time goes",
    "calls": "calls",
    "memory": "memory",
}


@click.command(short_help="Measure how fast this is here, and where the time goes.")
@click.option("--quick", is_flag=True, help="Less than a minute, instead of a quarter of an hour.")
@click.option(
    "--plot",
    type=click.Path(path_type=Path, dir_okay=False),
    metavar="FILE.png",
    help="Draw the results, too (needs matplotlib: the extra rpcstream[plot]).",
)
@printing
def bench(settings: Settings, quick: bool, plot: Path | None) -> int:
    """
    Measure streams, calls and memory, both ends on this machine, with certificates made for it.

    Nothing else should run meanwhile.  With --json the last line holds all that was measured, with the
    samples; the tables show the best packet sizes only.
    """
    if plot is not None:
        check_plotting(plot)
    measuring = _Measuring(settings, QUICK if quick else FULL, plot)
    return run(measuring.run, settings.output)


class _Measuring:
    """One run of all measurements."""

    def __init__(self, settings: Settings, plan: Plan, plot: Path | None) -> None:
        self._settings = settings
        self._plan = plan
        self._plot = plot

    async def run(self, session: Session) -> None:
        """Measure, and tell each part as soon as it is there."""
        output = session.output

        def begun(name: str) -> None:
            if not self._settings.as_json:
                output.note(f"measuring: {_TITLES[name]} ...")

        def done(name: str, part: dict[str, Any]) -> None:
            for table, rows in tables_of(name, part):
                output.table(table, rows)
                if sys.stdout.isatty():
                    output.drawing(" ")
            output.note(f"method: {part['method']}")
            for held in part.get("holds", []):
                for cause in held["causes"]:
                    output.note(f"the {held['end']} end was held {cause['count']} x in {cause['where']}")
            for what in part["left_out"]:
                output.note(f"left out: {what}")

        results = await measure(session.reactor, session.runner, self._plan, begun, done)
        if self._plot is not None:
            await session.runner.run(draw, results, self._plot)
        about = results["machine"]
        text = (
            f"{about['processor']}, {about['cores']} cores, {format_size(about['memory_bytes'])}, "
            f"{about['kernel']}, Python {about['python']}, {about['openssl']}; load {about['load']} before; "
            f"measured in {format_seconds(results['seconds'])} ({results['plan']})"
        )
        output.done(text, **results)
