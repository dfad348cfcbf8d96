"""Rows S of the catalogue of bad inputs, at the level of a whole server."""

from __future__ import annotations

from rpcstream.limits import DEFAULT_LIMITS, Limits
from rpcstream.programs import flow
from rpcstream.testing import FrameFactory
from rpcstream.wire.error import decode_error
from rpcstream.wire.header import MessageType, Status
from tests.net.files_program import Fetch
from tests.net.hostile import CONTENT, FILE, SE, SHAPE, C, D, HostileTestCase, RawPeer, hole, name, rows

STORE, FETCH, ECHO = 3, 2, 5
FLOW = FrameFactory(flow.FLOW.number, flow.FLOW.version)
HELLO = FLOW.frame(
    flow.Hello.__procedure__.number,
    flow.Hello.__procedure__.arguments.encode(flow.Hello(1, 1, "raw", 1 << 20)),
    serial=0xF000,
)


def credit(procedure: int, serial: int, byte_count: int) -> bytes:
    info = flow.Credit.__procedure__
    payload = info.arguments.encode(flow.Credit(FILE.program, FILE.version, procedure, serial, byte_count))
    return FLOW.frame(info.number, payload, kind=MessageType.MESSAGE)


def abort(procedure: int, serial: int) -> bytes:
    return FILE.frame(procedure, kind=MessageType.STREAM, serial=serial, status=Status.ERROR)


def stored(*sent: bytes, size: int = 1 << 20) -> object:
    """An upload is open; then this is sent."""

    def send(raw: RawPeer) -> None:
        raw.store(size)
        raw.send(*sent)

    return send


def sparse(*sent: bytes, size: int = 1 << 20) -> object:
    """The same from an rpcstream peer, so that holes and credit are agreed on."""

    def send(raw: RawPeer) -> None:
        raw.send(HELLO)
        raw.store(size)
        raw.send(*sent)

    return send


def fetched(*sent: bytes) -> object:
    def send(raw: RawPeer) -> None:
        raw.fetch()
        raw.send(*sent)

    return send


class StreamRows(HostileTestCase):
    """S: each on a connection of its own."""


WINDOW = DEFAULT_LIMITS.initial_credit_bytes

rows(
    StreamRows,
    {
        "s01_data_for_no_stream": (FILE.data(STORE, 7, b"abc"), C("unknown-stream")),
        "s01_end_for_no_stream": (FILE.data(STORE, 7, b""), C("unknown-stream")),
        "s02_finish_for_no_stream": (FILE.finish(STORE, 7), C("unknown-stream")),
        "s03_abort_for_no_stream": (abort(STORE, 7), C("unknown-stream")),
        "s04_hole_for_no_stream": (hole(STORE, 7, 4096), C("unknown-stream")),
        "s07_hole_on_a_dense_stream": (stored(hole(STORE, 0, 4096)), SE("not opened sparse")),
        "s08_hole_of_minus_4096": (sparse(hole(STORE, 0, -4096)), SE("bad hole")),
        "s08_hole_of_0": (sparse(hole(STORE, 0, 0)), SE("bad hole")),
        "s08_hole_with_flags": (sparse(hole(STORE, 0, 4096, 1)), SE("bad hole")),
        "s08_hole_without_payload": (
            sparse(FILE.frame(STORE, kind=MessageType.STREAM_HOLE, status=Status.CONTINUE)),
            SE("a hole of 0 bytes"),
        ),
        "s10_hole_of_1_tib_into_1_mib": (sparse(hole(STORE, 0, 1 << 40)), SE("longer than 1048576", code=78)),
        "s10_hole_of_2_to_the_63": (sparse(hole(STORE, 0, 2**63 - 1)), SE("longer than", code=78)),
        "s12_more_than_declared": (stored(FILE.data(STORE, 0, b"x" * 11), size=10), SE("longer", code=78)),
        "s14_status_77": (
            stored(FILE.frame(STORE, kind=MessageType.STREAM, status=77)),
            SE("unexpected status 77"),
        ),
        "s15_right_serial_wrong_procedure": (stored(FILE.data(FETCH, 0, b"x")), C("stream-mismatch")),
        "s15_wrong_procedure_for_finish": (stored(FILE.finish(FETCH, 0)), C("stream-mismatch")),
        "s21_one_byte_past_the_window": (sparse(FILE.data(STORE, 0, bytes(WINDOW - 27))), SE("granted")),
        "s22_credit_that_overflows": (sparse(credit(STORE, 0, 2**63)), C("credit")),
        "s22_credit_of_zero": (sparse(credit(STORE, 0, 0)), C("credit")),
        "s22_credit_nobody_agreed_on": (credit(STORE, 0, 5), D()),
        "data_on_a_download": (fetched(FILE.data(FETCH, 0, b"abc")), SE("no data is taken", code=78)),
        "data_behind_the_end_of_data": (
            stored(FILE.data(STORE, 0, b""), FILE.data(STORE, 0, b"x")),
            SE("after the end of data"),
        ),
    },
)


