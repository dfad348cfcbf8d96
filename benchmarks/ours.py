"""
rpcstream itself.
"""

from __future__ import annotations

import json
import sys
import time

from benchmarks.work import Contestant, Sample
from rpcstream.limits import DEFAULT_LIMITS
from rpcstream.net.lane.negotiation import lane_features

__all__ = ["OURS"]

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
        self.ports = self.place.serve_python(self.stack, "rpcstream.bench.server", str(folder))

    def run(self) -> Sample:
        what = self.what or self.group
        port = self.ports["tls" if what in ("shared", "exclusive") else "tcp"]
        amount = self.place.call_count if what.startswith("calls") else self.place.size
        words = (what, str(port), str(amount), str(self.place.pki), str(self.place.source))
        wall, told = self.place.timed_python("benchmarks.our_end", *words)
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
        self.store.mkdir()
        is_tls = self.group != "files-tcp"
        self.scheme = "tls" if is_tls else "tcp"
        port = place.free_port()
        listen = f"{'rpctls' if is_tls else 'tcp'}:{port}:interface=127.0.0.1"
        twistd = (sys.executable, "-P", "-c", "from twisted.scripts.twistd import run; run()")
        place.serve(
            self.stack, *twistd, "-n", "--pidfile=", "rpcstream", "destination", "--listen", listen,
            "--store", str(self.store), "--pki", str(place.pki), *([] if is_tls else ["--insecure"]),
        )  # fmt: skip
        place.wait_for_port(port)
        self.url = f"rpcstream+{self.scheme}://127.0.0.1:{port}/"

    def run(self) -> Sample:
        name = f"sent{time.monotonic_ns()}"
        wall, printed = self.place.timed(
            (sys.executable, "-P", "-m", "rpcstream.cli.main", "send", str(self.place.source),
             self.url + name, "--pki", str(self.place.pki), "--json", "--no-progress", *self.options),
        )  # fmt: skip
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


OURS: tuple[type[Contestant], ...] = (Exclusive, Shared, Send, Striped, OneOfThem, FileSink, Calls)
