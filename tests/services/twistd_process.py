"""
A real C{twistd} of its own process, watched through its log.
"""

from __future__ import annotations

import itertools
import os
import re
import signal
import sys
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.internet.protocol import ProcessProtocol
from twisted.python.failure import Failure

import rpcstream

__all__ = ["Twistd"]

_numbers = itertools.count()
TWISTD = "import sys; sys.argv[0] = 'twistd'; from twisted.scripts.twistd import run; run()"


class Twistd(ProcessProtocol):
    """
    C{twistd -n rpcstream ...}, running in C{folder}.

    @ivar output: its log and what it wrote on stderr.
    @ivar pid_file: where it writes its process id.
    @ivar status: how it ended, C{None} while it runs.
    """

    def __init__(self, folder: Path, *arguments: str) -> None:
        self.output = ""
        self.status: int | None = None
        self._waiting: list[tuple[re.Pattern[str], Deferred[re.Match[str]]]] = []
        self._ended: list[Deferred[int]] = []
        folder.mkdir(exist_ok=True)
        checkout = str(Path(rpcstream.__file__).parent.parent)
        environment = {**os.environ, "PYTHONPATH": checkout, "PYTHONDONTWRITEBYTECODE": "1"}
        # Two in one directory need names of their own.
        self.pid_file = folder / f"{next(_numbers)}.pid"
        command = [sys.executable, "-c", TWISTD, "-n", f"--pidfile={self.pid_file}", "rpcstream", *arguments]
        spawn: Any = reactor
        self._process = spawn.spawnProcess(self, sys.executable, command, environment, str(folder))

    def outReceived(self, data: bytes) -> None:
        """Called by Twisted."""
        self.output += data.decode("utf-8", "replace")
        for waiting in list(self._waiting):
            found = waiting[0].search(self.output)
            if found:
                self._waiting.remove(waiting)
                waiting[1].callback(found)

    errReceived = outReceived

    def processEnded(self, reason: Failure) -> None:
        """Called by Twisted."""
        value: Any = reason.value
        self.status = value.exitCode if value.exitCode is not None else -value.signal
        for _, deferred in self._waiting:
            deferred.errback(AssertionError(f"twistd ended with {self.status}:\n{self.output}"))
        self._waiting.clear()
        ended, self._ended = self._ended, []
        for waiter in ended:
            waiter.callback(self.status)

    def logged(self, pattern: str) -> Deferred[re.Match[str]]:
        """Fires with the match as soon as the pattern is in the output."""
        deferred: Deferred[re.Match[str]] = Deferred()
        self._waiting.append((re.compile(pattern), deferred))
        self.outReceived(b"")
        return deferred

    def ended(self) -> Deferred[int]:
        """Fires with the exit status, negative for a signal."""
        deferred: Deferred[int] = Deferred()
        if self.status is not None:
            deferred.callback(self.status)
        else:
            self._ended.append(deferred)
        return deferred

    def kill(self, number: int = signal.SIGTERM) -> Deferred[int]:
        """Send a signal; as L{ended}."""
        if self.status is None:
            self._process.signalProcess(number)
        return self.ended()