class LateRows(HostileTestCase):
    """What comes for a stream that is over."""

    def assert_ignored(self, raw: RawPeer, procedure: int = STORE, serial: int = 0) -> None:
        before = len(raw.frames)
        late = (
            FILE.data(procedure, serial, b"late"),
            FILE.data(procedure, serial, b""),
            abort(procedure, serial),
        )
        for data in (*late, hole(procedure, serial, 9)):
            raw.send(data * 101)
        self.assertEqual(len(raw.frames), before)
        self.assertEqual(raw.server.link.core.dropped_count, 0)

    def test_s01_refused(self) -> None:
        """Data for a call that was refused is dropped, of any length, for 60 s; then C(unknown-stream)."""
        raw = self.connect()
        raw.open(FETCH, name("absent") + bytes(8), 0)
        self.assert_ignored(raw, FETCH)
        raw.send(FILE.data(FETCH, 0, bytes(20 << 20)))
        self.pass_time(DEFAULT_LIMITS.ended_stream_seconds - 1, step=1)
        self.assert_ignored(raw, FETCH)
        self.pass_time(2, step=1)
        raw.send(FILE.data(FETCH, 0, b"late"))
        C("unknown-stream").check(self, raw, None)

    def test_s01_refused_by_number(self) -> None:
        """The same for one that was refused before its body was read."""
        raw = self.connect()
        raw.open(999, b"", 0)
        self.assert_ignored(raw, 999)

    def test_s02_after_our_error(self) -> None:
        """The same after a STREAM/ERROR of ours; a finish gets the error once more, once."""
        raw = self.connect()
        raw.store(size=3)
        raw.send(FILE.data(STORE, 0, b"long"))
        SE("longer", code=78).check(self, raw, None)
        self.assert_ignored(raw)
        raw.send(FILE.finish(STORE, 0) * 3)
        header, payload = raw.frames[-1]
        self.assertEqual((header.type, header.status), (MessageType.STREAM, Status.ERROR))
        self.assertIn("longer", decode_error(payload).message or "")

    def test_s01_before_the_reply(self) -> None:
        """Data sent before our REPLY is an error that shows: C(stream-early), nothing is lost in silence."""
        raw = self.connect()
        raw.send(FILE.frame(6, serial=4), FILE.data(6, 4, b"x"))
        C("stream-early").check(self, raw, None)

    def test_s05_s06_after_the_finish(self) -> None:
        """Data after the finish and a second finish change nothing."""
        raw = self.connect()
        raw.store()
        raw.send(FILE.data(STORE, 0, b"good"), FILE.finish(STORE, 0), FILE.data(STORE, 0, b"bad"))
        raw.send(FILE.finish(STORE, 0) * 2)
        self.assertEqual(self.files.files["up"], b"good")
        self.assertEqual([h.type for h, _ in raw.frames], [MessageType.REPLY, MessageType.STREAM])
        self.assert_ignored(raw)

    def test_s16_cut_in_the_middle(self) -> None:
        """A lost connection in mid-stream publishes nothing and tells the responder."""
        raw = self.connect()
        raw.store()
        raw.send(FILE.data(STORE, 0, b"half"))
        raw.transport.abortConnection()
        self.assertNotIn("up", self.files.files)
        self.assertEqual(len(self.files.ended_with), 1)

    def test_abort(self) -> None:
        """An abort is answered by STREAM/OK, in every state of the responder."""
        raw = self.connect()
        raw.store()
        raw.send(abort(STORE, 0))
        self.assertEqual((raw.frames[-1][0].type, raw.frames[-1][0].status), (MessageType.STREAM, Status.OK))
        self.assertNotIn("up", self.files.files)
        self.assert_ignored(raw)
        self.assert_lives(raw)

    def test_l05_open_and_abort(self) -> None:
        """A thousand streams opened and aborted leave nothing behind."""
        raw = self.connect()
        for serial in range(1000):
            raw.store(serial=serial)
            raw.send(abort(STORE, serial))
        self.assertEqual(len(self.files.ended_with), 1000)
        self.assertEqual(self.pair.serving.stream_count, 0)
        self.assert_lives(raw)


