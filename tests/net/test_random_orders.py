"""Rows A10 to A14: any order of legal and illegal moves between two ends, and what always holds."""

from __future__ import annotations

from typing import Any

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from twisted.internet.defer import Deferred
from twisted.logger import LogLevel, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from rpcstream.errors import BadState, BufferFull, RPCStreamError
from rpcstream.limits import Limits
from rpcstream.testing import ConnectedPair, FrameFactory
from rpcstream.wire.header import MessageType, Status
from tests.net.files_program import FILES, Echo, Fetch, FileServer, Noted, Size, Sleep, Store, Stored
from tests.net.hostile import hole

LIMITS = Limits(
    initial_credit_bytes=20_000,
    spool_high_bytes=20_000,
    spool_low_bytes=5_000,
    send_high_bytes=10_000,
    write_high_bytes=40_000,
    packet_bytes=6_000,
    running_calls=2,
    parked_calls=3,
    streams=4,
    call_seconds=20,
    stall_seconds=100,
    event_queue=4,
)
SIZES = st.sampled_from([0, 1, 27, 3000, 6000, 6001, 25_000, 70_000])
BAD = ["data", "finish", "abort", "hole", "bad hole", "status", "stray", "garbage", "eof"]
RARELY = st.sampled_from([*range(1, 10), 0])
PICK = st.integers(0, 1 << 16)
RAW = FrameFactory(FILES.number)


class Once:
    """Counts how often a Deferred fires, and with what kind of result."""

    def __init__(self, deferred: Deferred[Any]) -> None:
        self.count = 0
        self.value: Any = None
        deferred.addBoth(self._fired)

    def _fired(self, value: Any) -> None:
        self.count += 1
        self.value = value


