"""Knowing when threads are done."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from rpcstream.net.threads import SerialRunner
from rpcstream.services.tracked_runner import TrackedRunner


class HeldRunner:
    """Work that ends when the test says so."""

    def __init__(self) -> None:
        self.pieces: list[tuple[Callable[[], Any], Deferred[Any]]] = []

    def run(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Deferred[Any]:
        deferred: Deferred[Any] = Deferred()
        self.pieces.append((lambda: function(*args, **kwargs), deferred))
        return deferred

    def finish(self) -> None:
        """The oldest piece is done."""
        work, deferred = self.pieces.pop(0)
        try:
            deferred.callback(work())
        except Exception:
            deferred.errback(Failure())


class TrackedRunnerTests(SynchronousTestCase):
    """What counts as running."""

    def setUp(self) -> None:
        self.threads = HeldRunner()
        self.runner = TrackedRunner(self.threads)

    def test_results(self) -> None:
        """Results and errors come through."""
        result, error = self.runner.run(divmod, 7, 2), self.runner.run(int, "x", base=10)
        self.threads.finish()
        self.threads.finish()
        self.assertEqual(self.successResultOf(result), (3, 1))
        self.failureResultOf(error, ValueError)

    def test_idle(self) -> None:
        """It fires at once, or when the last piece is done."""
        self.successResultOf(self.runner.when_idle())
        self.runner.run(int)
        self.runner.run(int)
        idle = self.runner.when_idle()
        self.threads.finish()
        self.assertNoResult(idle)
        self.threads.finish()
        self.successResultOf(idle)

    def test_cancelled(self) -> None:
        """A cancelled piece counts until its thread is done; its late result or error is dropped."""
        for work in (int, lambda: 1 // 0):
            piece = self.runner.run(work)
            piece.cancel()
            self.failureResultOf(piece, CancelledError)
            idle = self.runner.when_idle()
            self.assertNoResult(idle)
            self.threads.finish()
            self.successResultOf(idle)

    def test_what_follows_counts(self) -> None:
        """Work that is asked for by a result keeps it busy."""
        serial = SerialRunner(self.runner)
        self.runner.run(int).addCallback(lambda _: serial.run(int))
        idle = self.runner.when_idle()
        self.threads.finish()
        self.assertNoResult(idle)
        self.threads.finish()
        self.successResultOf(idle)