class EarlyFinishRows(HostileTestCase):
    """A reader may finish a download at any time."""

    def test_before_the_end(self) -> None:
        """It is confirmed at once, and the responder hears of it."""
        raw = self.connect()
        raw.server_transport.pauseProducing()  # nothing of the finish is read before data has gone out
        raw.fetch()
        raw.server_transport.resumeProducing()
        raw.send(FILE.finish(FETCH, 0))
        self.assertEqual((raw.frames[-1][0].type, raw.frames[-1][0].status), (MessageType.STREAM, Status.OK))
        self.assert_lives(raw)

    def test_in_the_middle(self) -> None:
        """Between two grants of credit."""
        raw = self.connect()
        raw.send(HELLO)
        raw.fetch()
        received = sum(len(payload) for _, payload in raw.frames)
        self.assertLess(received, (1 << 20) + 1000)
        raw.send(FILE.finish(FETCH, 0))
        self.assertEqual(raw.frames[-1][0].status, Status.OK)
        self.assertEqual(raw.server.link.core.stream_count, 0)
        self.assert_lives(raw)


class WaitingRows(HostileTestCase):
    """Peers that do not read, or do not grant."""

    def test_s18_never_read(self) -> None:
        """A download that the client never reads holds the transport's buffer, no more."""
        raw = self.connect()
        raw.transport.pauseProducing()
        raw.send(FILE.frame(FETCH, name("disk") + bytes(8)))
        sent = raw.server_transport.written_bytes
        self.assertLess(sent, 1 << 20)
        self.pass_time(100, step=10)
        self.assertEqual(raw.server_transport.written_bytes, sent)
        raw.transport.resumeProducing()

    def test_s23_never_granted(self) -> None:
        """The stream waits, its progress names the cause; at the stall limit it is aborted with it."""
        raw = self.connect()
        raw.send(HELLO)
        raw.fetch()
        (stream,) = (stream.tag for stream in raw.server.link.core.streams.values())
        self.assertEqual(stream.progress.stalled_by, "paused consumer")
        for _ in range(int(DEFAULT_LIMITS.stall_seconds / 10) - 1):
            raw.send(FrameFactory(0x6B656570).frame(2, kind=MessageType.MESSAGE))
            self.pass_time(10, step=5)
        self.assertFalse(raw.is_closed or stream.is_closed)
        raw.send(FrameFactory(0x6B656570).frame(2, kind=MessageType.MESSAGE))
        self.pass_time(20, step=1)
        SE("no byte moved for 3600 s: paused consumer", code=78).check(self, raw, None)

    def test_s23_without_pongs(self) -> None:
        """C(stuck) after keepalive."""
        raw = self.connect()
        raw.send(HELLO)
        raw.fetch()
        self.pass_time(29, step=1)
        self.assertFalse(raw.is_closed)
        self.pass_time(2, step=1)
        C("stuck").check(self, raw, None)

    def test_credit_goes_on(self) -> None:
        """Granted in slivers, a download arrives whole."""
        raw = self.connect()
        raw.send(HELLO)
        raw.fetch()
        for _ in range(10_000):
            before = len(raw.frames)
            raw.send(credit(FETCH, 0, 8192))
            if raw.frames[-1][0].length == 28 and len(raw.frames) > before:
                break
        raw.send(FILE.finish(FETCH, 0))
        data = b"".join(p for h, p in raw.frames if (h.type, h.status) == (MessageType.STREAM, 2))
        self.assertEqual(data, CONTENT)


class TinyWindowRows(HostileTestCase):
    """Peers that grant next to nothing."""

    limits = Limits(initial_credit_bytes=200)

    def test_both_ways(self) -> None:
        """A window of 200 bytes is slow, not dead."""
        self.files.files["disk"] = CONTENT[:20_000]
        stream = self.pair.result_of(self.pair.client.open(Fetch("disk")))
        self.assertEqual(self.pair.result_of(stream.read(limit_bytes=1 << 20)), CONTENT[:20_000])
        self.files.files["disk"] = CONTENT


