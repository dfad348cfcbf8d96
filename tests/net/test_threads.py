"""Where blocking work runs, and in which order."""

from __future__ import annotations

import threading
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.task import deferLater
from twisted.trial.unittest import SynchronousTestCase, TestCase

from rpcstream.net.threads import InlineRunner, SerialRunner, ThreadRunner


class HeldRunner:
    """Starts work when told to, and ends it when told to."""

    def __init__(self) -> None:
        self.begun: list[tuple[str, Deferred[Any]]] = []

    def run(self, function: Any, *args: Any, **kwargs: Any) -> Deferred[Any]:
        done: Deferred[Any] = Deferred(lambda _: None)
        self.begun.append((args[0], done))
        return done

    @property
    def names(self) -> list[str]:
        return [name for name, _ in self.begun]


class SerialRunnerTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.held = HeldRunner()
        self.serial = SerialRunner(self.held)

    def run_all(self, *names: str) -> list[Deferred[str]]:
        return [self.serial.run(str, name) for name in names]

    def test_order(self) -> None:
        """One after the other, in order of asking, whatever becomes of each."""
        one, two, three = self.run_all("one", "two", "three")
        self.assertEqual(self.held.names, ["one"])
        self.held.begun[0][1].errback(ValueError("one's own"))
        self.failureResultOf(one, ValueError)
        self.assertEqual(self.held.names, ["one", "two"])
        self.held.begun[1][1].callback("2")
        self.assertEqual(self.successResultOf(two), "2")
        self.assertNoResult(three)

    def test_cancelled_while_it_runs(self) -> None:
        """The caller goes on at once, the next piece only when the thread is done."""
        one, two = self.run_all("one", "two")
        one.cancel()
        self.failureResultOf(one, CancelledError)
        self.assertEqual(self.held.names, ["one"])
        self.held.begun[0][1].callback("too late")
        self.assertEqual(self.held.names, ["one", "two"])
        two.cancel()
        self.failureResultOf(two, CancelledError)
        self.held.begun[1][1].errback(ValueError("nobody is told"))

    def test_cancelled_before_it_runs(self) -> None:
        """Its turn still comes: what is asked for is done, only nobody waits for it."""
        _, two, three = self.run_all("one", "two", "three")
        two.cancel()
        self.failureResultOf(two, CancelledError)
        self.held.begun[0][1].callback("1")
        self.held.begun[1][1].callback("2")
        self.held.begun[2][1].callback("3")
        self.assertEqual(self.successResultOf(three), "3")

    def test_runner_that_raises(self) -> None:
        """A runner that cannot even begin does not stop the queue."""

        class Broken:
            def run(self, function: Any, *args: Any, **kwargs: Any) -> Deferred[Any]:
                if args == ("bad",):
                    raise RuntimeError("no more threads")
                return succeed(function(*args))

        serial = SerialRunner(Broken())
        self.failureResultOf(serial.run(str, "bad"), RuntimeError)
        self.assertEqual(self.successResultOf(serial.run(str, "good")), "good")

    def test_in_line(self) -> None:
        """With an inline runner everything is done at once."""
        serial = SerialRunner(InlineRunner())
        self.assertEqual(self.successResultOf(serial.run(int, "7")), 7)
        self.failureResultOf(serial.run(int, "x"), ValueError)


class ThreadRunnerTests(TestCase):
    timeout = 10

    async def test_away_from_the_reactor(self) -> None:
        """Work runs in another thread; results and errors come back to this one."""
        runner = ThreadRunner(reactor, thread_count=1)
        self.addCleanup(runner.stop)
        here = threading.get_ident()
        self.assertNotEqual(await runner.run(threading.get_ident), here)
        self.assertEqual(threading.get_ident(), here)
        await self.assertFailure(runner.run(int, "x"), ValueError)

    async def test_after_the_stop(self) -> None:
        """A late clean-up still runs, its errors are told, and no thread stays."""
        runner = ThreadRunner(reactor)
        await runner.run(int, "7")
        before = threading.active_count()
        runner.stop()
        runner.stop()
        runner.start()
        self.assertNotEqual(await runner.run(threading.get_ident), threading.get_ident())
        await self.assertFailure(runner.run(int, "x"), ValueError)
        gate = threading.Event()
        late: Deferred[bool] = runner.run(gate.wait)
        late.cancel()
        await self.assertFailure(late, CancelledError)
        gate.set()
        self.assertEqual(await runner.run(int, "8"), 8)
        for _ in range(500):
            if threading.active_count() <= before:
                break
            await deferLater(reactor, 0.01)  # type: ignore[arg-type]
        self.assertLessEqual(threading.active_count(), before)

    def test_never_started(self) -> None:
        """Stopping what never ran does nothing."""
        ThreadRunner(reactor).stop()
