"""
Handshakes take turns: what the budget lets through, and peers that arrive together, wait, or leave.
"""

from __future__ import annotations

import socket
import ssl
from collections import Counter
from collections.abc import Callable
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import CancelledError, Deferred, gatherResults
from twisted.internet.task import Clock
from twisted.internet.threads import deferToThread
from twisted.trial.unittest import SynchronousTestCase

from rpcstream.errors import ConnectRefused
from rpcstream.limits import Limits
from rpcstream.net import accept, connect, dial
from rpcstream.net.handshake import HandshakeBudget, budget_of
from tests.net.loopback import LIMITS, QUICK, LoopbackTestCase, Recorder
from tests.net.odd_peers import hello, stdlib_client

MANY = 64


class Turns(Clock):
    """A clock that runs what is due once a turn, as a reactor does."""

    def turn(self) -> None:
        due = [call for call in self.calls if call.getTime() <= self.seconds()]
        for call in due:
            self.calls.remove(call)
            call.called = 1
            call.func(*call.args, **call.kw)


class BudgetTests(SynchronousTestCase):
    """Without sockets: a turn is a turn of the clock, and a step takes 1.5 of 4 ms."""

    def setUp(self) -> None:
        self.clock = Turns()
        self.budget = HandshakeBudget(self.clock, 0.004)
        self.ran: list[Any] = []

    def step(self, name: Any, seconds: float = 0.0015) -> Callable[[], Any]:
        def run() -> Any:
            self.clock.rightNow += seconds
            self.ran.append(name)
            return name

        return run

    def test_at_once_while_there_is_time(self) -> None:
        self.assertEqual(self.successResultOf(self.budget.call(self.step("first"))), "first")
        self.assertEqual(self.successResultOf(self.budget.call(self.step("second"))), "second")

    def test_no_turn_takes_more_than_the_budget_and_one_step(self) -> None:
        waiting = [self.budget.call(self.step(number)) for number in range(MANY)]
        counts = [len(self.ran)]
        while len(self.ran) < MANY:
            self.clock.turn()
            counts.append(len(self.ran) - sum(counts))
        self.assertEqual(counts, [3] * 21 + [1])
        self.assertEqual(self.ran, list(range(MANY)))
        self.assertEqual([self.successResultOf(each) for each in waiting], self.ran)

    def test_one_step_longer_than_the_budget(self) -> None:
        for number in range(3):
            self.budget.call(self.step(number, 0.1)).addErrback(self.fail)
        self.assertEqual(self.ran, [0])
        self.clock.turn()
        self.assertEqual(self.ran, [0, 1])

    def test_newcomers_do_not_overtake(self) -> None:
        """Also in a turn that has time left."""
        for number in range(4):
            self.budget.call(self.step(number))
        self.budget.call(self.step("newcomer"))
        self.assertEqual(self.ran, [0, 1, 2])
        self.clock.turn()
        self.assertEqual(self.ran, [0, 1, 2, 3, "newcomer"])

    def test_what_newcomers_take_counts(self) -> None:
        """The sockets of a turn are served after its timers: both are one turn."""
        for number in range(4):
            self.budget.call(self.step(number))
        self.clock.turn()
        for number in range(4, 10):
            self.budget.call(self.step(number))
        self.assertEqual(self.ran, [0, 1, 2, 3, 4, 5])

    def test_the_time_of_a_turn_is_not_kept_for_the_next(self) -> None:
        self.budget.call(self.step("alone"))
        for _ in range(5):
            self.clock.turn()
        self.assertEqual(self.clock.calls, [])
        for number in range(MANY):
            self.budget.call(self.step(number))
        self.assertEqual(self.ran, ["alone", 0, 1, 2])

    def test_cancelled(self) -> None:
        """It never runs, and its place goes to the next."""
        waiting = [self.budget.call(self.step(number)) for number in range(8)]
        waiting[4].cancel()
        self.failureResultOf(waiting[4], CancelledError)
        self.clock.turn()
        self.assertEqual(self.ran, [0, 1, 2, 3, 5, 6])

    def test_all_cancelled(self) -> None:
        waiting = [self.budget.call(self.step(number)) for number in range(8)]
        for each in waiting[3:]:
            each.cancel()
            self.failureResultOf(each, CancelledError)
        self.assertFalse(self.budget._waiting)
        self.clock.turn()
        self.assertEqual((self.ran, self.clock.calls), ([0, 1, 2], []))

    def test_a_step_that_fails(self) -> None:
        """... fails alone: at once, or when others wait behind it."""

        def fails() -> None:
            self.clock.rightNow += 0.005
            raise ZeroDivisionError

        self.failureResultOf(self.budget.call(fails), ZeroDivisionError)
        second, third = self.budget.call(fails), self.budget.call(self.step("third"))
        self.clock.turn()
        self.failureResultOf(second, ZeroDivisionError)
        self.assertNoResult(third)
        self.clock.turn()
        self.assertEqual(self.successResultOf(third), "third")

    def test_a_step_within_a_step(self) -> None:
        """It waits, nobody overtakes it, and its time is not counted twice."""

        def outer() -> None:
            self.budget.call(self.step("inner"))
            self.step("outer")()

        self.budget.call(outer)
        self.budget.call(self.step("third"))
        self.assertEqual(self.ran, ["outer"])
        self.clock.turn()
        self.assertEqual(self.ran, ["outer", "inner", "third"])
        self.budget.call(self.step("fourth"))
        self.assertEqual(self.ran, ["outer", "inner", "third", "fourth"])

    def test_what_waited_for_a_step_is_part_of_it(self) -> None:
        for number in range(3):
            self.budget.call(self.step(number))
        self.budget.call(self.step(3)).addCallback(lambda _: self.step("continued", 0.005)())
        self.budget.call(self.step(4))
        self.clock.turn()
        self.assertEqual(self.ran, [0, 1, 2, 3, "continued"])

    def test_the_clock_is_set_back(self) -> None:
        self.budget.call(self.step("back", -3600.0))
        for number in range(MANY):
            self.budget.call(self.step(number))
        self.assertEqual(self.ran, ["back", 0, 1, 2])

    def test_one_for_each_reactor(self) -> None:
        self.assertIs(budget_of(self.clock), budget_of(self.clock))
        self.assertIsNot(budget_of(self.clock), budget_of(Clock()))


