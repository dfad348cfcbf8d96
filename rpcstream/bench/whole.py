"""
All measurements, one after the other.
"""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

from rpcstream.bench.costs import measure_costs
from rpcstream.bench.ends import Bench
from rpcstream.bench.latency import measure_calls
from rpcstream.bench.machine import machine
from rpcstream.bench.memory import measure_memory
from rpcstream.bench.modes import measure_modes
from rpcstream.bench.plan import Plan, Share
from rpcstream.net.threads import Runner

__all__ = ["PARTS", "measure"]

_Part = Callable[[Bench, Plan, Share], Awaitable[dict[str, Any]]]

PARTS: dict[str, _Part] = {
    "modes": measure_modes,
    "costs": measure_costs,
    "calls": measure_calls,
    "memory": measure_memory,
}
"""By their name in the results."""


async def measure(
    reactor: Any,
    runner: Runner,
    plan: Plan,
    begun: Callable[[str], None] = lambda name: None,
    done: Callable[[str, dict[str, Any]], None] = lambda name, result: None,
) -> dict[str, Any]:
    """
    Measure everything of C{plan}, below a temporary directory (TMPDIR), which is removed.

    @param begun: told the name of each part.
    @param done: told the name and the result of each part.
    @return: C{machine}, C{plan}, C{seconds}, and each part by its name.
    @raise BenchFailed: a process does not start, or bytes are lost or differ.
    """
    results: dict[str, Any] = {"machine": machine(), "plan": plan.name}
    started = reactor.seconds()
    folder = Path(tempfile.mkdtemp(prefix="rpcstream-bench-"))
    try:
        bench = Bench(reactor, runner, folder)
        for (name, part), seconds in zip(PARTS.items(), plan.share_seconds, strict=True):
            begun(name)
            results[name] = await part(bench, plan, Share(seconds, reactor.seconds))
            results[name]["holds"] = [{"part": name, **row} for row in bench.take_holds()]
            done(name, results[name])
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    results["seconds"] = round(reactor.seconds() - started, 1)
    return results
