"""
Real processes for the command line's tests: a destination under C{twistd}, and commands.
"""

from __future__ import annotations

import atexit
import ctypes
import functools
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any, NamedTuple

from twisted.trial.unittest import SynchronousTestCase

import rpcstream
from rpcstream.net.authority import initialise

__all__ = ["COMMAND_SECONDS", "Daemon", "Finished", "RealCase", "environment", "start_command", "words"]

COMMAND_SECONDS = 30
"""No command of these tests takes as long."""
_LISTENING = re.compile(r"listening on (\S+) \((\w+):")
_LIBC = ctypes.CDLL(None)
_PR_SET_PDEATHSIG = 1
_ROOT = Path(rpcstream.__file__).parent.parent


def environment(**extra: str) -> dict[str, str]:
    """The environment of a child that finds the same rpcstream as this process."""
    path = os.pathsep.join([str(_ROOT), os.environ.get("PYTHONPATH", "")]).rstrip(os.pathsep)
    return {**os.environ, "PYTHONPATH": path, **extra}


class Finished(NamedTuple):
    """How a command ended."""

    status: int
    stdout: bytes
    stderr: str

    @property
    def lines(self) -> list[list[str]]:
        """Result lines, cut at tabs."""
        return [line.split("\t") for line in self.stdout.decode().splitlines()]

    @property
    def objects(self) -> list[dict[str, Any]]:
        """What C{--json} printed."""
        return [json.loads(line) for line in self.stdout.splitlines()]


class Daemon:
    """
    A twistd service in a process of its own.

    @ivar log: the file it logs to.
    """

    def __init__(self, log: Path, *arguments: str) -> None:
        self.log = log
        words = [sys.executable, "-P", "-c", "from twisted.scripts.twistd import run; run()"]
        with log.open("ab") as file:
            self.process = subprocess.Popen(
                [*words, "-n", "--pidfile", "", "rpcstream", *arguments],
                stdin=subprocess.DEVNULL,
                stdout=file,
                stderr=file,
                env=environment(),
                cwd=log.parent,
                # It must not outlive tests that are killed.
                preexec_fn=lambda: _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM) and None,
            )

    def listening(self, count: int) -> dict[str, str]:
        """
        Wait until it listens.

        @return: kind of endpoint to address, for C{count} endpoints.
        """
        deadline = time.monotonic() + COMMAND_SECONDS
        while True:
            text = self.log.read_text()
            found = _LISTENING.findall(text)
            if len(found) >= count:
                return {kind: address for address, kind in found}
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"the service does not listen:\n{text}")
            time.sleep(0.05)

    def stop(self) -> None:
        """End it; harmless when it has ended."""
        self.process.terminate()
        try:
            self.process.wait(COMMAND_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def words(*arguments: str) -> list[str]:
    """The command line of C{rpcstream ARGUMENTS...}."""
    return [sys.executable, "-P", "-m", "rpcstream.cli.main", *arguments]


def start_command(*arguments: str, **options: Any) -> subprocess.Popen[bytes]:
    """Begin C{rpcstream ARGUMENTS...}."""
    extra = options.pop("environment", {})
    return subprocess.Popen(
        words(*arguments),
        stdout=options.pop("stdout", subprocess.PIPE),
        stderr=subprocess.PIPE,
        stdin=options.pop("stdin", subprocess.DEVNULL),
        env=environment(**extra),
        # As a shell starts a command in the foreground, whatever this process does with the signal.
        preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL) and None,
        **options,
    )


class _Destination(NamedTuple):
    """What all tests of this process share."""

    folder: Path
    tls: str


@functools.cache
def _destination() -> _Destination:
    """
    Start a destination, once: it takes longer than a test.

    Trial has no fixtures for a class or a module; so it ends with this process.
    """
    # Short, for the paths of sockets.
    folder = Path(tempfile.mkdtemp(prefix="cli-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    (folder / "store").mkdir()
    initialise(folder / "pki", ["127.0.0.1"], ["tester"])
    daemon = Daemon(
        folder / "destination.log",
        *("destination", "--listen", "rpctls:0:interface=127.0.0.1", "--listen", f"unix:{folder / 'socket'}"),
        *("--store", str(folder / "store"), "--pki", str(folder / "pki")),
    )
    atexit.register(daemon.stop)
    return _Destination(folder, f"rpcstream+tls://{daemon.listening(2)['rpctls']}/")


class RealCase(SynchronousTestCase):
    """
    Commands against a destination that runs as long as this process.

    @ivar folder: shared by all tests.
    @ivar store: the destination's directory.
    @ivar tls: where it listens, C{rpcstream+tls://HOST:PORT/}.
    """

    def setUp(self) -> None:
        self.folder, self.tls = _destination()
        self.pki, self.store = self.folder / "pki", self.folder / "store"

    def unix(self, name: str) -> str:
        """The URL of a name by the UNIX socket."""
        return f"rpcstream+unix:///{name}?socket={self.folder / 'socket'}"

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[bytes]:
        """Begin a command; it is killed at the end of the test if it still runs."""
        process = start_command(
            *arguments, environment=options.pop("environment", {"RPCSTREAM_PKI": str(self.pki)}), **options
        )
        self.addCleanup(self._end, process)
        return process

    @staticmethod
    def _end(process: subprocess.Popen[bytes]) -> None:
        if process.poll() is None:
            process.kill()
        process.wait()
        for stream in (process.stdin, process.stdout, process.stderr):
            if stream is not None:
                stream.close()

    def finish(self, process: subprocess.Popen[bytes], given: bytes | None = None) -> Finished:
        """Wait for the end of a command."""
        stdout, stderr = process.communicate(given, timeout=COMMAND_SECONDS)
        return Finished(process.returncode, stdout or b"", stderr.decode())

    def command(self, *arguments: str, given: bytes | None = None, **options: Any) -> Finished:
        """Run a command to its end."""
        if given is not None:
            options["stdin"] = subprocess.PIPE
        return self.finish(self.start(*arguments, **options), given)

    def done(self, *arguments: str, **options: Any) -> Finished:
        """Run a command that must succeed, without a word on stderr."""
        finished = self.command(*arguments, **options)
        self.assertEqual((finished.status, finished.stderr), (0, ""), finished.stdout[-2000:])
        return finished

    def assert_error(self, finished: Finished, status: int, text: str) -> None:
        """One line on stderr that says this, the exit status, and no traceback."""
        self.assertEqual(finished.status, status, finished.stderr)
        lines = finished.stderr.splitlines()
        self.assertEqual(len(lines), 1, finished.stderr)
        self.assertTrue(lines[0].startswith("error: "), lines[0])
        self.assertIn(text, lines[0])

    def file(self, name: str, size_bytes: int) -> Path:
        """A file of random content."""
        path = self.folder / name
        path.write_bytes(os.urandom(size_bytes))
        return path