class _Stepwise:
    """The reactor, with a clock that tells every step to take one second."""

    def __init__(self) -> None:
        self._seconds = 0.0
        self.callLater = reactor.callLater  # type: ignore[attr-defined]

    def seconds(self) -> float:
        self._seconds += 1.0
        return self._seconds


class _Counted(HandshakeBudget):
    """
    So many steps a turn.

    @ivar counts: steps by number of the reactor's turn.
    """

    def __init__(self, step_count: int) -> None:
        super().__init__(_Stepwise(), step_count)  # type: ignore[arg-type]
        self.counts: Counter[int] = Counter()
        self.turn = 0

    def _run(self, *arguments: Any) -> None:
        self.counts[self.turn] += 1
        super()._run(*arguments)


class TakingTurnsTests(LoopbackTestCase):
    """Real TLS."""

    def share(self, budget: HandshakeBudget, *modules: Any) -> None:
        for module in modules or (accept, dial, connect):
            self.patch(module, "budget_of", lambda reactor: budget)

    def counted(self, step_count: int) -> _Counted:
        """A budget of C{step_count} steps a turn for both ends."""
        budget = _Counted(step_count)
        iterate = reactor.doIteration  # type: ignore[attr-defined]

        def turn(delay: float | None) -> None:
            iterate(delay)
            budget.turn += 1

        self.patch(reactor, "doIteration", turn)
        self.share(budget)
        return budget

    def used_up(self, *modules: Any) -> HandshakeBudget:
        """A budget that lets nobody through."""
        budget = HandshakeBudget(Clock(), 0)
        self.share(budget, *modules)
        return budget

    async def test_many_at_once(self) -> None:
        """All of them get in, two steps a turn."""
        budget = self.counted(2)
        pki = self.pki()
        limits = Limits(handshakes=1000, handshakes_per_address=1000)
        port = await self.listen(pki, limits=limits)
        clients = await gatherResults([self.connect(port, pki, limits=limits) for _ in range(MANY)])
        await self.until(lambda: len(self.server.protocols) == MANY)
        self.assertEqual([client.calls for client in clients], [["made"]] * MANY)
        self.assertEqual(max(budget.counts.values()), 2)
        # The client's hello, its answer, the byte; the server's answer to the hello, its finish.
        self.assertGreaterEqual(sum(budget.counts.values()), 5 * MANY)
        self.assertFalse(budget._waiting)
        self.assertFalse(self.listening.factory._pending)
        self.assertEqual(self.refused, [])
        for number, client in enumerate(clients):
            client.transport.write(b"%d" % number)
        await self.until(lambda: all(server.received for server in self.server.protocols))
        self.assertEqual(sorted(int(server.received) for server in self.server.protocols), list(range(MANY)))

    async def test_bytes_that_waited_keep_their_order(self) -> None:
        """A second flight in pieces, with the first data behind it; one step a turn, others between."""
        self.counted(1)
        pki = self.pki()
        port = await self.listen(pki)
        data = bytes(range(256)) * 1000

        def talk() -> bytes:
            incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
            tls = stdlib_client(pki).wrap_bio(incoming, outgoing, server_hostname="localhost")
            with socket.create_connection(("127.0.0.1", port), 5) as plain:
                plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
                while True:
                    try:
                        tls.do_handshake()
                        break
                    except ssl.SSLWantReadError:
                        plain.sendall(outgoing.read())
                        incoming.write(plain.recv(65536))
                tls.write(data)
                flight = outgoing.read()
                for start in range(0, 3000, 100):
                    plain.sendall(flight[start : start + 100])
                plain.sendall(flight[3000:])
                while True:
                    try:
                        return tls.read(1)
                    except ssl.SSLWantReadError:
                        incoming.write(plain.recv(65536))

        talking = deferToThread(talk)
        others = gatherResults([self.connect(port, pki) for _ in range(4)])
        self.assertEqual(await talking, b"\x01")
        await others
        await self.until(lambda: any(server.received == data for server in self.server.protocols))

    async def test_who_pauses_when_connected_stays_paused(self) -> None:
        """Reading goes on before the bytes are delivered, not after."""

        class Pausing(Recorder):
            def connectionMade(self) -> None:
                super().connectionMade()
                self.transport.pauseProducing()

        self.counted(1)
        self.server.make = Pausing
        pki = self.pki()
        port = await self.listen(pki)
        clients = await gatherResults([self.connect(port, pki) for _ in range(4)])
        await self.until(lambda: len(self.server.protocols) == 4)
        reading = reactor.getReaders()  # type: ignore[attr-defined]
        for server in self.server.protocols:
            self.assertNotIn(server.transport.transport, reading)
            server.transport.resumeProducing()
        for client in clients:
            client.transport.write(b"late")
        await self.until(lambda: all(server.received == b"late" for server in self.server.protocols))

    async def test_nothing_is_read_from_who_waits(self) -> None:
        budget = self.used_up()
        await self.raw_client_waits(budget)
        arrival = next(iter(self.listening.factory._pending))
        self.assertNotIn(arrival.transport, reactor.getReaders())  # type: ignore[attr-defined]
        received = arrival._handshake._received
        self.raw_client.transport.write(bytes(1_000_000))
        for _ in range(3):
            await self.until(lambda: True)
        self.assertEqual(arrival._handshake._received, received)

    async def test_gone_while_it_waits(self) -> None:
        """The deadline ends it, as that of every other one, and nothing is left behind."""
        budget = self.used_up()
        await self.raw_client_waits(budget, QUICK)
        self.raw_client.transport.abortConnection()
        await self.until(lambda: self.refused)
        self.assertEqual(self.refused[0].code, "tls-timeout")
        self.assertIn("did not finish the TLS handshake", self.refused[0].detail)
        self.assert_nothing_left(budget)

    async def test_gone_while_it_waits_with_tls_begun(self) -> None:
        budget = _Counted(1)
        self.share(budget)
        port = await self.listen(limits=QUICK)
        client = await self.raw(port)
        client.transport.write(hello())
        await self.until(lambda: client.received)
        # From here on nobody gets a turn.
        budget._seconds = 0
        client.transport.write(b"\x16\x03\x03\0\x01\0")
        await self.until(lambda: budget._waiting)
        client.transport.abortConnection()
        await self.until(lambda: self.refused)
        self.assertEqual(self.refused[0].code, "tls-timeout")
        self.assert_nothing_left(budget)

    async def test_lost_while_it_waits(self) -> None:
        """A write that failed: no step is taken for nobody."""
        budget = self.used_up()
        await self.raw_client_waits(budget)
        next(iter(self.listening.factory._pending)).transport.abortConnection()
        await self.until(lambda: self.refused)
        self.assertIn("before the end of the TLS handshake", self.refused[0].detail)
        self.assert_nothing_left(budget)

    async def test_the_server_stops_while_one_waits(self) -> None:
        budget = self.used_up()
        await self.raw_client_waits(budget)
        await self.listening.stopListening()
        await self.until(lambda: self.raw_client.lost is not None and self.refused)
        self.assertIn("the server is stopping", self.refused[0].detail)
        self.assert_nothing_left(budget)

    async def test_a_client_whose_turn_never_comes(self) -> None:
        """Its deadline runs from the TCP connection on."""
        budget = self.used_up(dial)
        port = await self.listen()
        error = await self.assertFailure(self.connect(port, limits=QUICK), ConnectRefused)
        self.assertIn("no end of the TLS handshake within 0.2 s", str(error))
        self.assert_nothing_left(budget)
        await self.until(lambda: self.refused)

    async def test_a_client_is_cancelled_while_it_waits(self) -> None:
        budget = self.used_up(dial)
        port = await self.listen()
        connecting = self.connect(port)
        await self.until(lambda: budget._waiting)
        connecting.cancel()
        await self.assertFailure(connecting, CancelledError)
        self.assert_nothing_left(budget)
        await self.until(lambda: self.refused)

    async def test_connect_is_cancelled_while_it_waits(self) -> None:
        """Not even its certificates are read."""
        budget = self.used_up(connect)
        connecting: Deferred[Any] = Deferred.fromCoroutine(
            self.opened(connect.connect("rpcstream+tls://127.0.0.1:1/", pki="/nowhere", limits=LIMITS))
        )
        self.assertEqual(len(budget._waiting), 1)
        connecting.cancel()
        await self.assertFailure(connecting, CancelledError)
        self.assertFalse(budget._waiting)

    async def test_a_step_that_fails(self) -> None:
        """A fault of ours: logged, and the connection ends."""

        class Failing(Recorder):
            def connectionMade(self) -> None:
                super().connectionMade()
                raise ZeroDivisionError

        self.server.make = Failing
        await self.assertFailure(self.connect(await self.listen()), ConnectRefused)
        await self.until(lambda: self.server.protocols[0].lost is not None)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    async def opened(self, opening: Any) -> Any:
        return await opening

    async def raw_client_waits(self, budget: HandshakeBudget, limits: Limits = LIMITS) -> None:
        """A client has sent its ClientHello, and it is not its turn."""
        port = await self.listen(limits=limits)
        self.raw_client = await self.raw(port)
        self.raw_client.transport.write(hello())
        await self.until(lambda: budget._waiting)

    def assert_nothing_left(self, budget: HandshakeBudget) -> None:
        self.assertFalse(budget._waiting)
        if self.refused:
            self.assertFalse(self.listening.factory._pending)
            self.assertFalse(self.listening.factory._pending_of)
