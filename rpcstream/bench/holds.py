"""
How long the reactor was held: the longest time between two of its turns.

The reactor ticks, each 5 ms if it can.  A hold is the time from one tick to the
next, so that none is told shorter than it was, and none more than 5 ms longer.
A thread looks at the last tick, and where the next one is overdue keeps what
the reactor's thread is doing at that instant, so that a hold has a cause beside
its length.

The length is taken in the reactor's own thread, so that the looking thread's
turns of the interpreter are no part of it; what other threads of this process
keep the interpreter for is, since calls wait for it all the same.  Time in
which the kernel gave the processor to somebody else while the reactor's thread
was ready to run (C{/proc/.../schedstat}) is told apart and subtracted: it is
the machine's, not ours.
"""

from __future__ import annotations

import json
import os
import sys
import threading
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path
from traceback import extract_stack
from typing import Any, NamedTuple

__all__ = ["LIMIT_SECONDS", "Holds", "HoldsReport", "holds_wanted", "read_report", "worst_of"]

TICK_SECONDS = 0.005
LIMIT_SECONDS = 0.020
"""A hold longer than that is one too many."""
CAUSE_COUNT = 5
NOT_SEEN = "not seen: the looking thread did not get the interpreter"
_SWITCH = "RPCSTREAM_BENCH_HOLDS"


def holds_wanted() -> bool:
    """Whether the environment does not switch it off (C{RPCSTREAM_BENCH_HOLDS=0})."""
    return os.environ.get(_SWITCH) != "0"


class HoldsReport(NamedTuple):
    """
    @ivar longest_seconds: the longest hold, without what other processes took.
    @ivar processor_seconds: what the reactor's thread worked in that one; the rest it waited: for
        the interpreter, a lock or the disk.
    @ivar taken_seconds: the most that other processes took from the reactor's thread in one hold.
    @ivar over_count: holds longer than L{LIMIT_SECONDS}.
    @ivar tick_count: ticks looked at; with none, nothing was seen.
    @ivar causes: what was running during those too long, the most frequent first, with counts.
    """

    longest_seconds: float
    processor_seconds: float
    taken_seconds: float
    over_count: int
    tick_count: int
    causes: list[tuple[str, int]]

    def fields(self) -> dict[str, Any]:
        """For JSON."""
        return {
            "longest_hold_ms": round(self.longest_seconds * 1000, 1),
            "processor_ms": round(self.processor_seconds * 1000, 1),
            "taken_ms": round(self.taken_seconds * 1000, 1),
            "over_count": self.over_count,
            "tick_count": self.tick_count,
            "causes": [{"where": where, "count": count} for where, count in self.causes],
        }


def worst_of(found: list[dict[str, Any]]) -> dict[str, Any] | None:
    """
    Several reports, as L{HoldsReport.fields} tells them, as one.

    @return: C{None} if nothing was looked at.
    """
    looked = [each for each in found if each["tick_count"]]
    if not looked:
        return None
    causes: Counter[str] = Counter()
    for each in looked:
        causes.update({cause["where"]: cause["count"] for cause in each["causes"]})
    worst = max(looked, key=lambda each: float(each["longest_hold_ms"]))
    return {
        "longest_hold_ms": worst["longest_hold_ms"],
        "processor_ms": worst["processor_ms"],
        "taken_ms": max(each["taken_ms"] for each in looked),
        "over_count": sum(each["over_count"] for each in looked),
        "tick_count": sum(each["tick_count"] for each in looked),
        "causes": [{"where": where, "count": count} for where, count in causes.most_common(CAUSE_COUNT)],
    }


