"""
A destination as a process, and the real virsh and libvirt-python as its clients.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import tempfile
import time
from pathlib import Path
from typing import Any
from unittest import SkipTest, TestCase

from tests.interop.harness import Destination, free_port, make_pki
from tests.peers import REQUIRE_PEERS, require_file, require_program

__all__ = ["VirshCase", "require_libvirt_python"]

SYSTEM_PYTHON = "/usr/bin/python3"
"""The only Python that Debian's libvirt-python is for."""


def require_libvirt_python() -> str:
    """
    @return: path of a Python that can import it.
    @raise SkipTest: there is none; AssertionError if C{RPCSTREAM_REQUIRE_PEERS=1}.
    """
    require_file(SYSTEM_PYTHON)
    probe = subprocess.run([SYSTEM_PYTHON, "-c", "import libvirt"], check=False, capture_output=True)
    if probe.returncode:
        require_file("/usr/lib/python3/dist-packages/libvirt.py")
        if os.environ.get(REQUIRE_PEERS) == "1":
            raise AssertionError(f"libvirt-python cannot be imported: {probe.stderr.decode()}")
        raise SkipTest("libvirt-python cannot be imported")
    return SYSTEM_PYTHON


class VirshCase(TestCase):
    """
    A destination for each test: TLS, UNIX and, because of C{--insecure}, TCP.

    @ivar folder: short enough for sockets.
    @cvar config: lines of its configuration file; C{FOLDER} is C{folder}.
    """

    config = ""

    def setUp(self) -> None:
        require_program("virsh")
        self.folder = Path(tempfile.mkdtemp(prefix="rv-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.pki = make_pki(self.folder)
        self.prepare()
        self.tcp_port = free_port()
        self.destination = self.start_destination(self.config)
        self.addCleanup(self.destination.stop)

    def prepare(self) -> None:
        """What has to be there before it starts."""

    def start_destination(self, config: str) -> Destination:
        """With a configuration."""
        path = self.folder / "config.toml"
        path.write_text(config.replace("FOLDER", str(self.folder)))
        path.chmod(0o600)
        started = Destination(
            self.folder, self.pki, "--insecure", "--config", str(path), "--listen", f"unix:{self.folder}/s",
            "--listen", f"tcp:{self.tcp_port}:interface=127.0.0.1",
        )  # fmt: skip
        deadline = time.monotonic() + 60
        while started.log.read_bytes().count(b"listening on") < 3:
            if time.monotonic() > deadline:
                raise AssertionError(f"it does not listen everywhere: {started.log.read_text()[-2000:]}")
            time.sleep(0.05)
        return started

    @property
    def store(self) -> Path:
        """The pool C{default}."""
        return self.destination.store

    def uri(self, kind: str = "tls", more: str = "") -> str:
        """@param kind: C{tls}, C{tcp} or C{unix}."""
        if kind == "unix":
            return f"storage+unix:///system?socket={self.folder}/s{more}"
        if kind == "tcp":
            return f"storage+tcp://127.0.0.1:{self.tcp_port}/system{more.replace('&', '?', 1)}"
        return f"storage+tls://127.0.0.1:{self.destination.port}/system?pkipath={self.pki}{more}"

    def start(self, *command: str, kind: str = "tls", options: tuple[str, ...] = ()) -> subprocess.Popen[str]:
        """A virsh that runs."""
        return subprocess.Popen(
            ["virsh", *options, "-c", self.uri(kind), *command],
            stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
            env={**os.environ, "LC_ALL": "C"},
        )  # fmt: skip

    def run_virsh(
        self, *command: str, kind: str = "tls", options: tuple[str, ...] = ("-q",)
    ) -> tuple[int, str]:
        """Exit status and output of a virsh."""
        process = self.start(*command, kind=kind, options=options)
        try:
            output, _ = process.communicate(timeout=120)
        except subprocess.TimeoutExpired:
            process.kill()
            output, _ = process.communicate()
            raise AssertionError(f"virsh {command} hangs: {output}") from None
        return process.returncode, output.strip()

    def virsh(self, *command: str, **options: Any) -> str:
        """The output of a virsh that succeeds."""
        status, output = self.run_virsh(*command, **options)
        self.assertEqual(status, 0, f"virsh {command}: {output}")
        return output

    def virsh_fails(self, *command: str, **options: Any) -> str:
        """The output of a virsh that fails."""
        status, output = self.run_virsh(*command, **options)
        self.assertEqual(status, 1, f"virsh {command}: {output}")
        return output

    def python(self, script: str, kind: str = "tls") -> str:
        """What a script with libvirt-python prints; C{uri} is a variable of it."""
        done = subprocess.run(
            [require_libvirt_python(), "-c", f"import libvirt\nuri = {self.uri(kind)!r}\n{script}"],
            capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        self.assertEqual(done.returncode, 0, done.stderr)
        return done.stdout

    def interrupted(self, process: subprocess.Popen[str], number: signal.Signals) -> None:
        """End a virsh by a signal."""
        process.send_signal(number)
        process.communicate(timeout=60)
        self.assertNotEqual(process.returncode, 0)