class LimitRows(HostileTestCase):
    """S19 and S18: how many, and how much."""

    limits = Limits(streams=3, process_streams=5)

    def opened(self, raw: RawPeer, serial: int) -> bool:
        raw.store(serial=serial)
        header, payload = raw.frames[-1]
        if header.status == Status.ERROR:
            error = decode_error(payload)
            self.assertEqual(error.code, 87)
            self.assertIn("too many streams", error.message or "")
        return header.status == Status.OK

    def test_s19_per_connection(self) -> None:
        """The third is opened, the fourth is refused, and again opened when one has ended."""
        raw = self.connect()
        self.assertEqual([self.opened(raw, serial) for serial in range(4)], [True, True, True, False])
        self.assert_lives(raw)
        raw.send(abort(STORE, 1))
        self.assertTrue(self.opened(raw, 4))
        raw.send(*(abort(STORE, serial) for serial in (0, 2, 4)))

    def test_s19_in_the_process(self) -> None:
        """The fifth is opened, the sixth is refused, whoever asks."""
        first, second = self.connect(), self.connect()
        opened = [self.opened(first, serial) for serial in range(3)]
        opened += [self.opened(second, serial) for serial in range(3)]
        self.assertEqual(opened, [True] * 5 + [False])
        first.transport.abortConnection()
        self.assertTrue(self.opened(second, 9))

    def test_s19_responders_that_are_done(self) -> None:
        """A stream counts until it has ended, not only until its responder has returned."""
        raw = self.connect()
        for serial in range(3):
            raw.open(ECHO, b"", serial)
            raw.send(FILE.data(ECHO, serial, b""))
            self.assertEqual(raw.server.link.core.stream_count, serial + 1)
        self.assertEqual(self.pair.serving.stream_count, 3)
        self.assertFalse(self.opened(raw, 3))
        raw.send(*(FILE.finish(ECHO, serial) for serial in range(3)))
        self.assertEqual(self.pair.serving.stream_count, 0)


class SpoolRows(HostileTestCase):
    """What a sender can make us hold while the consumer takes nothing."""

    HOLD = 11

    def test_without_credit(self) -> None:
        """A stock peer is held back by TCP at the spool's high mark, and goes on below the low one."""
        raw = self.connect()
        raw.send(SHAPE.frame(self.HOLD))
        for _ in range(200):
            raw.send(SHAPE.data(self.HOLD, 0, bytes(60_000)))
        (core,) = raw.server.link.core.streams.values()
        self.assertLess(core.tag._spool.byte_count, self.limits.spool_high_bytes + 100_000)
        self.assertFalse(raw.server_transport._reading)
        holder = self.shapes.held[0]
        holder.producer.resumeProducing()
        raw.send(SHAPE.finish(self.HOLD, 0))
        self.assertEqual(sum(map(len, holder.taken)), 200 * 60_000)
        self.assert_lives(raw)

    def test_holes_and_single_bytes(self) -> None:
        """Alternating holes and single bytes cost the peer what they cost us, with credit and without."""
        for greet in (b"", HELLO):
            raw = self.connect()
            raw.send(greet, SHAPE.frame(self.HOLD))
            (core,) = raw.server.link.core.streams.values()
            pair = SHAPE.data(self.HOLD, 0, b"x") + hole(self.HOLD, 0, 4096, program=SHAPE)
            for _ in range(200):
                raw.send(pair * 500)
            self.assertTrue(raw.server_transport._reading is False or core.ended)
            self.assertLess(core.tag._spool.cost_bytes, 3 * self.limits.spool_high_bytes)
            raw.transport.abortConnection()

    def test_holes_resume_reading(self) -> None:
        """Reading goes on, too, when it is a hole that was taken last."""
        raw = self.connect()
        raw.send(SHAPE.frame(self.HOLD))
        pair = SHAPE.data(self.HOLD, 0, b"x") + hole(self.HOLD, 0, 1, program=SHAPE)
        for _ in range(200):
            raw.send(pair * 500)
        self.assertFalse(raw.server_transport._reading)
        self.shapes.held[0].producer.resumeProducing()
        raw.send(SHAPE.finish(self.HOLD, 0))
        self.assertEqual(sum(map(len, self.shapes.held[0].taken)), 200_000)
        self.assert_lives(raw)


class CreditRows(HostileTestCase):
    """S22 where there is nothing to drop."""

    def test_for_a_stream_that_ended(self) -> None:
        """Credit that crossed the end of its stream is no offence."""
        raw = self.connect()
        raw.send(HELLO)
        raw.store()
        raw.send(abort(STORE, 0), credit(STORE, 0, 5) * 300)
        self.assertEqual(raw.server.link.core.dropped_count, 0)
        self.assert_lives(raw)
