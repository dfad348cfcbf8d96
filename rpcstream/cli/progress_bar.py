"""
How far a transfer has come: rate, time left, and what it waits for.
"""

from __future__ import annotations

from collections import deque
from typing import Protocol, TextIO

from rich.console import Console
from rich.progress import BarColumn, Progress, TaskID, TextColumn

from rpcstream.cli.error_text import printable
from rpcstream.units import format_rate, format_seconds, format_size

__all__ = ["ProgressBar", "RateWindow", "Snapshot"]

_WINDOW_SECONDS = 5.0


class Snapshot(Protocol):
    """What is read of a stream's progress (C{rpcstream.net.progress.Progress})."""

    @property
    def byte_count(self) -> int:
        """Data bytes moved."""

    @property
    def hole_bytes(self) -> int:
        """Bytes of holes, which did not cross the wire."""

    @property
    def seconds(self) -> float:
        """Since the stream opened."""

    @property
    def total_bytes(self) -> int | None:
        """What the stream carries in all."""

    @property
    def stalled_by(self) -> str | None:
        """What it waits for, L{None} while bytes move."""

    @property
    def lane(self) -> str:
        """C{shared} or C{exclusive}."""


class RateWindow:
    """The rate over the last few seconds: an average since the start would hide a stall."""

    def __init__(self, window_seconds: float = _WINDOW_SECONDS) -> None:
        self._window_seconds = window_seconds
        self._points: deque[tuple[float, int]] = deque()

    def add(self, seconds: float, byte_count: int) -> float:
        """
        Note how many bytes had moved at a time.

        @return: bytes per second up to now; 0 while it is not known.
        """
        points = self._points
        if points and seconds < points[-1][0]:
            # A new stream: its clock begins at 0 again.
            points.clear()
        points.append((seconds, byte_count))
        while len(points) > 2 and points[1][0] <= seconds - self._window_seconds:
            points.popleft()
        first_seconds, first_count = points[0] if len(points) > 1 else (0.0, 0)
        elapsed = seconds - first_seconds
        return max(byte_count - first_count, 0) / elapsed if elapsed > 0 else 0.0


class ProgressBar:
    """
    A bar on a terminal.  It is drawn when told of progress, never by a thread of
    its own.

    @param stream: the terminal.
    @param what: what moves; shown before the bar.
    @param total_bytes: size of the content, L{None} if not known.
    @param resumed_bytes: what was there before this attempt.
    """

    def __init__(self, stream: TextIO, what: str, total_bytes: int | None, resumed_bytes: int = 0) -> None:
        self._rates = RateWindow()
        self._resumed_bytes = resumed_bytes
        self._total_bytes = total_bytes
        self._progress = Progress(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            TextColumn("{task.fields[status]}", markup=False),
            console=Console(file=stream, highlight=False),
            auto_refresh=False,
            transient=True,
            redirect_stdout=False,
            redirect_stderr=False,
        )
        self._task: TaskID = self._progress.add_task(
            printable(what, 40), total=total_bytes, completed=resumed_bytes, status=""
        )
        self._progress.start()

    def update(self, snapshot: Snapshot) -> None:
        """Draw it anew."""
        total_bytes = self._total_bytes
        if total_bytes is None and snapshot.total_bytes is not None:
            total_bytes = snapshot.total_bytes + self._resumed_bytes
        moved = snapshot.byte_count + snapshot.hole_bytes
        rate = self._rates.add(snapshot.seconds, moved)
        done = moved + self._resumed_bytes
        self._progress.update(
            self._task,
            total=total_bytes,
            completed=done,
            status=status_text(done, total_bytes, rate, snapshot.stalled_by),
        )
        self._progress.refresh()

    def write(self, line: str) -> None:
        """Print a line above the bar."""
        self._progress.console.print(line, markup=False, soft_wrap=True)

    def close(self) -> None:
        """Take the bar away; again is harmless."""
        self._progress.stop()


def status_text(done: int, total_bytes: int | None, rate: float, stalled_by: str | None) -> str:
    """
    The text behind the bar: bytes, rate, and the time left or what it waits for.
    """
    parts = [
        format_size(done) if total_bytes is None else f"{format_size(done)} of {format_size(total_bytes)}"
    ]
    parts.append(format_rate(rate))
    if stalled_by is not None:
        parts.append(f"waiting for {printable(stalled_by, 40)}")
    elif total_bytes is not None and rate > 0:
        parts.append(f"{format_seconds(max(total_bytes - done, 0) / rate)} left")
    return ", ".join(parts)