class _Schedule:
    """What the kernel counts for this thread (C{schedstat}); zeros where it does not tell."""

    def __init__(self) -> None:
        try:
            path = f"/proc/self/task/{threading.get_native_id()}/schedstat"
            self._fd = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
        except OSError:
            self._fd = -1

    def ns(self) -> tuple[int, int]:
        """Time on a processor, and time waited for one, so far."""
        if self._fd < 0:
            return 0, 0
        ran, waited, _ = os.pread(self._fd, 64, 0).split()
        return int(ran), int(waited)

    def close(self) -> None:
        """Give the descriptor back."""
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


class Holds:
    """
    Looks at a reactor.  L{start} and L{stop} come from its thread, while it runs.

    Costs a tick in 5 ms and a look in 10 ms: less than 1 % of a processor.
    """

    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor
        self._longest_ns = self._processor_ns = self._taken_ns = 0
        self._over_count = self._tick_count = 0
        self._causes: Counter[str] = Counter()
        self._call: Any = None
        self._looked_at: tuple[int, str] = (0, "")
        self._last_ns = 0
        self._counted = (0, 0)

    def start(self) -> None:
        """Look from now on."""
        self._schedule = _Schedule()
        self._stopped = threading.Event()
        self._thread_id = threading.get_ident()
        self._begin_tick(time.perf_counter_ns())
        self._thread = threading.Thread(target=self._look, name="holds", daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Look no more; safe to call again."""
        if self._call is None:
            return
        self._call.cancel()
        # What holds the reactor right now counts, too.
        self._count(time.perf_counter_ns())
        self._call = None
        self._stopped.set()
        self._thread.join()
        self._schedule.close()

    @contextmanager
    def watched(self) -> Iterator[None]:
        """Look while the body runs."""
        self.start()
        try:
            yield
        finally:
            self.stop()

    def report(self) -> HoldsReport:
        """What was seen so far."""
        return HoldsReport(
            self._longest_ns / 1e9,
            self._processor_ns / 1e9,
            self._taken_ns / 1e9,
            self._over_count,
            self._tick_count,
            self._causes.most_common(CAUSE_COUNT),
        )

    def write(self, path: Path) -> None:
        """L{report} as a file of JSON."""
        path.write_text(json.dumps(self.report().fields()), "utf-8")

    def _begin_tick(self, now: int) -> None:
        self._last_ns, self._counted = now, self._schedule.ns()
        self._call = self._reactor.callLater(TICK_SECONDS, self._tick)

    def _tick(self) -> None:
        now = time.perf_counter_ns()
        self._count(now)
        self._begin_tick(now)

    def _count(self, now: int) -> None:
        passed = now - self._last_ns
        self._tick_count += 1
        ran, waited = self._schedule.ns()
        taken = min(passed, waited - self._counted[1])
        held = passed - taken
        if held > self._longest_ns:
            self._longest_ns, self._processor_ns = held, ran - self._counted[0]
        self._taken_ns = max(self._taken_ns, taken)
        if held > LIMIT_SECONDS * 1e9:
            self._over_count += 1
            since, where = self._looked_at
            self._causes[where if since == self._last_ns else NOT_SEEN] += 1

    def _look(self) -> None:
        """In a thread: half of the limit between looks, so that none that is too long is missed."""
        half = LIMIT_SECONDS / 2
        while not self._stopped.wait(half):
            last = self._last_ns
            if (time.perf_counter_ns() - last) / 1e9 > half and self._looked_at[0] != last:
                frame = sys._current_frames().get(self._thread_id)
                if frame is not None:
                    self._looked_at = last, _where(frame)


def _where(frame: Any) -> str:
    """The innermost calls, outermost first."""
    calls = [
        f"{'/'.join(Path(each.filename).parts[-2:])}:{each.lineno} {each.name}"
        for each in extract_stack(frame)[-4:]
    ]
    return " > ".join(calls)


def read_report(path: Path) -> dict[str, Any] | None:
    """What L{Holds.write} wrote, C{None} if it did not."""
    with suppress(OSError, ValueError):
        found: dict[str, Any] = json.loads(path.read_text("utf-8"))
        return found
    return None
