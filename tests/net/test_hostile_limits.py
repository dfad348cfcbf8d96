"""Row L01, how many connections there may be; and mistakes of our own side."""

from __future__ import annotations

from twisted.internet.defer import Deferred

from rpcstream.errors import ConnectRefused
from rpcstream.limits import Limits
from rpcstream.net.answers import as_remote_error
from rpcstream.net.connect import hello
from rpcstream.testing import ConnectedPair, MemoryTransport
from rpcstream.wire.error import decode_error
from rpcstream.wire.header import MessageType
from tests.net.files_program import FileServer, Size
from tests.net.hostile import FILE, C, HostileTestCase, R, RawPeer, name, ping


class ConnectionRows(HostileTestCase):
    """L01: how many connections there may be."""

    limits = Limits(connections=4, connections_per_principal=3, close_seconds=2)

    def refused(self, pair: ConnectedPair) -> str:
        error = self.failureResultOf(Deferred.fromCoroutine(hello(pair.client)), ConnectRefused)
        return str(error.value)

    def test_of_one_identity(self) -> None:
        """The third is served, the fourth is told why it is not."""
        first, second, third = (self.connect() for _ in range(3))
        for raw in (first, second):
            self.assert_lives(raw)
        third.send(FILE.frame(1, name("disk"), serial=7))
        header, payload = third.frames[-1]
        self.assertEqual((header.serial, decode_error(payload).code), (7, 87))
        self.assertIn("3 connections of tester", decode_error(payload).message or "")
        C("too-many-connections").check(self, third, None)
        first.transport.abortConnection()
        self.assert_lives(self.connect())

    def test_that_says_nothing(self) -> None:
        """A connection too many that does not call is closed all the same, pings or not."""
        self.connect(), self.connect()
        third = self.connect()
        for _ in range(4):
            third.send(ping(), FILE.frame(7, name("x"), kind=MessageType.MESSAGE))
            self.pass_time(0.5)
        C("too-many-connections").check(self, third, None)
        self.assertEqual(self.files.noted, [])

    def test_that_is_lost(self) -> None:
        """... or gone before."""
        self.connect(), self.connect()
        third = self.connect()
        third.transport.abortConnection()
        self.pass_time(3)
        self.assertEqual(self.closed_codes(), [])

    def test_in_all(self) -> None:
        """The same for the number of all connections, whoever they are."""
        names = iter(("a", "b", "c", "d"))
        who = self.pair.serving.identify
        self.pair.serving.identify = lambda transport: who(transport)._replace(name=next(names))
        peers = [self.connect() for _ in range(4)]
        for raw in peers:
            raw.send(FILE.frame(1, name("disk"), serial=7))
        self.assertEqual([raw.frames[-1][0].status for raw in peers], [0, 0, 0, 1])

    def test_client_hears_why(self) -> None:
        """A client of ours is refused with the server's words."""
        self.connect(), self.connect()
        raw = RawPeer(self.pair.serving, self.pair.clock)
        client = ConnectedPair(FileServer()).client
        transport = MemoryTransport("client")
        transport.peer, raw.server_transport.peer = raw.server_transport, transport
        transport.protocol = client.link
        client.link.core.__init__(True, clock=self.pair.clock.seconds)  # type: ignore[misc]
        client.link.makeConnection(transport)  # type: ignore[no-untyped-call]
        connecting = Deferred.fromCoroutine(hello(client))
        for _ in range(10):
            transport.deliver(1 << 20, None)
            raw.server_transport.deliver(1 << 20, None)
            self.pair.clock.advance(0.5)
        self.assertIn("3 connections of tester", str(self.failureResultOf(connecting, ConnectRefused).value))


class BoundaryTests(HostileTestCase):
    """Mistakes of our own side end in one reply and one log entry."""

    def test_policy_that_raises(self) -> None:
        """A policy that fails lets nobody in, and the connection lives."""
        policy = self.pair.serving.policy
        raw = self.connect()

        class Broken:
            def decide(self, *arguments: object) -> None:
                raise ZeroDivisionError

        self.pair.serving.policy = Broken()  # type: ignore[assignment]
        raw.send(FILE.frame(1, name("disk"), serial=3))
        raw.send(FILE.frame(7, name("disk"), kind=MessageType.MESSAGE))
        self.pair.serving.policy = policy
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)
        self.assertEqual(self.files.noted, [])
        R("internal error", code=1).check(self, raw, raw.frames[-1][0])

    def test_policy_that_raises_about_a_resource(self) -> None:
        """The same at the second question."""
        policy = self.pair.serving.policy
        raw = self.connect()

        class Broken:
            def decide(
                self, principal: str, permission: str, resource: str | None, pool: object = None
            ) -> object:
                if resource is not None:
                    raise ZeroDivisionError
                return policy.decide(principal, permission, resource)

        self.pair.serving.policy = Broken()  # type: ignore[assignment]
        raw.send(FILE.frame(1, name("disk"), serial=3))
        self.pair.serving.policy = policy
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        R("internal error", code=1).check(self, raw, raw.frames[-1][0])

    def test_when_lost_that_raises(self) -> None:
        """Callbacks for a lost connection are all called."""
        raw = self.connect()
        called: list[str] = []
        raw.server.when_lost("bad", lambda: 1 / 0)
        raw.server.when_lost("good", lambda: called.append("good"))
        raw.server.when_lost("gone", lambda: called.append("gone"))
        raw.server.forget_lost("gone")
        raw.transport.abortConnection()
        self.assertEqual(called, ["good"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_errors_as_told(self) -> None:
        """An errno goes to code 38; what we caused ourselves tells no more than an id."""
        log = self.pair.server.log
        error = as_remote_error(FileNotFoundError(2, "secret path"), log)
        self.assertEqual((error.code, error.int1, error.message), (38, 2, "No such file or directory"))
        self.assertEqual(as_remote_error(OSError("no number"), log).message, "no number")
        self.assertIn("internal error", as_remote_error(None, log).message)
        self.assertEqual(len(self.flushLoggedErrors(Exception)), 1)

    def test_size_is_what_it_was(self) -> None:
        """Still the same answer after all that."""
        self.assertEqual(self.pair.result_of(self.pair.client.call(Size("disk"))), 256 * 40_000)
