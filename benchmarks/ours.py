"""
rpcstream itself.
"""

from __future__ import annotations

import json
import sys
import time
from contextlib import ExitStack
from pathlib import Path

from benchmarks.work import Contestant, Sample
from benchmarks.workplace import Workplace
from rpcstream.bench.server import HOLDS_NAME
from rpcstream.limits import DEFAULT_LIMITS
from rpcstream.net.lane.negotiation import lane_features

__all__ = ["OURS", "destination", "send_command"]


def destination(place: Workplace, stack: ExitStack, store: Path, is_tls: bool, *words: str) -> str:
    """
    Start C{twistd rpcstream destination}; its holds are in L{holds_of} the store when it has ended.

    @param words: further ones of the command.
    @return: its URL, which lacks the name.
    """
    store.mkdir()
    port = place.free_port()
    listen = f"{'rpctls' if is_tls else 'tcp'}:{port}:interface=127.0.0.1"
    place.serve(
        stack, sys.executable, "-P", "-m", "benchmarks.held", str(holds_of(store)),
        "twistd", "-n", "--pidfile=", "rpcstream", "destination", "--listen", listen,
        "--store", str(store), "--pki", str(place.pki), *([] if is_tls else ["--insecure"]), *words,
    )  # fmt: skip
    place.wait_for_port(port)
    return f"rpcstream+{'tls' if is_tls else 'tcp'}://127.0.0.1:{port}/"


def holds_of(path: Path) -> Path:
    """Where the report stands that belongs to a store, or to a source."""
    return path.with_name(f"{path.name}.holds.json")


def send_command(place: Workplace, source: Path, url: str, *, shows_progress: bool = False) -> list[str]:
    """C{rpcstream send}, with its reactor looked at."""
    return [
        sys.executable, "-P", "-m", "benchmarks.held", str(holds_of(source)),
        "rpcstream", "send", str(source), url, "--pki", str(place.pki), "--json",
        *([] if shows_progress else ["--no-progress"]),
    ]  # fmt: skip


NARROW_BYTES = 100_000_000
"""A second, of one connection."""


class _Ours(Contestant):
    is_ours = True


class _Ends(_Ours):
    """An end of ours against the server of C{rpcstream bench}."""

    what = ""

    def prepare(self) -> None:
        folder = self.place.folder / f"ours-{self.group}"
        (folder / "store").mkdir(parents=True)
        (folder / "pki").symlink_to(self.place.pki)
        self.socket = str(folder / "socket")
        self.stack.callback(lambda: self.held("serves", folder / HOLDS_NAME))
        self.ports = self.place.serve_python(self.stack, "rpcstream.bench.server", str(folder), self.socket)

    def run(self) -> Sample:
        what = self.what or self.group
        port = self.ports["tls" if what in ("shared", "exclusive") else "tcp"]
        amount = self.place.call_count if what.startswith("calls") else self.place.size
        where = self.socket if what == "file-unix" else str(port)
        words = (what, where, str(amount), str(self.place.pki), str(self.place.source))
        wall, told = self.place.timed_python("benchmarks.our_end", *words)
        self.held("sends", told["holds"])
        return Sample(told["amount"], told["seconds"], wall)


class Exclusive(_Ends):
    name = "rpcstream, exclusive lane"
    groups = ("memory-worker",)
    what = "exclusive"

    def missing(self) -> str | None:
        return None if lane_features(DEFAULT_LIMITS) else "the exclusive lane is switched off here"


class Shared(_Ends):
    name = "rpcstream, shared lane"
    groups = ("memory-shared",)
    what = "shared"


class FileSink(_Ends):
    name = "rpcstream, file to a sink"
    groups = ("file-sink",)
    what = "file"


class FileSinkUnix(FileSink):
    groups = ("file-sink-unix",)
    what = "file-unix"


class Calls(_Ends):
    name = "rpcstream"
    groups = ("calls-one", "calls-many")


class Send(_Ours):
    """The command, against a destination under twistd."""

    name = "rpcstream send"
    groups = ("files-tls", "files-tcp")
    note = "digest at both ends, journal, fsync, atomic name"
    options: tuple[str, ...] = ()

    def prepare(self) -> None:
        place = self.place
        self.store = place.folder / f"store-{self.group}"
        self.stack.callback(lambda: self.held("serves", holds_of(self.store)))
        self.url = destination(place, self.stack, self.store, self.group != "files-tcp")

    def run(self) -> Sample:
        name = f"sent{time.monotonic_ns()}"
        command = send_command(self.place, self.place.source, self.url + name)
        wall, printed = self.place.timed((*command, *self.options))
        self.held("sends", holds_of(self.place.source))
        told = json.loads(printed.splitlines()[-1])
        self.place.check(self.store / name)
        return Sample(told["bytes"], told["seconds"], wall)


class Striped(Send):
    """The same over four connections, each of which is narrow."""

    name = "rpcstream send --connections 4"
    groups = ("files-narrow",)
    options = ("--connections", "4")

    def prepare(self) -> None:
        super().prepare()
        port = self.url.rpartition(":")[2].rstrip("/")
        relay = self.place.serve_python(self.stack, "rpcstream.bench.narrow", port, str(NARROW_BYTES))
        self.url = f"rpcstream+tls://127.0.0.1:{relay['port']}/"


class OneOfThem(Striped):
    """The same over one."""

    name = "rpcstream send, one connection"
    is_ours = False
    options = ()

    def prepare(self) -> None:
        self.group = "files-narrow-one"  # a directory of its own
        super().prepare()


OURS: tuple[type[Contestant], ...] = (
    Exclusive, Shared, Send, Striped, OneOfThem, FileSink, FileSinkUnix, Calls,
)  # fmt: skip
