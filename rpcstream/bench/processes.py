"""
The other processes of a measurement: the far end and the relay.

Each prints one line of JSON when it is ready, and does not outlive this one.
"""

from __future__ import annotations

import ctypes
import json
import os
import select
import signal
import subprocess
import sys
from pathlib import Path
from types import TracebackType
from typing import Any, Self

import rpcstream
from rpcstream.errors import RPCStreamError

__all__ = ["BenchFailed", "Process", "package_environment"]

START_SECONDS = 30.0
STOP_SECONDS = 5.0
_PR_SET_PDEATHSIG = 1


class BenchFailed(RPCStreamError):
    """A measurement could not be made, or what was measured does not fit together."""


class Process:
    """
    A module of this package as a process.

    To be made in the main thread: the kernel ends the child when the thread ends.

    @ivar ready: what it has printed.
    @ivar pid: of the process.
    """

    def __init__(self, module: str, *arguments: str, log: Path) -> None:
        """
        @param log: where its standard error goes.
        @raise BenchFailed: it ends, or says nothing.
        """
        libc = ctypes.CDLL(None)
        self._log = log
        with log.open("ab") as errors:
            self._process = subprocess.Popen(
                [sys.executable, "-P", "-m", module, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=errors,
                env=package_environment(),
                start_new_session=True,
                preexec_fn=lambda: libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM) and None,
            )
        self.pid = self._process.pid
        self.ready: dict[str, Any] = self._read(module)

    def _read(self, module: str) -> dict[str, Any]:
        pipe = self._process.stdout
        line = b""
        if pipe is not None and select.select([pipe], [], [], START_SECONDS)[0]:
            line = pipe.readline()
        if not line:
            self.stop()
            said = self._log.read_text("utf-8", "replace").splitlines()[-1:]
            raise BenchFailed(f"{module} did not start: {' '.join(said) or 'it said nothing'}")
        ready: dict[str, Any] = json.loads(line)
        return ready

    def stop(self) -> None:
        """End it, in order if it can be had; safe to call again."""
        if self._process.poll() is None:
            self._process.terminate()
            try:
                self._process.wait(STOP_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
        if self._process.stdout is not None:
            self._process.stdout.close()

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        self.stop()


def package_environment() -> dict[str, str]:
    """An environment in which a child finds this same rpcstream."""
    root = str(Path(rpcstream.__file__).parent.parent)
    path = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{path}" if path else root}
