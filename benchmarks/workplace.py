"""
A temporary directory with certificates and the file that everybody sends, and the processes in it.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from contextlib import ExitStack
from pathlib import Path
from typing import Any

from rpcstream.net.authority import initialise
from rpcstream.storage.reading import digest_file

__all__ = ["ROOT", "Workplace", "WrongContent", "environment", "file_system"]

ROOT = Path(__file__).resolve().parent.parent
START_SECONDS = 30.0
RUN_SECONDS = 300.0
"""After which a run counts as hanging, and fails."""
_PR_SET_PDEATHSIG = 1
_LIBC = ctypes.CDLL(None)


class WrongContent(Exception):
    """What arrived is not what was sent: its speed is of no interest."""


def environment() -> dict[str, str]:
    """Children find this rpcstream and these benchmarks."""
    path = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": f"{ROOT}{os.pathsep}{path}" if path else str(ROOT)}


def _follow_parent() -> None:
    _LIBC.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)


def file_system(path: Path) -> str:
    """What kind of file system a directory is on."""
    kinds = {line.split()[1]: line.split()[2] for line in Path("/proc/self/mounts").read_text().splitlines()}
    return next((kinds[str(each)] for each in (path, *path.parents) if str(each) in kinds), "unknown")


class Workplace:
    """
    @ivar folder: everything is below it.
    @ivar size: bytes of the file, and of what is sent from memory.
    @ivar call_count: calls of one run.
    @ivar source: the file.
    """

    def __init__(self, size: int, call_count: int) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="bm-"))
        # A daemon of another user may have to come in.
        self.folder.chmod(0o755)
        self.size = size
        self.call_count = call_count
        self.pki = self.folder / "pki"
        initialise(self.pki, ["127.0.0.1", "localhost"], ["bench"])
        self.source = self.folder / "source"
        with self.source.open("wb") as file:
            for start in range(0, size, 1 << 20):
                file.write(os.urandom(min(1 << 20, size - start)))
            os.fsync(file.fileno())
        self.digest = digest_file(self.source)

    def close(self) -> None:
        """Remove everything."""
        shutil.rmtree(self.folder, ignore_errors=True)

    @staticmethod
    def free_port() -> int:
        """A TCP port that is free now."""
        with socket.socket() as probe:
            probe.bind(("127.0.0.1", 0))
            return int(probe.getsockname()[1])

    def serve(self, stack: ExitStack, *command: str, **options: Any) -> subprocess.Popen[bytes]:
        """Start a server; C{stack} ends it, by its pid."""
        log = (self.folder / "servers.log").open("ab")
        with log:
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=options.pop("stdout", log), stderr=log,
                env=environment(), preexec_fn=_follow_parent, **options,
            )  # fmt: skip
        stack.callback(self._end, process)
        return process

    @staticmethod
    def _end(process: subprocess.Popen[bytes]) -> None:
        process.terminate()
        try:
            process.wait(10)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()
        if process.stdout is not None:
            process.stdout.close()

    def serve_python(self, stack: ExitStack, module: str, *arguments: str) -> dict[str, Any]:
        """
        Start a module of ours as a server.

        @return: the line of JSON that it prints when it listens.
        """
        command = (sys.executable, "-P", "-m", module, *arguments)
        process = self.serve(stack, *command, stdout=subprocess.PIPE)
        if process.stdout is None or not select.select([process.stdout], [], [], START_SECONDS)[0]:
            raise RuntimeError(f"{module} says nothing")
        line = process.stdout.readline()
        if not line:
            raise RuntimeError(f"{module} did not start:\n{(self.folder / 'servers.log').read_text()[-800:]}")
        ready: dict[str, Any] = json.loads(line)
        return ready

    def wait_for_port(self, port: int) -> None:
        """Until somebody listens there."""
        deadline = time.monotonic() + START_SECONDS
        while True:
            try:
                socket.create_connection(("127.0.0.1", port), timeout=1).close()
                return
            except OSError:
                if time.monotonic() > deadline:
                    log = (self.folder / "servers.log").read_text("utf-8", "replace")
                    raise RuntimeError(f"nobody listens on port {port}:\n{log[-800:]}") from None
                time.sleep(0.05)

    def timed(
        self, command: Sequence[str], source: Path | None = None, most_seconds: float = RUN_SECONDS
    ) -> tuple[float, bytes]:
        """
        Run a command to its end.

        @param source: its standard input.
        @param most_seconds: after which it is killed.
        @raise subprocess.TimeoutExpired: it was.
        @return: wall seconds of the whole process, and what it printed.
        """
        with open(source or os.devnull, "rb") as given:
            started = time.perf_counter()
            done = subprocess.run(
                list(command), stdin=given, capture_output=True, env=environment(), timeout=most_seconds,
                check=False,
            )  # fmt: skip
            wall = time.perf_counter() - started
        if done.returncode:
            words = " ".join(Path(word).name for word in command[:4])
            raise RuntimeError(f"{words} ended with {done.returncode}: {done.stderr.decode()[-500:]}")
        return wall, done.stdout

    def timed_python(
        self, module: str, *arguments: str, most_seconds: float = RUN_SECONDS
    ) -> tuple[float, dict[str, Any]]:
        """Run a module of ours; its last line is JSON."""
        command = (sys.executable, "-P", "-m", module, *arguments)
        wall, printed = self.timed(command, most_seconds=most_seconds)
        told: dict[str, Any] = json.loads(printed.splitlines()[-1])
        return wall, told

    def check(self, target: Path) -> None:
        """
        Compare with the source, out of the measured time, and remove it.

        @raise WrongContent: it differs.
        """
        digest = digest_file(target)
        target.unlink()
        if digest != self.digest:
            raise WrongContent(f"{target.name} is not what was sent")
