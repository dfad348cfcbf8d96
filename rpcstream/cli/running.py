"""
Runs one command under the reactor, to its exit status.

C{task.react} exits with 0 on a signal; here SIGINT, SIGTERM and SIGHUP cancel
the command, which closes its connection in order and keeps its partial, and the
status is 128 + the signal's number.  A second signal, or a command that does
not end, ends the process at once: everything durable is durable without us.
"""

from __future__ import annotations

import os
import signal
import sys
import threading
from collections.abc import Callable, Coroutine
from contextlib import suppress
from types import FrameType
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred
from twisted.logger import globalLogBeginner, textFileLogObserver
from twisted.python.failure import Failure

from rpcstream.cli.error_text import Interrupted
from rpcstream.cli.output import Output
from rpcstream.errors import ConfigurationError
from rpcstream.limits import DEFAULT_LIMITS, Limits
from rpcstream.net.threads import ThreadRunner
from rpcstream.services.loaded import keep_loaded

__all__ = ["AGAIN", "AGAIN_WITH_RESUME", "LOG_VARIABLE", "Session", "leave", "run"]

SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
LOG_VARIABLE = "RPCSTREAM_LOG"
"""Names a file to which a command appends its log; without it there is none."""
AGAIN = "run the same command again: it goes on where it stopped"
AGAIN_WITH_RESUME = "run the command again without --no-resume: it goes on where it stopped"
THREAD_COUNT = 6
STOP_SECONDS = 2.0
"""How long threads may take to end; one may hang in a read of a pipe."""


class Session(NamedTuple):
    """
    What a running command works with.

    @ivar reactor: it runs.
    @ivar runner: for blocking work.
    """

    reactor: Any
    runner: ThreadRunner
    output: Output
    limits: Limits


def run(
    command: Callable[[Session], Coroutine[Any, Any, None]],
    output: Output,
    *,
    remedy: Callable[[], str] = lambda: "",
    limits: Limits = DEFAULT_LIMITS,
) -> int:
    """
    Run C{command} to its end, or to a signal's.  Once in a process.

    @param command: reports its result itself, by C{output.done}; what it raises is
        reported here.
    @param remedy: what to do after an interruption, asked when there is one.
    @return: the exit status.
    """
    try:
        _begin_logging()
    except ConfigurationError as error:
        return output.failed(error)
    from twisted.internet import reactor

    running = _Running(reactor, output, remedy, limits)
    running.run(command)
    return running.status


class _Running:
    """One command, the signals, and the end."""

    def __init__(self, reactor: Any, output: Output, remedy: Callable[[], str], limits: Limits) -> None:
        self.status = 1
        self._reactor = reactor
        self._output = output
        self._remedy = remedy
        self._limits = limits
        self._runner = ThreadRunner(reactor, THREAD_COUNT)
        self._signal_number = 0
        self._running: Deferred[Any] | None = None
        # Not Deferred.called: cancelling a coroutine sets that at once, its clean-up comes later.
        self._is_ended = False

    def run(self, command: Callable[[Session], Coroutine[Any, Any, None]]) -> None:
        session = Session(self._reactor, self._runner, self._output, self._limits)
        self._reactor.callWhenRunning(self._start, command, session)
        self._reactor.run()
        stopping = threading.Thread(target=self._runner.stop, daemon=True)
        stopping.start()
        stopping.join(STOP_SECONDS)

    def _start(self, command: Callable[[Session], Coroutine[Any, Any, None]], session: Session) -> None:
        keep_loaded()
        # After the reactor's own: those would stop it at once, in the middle of everything.
        for number in SIGNALS:
            if signal.getsignal(number) is not signal.SIG_IGN:
                signal.signal(number, self._signalled)
        self._running = Deferred.fromCoroutine(command(session))
        self._running.addCallbacks(self._succeeded, self._failed).addErrback(self._cannot_print)
        self._running.addBoth(lambda _: self._reactor.stop())

    def _succeeded(self, _: None) -> None:
        self._is_ended = True
        self._output.close()
        self.status = 0

    def _failed(self, failure: Failure) -> None:
        self._is_ended = True
        error = self._interrupted() if self._signal_number else _value(failure)
        if isinstance(error, BrokenPipeError) and error.filename is None:
            # Whoever reads the results has had enough, as head(1) does.
            self._output.close()
            self.status = 1
            return
        self.status = self._output.failed(error)

    def _cannot_print(self, failure: Failure) -> None:
        """Standard output or error is gone, so nobody can be told."""
        failure.trap(OSError, ValueError)
        self.status = 128 + self._signal_number if self._signal_number else 1

    # --- signals ----------------------------------------------------------------------

    def _signalled(self, number: int, frame: FrameType | None) -> None:
        """In the main thread, between two bytecodes."""
        if self._signal_number:
            self._end_at_once()
        self._signal_number = number
        self._reactor.callFromThread(self._cancel)
        timer = threading.Timer(self._limits.close_seconds + STOP_SECONDS, self._end_at_once)
        timer.daemon = True
        timer.start()

    def _cancel(self) -> None:
        if self._running is not None and not self._is_ended:
            self._running.cancel()

    def _interrupted(self) -> Interrupted:
        return Interrupted(self._signal_number, self._remedy())

    def _end_at_once(self) -> None:
        """Something hangs, or the person does not want to wait."""
        if not self._is_ended:
            self._is_ended = True
            self.status = 128 + self._signal_number
            # The output may be in the middle of a line, and then refuses.
            with suppress(OSError, ValueError, RuntimeError):
                self._output.failed(self._interrupted())
        os._exit(self.status)


def _value(failure: Failure) -> BaseException:
    return failure.value or RuntimeError("a failure without an error")


def leave(status: int) -> int:
    """
    Flush what was printed, and end the process here if a thread hangs: the
    interpreter would wait for it.

    @return: C{status}, or 1 if the results could not be written.
    """
    for stream in (sys.stdout, sys.stderr):
        try:
            stream.flush()
        except (OSError, ValueError):
            status = status or 1
            # Or the interpreter would complain when it flushes again.
            os.dup2(os.open(os.devnull, os.O_WRONLY), stream.fileno())
    main = threading.main_thread()
    if any(thread is not main and not thread.daemon for thread in threading.enumerate()):
        os._exit(status)
    return status


def _begin_logging() -> None:
    """
    Twisted would print errors that nobody asked for, with tracebacks, on stderr.

    @raise ConfigurationError: the log file cannot be opened.
    """
    path = os.environ.get(LOG_VARIABLE)
    observers = []
    if path:
        try:
            observers = [textFileLogObserver(open(path, "a", encoding="utf-8"))]  # noqa: SIM115 - to the end
        except OSError as error:
            raise ConfigurationError(f"{LOG_VARIABLE}={path}: {error.strerror}") from None
    globalLogBeginner.beginLoggingTo(observers, redirectStandardIO=False, discardBuffer=True)
