"""Rows K and L of the catalogue, parked calls and the control queue: floods against a whole server."""

from __future__ import annotations

from twisted.internet.defer import Deferred, fail

from rpcstream.errors import RemoteError
from rpcstream.limits import DEFAULT_LIMITS, Limits
from rpcstream.net.calls import Call
from rpcstream.net.responders import Responders
from rpcstream.programs import flow
from rpcstream.programs.base import Event, Procedure, Program
from rpcstream.testing import ConnectedPair, FrameFactory
from rpcstream.wire import UInt
from rpcstream.wire.error import decode_error
from rpcstream.wire.header import MessageType, Status
from tests.net.files_program import NoSuchFile, Sleep, Stored
from tests.net.hostile import FILE, C, HostileTestCase, R, RawPeer, name, ping

SLEEP = 6
FLOW = FrameFactory(flow.FLOW.number, flow.FLOW.version)
WORK = Program("work", number=0x2F11E502, version=1)


class Fail(Procedure[None], program=WORK, number=1, permission="work"):
    pass


class Task(Event, program=WORK, number=2, permission="work"):
    number: UInt


class Fire(Procedure[None], program=WORK, number=3, permission="work"):
    count: UInt


class Worker:
    """Fails at once, in three ways; takes its time over events."""

    def __init__(self) -> None:
        self.tasks: list[Deferred[None]] = []
        self.failed = 0

    @Fail.responder
    def fail(self, call: Call, request: Fail) -> Deferred[None]:
        self.failed += 1
        error = NoSuchFile("no")
        if self.failed % 3 == 0:
            return fail(error)
        if self.failed % 3 == 1:
            return Deferred.fromCoroutine(self.raising(error))
        raise error

    async def raising(self, error: RemoteError) -> None:
        raise error

    @Task.responder
    def task_event(self, call: Call, event: Task) -> Deferred[None]:
        task: Deferred[None] = Deferred()
        self.tasks.append(task)
        return task

    @Fire.responder
    def fire(self, call: Call, request: Fire) -> None:
        for _ in range(request.count):
            call.connection.emit(Stored("x" * 200))


WORKER = FrameFactory(WORK.number)


def cancel(serial: int) -> bytes:
    info = flow.Cancel.__procedure__
    payload = info.arguments.encode(flow.Cancel(serial, "changed my mind"))
    return FLOW.frame(info.number, payload, kind=MessageType.MESSAGE)


