"""
The two ends of a measurement and what lies between them.
"""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

from rpcstream.bench.holds import Holds, holds_wanted, read_report, worst_of
from rpcstream.bench.processes import Process
from rpcstream.bench.server import HOLDS_NAME
from rpcstream.limits import DEFAULT_LIMITS, Limits
from rpcstream.net.authority import initialise
from rpcstream.net.client import ClientConnection
from rpcstream.net.connect import connect
from rpcstream.net.opening import Opening
from rpcstream.net.threads import Runner

__all__ = ["Bench", "FarEnd"]


class Bench:
    """
    What all measurements share: this end, certificates, and a directory.

    @ivar reactor: it runs.
    @ivar runner: for blocking work of this end.
    @ivar folder: everything is below it.
    """

    def __init__(self, reactor: Any, runner: Runner, folder: Path) -> None:
        self.reactor = reactor
        self.runner = runner
        self.folder = folder
        self._far_end_count = 0
        self._near_holds = Holds(reactor)
        self._far_holds: list[dict[str, Any]] = []
        initialise(folder / "pki", ["127.0.0.1", "localhost"], ["bench"])

    @contextmanager
    def watched(self) -> Iterator[None]:
        """While the body runs, see how long this end's reactor is held (by what is measured, not by us)."""
        if holds_wanted():
            with self._near_holds.watched():
                yield
        else:
            yield

    def far_end_told(self, report: dict[str, Any] | None) -> None:
        """How long a far end's reactor was held."""
        if report is not None:
            self._far_holds.append(report)

    def take_holds(self) -> list[dict[str, Any]]:
        """The holds since the last time, a row for each end that was looked at."""
        near = [self._near_holds.report().fields()]
        rows = [
            {"end": name, **worst}
            for name, found in (("near", near), ("far", self._far_holds))
            if (worst := worst_of(found)) is not None
        ]
        self._near_holds, self._far_holds = Holds(self.reactor), []
        return rows

    def far_end(self) -> FarEnd:
        """Start a new far end; use it by C{with}."""
        self._far_end_count += 1
        folder = self.folder / f"far{self._far_end_count}"
        (folder / "store").mkdir(parents=True)
        (folder / "pki").symlink_to(self.folder / "pki")
        return FarEnd(self, folder)


class FarEnd:
    """
    A server in a process of its own, and relays to it.

    @ivar folder: its files are in C{store} there; removed at the end.
    @ivar pid: of its process.
    """

    def __init__(self, bench: Bench, folder: Path) -> None:
        self.folder = folder
        self._bench = bench
        self._processes = ExitStack()
        self._ports: dict[tuple[bool, float], int] = {}
        self._process = self._start("rpcstream.bench.server", str(folder))
        self.pid = self._process.pid
        for is_tls, name in ((True, "tls"), (False, "tcp")):
            self._ports[is_tls, 0.0] = self._process.ready[name]

    def _start(self, module: str, *arguments: str) -> Process:
        log = self.folder / f"{module.rpartition('.')[2]}.log"
        return self._processes.enter_context(Process(module, *arguments, log=log))

    def _port(self, is_tls: bool, round_trip_ms: float) -> int:
        key = is_tls, float(round_trip_ms)
        if key not in self._ports:
            target = str(self._ports[is_tls, 0.0])
            relay = self._start("rpcstream.bench.relay", target, str(round_trip_ms))
            self._ports[key] = relay.ready["port"]
        return self._ports[key]

    def connect(
        self, *, is_tls: bool = True, round_trip_ms: float = 0.0, limits: Limits = DEFAULT_LIMITS
    ) -> Opening[ClientConnection]:
        """
        Connect to it.

        @param round_trip_ms: over a relay that takes so long; none for 0.
        """
        port = self._port(is_tls, round_trip_ms)
        return connect(
            f"rpcstream+{'tls' if is_tls else 'tcp'}://127.0.0.1:{port}/",
            pki=self._bench.folder / "pki",
            limits=limits,
            runner=self._bench.runner,
            reactor=self._bench.reactor,
        )

    def __enter__(self) -> FarEnd:
        return self

    def __exit__(self, *exception: object) -> None:
        self._processes.close()
        self._bench.far_end_told(read_report(self.folder / HOLDS_NAME))
        shutil.rmtree(self.folder, ignore_errors=True)
