"""
libvirt: C{virsh vol-upload}, and calls by libvirt-python, with a private libvirtd.
"""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

from benchmarks.our_end import IN_FLIGHT
from benchmarks.work import Contestant, Sample, needs
from benchmarks.workplace import ROOT

__all__ = ["LIBVIRT"]

POOL, VOLUME = "bench", "volume"


def _daemon(contestant: Contestant) -> Any:
    # The tests' own: private in everything, on 127.0.0.1, ended by its pid.
    from tests.interop.libvirtd import Libvirtd

    daemon = Libvirtd()
    contestant.stack.callback(daemon.close)
    daemon.start()
    return daemon


def _missing(*names: str) -> str | None:
    if not (ROOT / "tests" / "interop" / "libvirtd.py").is_file():
        return "the tests are not here (tests/interop/libvirtd.py)"
    return needs("libvirtd", "virsh", *names)


class VolUpload(Contestant):
    name = "virsh vol-upload to libvirtd"
    groups = ("files-tls", "files-tcp")
    note = "no digest, no fsync; the volume is there before"

    def missing(self) -> str | None:
        return _missing()

    def prepare(self) -> None:
        self.daemon = _daemon(self)
        self.pool: Path = self.daemon.make_pool(POOL)

    def run(self) -> Sample:
        commands = ("vol-create-as", POOL, VOLUME, str(self.place.size), "--allocation", "0")
        self.daemon.virsh(*commands, driver="storage", path="/session")
        kind = "tls" if self.group == "files-tls" else "tcp"
        uri = self.daemon.uri("storage", "/session", kind)
        wall, _ = self.place.timed(
            ("virsh", "-q", "-c", uri, "vol-upload", "--pool", POOL, VOLUME, str(self.place.source))
        )
        self.place.check(self.pool / VOLUME)
        self.daemon.virsh("pool-refresh", POOL, driver="storage", path="/session")
        return Sample(self.place.size, None, wall)


class LibvirtPython(Contestant):
    name = "libvirt-python"
    groups = ("calls-one", "calls-many")
    note = "virConnectGetLibVersion, by the C library; in flight: by threads"

    def missing(self) -> str | None:
        why = _missing()
        self.python = next(filter(_has_libvirt, (sys.executable, "/usr/bin/python3")), None)
        return why or (None if self.python else "not installed: libvirt-python")

    def prepare(self) -> None:
        self.daemon = _daemon(self)

    def run(self) -> Sample:
        program = str(Path(__file__).with_name("libvirt_calls.py"))
        threads = str(1 if self.group == "calls-one" else IN_FLIGHT)
        words = (program, self.daemon.uri(kind="tcp"), str(self.place.call_count), threads)
        wall, printed = self.place.timed((str(self.python), *words))
        told = json.loads(printed)
        return Sample(told["amount"], told["seconds"], wall)


def _has_libvirt(python: str) -> bool:
    try:
        return not subprocess.run(
            [python, "-c", "import libvirt"], capture_output=True, check=False
        ).returncode
    except OSError:
        return False


LIBVIRT: tuple[type[Contestant], ...] = (VolUpload, LibvirtPython)
