"""Rows F, H and X of the catalogue of bad inputs, at the level of a whole server."""

from __future__ import annotations

from rpcstream.limits import DEFAULT_LIMITS, MESSAGE_BYTES, Limits
from rpcstream.programs.keepalive import PROGRAM as KEEPALIVE
from rpcstream.testing import FrameFactory
from rpcstream.wire.header import HEADER_BYTES, MessageType, Status
from tests.net.hostile import FILE, OK, SHAPE, C, D, HostileTestCase, R, RawPeer, name, ping, rows, word

SIZE = FILE.frame(1, name("disk"))


class FramingRows(HostileTestCase):
    """F: what is decided on the length word and the header."""


def _many(count: int) -> bytes:
    return b"".join(FILE.frame(1, name("disk"), serial=serial) for serial in range(count))


rows(
    FramingRows,
    {
        "f01_length_0": (word(0), C("len-short")),
        "f02_length_3": (word(3), C("len-short")),
        "f03_length_4": (word(4), C("len-short")),
        "f04_length_27_without_its_body": (word(27), C("len-short")),
        "f05_all_zero_header": (word(28) + bytes(24), R("Cannot find program 0 version 0")),
        "f07_length_max_plus_1": (word(MESSAGE_BYTES + 1), C("len-long")),
        "f08_length_0x80000000": (word(0x80000000), C("len-long")),
        "f09_length_0xffffffff": (word(0xFFFFFFFF), C("len-long")),
        "f10_http": (b"GET / HTTP/1.1\r\n\r\n", C("len-long")),
        "f17_a_thousand_messages_at_once": (_many(1000), OK(1000)),
        "f19_a_good_call_and_then_none": (SIZE + word(3), C("len-short")),
    },
)


