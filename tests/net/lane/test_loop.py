"""The lane's thread alone, on a pair of sockets: what it holds back, what it bounds, how it ends."""

from __future__ import annotations

import dataclasses
import socket
import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any
from unittest import TestCase

from rpcstream.core.events import Event
from rpcstream.limits import DEFAULT_LIMITS, KIB, Limits
from rpcstream.net.lane.channel import PlainChannel
from rpcstream.net.lane.guarded import GuardedConnection
from rpcstream.net.lane.immediate import ImmediateJob
from rpcstream.net.lane.loop import LaneEnd, LaneLoop
from rpcstream.net.lane.receiving import ReceiveJob
from rpcstream.net.spool import Hole
from rpcstream.wire.header import HEADER_BYTES, Header, MessageType, Status, encode_header

PROGRAM, VERSION, OPENS, OTHER = 0x20001234, 1, 7, 8


def message(kind: int, procedure: int, serial: int, payload: bytes = b"", status: int = Status.OK) -> bytes:
    """A message of the peer."""
    header = Header(HEADER_BYTES + len(payload), PROGRAM, VERSION, procedure, kind, serial, status)
    return encode_header(header) + payload


def data(payload: bytes) -> bytes:
    """A packet of the stream."""
    return message(MessageType.STREAM, OPENS, 0, payload, Status.CONTINUE)


class _Now:
    """Stands in for the reactor: what comes from threads is done at once."""

    def callFromThread(self, function: Callable[..., object], *arguments: Any) -> None:
        function(*arguments)


class _Sink:
    """Keeps what is written; waits for C{gate} before each write."""

    def __init__(self) -> None:
        self.written = bytearray()
        self.gate = threading.Event()
        self.gate.set()

    def write(self, piece: memoryview) -> None:
        self.gate.wait(10)
        self.written += piece

    def write_hole(self, length: int) -> None:
        self.written += bytes(length)


