"""
What a contestant is, and what one of its runs tells.
"""

from __future__ import annotations

import importlib.util
import shutil
from abc import ABC, abstractmethod
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any, ClassVar

from benchmarks.workplace import Workplace
from rpcstream.bench.holds import read_report, worst_of

__all__ = ["Contestant", "Sample", "find_program", "needs"]


@dataclass(frozen=True)
class Sample:
    """
    @ivar amount: bytes moved, or calls answered.
    @ivar seconds: as the contestant itself tells; C{None} if it tells nothing.
    @ivar wall_seconds: of the whole process that did it, its start included.
    """

    amount: int
    seconds: float | None
    wall_seconds: float

    @property
    def rate(self) -> float:
        """By its own time if there is one."""
        return self.amount / (self.seconds or self.wall_seconds)

    @property
    def wall_rate(self) -> float:
        """By the time of the whole process."""
        return self.amount / self.wall_seconds


class Contestant(ABC):
    """
    One way to do the work of a group.

    @cvar name: in the table.
    @cvar groups: what it takes part in.
    @cvar is_ours: whether the others are compared with it.
    @cvar note: what it does more or less than the others.
    """

    name: ClassVar[str]
    groups: ClassVar[tuple[str, ...]]
    is_ours: ClassVar[bool] = False
    note: ClassVar[str] = ""

    def __init__(self, place: Workplace, group: str) -> None:
        self.place = place
        self.group = group
        self.stack = ExitStack()
        self._holds: dict[str, list[dict[str, Any]]] = {}

    def missing(self) -> str | None:
        """Why it cannot be measured here, C{None} if it can."""
        return None

    def prepare(self) -> None:  # noqa: B027 - not all have a server
        """Start its server; end that by C{self.stack}."""

    def held(self, end: str, report: Path | dict[str, Any] | None) -> None:
        """
        Keep how long a reactor of ours was held.

        @param end: what it does: C{sends} or C{serves}.
        @param report: a report, or the file of one.
        """
        found = read_report(report) if isinstance(report, Path) else report
        if found is not None:
            self._holds.setdefault(end, []).append(found)

    def holds(self) -> list[dict[str, Any]]:
        """A row for each end, complete after L{close}."""
        rows = [(end, worst_of(found)) for end, found in self._holds.items()]
        return [{"end": end, **worst} for end, worst in rows if worst is not None]

    @abstractmethod
    def run(self) -> Sample:
        """Do the work once."""

    def close(self) -> None:
        """End what was started."""
        self.stack.close()


def find_program(name: str) -> str | None:
    """Where a program is, also among those for administrators."""
    return shutil.which(name) or shutil.which(name, path="/usr/sbin:/sbin:/usr/local/sbin")


def needs(*names: str) -> str | None:
    """
    Why a contestant cannot be measured.

    @param names: of programs, or C{python:MODULE}.
    """
    for name in names:
        kind, _, module = name.partition(":")
        found = importlib.util.find_spec(module) if kind == "python" and module else find_program(name)
        if not found:
            return f"not installed: {module or name}"
    return None