class TimedRows(HostileTestCase):
    """F rows that need a clock."""

    def test_f06_largest_message_then_silence(self) -> None:
        """C(msg-timeout) within 30 s, nothing allocated, and not before 29."""
        raw = self.connect()
        raw.send(SIZE, FILE.frame(1, length=MESSAGE_BYTES, serial=1))
        self.assertEqual(raw.server.link.core.body_received_bytes, 0)
        self.pass_time(29)
        # The body of a call of this size is longer than its schema allows: it is discarded as it comes.
        self.assertFalse(raw.is_closed)
        self.pass_time(2)
        C("msg-timeout").check(self, raw, None)

    def test_f10_hint(self) -> None:
        """The log line of a stranger's protocol says that it is not RPC."""
        raw = self.connect()
        raw.send(b"GET / HTTP/1.1\r\n\r\n")
        (line,) = [line for line in self.lines if line.get("code") == "len-long"]
        self.assertIn("not RPC", line["detail"])

    def test_f12_three_bytes_first(self) -> None:
        """C(idle) 10 s after the connection was made, not at 9.5 s."""
        raw = self.connect()
        raw.send(b"\0\0\0")
        self.pass_time(9.5)
        self.assertFalse(raw.is_closed)
        self.pass_time(0.5)
        C("idle").check(self, raw, None)

    def test_f12_silence(self) -> None:
        """The same for a peer that sends nothing at all (L03)."""
        peers = [self.connect() for _ in range(20)]
        self.pass_time(10)
        self.assertTrue(all(peer.is_closed for peer in peers))
        self.assertEqual(self.closed_codes(), ["idle"] * 20)

    def test_f12_three_bytes_later(self) -> None:
        """C(idle) within 30 s once it has said something."""
        raw = self.connect()
        raw.send(SIZE)
        self.pass_time(20)
        raw.send(b"\0\0\0")
        self.pass_time(29)
        self.assertFalse(raw.is_closed)
        self.pass_time(1)
        C("idle").check(self, raw, None)

    def test_idle_between_messages(self) -> None:
        """Silence between messages is no offence (a stock peer without keepalive)."""
        raw = self.connect()
        raw.send(SIZE)
        self.pass_time(3600, step=10)
        self.assert_lives(raw)

    def slowly(self, data: bytes, seconds_a_byte: float, seconds: float) -> RawPeer:
        raw = self.connect()
        raw.send(SIZE)
        for _ in range(int(seconds / seconds_a_byte)):
            raw.send(data[:1])
            data = data[1:]
            self.pass_time(seconds_a_byte)
            if raw.is_closed or not data:
                break
        return raw

    def test_f13_a_byte_a_second(self) -> None:
        """C(too-slow) within 30 s of the first byte: header and body share one deadline."""
        raw = self.slowly(FILE.frame(1, name("x" * 100), serial=1), 1, 30)
        C("too-slow").check(self, raw, None)

    def test_f13_just_fast_enough(self) -> None:
        """A call that is whole after 28 s is served."""
        raw = self.slowly(FILE.frame(1, name("disk"), serial=1), 0.75, 29)
        OK(2).check(self, raw, None)

    def test_f13_stream_packet(self) -> None:
        """A stream packet may take its time as long as it moves, and no longer."""
        raw = self.connect()
        raw.store()
        raw.send(FILE.data(3, 0, bytes(100))[:50])
        for _ in range(20):
            raw.send(b"x")
            self.pass_time(20)
        self.assertFalse(raw.is_closed)
        self.pass_time(31)
        C("msg-timeout").check(self, raw, None)

    def test_while_we_do_not_read(self) -> None:
        """The deadline of a message runs only while we read."""
        raw = self.connect()
        raw.send(SIZE, FILE.frame(1, name("disk"), serial=1)[:-1])
        raw.server.link.pause_reading("test")
        self.pass_time(300)
        self.assertFalse(raw.is_closed)
        raw.server.link.resume_reading("test")
        raw.send(b"\0" * 0 + name("disk")[-1:])
        OK(2).check(self, raw, None)

    def test_f15_half_close(self) -> None:
        """What was asked is answered, also later; then the connection is closed."""
        raw = self.connect()
        raw.send(SIZE, FILE.frame(6, serial=1))
        raw.server.link.readConnectionLost()
        raw.pump()
        self.assertFalse(raw.is_closed)
        self.files.sleeping.pop().callback(None)
        raw.pump()
        self.assertEqual([h.serial for h, _ in raw.frames if h.status == Status.OK], [0, 1])
        self.assertTrue(raw.is_closed)

    def test_f15_half_close_waits_not_for_ever(self) -> None:
        """After C{drain_seconds} the call is cancelled."""
        raw = self.connect()
        raw.send(FILE.frame(6, serial=1))
        raw.server.link.readConnectionLost()
        self.pass_time(DEFAULT_LIMITS.drain_seconds)
        self.assertTrue(raw.is_closed)
        self.assertEqual(self.files.cancelled, 1)

    def test_f15_half_close_in_a_message(self) -> None:
        """C(truncated): the end came in the midst of a call or a stream."""
        raw = self.connect()
        raw.send(SIZE[:-1])
        raw.server.link.readConnectionLost()
        raw.pump()
        C("truncated").check(self, raw, None)

    def test_f15_half_close_in_a_stream(self) -> None:
        """The same for a stream: what came is not taken for all."""
        raw = self.connect()
        raw.store()
        raw.send(FILE.data(3, 0, b"half"))
        raw.server.link.readConnectionLost()
        raw.pump()
        C("truncated").check(self, raw, None)
        self.assertNotIn("up", self.files.files)

    def test_f15_half_close_while_reading_is_paused(self) -> None:
        """Reading is not begun again on a transport that has ended."""
        raw = self.connect()
        raw.send(FILE.frame(6, serial=1))
        link = raw.server.link
        link.pause_reading("test")
        link.readConnectionLost()
        link.resume_reading("test")
        self.assertFalse(raw.server_transport._reading)
        self.files.sleeping.pop().callback(None)
        raw.pump()
        self.assertTrue(raw.is_closed)

    def test_f16_single_bytes(self) -> None:
        """The same result as whole: a call, an upload, a hole of garbage."""
        raw = self.connect()
        upload = FILE.frame(3, name("up") + (99).to_bytes(8, "big"), serial=1)
        raw.send(SIZE, upload, slice_bytes=1)
        raw.send(FILE.data(3, 1, b"abc" * 33), FILE.finish(3, 1), slice_bytes=1)
        self.assertEqual(self.files.files["up"], b"abc" * 33)
        OK(2).check(self, raw, None)
        raw.send(word(3), slice_bytes=1)
        C("len-short").check(self, raw, None)

    def test_f17_order(self) -> None:
        """Replies of a thousand messages in one segment come in order of arrival."""
        raw = self.connect()
        raw.send(_many(1000))
        self.assertEqual([header.serial for header, _ in raw.frames], [*range(1000)])


class BudgetRows(HostileTestCase):
    """F14: large messages share memory."""

    limits = Limits(assembly_budget_bytes=3 << 20, assembly_free_bytes=1 << 20)

    def large(self, serial: int = 0) -> bytes:
        row = (1 << 18).to_bytes(4, "big") + bytes(4 << 18)
        return SHAPE.frame(5, (2).to_bytes(4, "big") + row * 2, serial=serial)

    def test_f14_waits_its_turn(self) -> None:
        """A second large body is not read until the first is done; small ones are."""
        first, second = self.connect(), self.connect()
        data = self.large()
        first.send(data[:1000])
        second.send(data[:1000])
        self.assertFalse(first.server.link._read_pauses)
        self.assertTrue(second.server.link._read_pauses)
        self.assertEqual(self.pair.serving.assembly.granted_bytes, len(data) - HEADER_BYTES)
        self.assert_lives(self.connect())
        first.send(data[1000:])
        self.assertFalse(second.server.link._read_pauses)
        second.send(data[1000:])
        for raw in (first, second):
            # 2 x 2^18 elements are more than one message may have (X09, X11).
            R("does not fit").check(self, raw, raw.frames[0][0])
        self.assertEqual(self.pair.serving.assembly.granted_bytes, 0)

    def test_f14_lost(self) -> None:
        """A connection that is lost gives its share back, or stops waiting."""
        peers = [self.connect() for _ in range(4)]
        for raw in peers:
            raw.send(self.large()[:1000])
        for raw in (peers[1], peers[0]):
            raw.transport.abortConnection()
        self.assertEqual([bool(raw.server.link._read_pauses) for raw in peers[2:]], [False, True])

    def test_f14_one_after_the_other(self) -> None:
        """Large messages behind each other on one connection."""
        raw = self.connect()
        raw.send(self.large(0) + self.large(1) + self.large(2)[:-1])
        self.assertEqual(len(raw.frames), 2)
        raw.send(b"\0")
        self.assertEqual(len(raw.frames), 3)

    def test_f14_larger_than_all(self) -> None:
        """A message larger than the whole budget is read when nothing else is."""
        budget = self.pair.serving.assembly
        self.assertTrue(budget.ask("one", 100 << 20, self.fail))
        granted: list[str] = []
        self.assertFalse(budget.ask("two", 1, lambda: granted.append("two")))
        budget.release("one")
        self.assertEqual(granted, ["two"])
        budget.release("two")