class LoopTests(TestCase):
    limits = dataclasses.replace(DEFAULT_LIMITS, control_stuck_seconds=0.3, control_queue_count=50)

    def setUp(self) -> None:
        ours, self.peer = socket.socketpair()
        self.addCleanup(ours.close)
        self.addCleanup(self.peer.close)
        ours.setblocking(False)
        self.peer.settimeout(5)
        core = GuardedConnection(opener=False, limits=self.limits)
        core.peer_is_rpcstream = True
        core.receive(message(MessageType.CALL, OPENS, 0))
        header = Header(HEADER_BYTES, PROGRAM, VERSION, OPENS, MessageType.CALL, 0, Status.OK)
        self.stream, _ = core.accept(header, b"", sparse=True)
        core.propose_switch(self.stream)
        core.complete_switch(self.stream)
        self.events: list[Event] = []
        self.readings: list[bool] = []
        self.ends: SimpleQueue[LaneEnd] = SimpleQueue()
        self.loop = LaneLoop(
            PlainChannel(ours),
            core,
            self.limits,
            deliver=self.events.extend,
            reading=self.readings.append,
            ended=self.ends.put,
        )
        self.loop.start()
        self.addCleanup(self.loop.abort)

    def job(self, sink: _Sink, first: bytes = b"") -> ReceiveJob:
        """A receiving job, begun."""
        job = ReceiveJob(
            self.stream, sink, [first] if first else [], _Now(), self.loop.wake, written=lambda: None
        )
        job.start()
        self.loop.attach(job)
        return job

    def until(self, condition: Callable[[], object]) -> None:
        """Wait for C{condition}, or fail."""
        end = time.monotonic() + 5
        while not condition():
            self.assertLess(time.monotonic(), end, "waited in vain")
            time.sleep(0.005)

    def test_data_before_its_job(self) -> None:
        """Data that comes before anybody takes it is kept, in order, behind what came even earlier."""
        self.peer.sendall(data(b"two") + data(b"three"))
        time.sleep(0.05)
        self.peer.sendall(data(b"four") + message(MessageType.STREAM, OPENS, 0))
        time.sleep(0.05)
        sink = _Sink()
        job = self.job(sink, b"one")
        self.until(lambda: self.events)
        job.has_all = True
        self.loop.wake()
        self.until(lambda: job.done.called)
        self.assertEqual(bytes(sink.written), b"onetwothreefour")

    def test_immediate_sink(self) -> None:
        """A sink that never blocks gets all of it, in order, without a thread for files."""
        sink = _Sink()
        job = ImmediateJob(self.stream, sink, [b"zero", Hole(3)], _Now(), self.loop.wake)
        job.start()
        self.loop.attach(job)
        self.peer.sendall(data(b"one") + data(bytes(200 * KIB)) + message(MessageType.STREAM, OPENS, 0))
        self.until(lambda: self.events)
        self.assertEqual([t.name for t in threading.enumerate() if t.name == "rpcstream lane files"], [])
        job.has_all = True
        self.loop.wake()
        self.until(lambda: job.done.called)
        self.assertEqual(bytes(sink.written), b"zero\0\0\0one" + bytes(200 * KIB))

    def test_immediate_sink_fails(self) -> None:
        """What it raises ends the job, once."""
        sink = _Sink()
        sink.write = lambda piece: 1 // 0  # type: ignore[method-assign,assignment,return-value]
        job = ImmediateJob(self.stream, sink, [], _Now(), self.loop.wake)
        failures: list[Any] = []
        job.done.addErrback(failures.append)
        job.start()
        self.loop.attach(job)
        self.peer.sendall(data(b"one") + data(b"two"))
        self.until(lambda: failures)
        self.assertIsInstance(failures[0].value, ZeroDivisionError)

    def test_slow_sink(self) -> None:
        """A sink that does not write stops the reading; that is told, and told again when it goes on."""
        sink = _Sink()
        sink.gate.clear()
        job = self.job(sink)
        sent = bytes(200 * KIB)
        feeding = threading.Thread(target=lambda: [self.peer.sendall(data(sent)) for _ in range(60)])
        self.peer.settimeout(30)
        feeding.start()
        self.until(lambda: self.readings == [False])
        self.assertEqual(job.waits_for, "local disk")
        sink.gate.set()
        feeding.join(10)
        self.until(lambda: len(sink.written) == 60 * len(sent))
        self.assertEqual(self.readings, [False, True])

    def test_answers_that_nobody_reads(self) -> None:
        """K04: a peer that lets its answers wait is not read any more, and in the end is left."""
        call = b"".join(message(MessageType.CALL, OTHER, serial) for serial in range(1, 200))

        def flood() -> None:
            try:
                while True:
                    self.peer.sendall(call)
            except OSError:
                pass

        flooding = threading.Thread(target=flood)
        flooding.start()
        end = self.ends.get(timeout=10)
        self.peer.close()
        flooding.join(10)
        self.assertEqual((end.in_order, end.text), (False, "the peer does not read its answers"))
        self.assertLess(
            len(self.loop._output.controls), 64 * KIB // HEADER_BYTES + self.limits.control_queue_count
        )

    def test_ping(self) -> None:
        """A PING is answered in the midst of a packet of data."""
        ping = encode_header(Header(HEADER_BYTES, 0x6B656570, 1, 1, MessageType.MESSAGE, 0, Status.OK))
        self.peer.sendall(ping)
        self.assertEqual(self.peer.recv(100)[4:16].hex(), "6b6565700000000100000002")

    def test_paused(self) -> None:
        """What is paused reads nothing until it is resumed."""
        self.loop.pause(True)
        time.sleep(0.05)
        self.peer.sendall(message(MessageType.STREAM, OPENS, 0))
        time.sleep(0.1)
        self.assertEqual(self.events, [])
        self.loop.pause(False)
        self.until(lambda: self.events)

    def test_closed(self) -> None:
        """What was posted is written, then the end; the thread ends when the peer has ended."""
        self.loop.post(b"last words")
        self.loop.close()
        self.assertEqual(self.peer.recv(100), b"last words")
        self.assertEqual(self.peer.recv(100), b"")
        self.peer.close()
        self.assertTrue(self.ends.get(timeout=5).in_order)

    def test_aborted(self) -> None:
        """An abort ends it at once, also while it waits for the peer to read."""
        self.loop.post(bytes(8 << 20))
        time.sleep(0.05)
        self.loop.abort()
        self.assertFalse(self.ends.get(timeout=2).in_order)
        self.loop.wake()
        self.loop.post(b"nobody is there")


class LimitTests(TestCase):
    """The limits that lanes have."""

    def test_defaults(self) -> None:
        """A packet fits into the credit that is counted until the lane begins."""
        limits = Limits()
        self.assertLessEqual(limits.exclusive_packet_bytes, limits.initial_credit_bytes // 2)