class WorkTestCase(HostileTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.worker = Worker()
        self.pair.serving._enter(Responders(self.worker))


class KeepaliveRows(WorkTestCase):
    """K: pings and pongs."""

    def test_k01(self) -> None:
        """A ping is answered by a pong at once, whatever its serial and payload."""
        raw = self.connect()
        raw.send(FrameFactory(0x6B656570).frame(1, b"payload", kind=MessageType.MESSAGE, serial=77))
        header, payload = raw.frames[-1]
        self.assertEqual((header.procedure, header.serial, payload), (2, 0, b""))

    def test_k05_with_all_slots_taken(self) -> None:
        """The same while 32 calls run and 1,024 are parked."""
        raw = self.connect()
        count = DEFAULT_LIMITS.running_calls + DEFAULT_LIMITS.parked_calls - 1
        raw.send(*(FILE.frame(SLEEP, serial=serial) for serial in range(count)))
        raw.send(ping())
        self.assertEqual(raw.frames[-1][0].procedure, 2)
        self.assertTrue(raw.server_transport._reading)
        raw.transport.abortConnection()

    def test_k04_flood(self) -> None:
        """C(flood), after no more than three bursts, and next to nothing was queued."""
        raw = self.connect()
        raw.transport.pauseProducing()
        raw.send(ping() * 300_000)
        raw.transport.resumeProducing()
        raw.pump()
        C("flood").check(self, raw, None)
        self.assertLess(raw.server_transport.written_bytes, 64 * 1024)

    def test_keepalive_is_for_rpcstream_peers(self) -> None:
        """A stock peer that did not ask for it gets no pings."""
        raw = self.connect()
        raw.send(FILE.frame(1, name("disk")))
        self.pass_time(100, step=5)
        self.assertEqual(len(raw.frames), 1)


class ParkedRows(WorkTestCase):
    """Calls in flight: 32 run, 1,024 wait, then reading pauses."""

    limits = Limits(running_calls=3, parked_calls=4)

    def calls(self, count: int) -> RawPeer:
        raw = self.connect()
        raw.send(*(FILE.frame(SLEEP, serial=serial) for serial in range(count)))
        return raw

    def test_at_the_limits(self) -> None:
        """Reading pauses with the fourth parked call, and goes on when there are fewer."""
        for count, running, parked, reading in (
            (3, 3, 0, True),
            (4, 3, 1, True),
            (6, 3, 3, True),
            (7, 3, 4, False),
        ):
            self.files.sleeping.clear()
            raw = self.calls(count)
            found = (
                len(self.files.sleeping),
                raw.server._running.parked_count,
                raw.server_transport._reading,
            )
            self.assertEqual(found, (running, parked, reading))
            self.files.sleeping[0].callback(None)
            self.assertTrue(raw.server_transport._reading)
            raw.transport.abortConnection()

    def test_parked_bytes(self) -> None:
        """The same by the size of what is parked."""
        raw = self.calls(3)
        self.assertEqual(self.limits.parked_bytes, 1 << 20)
        running = raw.server._running
        header = raw.server.link.core._answering.unanswered[0][0]
        running.add(header._replace(serial=100), bytes((1 << 20) - 1))
        self.assertTrue(raw.server_transport._reading)
        running.add(header._replace(serial=101), b"x")
        self.assertFalse(raw.server_transport._reading)
        raw.transport.abortConnection()

    def test_streams_behind_parked_calls(self) -> None:
        """What is not a call is served while calls are parked."""
        raw = self.connect()
        raw.store(serial=50)
        raw.send(*(FILE.frame(SLEEP, serial=serial) for serial in range(5)))
        raw.send(FILE.data(3, 50, b"data"), FILE.finish(3, 50))
        self.assertEqual(self.files.files["up"], b"data")
        raw.transport.abortConnection()

    def test_thousands_that_fail_at_once(self) -> None:
        """No recursion when many parked calls fail as soon as they run."""
        pair = ConnectedPair(self.worker, self.files, limits=Limits(running_calls=1))
        sleeping = pair.client.call(Sleep())
        failing = [pair.client.call(Fail()) for _ in range(1000)]
        pair.pump()
        self.assertEqual(self.worker.failed, 0)
        self.files.sleeping[0].callback(None)
        pair.pump()
        self.successResultOf(sleeping)
        for call in failing:
            self.failureResultOf(call, RemoteError)

    def test_cancelled_while_parked(self) -> None:
        """A parked call that is cancelled is answered at once and never runs."""
        raw = self.calls(7)
        self.assertFalse(raw.server_transport._reading)
        self.assertTrue(raw.server._running.cancel(5))
        raw.pump()
        header, payload = raw.frames[-1]
        self.assertEqual((header.serial, decode_error(payload).code), (5, 78))
        self.assertTrue(raw.server_transport._reading)
        raw.send(cancel(6), cancel(4), cancel(999))
        self.assertEqual({h.serial for h, _ in raw.frames}, {4, 5, 6})
        for _ in range(4):
            self.files.sleeping.pop(0).callback(None)
        self.assertEqual((self.files.sleeping, self.files.cancelled), ([], 0))

    def test_cancelled_while_running(self) -> None:
        """A running call that is cancelled is answered with an error; cancelling again does nothing."""
        raw = self.calls(2)
        raw.send(cancel(1), cancel(1))
        self.assertEqual(decode_error(raw.frames[-1][1]).code, 78)
        self.assertEqual((len(raw.frames), self.files.cancelled), (1, 1))
        raw.transport.abortConnection()

    def test_stream_cancelled(self) -> None:
        """A stream whose call is cancelled ends with an error, while its responder runs and after it."""
        raw = self.connect()
        raw.store(serial=0)
        raw.open(5, b"", 1)
        raw.send(FILE.data(5, 1, b""))  # the echo is over; only the finish is still to come
        raw.fetch(serial=2)
        self.assertEqual(raw.server.link.core.stream_count, 3)
        raw.send(cancel(0), cancel(1), cancel(2))
        ended = [h.serial for h, _ in raw.frames if (h.type, h.status) == (MessageType.STREAM, Status.ERROR)]
        self.assertEqual(ended, [0, 1, 2])
        self.assert_lives(raw)


class ControlQueueRows(WorkTestCase):
    """K04 and events: what we have to say to a peer that does not read."""

    def stuffed(self) -> RawPeer:
        """A peer that does not read, with a full transport."""
        raw = self.connect()
        raw.transport.pauseProducing()
        raw.send(FILE.frame(2, name("disk") + bytes(8), serial=0xD0))
        self.assertFalse(raw.server.link.is_writable)
        return raw

    def test_by_count(self) -> None:
        """Reading stops with the 512th reply that waits, and goes on when they are read."""
        raw = self.stuffed()
        limit = DEFAULT_LIMITS.control_queue_count
        for serial in range(limit - 1):
            raw.send(FILE.frame(1, name("disk"), serial=serial))
        self.assertTrue(raw.server_transport._reading)
        raw.send(FILE.frame(1, name("disk"), serial=limit))
        self.assertFalse(raw.server_transport._reading)
        self.assertTrue(raw.server.link.is_control_full)
        raw.transport.resumeProducing()
        raw.pump()
        self.assertTrue(raw.server_transport._reading)
        self.assertEqual(sum(h.type == MessageType.REPLY for h, _ in raw.frames), limit + 1)

    def test_by_size(self) -> None:
        """The same with 256 KiB of replies."""
        raw = self.stuffed()
        error = b"\0\0\3\xe7" * 1000
        sent = 0
        while raw.server_transport._reading:
            raw.send(FILE.frame(1, error, serial=sent))
            raw.server.link.write_control(bytes(10_000))
            sent += 1
            self.assertLess(sent, 30)
        self.assertGreater(sent, 20)
        raw.transport.abortConnection()

    def test_stuck(self) -> None:
        """C(stuck) when it stays full for 30 s, by abort: nothing more can be written."""
        raw = self.stuffed()
        for serial in range(DEFAULT_LIMITS.control_queue_count):
            raw.send(FILE.frame(1, name("disk"), serial=serial))
        self.pass_time(29)
        self.assertFalse(raw.is_closed)
        self.pass_time(2)
        C("stuck").check(self, raw, None)

    def test_events_are_lost_with_a_count(self) -> None:
        """Events for a subscriber that does not read are counted, and it is told when it reads again."""
        raw = self.stuffed()
        key = flow.Subscribe(FILE.program, FILE.version, Stored.__procedure__.number)
        info = flow.Subscribe.__procedure__
        raw.send(FLOW.frame(info.number, info.arguments.encode(key), serial=1))
        for _ in range(3000):
            self.pair.serving.emit(Stored("a"))
        self.assertTrue(raw.server.link.is_control_full)
        raw.transport.resumeProducing()
        raw.pump()
        lost = [p for h, p in raw.frames if (h.program, h.procedure) == (FLOW.program, 6)]
        told = flow.Lost.__procedure__.arguments.decode(lost[0])
        seen = sum((h.program, h.type) == (FILE.program, MessageType.MESSAGE) for h, _ in raw.frames)
        self.assertEqual(told.count + seen, 3000)
        self.assertGreater(told.count, 2000)

    def test_events_of_one_call(self) -> None:
        """A responder that emits more than fits neither fails nor grows the queue."""
        raw = self.connect()
        raw.transport.pauseProducing()
        raw.send(WORKER.frame(3, (5000).to_bytes(4, "big")))
        self.assertLess(raw.server_transport.written_bytes, 1 << 19)
        raw.transport.resumeProducing()
        raw.pump()
        self.assert_lives(raw)


class EventRows(WorkTestCase):
    """Events sent to a server."""

    limits = Limits(event_queue=10)

    def test_more_than_are_done_with(self) -> None:
        """Reading pauses while as many event responders run as events may be queued."""
        raw = self.connect()
        task = WORKER.frame(2, bytes(4), kind=MessageType.MESSAGE)
        raw.send(task * 9)
        self.assertTrue(raw.server_transport._reading)
        raw.send(task)
        self.assertFalse(raw.server_transport._reading)
        self.worker.tasks.pop().callback(None)
        self.assertTrue(raw.server_transport._reading)
        for waiting in self.worker.tasks:
            waiting.errback(ValueError("a responder's mistake"))
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 9)
        self.assert_lives(raw)

    def test_cannot_be_decoded(self) -> None:
        """C(bad-event): an event has no answer to tell it by."""
        raw = self.connect()
        raw.send(FILE.frame(7, bytes(3), kind=MessageType.MESSAGE))
        C("bad-event").check(self, raw, None)

    def test_subscribing_to_what_is_none(self) -> None:
        """R: to a call, to nothing, to a program nobody serves."""
        info = flow.Subscribe.__procedure__
        for program, number in ((FILE.program, 1), (FILE.program, 77), (9, 9)):
            raw = self.connect()
            request = FLOW.frame(info.number, info.arguments.encode(flow.Subscribe(program, 1, number)))
            raw.send(request)
            R("no such event", code=8).check(self, raw, raw.frames[-1][0])