class Orders(RuleBasedStateMachine):
    """
    A pair, and everything that was ever asked of it.

    After each step: no Deferred has fired twice, nothing was logged as an error, spools
    and queues are within their limits.  After the end: every Deferred has fired once,
    and every table is empty.
    """

    def __init__(self) -> None:
        super().__init__()
        self.errors: list[Any] = []
        globalLogPublisher.addObserver(self._logged)
        self.files = FileServer()
        self.files.files["disk"] = bytes(range(256)) * 200
        self.pair = ConnectedPair(self.files, limits=LIMITS)
        self.asked: list[Once] = []
        self.deferreds: list[Deferred[Any]] = []
        self.streams: list[Any] = []
        self.openings: list[tuple[Deferred[Any], Once]] = []
        self.raised: list[BaseException] = []

    def _logged(self, event: Any) -> None:
        if event["log_level"] >= LogLevel.error:
            self.errors.append(event)

    def watch(self, deferred: Deferred[Any]) -> None:
        self.deferreds.append(deferred)
        self.asked.append(Once(deferred))

    def stream(self, pick: int) -> Any:
        for deferred, once in self.openings[:]:
            if once.count:
                self.openings.remove((deferred, once))
                if not isinstance(once.value, Exception) and hasattr(once.value, "when_closed"):
                    self.streams.append(once.value)
                    self.watch(once.value.when_closed())
        return self.streams[pick % len(self.streams)] if self.streams else None

    def attempt(self, method: Any, *arguments: Any) -> None:
        """What the API refuses, it refuses by its own errors."""
        try:
            result = method(*arguments)
        except (BadState, BufferFull) as error:
            self.raised.append(error)
            return
        if isinstance(result, Deferred):
            self.watch(result)

    # --- calls ---------------------------------------------------------------------------

    @rule(kind=st.sampled_from([Size("disk"), Size("absent"), Sleep()]))
    def call(self, kind: Any) -> None:
        self.watch(self.pair.client.call(kind))

    @rule(pick=PICK)
    def cancel(self, pick: int) -> None:
        if self.deferreds:
            self.deferreds[pick % len(self.deferreds)].cancel()

    @rule(pick=PICK, fails=st.booleans())
    def wake(self, pick: int, fails: bool) -> None:
        sleeping = self.files.sleeping
        if sleeping:
            deferred = sleeping.pop(pick % len(sleeping))
            if not deferred.called:
                deferred.callback(None)

    @rule()
    def emit(self) -> None:
        self.pair.client.emit(Noted("x"))
        self.pair.serving.emit(Stored("x"))

    @rule()
    def subscribe(self) -> None:
        subscription = self.pair.client.subscribe(Stored, lambda event: None)
        self.watch(subscription.confirmed)
        self.watch(subscription.cancel())

    # --- streams -------------------------------------------------------------------------

    @rule(
        request=st.sampled_from(
            [Fetch("disk"), Fetch("absent"), Store("up", 1 << 20), Store("up", 10), Echo()]
        ),
        settled=st.sampled_from([True, True, False]),
    )
    def open(self, request: Any, settled: bool) -> None:
        opening = self.pair.client.open(request)
        once = Once(opening)
        self.asked.append(once)
        self.deferreds.append(opening)
        self.openings.append((opening, once))
        if settled:
            self.pair.pump()

    @rule(pick=PICK, size=SIZES, how=st.sampled_from(["send", "write", "send_hole", "send_from"]))
    def send(self, pick: int, size: int, how: str) -> None:
        stream = self.stream(pick)
        if stream is not None and hasattr(stream, how):
            self.attempt(getattr(stream, how), size if how == "send_hole" else bytes(size))

    @rule(pick=PICK, how=st.sampled_from(["finish", "end", "abort"]))
    def end(self, pick: int, how: str) -> None:
        stream = self.stream(pick)
        if stream is not None and hasattr(stream, how):
            self.attempt(getattr(stream, how))

    @rule(pick=PICK, limit=st.sampled_from([None, 1, 5000]))
    def take(self, pick: int, limit: int | None) -> None:
        stream = self.stream(pick)
        if stream is not None and hasattr(stream, "next_piece"):
            self.attempt(stream.next_piece, limit)

    @rule(pick=PICK)
    def read(self, pick: int) -> None:
        stream = self.stream(pick)
        if stream is not None and hasattr(stream, "read"):
            self.watch(stream.read(limit_bytes=30_000))

    # --- the way -------------------------------------------------------------------------

    @rule(limit=st.sampled_from([1, 50, 5000, 1 << 20]), client=st.booleans())
    def carry(self, limit: int, client: bool) -> None:
        transport = self.pair.client_transport if client else self.pair.server_transport
        transport.deliver(limit, None)

    @rule()
    def settle(self) -> None:
        self.pair.pump()

    @rule(seconds=st.sampled_from([0.5, 3.0, 25.0]))
    def wait(self, seconds: float) -> None:
        for _ in range(int(seconds * 2)):
            self.pair.clock.advance(0.5)
            self.pair.pump()

    # --- what should not happen ----------------------------------------------------------

    @precondition(lambda self: not self.pair.client.when_closed().called)
    @rule(
        pick=PICK,
        what=st.sampled_from(
            ["data", "finish", "abort", "hole", "bad hole", "status", "stray", "garbage", "eof"]
        ),
        to_server=st.booleans(),
        fatal=RARELY,
    )
    def misbehave(self, pick: int, what: str, to_server: bool, fatal: int) -> None:
        if what in ("garbage", "eof") and fatal:
            return
        stream = self.stream(pick)
        serial = stream._core.key.serial if stream is not None else 7
        procedure = stream._core.key.procedure if stream is not None else 2
        frames = {
            "data": RAW.data(procedure, serial, b"x" * 100),
            "finish": RAW.finish(procedure, serial),
            "abort": RAW.frame(procedure, kind=MessageType.STREAM, serial=serial, status=Status.ERROR),
            "hole": hole(procedure, serial, 5),
            "bad hole": hole(procedure, serial, -5),
            "status": RAW.frame(procedure, kind=MessageType.STREAM, serial=serial, status=77),
            "stray": RAW.frame(1, kind=MessageType.REPLY, serial=serial + 1000),
            "garbage": bytes(4),
        }
        link = self.pair.server.link if to_server else self.pair.client.link
        if not link._is_up:
            return
        if what == "eof":
            link.readConnectionLost()
        elif link.core._framer.pending is None:  # between messages, so that it is what it says
            link.dataReceived(frames[what])

    @rule(how=st.sampled_from(["cut", "client closes", "server closes", "client aborts"]), not_now=RARELY)
    def stop(self, how: str, not_now: int) -> None:
        if not_now:
            return
        pair = self.pair
        if how == "cut":
            pair.cut()
        elif how == "client closes":
            self.watch(pair.client.close())
        elif how == "server closes":
            pair.server.link.close("enough")
        else:
            pair.client.link.abort("enough")

    # --- what holds ----------------------------------------------------------------------

    @invariant()
    def fired_once_at_most(self) -> None:
        assert all(once.count <= 1 for once in self.asked)

    @invariant()
    def failures_are_ours(self) -> None:
        for once in self.asked:
            error = getattr(once.value, "value", None)
            if isinstance(error, BaseException):
                named = isinstance(error, RPCStreamError) or type(error).__name__ == "CancelledError"
                assert named, repr(error)

    @invariant()
    def nothing_logged(self) -> None:
        assert not self.errors, self.errors[0]

    @invariant()
    def memory_bounded(self) -> None:
        for end in (self.pair.client, self.pair.server):
            for core in end.link.core.streams.values():
                spool = getattr(core.tag, "_spool", None)
                if spool is not None:
                    assert spool.cost_bytes <= 2 * LIMITS.initial_credit_bytes + 70_000, spool.cost_bytes
        assert self.pair.server._running.parked_count <= LIMITS.parked_calls + 60

    def teardown(self) -> None:
        try:
            self.pair.pump()
            self.pair.cut()
            for _ in range(30):
                self.pair.clock.advance(1)
            self.stream(0)
            assert [once.count for once in self.asked] == [1] * len(self.asked)
            self.nothing_logged()
            self.failures_are_ours()
            serving, client = self.pair.serving, self.pair.client
            assert (serving.stream_count, len(serving.connections)) == (0, 0)
            assert (self.pair.server._running.running_count, self.pair.server._running.parked_count) == (0, 0)
            assert (len(client._pending), serving.assembly.granted_bytes) == (0, 0)
            assert self.pair.clock.getDelayedCalls() == [], self.pair.clock.getDelayedCalls()
            for stream in self.streams:
                assert stream.is_closed
                assert getattr(stream, "_pending_bytes", 0) == 0
        finally:
            globalLogPublisher.removeObserver(self._logged)


class RandomOrderTests(SynchronousTestCase):
    def test_any_order(self) -> None:
        """Every Deferred fires once, nothing is left, nothing is logged as an error."""
        run_state_machine_as_test(  # type: ignore[no-untyped-call]
            Orders,
            settings=settings(
                max_examples=150, stateful_step_count=40, deadline=None, derandomize=True, print_blob=False
            ),
        )
