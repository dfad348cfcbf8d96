"""
Runs that alternate, and the medians of their paired ratios.

In every round each contestant of a group does the work once, forwards in even
rounds and backwards in odd ones, so that whatever changes on the machine meets
all alike; a ratio is made within a round, and the median of the rounds counts.
"""

from __future__ import annotations

import os
import sys
import traceback
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass, field
from statistics import median
from typing import Any, TypeVar

from benchmarks.groups import Group
from benchmarks.work import Contestant, Sample
from benchmarks.workplace import Workplace

__all__ = ["Result", "run_group"]

T = TypeVar("T")


@dataclass
class Result:
    """
    What one contestant of a group has done.

    @ivar problem: why there are no samples.
    @ivar ratios: ours to this one, a round each, by the time each tells itself.
    @ivar wall_ratios: the same by the time of whole processes.
    @ivar holds: how long reactors of ours were held, a row for each end.
    """

    group: Group
    name: str
    note: str
    is_ours: bool
    problem: str = ""
    samples: list[Sample] = field(default_factory=list)
    ratios: list[float] = field(default_factory=list)
    wall_ratios: list[float] = field(default_factory=list)
    holds: list[dict[str, Any]] = field(default_factory=list)

    def row(self) -> dict[str, Any]:
        """For JSON; the page is made of it."""
        return {
            "group": self.group.name,
            "title": self.group.title,
            "unit": self.group.unit,
            "name": self.name,
            "note": self.note,
            "is_ours": self.is_ours,
            "problem": self.problem,
            "rate": median(each.rate for each in self.samples) if self.samples else None,
            "wall_rate": median(each.wall_rate for each in self.samples) if self.samples else None,
            "tells_time": bool(self.samples) and self.samples[0].seconds is not None,
            "ratios": self.ratios,
            "wall_ratios": self.wall_ratios,
            "samples": [asdict(each) for each in self.samples],
            "holds": self.holds,
        }


def run_group(
    group: Group, classes: Sequence[type[Contestant]], place: Workplace, run_count: int
) -> list[Result]:
    """
    Run the contestants of a group.

    @param run_count: rounds.
    """
    running: list[tuple[Contestant, Result]] = []
    results: list[Result] = []
    try:
        for each in classes:
            contestant = each(place, group.name)
            result = Result(group, each.name, each.note, each.is_ours)
            results.append(result)
            why = contestant.missing()
            if why is None:
                running.append((contestant, result))
                _guarded(contestant.prepare, result)
            else:
                result.problem = f"not measured: {why}"
        # Once without counting: caches, lazy imports, the file system.
        for number in range(-1, run_count):
            turn = [pair for pair in running if not pair[1].problem]
            for contestant, result in reversed(turn) if number % 2 else turn:
                # Nobody pays for what another one has left to be written to the disk.
                os.sync()
                sample = _guarded(contestant.run, result)
                if number >= 0 and sample is not None:
                    result.samples.append(sample)
                    sys.stderr.write(f"  {group.name} {number + 1}/{run_count}: {result.name}\n")
    finally:
        for contestant, result in running:
            try:
                contestant.close()
            except Exception:
                # What was measured stays measured.
                traceback.print_exc()
            result.holds = contestant.holds()
    _compare(results)
    return results


def _guarded(work: Callable[[], T], result: Result) -> T | None:
    """What a peer cannot do is told in the table; the others go on."""
    try:
        return work()
    except Exception as error:
        traceback.print_exc()
        lines = str(error).splitlines() or [type(error).__name__]
        result.problem = f"not measured: failed: {lines[-1][:160]}"
        result.samples.clear()
        return None


def _compare(results: list[Result]) -> None:
    ours = next((each for each in results if each.is_ours and not each.problem), None)
    for other in results:
        if ours is not None and not other.is_ours and not other.problem:
            pairs = list(zip(ours.samples, other.samples, strict=True))
            other.ratios = [mine.rate / theirs.rate for mine, theirs in pairs]
            other.wall_ratios = [mine.wall_rate / theirs.wall_rate for mine, theirs in pairs]
