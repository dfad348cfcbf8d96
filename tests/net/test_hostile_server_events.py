"""Row B05: events; rows B06 to B08: transfers; and what is asked of a connection that has ended."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from rpcstream.errors import (
    CallCancelled,
    ConnectionClosed,
    EventsLost,
    NameRefused,
    RPCFailed,
    StreamAborted,
)
from rpcstream.limits import DEFAULT_LIMITS
from rpcstream.net.calls import Call, DownloadCall
from rpcstream.net.client import ClientConnection
from rpcstream.net.threads import InlineRunner
from rpcstream.programs import flow, transfer
from rpcstream.services.receiving import ReceiveOptions, receive
from rpcstream.storage.pool import Pool
from rpcstream.testing import ConnectedPair
from rpcstream.wire.error import encode_error
from rpcstream.wire.header import Status
from tests.net.files_program import Echo, Size, Stored
from tests.net.hostile import FILE
from tests.net.hostile_server import EVENT, FLOW, MESSAGE, REPLY, ClientTestCase


class EventRows(ClientTestCase):
    """B05: events."""

    def test_b05_nobody_asked(self) -> None:
        """D, and C(flood) after a hundred."""
        self.send(EVENT * DEFAULT_LIMITS.dropped_messages)
        self.assert_lives()
        self.send(EVENT)
        self.assert_closed("flood")

    def subscribe(self) -> Any:
        entering = Deferred.fromCoroutine(self.client.events(Stored).__aenter__())
        self.send(FLOW.frame(4, kind=REPLY, serial=self.serial))
        return self.successResultOf(entering)

    def test_b05_more_than_the_queue_holds(self) -> None:
        """The queue is bounded; what was lost is told where it was lost, with the count."""
        events = self.subscribe()
        self.send(EVENT * 1000)
        got = [self.successResultOf(events.__anext__()) for _ in range(5)]
        self.assertEqual(got, [Stored("a")] * 5)
        self.assertEqual(self.failureResultOf(events.__anext__(), EventsLost).value.count, 995)
        waiting = events.__anext__()
        self.send(EVENT)
        self.assertEqual(self.successResultOf(waiting), Stored("a"))

    def test_lost_before_what_came_later(self) -> None:
        """Events that come after a loss are behind it."""
        events = self.subscribe()
        self.send(EVENT * 7)
        self.successResultOf(events.__anext__())
        self.send(EVENT)
        for _ in range(4):
            self.successResultOf(events.__anext__())
        self.assertEqual(self.failureResultOf(events.__anext__(), EventsLost).value.count, 2)
        self.successResultOf(events.__anext__())

    def test_lost_at_the_server(self) -> None:
        """What the server lost is told the same way."""
        events = self.subscribe()
        lost = flow.Lost.__procedure__.arguments.encode(flow.Lost(FILE.program, 1, 4, 42))
        waiting = events.__anext__()
        self.send(FLOW.frame(6, lost, kind=MESSAGE))
        self.assertEqual(self.failureResultOf(waiting, EventsLost).value.count, 42)

    def test_bad_event(self) -> None:
        """C(bad-event), and whoever waits for events hears of it."""
        events = self.subscribe()
        waiting = events.__anext__()
        self.send(FILE.frame(4, b"abc", kind=MESSAGE))
        self.assert_closed("bad-event")
        self.failureResultOf(waiting, ConnectionClosed)
        self.failureResultOf(events.__anext__(), ConnectionClosed)
        self.successResultOf(Deferred.fromCoroutine(events.__aexit__(None, None, None)))

    def test_bad_lost(self) -> None:
        """The same for the message that tells of losses."""
        self.send(FLOW.frame(6, b"abc", kind=MESSAGE))
        self.assert_closed("bad-event")

    def test_after_unsubscribing(self) -> None:
        """Events that cross the unsubscription are fine; those after it make no sense."""
        got: list[Stored] = []
        subscription = self.client.subscribe(Stored, got.append)
        self.send(FLOW.frame(4, kind=REPLY, serial=self.serial))
        self.successResultOf(subscription.confirmed)
        leaving = subscription.cancel()
        self.successResultOf(subscription.cancel())
        self.send(EVENT * 300)
        self.assertEqual((got, self.client.link.core.dropped_count), ([], 0))
        self.send(FLOW.frame(5, kind=REPLY, serial=self.serial))
        self.successResultOf(leaving)
        self.send(EVENT)
        self.assertEqual(self.client.link.core.dropped_count, 1)

    def test_refused(self) -> None:
        """A subscription that is refused leaves nothing."""
        entering = Deferred.fromCoroutine(self.client.events(Stored).__aenter__())
        refusal = encode_error(RPCFailed("no"))
        self.send(FLOW.frame(4, refusal, kind=REPLY, serial=self.serial, status=Status.ERROR))
        self.failureResultOf(entering, RPCFailed)
        self.assertEqual(self.client._subscriptions, {})

    def test_cancelled(self) -> None:
        """One that is cancelled is taken back at the server, which may have heard of it."""
        subscription = self.client.subscribe(Stored, lambda event: None)
        subscription.confirmed.cancel()
        self.failureResultOf(subscription.confirmed, CallCancelled)
        unsubscribe = self.serial
        self.send(FLOW.frame(5, kind=REPLY, serial=unsubscribe))
        self.assertEqual(self.client._subscriptions, {})

    def test_two_of_a_kind(self) -> None:
        """Two subscribers get the same events; one that fails does not harm the other."""
        got: list[Stored] = []

        def fail(event: Stored) -> None:
            raise ZeroDivisionError

        for callback in (fail, got.append):
            self.client.subscribe(Stored, callback)
            self.send(FLOW.frame(4, kind=REPLY, serial=self.serial))
        self.send(EVENT)
        self.assertEqual(got, [Stored("a")])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)


class LostTests(ClientTestCase):
    """After the end."""

    def test_all_fails(self) -> None:
        """Everything asked for on a closed connection fails at once with the reason."""
        subscription = self.client.subscribe(Stored, lambda event: None)
        pending = self.client.call(Size("x"))
        stream = self.open(Echo())
        closing = self.client.close()
        self.assertTrue(stream.is_closed)
        self.failureResultOf(self.client.call(Size("x")), ConnectionClosed)
        self.pump()
        self.successResultOf(closing)
        for deferred in (
            pending,
            subscription.confirmed,
            self.client.call(Size("x")),
            self.client.open(Echo()),
        ):
            self.assertIn("closed by this side", str(self.failureResultOf(deferred, ConnectionClosed).value))
        self.client.emit(Stored("nobody hears it"))
        self.assertEqual(self.successResultOf(self.client.close()), None)

    def test_peer_never_closes(self) -> None:
        """A peer that does not read is given C{close_seconds}, then the connection is aborted."""
        self.server.pauseProducing()
        self.client.call(Size("x")).addErrback(lambda _: None)
        closing = self.client.close()
        self.transport.deliver(1 << 20, None)
        self.clock.advance(self.limits.close_seconds - 0.1)
        self.assertNoResult(closing)
        self.clock.advance(0.2)
        self.successResultOf(closing)

    def test_half_closed(self) -> None:
        """A server that sends no more has ended the connection for its client."""
        call = self.client.call(Size("x"))
        self.pump()
        self.client.link.readConnectionLost()
        self.client.link.writeConnectionLost()
        self.pump()
        self.failureResultOf(call, ConnectionClosed)
        self.assert_closed("truncated")

    def test_before_there_is_a_transport(self) -> None:
        """A connection that is none yet fails calls and closes."""
        client = ClientConnection(self.clock, InlineRunner())
        self.failureResultOf(client.call(Size("x")), ConnectionClosed)
        client.link.close("never mind")
        client.link.abort("never mind")


ID = bytes(range(16))


class Offering:
    """A source that offers one thing and sends another."""

    def __init__(self, size: int, *pieces: bytes | int, digest: bytes | None = bytes(32)) -> None:
        self.size, self.pieces, self.digest = size, pieces, digest

    @transfer.Outgoing.responder
    async def outgoing(self, call: DownloadCall[transfer.Offer], request: transfer.Outgoing) -> None:
        offer = transfer.Offer(
            self.size, transfer.SourceKind.FILE, True, 0o600, 1 << 16, transfer.Lane.SHARED
        )
        stream = call.accept(offer, sparse=True)
        for piece in self.pieces:
            await (stream.send_hole(piece) if isinstance(piece, int) else stream.send(piece))

    @transfer.Commit.responder
    def commit(self, call: Call, request: transfer.Commit) -> transfer.Committed:
        return transfer.Committed(True, self.digest, b"")


class TransferRows(SynchronousTestCase):
    """B06 to B08: a server that serves something else than it says; nothing is published here."""

    def assert_unpublished(self, server: Offering, target: str = "here") -> Exception:
        folder = Path(self.mktemp())
        folder.mkdir()
        pool = Pool(folder)
        self.addCleanup(pool.close)
        pair = ConnectedPair(server)
        fetching = Deferred.fromCoroutine(
            receive(pair.client, pool, ReceiveOptions("there", target, ID), InlineRunner())
        )
        results: list[Failure] = []
        fetching.addErrback(results.append)
        pair.pump()
        error = results[0].value
        self.assertEqual([path.name for path in folder.iterdir()], [".rpcstream"])
        self.assertEqual(pair.client.link.core.stream_count, 0)
        self.flushLoggedErrors(StreamAborted)
        return error  # type: ignore[no-any-return]

    def test_b06_huge_sizes(self) -> None:
        """A size that no file can have is an error, not an allocation."""
        for size in (2**64 - 1, 2**63, 2**62):
            self.assert_unpublished(Offering(size, b"abc"))

    def test_b07_names(self) -> None:
        """A target that is no plain name is refused here, before anything is asked."""
        for name in ("../x", "/etc/x", ".hidden", "a/b"):
            self.assertIsInstance(self.assert_unpublished(Offering(1, b"a"), name), NameRefused)

    def test_b08_more_than_offered(self) -> None:
        """One byte more, or a hole past the end."""
        self.assert_unpublished(Offering(3, b"abcd"))
        self.assert_unpublished(Offering(3, b"abc", 1))
        self.assert_unpublished(Offering(3, 1 << 40))

    def test_less_than_offered(self) -> None:
        """One byte less."""
        self.assert_unpublished(Offering(3, b"ab"))

    def test_another_digest(self) -> None:
        """The digest of something else, or none."""
        self.assert_unpublished(Offering(3, b"abc"))
        self.assert_unpublished(Offering(3, b"abc", digest=None))