UNKNOWN = FrameFactory(0x12345)
OTHER_VERSION = FrameFactory(FILE.program, 2)


class HeaderRows(HostileTestCase):
    """H: numbers, types and statuses."""


rows(
    HeaderRows,
    {
        "h01_unknown_program": (UNKNOWN.frame(1), R("Cannot find program 74565 version 1")),
        "h02_version_2": (OTHER_VERSION.frame(1, name("disk")), R("Cannot find program")),
        "h03_procedure_99999": (FILE.frame(99999), R("unknown procedure: 99999")),
        "h04_procedure_minus_1": (FILE.frame(-1), R("unknown procedure: -1")),
        "h05_procedure_int_min": (FILE.frame(-(2**31)), R("unknown procedure: -2147483648")),
        "h06_procedure_0": (FILE.frame(0, b"\1\2\3\4"), R("unknown procedure: 0")),
        "h07_event_as_call": (FILE.frame(7, name("x")), R("unknown procedure: 7")),
        "h08_reply_to_a_server": (FILE.frame(1, b"abc", kind=MessageType.REPLY), D()),
        "h09_message_nobody_wants": (FILE.frame(99, b"abc", kind=MessageType.MESSAGE), D()),
        "h09_message_of_unknown_program": (UNKNOWN.frame(1, kind=MessageType.MESSAGE), D()),
        "h09_call_as_message": (FILE.frame(1, name("disk"), kind=MessageType.MESSAGE), D()),
        "h10_type_99": (FILE.frame(1, kind=99), C("bad-type")),
        "h11_type_0xffffffff": (FILE.frame(1, kind=-1), C("bad-type")),
        "h12_call_with_status_error": (
            FILE.frame(1, name("disk"), status=Status.ERROR),
            R("Unexpected message status 1"),
        ),
        "h13_call_with_status_77": (
            FILE.frame(1, name("disk"), status=77),
            R("Unexpected message status 77"),
        ),
        "h17_file_descriptors": (
            FILE.frame(1, word(33), kind=MessageType.CALL_WITH_FDS),
            C("fds"),
        ),
        "h19_serial_0": (FILE.frame(1, name("disk"), serial=0), OK()),
        "h19_serial_max_then_0": (
            FILE.frame(1, name("disk"), serial=0xFFFFFFFF) + FILE.frame(1, name("disk"), serial=0),
            OK(2),
        ),
        "h20_stream_of_unknown_program": (UNKNOWN.data(1, 5, b"abc"), D()),
        "h20_hole_of_unknown_program": (
            UNKNOWN.frame(1, bytes(12), kind=MessageType.STREAM_HOLE, status=Status.CONTINUE),
            D(),
        ),
        "k01_ping_is_no_offence": (ping() * 3, D(counted=False)),
        "k02_unknown_keepalive_procedure": (ping(7), D()),
        "k03_ping_as_call": (ping(1, MessageType.CALL), R(f"Cannot find program {KEEPALIVE} version 1")),
    },
)


class DropRows(HostileTestCase):
    """D: a hundred are dropped, the next closes."""

    def test_limit(self) -> None:
        """At n nothing happens, at n + 1 it is a flood."""
        raw = self.connect()
        raw.send(FILE.frame(1, kind=MessageType.REPLY) * DEFAULT_LIMITS.dropped_messages)
        self.assert_lives(raw)
        raw.send(FILE.frame(1, kind=MessageType.REPLY))
        C("flood").check(self, raw, None)

    def test_serial_in_use(self) -> None:
        """R: of two calls with one serial the second is refused, the first is served."""
        raw = self.connect()
        raw.send(FILE.frame(6, serial=5), FILE.frame(1, name("disk"), serial=5))
        R("serial 5 is in use").check(self, raw, raw.frames[-1][0])
        self.files.sleeping.pop().callback(None)
        raw.pump()
        self.assertEqual((raw.frames[-1][0].serial, raw.frames[-1][0].status), (5, Status.OK))
