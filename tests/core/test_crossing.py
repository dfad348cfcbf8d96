"""Two ends that keep the rules, and a wire with delay: any crossing of legal moves."""

from __future__ import annotations

import random

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rpcstream.core.connection import Connection
from rpcstream.core.events import (
    CallReceived,
    ConnectionFailed,
    Event,
    FinishConfirmed,
    FinishRequested,
    ReplyReceived,
    StreamAborted,
    StreamData,
    StreamEnded,
    StreamFailed,
    StreamHole,
)
from rpcstream.core.states import ConnectionState, StreamState
from rpcstream.core.streams import Stream
from rpcstream.errors import BadState, RPCFailed, SystemCallFailed
from rpcstream.wire.header import Header

from .support import (
    PROCEDURE,
    PROGRAM,
    VERSION,
    Pair,
)


class Crossing:
    """
    Two ends that make legal moves in any order, over a wire with delay.

    What is on the way is kept in two queues; everything crosses everything.
    """

    def __init__(self, random_: random.Random, credit: int | None) -> None:
        self.random = random_
        self.pair = Pair(credit=credit)
        self.wire = {True: bytearray(), False: bytearray()}  # by who sent it
        self.calls: list[Header] = []  # at the server
        self.waiting: list[int] = []  # serials at the client
        self.asked: list[Stream] = []  # finish asked, at the server
        self.sent: dict[tuple[bool, int], bytes] = {}
        self.received: dict[tuple[bool, int], bytes] = {}
        self.confirmed: set[int] = set()

    def put(self, opener: bool, data: bytes) -> None:
        self.wire[opener] += data

    def streams(self, opener: bool) -> list[Stream]:
        connection = self.pair.client if opener else self.pair.server
        return list(connection.streams.values())

    def step(self) -> None:
        move = self.random.choice(
            [self.open, self.call, self.answer, self.forget, self.deliver, self.deliver, self.deliver]
            + [self.data] * 4
            + [self.hole, self.end, self.finish, self.confirm, self.abort, self.fail, self.ping]
        )
        move()

    def open(self) -> None:
        if len(self.waiting) < 4:
            serial, sent = self.pair.client.call(
                PROGRAM, VERSION, PROCEDURE, b"", opens_stream=True, sparse=True
            )
            self.waiting.append(serial)
            self.put(True, sent)

    def call(self) -> None:
        serial, sent = self.pair.client.call(PROGRAM, VERSION, 8, b"args")
        self.waiting.append(serial)
        self.put(True, sent)

    def forget(self) -> None:
        if self.waiting and self.random.random() < 0.3:
            serial = self.waiting.pop(self.random.randrange(len(self.waiting)))
            self.pair.client.forget_call(serial)

    def answer(self) -> None:
        if not self.calls:
            return
        header = self.calls.pop(self.random.randrange(len(self.calls)))
        server = self.pair.server
        if self.random.random() < 0.2:
            self.put(False, server.reply_error(header, RPCFailed("no")))
        elif header.procedure == 8:
            self.put(False, server.reply(header, b"ret"))
        elif server.stream_count < 16:
            self.put(False, server.accept(header, b"", sparse=True)[1])
        else:
            self.put(False, server.reply_error(header, RPCFailed("too many")))

    def _pick(self, opener: bool) -> Stream | None:
        streams = self.streams(opener)
        return self.random.choice(streams) if streams else None

    def data(self) -> None:
        opener = self.random.random() < 0.5
        stream = self._pick(opener)
        if stream is not None and stream.sendable_bytes:
            data = self.random.randbytes(min(self.random.randrange(1, 300), stream.sendable_bytes))
            connection = self.pair.client if opener else self.pair.server
            self.put(opener, connection.send_data(stream, data))
            key = (opener, stream.key.serial)
            self.sent[key] = self.sent.get(key, b"") + data

    def hole(self) -> None:
        opener = self.random.random() < 0.5
        stream = self._pick(opener)
        if stream is not None and stream.can_send_hole:
            connection = self.pair.client if opener else self.pair.server
            self.put(opener, connection.send_hole(stream, 4096))

    def end(self) -> None:
        opener = self.random.random() < 0.5
        stream = self._pick(opener)
        if stream is not None and stream.sendable_bytes and self.random.random() < 0.3:
            connection = self.pair.client if opener else self.pair.server
            self.put(opener, connection.end(stream))

    def finish(self) -> None:
        stream = self._pick(True)
        running = (
            StreamState.OPEN,
            StreamState.LOCAL_ENDED,
            StreamState.REMOTE_ENDED,
            StreamState.BOTH_ENDED,
        )
        if stream is not None and stream.state in running and self.random.random() < 0.3:
            self.put(True, self.pair.client.finish(stream))

    def confirm(self) -> None:
        for stream in self.asked:
            if stream.state is not StreamState.CLOSED:
                self.put(False, self.pair.server.confirm(stream))
                self.confirmed.add(stream.key.serial)
        self.asked = []

    def abort(self) -> None:
        stream = self._pick(True)
        if stream is not None and self.random.random() < 0.2:
            try:
                self.put(True, self.pair.client.abort(stream, "enough"))
            except BadState:
                assert stream.state in (StreamState.OPENING, StreamState.OPENING_ENDED, StreamState.FORGOTTEN)

    def fail(self) -> None:
        stream = self._pick(False)
        if stream is not None and self.random.random() < 0.2:
            self.put(False, self.pair.server.fail(stream, SystemCallFailed("disk")))

    def ping(self) -> None:
        self.put(False, self.pair.server.ping())

    def deliver(self, all_of_it: bool = False) -> None:
        for opener in (True, False):
            wire = self.wire[opener]
            size = len(wire) if all_of_it else self.random.randrange(len(wire) + 1)
            data = bytes(wire[:size])
            del wire[:size]
            connection = self.pair.server if opener else self.pair.client
            self.pair.clock.now += 0.5
            events = connection.receive(data)
            for frame in connection.take_outgoing():
                self.put(not opener, frame)
            for event in events:
                self._take(connection, event)

    def _take(self, connection: Connection, event: Event) -> None:
        assert not isinstance(event, ConnectionFailed), event
        if isinstance(event, CallReceived):
            self.calls.append(event.header)
        elif isinstance(event, FinishRequested):
            self.asked.append(event.stream)
        elif isinstance(event, StreamData):
            key = (not event.stream.opener, event.stream.key.serial)
            self.received[key] = self.received.get(key, b"") + event.data
            self.put(connection.opener, connection.consumed(event.stream, len(event.data)))
        elif isinstance(event, StreamFailed):
            assert event.code == "", event
        elif isinstance(event, FinishConfirmed):
            # A confirmation means that all of the opener's data arrived.
            key = (True, event.stream.key.serial)
            assert self.received.get(key, b"") == self.sent.get(key, b"")
        elif isinstance(event, StreamAborted | StreamEnded | StreamHole):
            pass
        elif hasattr(event, "header") and event.header.serial in self.waiting and connection.opener:
            self.waiting.remove(event.header.serial)
            if isinstance(event, ReplyReceived):
                assert (event.stream is None) == (event.header.procedure == 8)

    def conclude(self) -> None:
        """Everything is answered and broken off; nothing may be left."""
        for _ in range(3):
            while self.calls:
                self.answer()
            self.confirm()
            self.deliver(all_of_it=True)
        for stream in self.streams(True):
            self.put(True, self.pair.client.abort(stream))
        for _ in range(4):
            self.confirm()
            self.deliver(all_of_it=True)


class CrossingTests(SynchronousTestCase):
    """Both ends keep the rules: whatever crosses, neither blames the other."""

    @settings(derandomize=True, max_examples=150, deadline=None)
    @given(st.integers(0, 2**32), st.sampled_from([None, 200, 9_000]))
    def test_legal_moves(self, seed: int, credit: int | None) -> None:
        """No failure, nothing dropped as senseless, data in order and complete, nothing left behind."""
        crossing = Crossing(random.Random(seed), credit)
        for _ in range(150):
            crossing.step()
        crossing.conclude()
        pair = crossing.pair
        for connection in (pair.client, pair.server):
            self.assertEqual(connection.stream_count, 0)
            self.assertEqual(connection.dropped_count, 0)
            self.assertEqual(connection.pending_call_count + connection.unanswered_call_count, 0)
            self.assertIs(connection.state, ConnectionState.RPC)
        for key, data in crossing.received.items():
            self.assertTrue(crossing.sent[key].startswith(data))
