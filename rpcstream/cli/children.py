"""
Twistd services as child processes, for C{rpcstream demo}.
"""

from __future__ import annotations

import ctypes
import os
import re
import signal
import subprocess
import sys
from pathlib import Path
from typing import Any

from twisted.internet.task import deferLater

import rpcstream
from rpcstream.errors import RPCStreamError

__all__ = ["Child", "ChildFailed"]

START_SECONDS = 30.0
STOP_SECONDS = 3.0
"""There is nothing to drain: whatever it works on goes away with it."""
POLL_SECONDS = 0.05
LAST_LINES = 8
_PR_SET_PDEATHSIG = 1

# Not -m: `python -m twisted` is another program, and -P keeps the present directory out of the imports.
_TWISTD = (sys.executable, "-P", "-c", "from twisted.scripts.twistd import run; run()")


class ChildFailed(RPCStreamError):
    """
    A service did not do its work.

    @ivar lines: the last lines of its log.
    """

    def __init__(self, message: str, lines: list[str]) -> None:
        super().__init__(message)
        self.lines = lines


class Child:
    """
    One service in a process of its own, which does not outlive this one.

    To be made in the main thread: the kernel ends the child when the thread ends.

    @param name: of the service: C{destination} or C{source}.
    @param folder: where its log goes, and its present directory.
    @ivar pid: of the process.
    """

    def __init__(self, reactor: Any, name: str, folder: Path, *arguments: str) -> None:
        self.name = name
        self._reactor = reactor
        self._log = folder / f"{name}.log"
        libc = ctypes.CDLL(None)
        parent = os.getpid()

        def follow_parent() -> None:
            libc.prctl(_PR_SET_PDEATHSIG, signal.SIGTERM)
            if os.getppid() != parent:
                os._exit(1)

        with self._log.open("wb") as log:
            self._process = subprocess.Popen(
                [*_TWISTD, "-n", "--pidfile", "", "rpcstream", name, *arguments],
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                cwd=folder,
                env=_environment(),
                # A terminal's Ctrl-C is for this process, which then ends the child.
                start_new_session=True,
                preexec_fn=follow_parent,
            )
        self.pid = self._process.pid

    async def listening(self, kind: str) -> str:
        """
        Wait until it listens.

        @param kind: of the endpoint, C{rpctls} or C{unix}.
        @return: the address.
        @raise ChildFailed: it ended before, or takes too long.
        """
        pattern = re.compile(rf"listening on (\S.*) \({kind}:")
        deadline = self._reactor.seconds() + START_SECONDS
        while True:
            found = pattern.search(self._text())
            if found is not None:
                return found[1]
            self.check()
            if self._reactor.seconds() > deadline:
                raise self.failed(f"does not listen after {START_SECONDS:g} s")
            await deferLater(self._reactor, POLL_SECONDS)

    def check(self) -> None:
        """
        @raise ChildFailed: it has ended.
        """
        status = self._process.poll()
        if status is not None:
            raise self.failed(f"ended with status {status}")

    def failed(self, why: str) -> ChildFailed:
        """The error that says so, with what it has logged last."""
        return ChildFailed(f"the {self.name} service {why}", self._text().splitlines()[-LAST_LINES:])

    async def stop(self) -> None:
        """End it, in order if it can be had; returns when it has ended."""
        self._process.terminate()
        deadline = self._reactor.seconds() + STOP_SECONDS
        while self._process.poll() is None:
            if self._reactor.seconds() > deadline:
                self._process.kill()
                self._process.wait()
                return
            await deferLater(self._reactor, POLL_SECONDS)

    def _text(self) -> str:
        return self._log.read_text("utf-8", "replace")


def _environment() -> dict[str, str]:
    """It must find this rpcstream and its plugin, wherever that is."""
    root = str(Path(rpcstream.__file__).parent.parent)
    path = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{path}" if path else root}
