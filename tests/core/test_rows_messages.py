"""The catalogue of bad inputs: framing (F), headers (H), keepalive (K)."""

from __future__ import annotations

from rpcstream.core.connection import Connection
from rpcstream.core.events import (
    CallReceived,
    Event,
)
from rpcstream.core.frames import PING, PONG
from rpcstream.errors import RemoteError, RPCFailed, SystemCallFailed
from rpcstream.limits import DEFAULT_LIMITS, MESSAGE_BYTES
from rpcstream.programs import keepalive
from rpcstream.wire.header import HEADER_BYTES

from .rows import Rows, keep
from .support import (
    CALL,
    CONTINUE,
    ERROR,
    HOLE,
    MESSAGE,
    OK,
    PROGRAM,
    REPLY,
    STREAM,
    VERSION,
    Clock,
    failure,
    frames,
    only,
    raw,
)


class FramingRows(Rows):
    """F."""

    def test_f01_f02_f03_length_below_four(self) -> None:
        """C(len-short) at once: 0, 3, 4."""
        for length in (0, 3, 4):
            self.assertEqual(failure(Connection(False).receive(length.to_bytes(4, "big"))), "len-short")

    def test_f04_length_below_a_header(self) -> None:
        """C(len-short) on the length word, without waiting for the body."""
        self.assertEqual(failure(Connection(False).receive((27).to_bytes(4, "big"))), "len-short")

    def test_f05_all_zero_header(self) -> None:
        """R, by who admits: the header is well formed."""
        server = Connection(False, admit=lambda header: RPCFailed("Cannot find program 0 version 0"))
        data = raw(CALL, program=0, version=0, procedure=0)
        server.receive(data)
        self.assertEqual(frames(server.outgoing)[0][0][1:], (0, 0, 0, REPLY, 0, ERROR))

    def test_f06_largest_message_then_silence(self) -> None:
        """Nothing is allocated for bytes that have not come."""
        server = Connection(False)
        self.assertEqual(server.receive(raw(CALL, length=MESSAGE_BYTES)), [])
        self.assertEqual((server.pending, server.body_received_bytes), ("body", 0))
        self.assertEqual(server.body_pending_bytes, MESSAGE_BYTES - HEADER_BYTES)

    def test_f07_f08_f09_length_too_large(self) -> None:
        """C(len-long) at once: the maximum + 1, and signed tricks."""
        for length in (MESSAGE_BYTES + 1, 0x80000000, 0xFFFFFFFF):
            self.assertEqual(failure(Connection(False).receive(length.to_bytes(4, "big"))), "len-long")

    def test_f10_http(self) -> None:
        """C(len-long), and the log says that it is not RPC."""
        (event,) = Connection(False).receive(b"GET / HTTP/1.1\r\n")
        self.assertIn("not RPC", str(event))

    def test_f12_three_bytes(self) -> None:
        """What a deadline hangs on is visible."""
        server = Connection(False)
        server.receive(b"\0\0\0")
        self.assertEqual((server.pending, server.activity), ("length", 0))

    def test_f15_call_then_fin(self) -> None:
        """Answered if possible."""
        server = Connection(False)
        header = only(server.receive(raw(CALL)), CallReceived).header
        self.assertEqual(server.receive_eof(), [])
        self.assertEqual(len(server.reply(header, b"")), HEADER_BYTES)

    def test_f16_single_bytes(self) -> None:
        """The same result as whole (test_properties has any chunking)."""
        server = Connection(False)
        data = raw(CALL, payload=b"args")
        events = [event for byte in data for event in server.receive(bytes([byte]))]
        self.assertEqual(only(events, CallReceived).payload, b"args")

    def test_f17_a_thousand_messages_at_once(self) -> None:
        """In order of arrival."""
        events = Connection(False).receive(b"".join(raw(CALL, serial=n) for n in range(1000)))
        self.assertEqual(
            [event.header.serial for event in events if isinstance(event, CallReceived)], [*range(1000)]
        )

    def test_f18_before_authentication(self) -> None:
        """C(len-long) at 65,537 bytes, not at 65,536; and free after it."""
        for length, fails in ((65_536, False), (65_537, True)):
            server = Connection(False)
            server.max_message_bytes = DEFAULT_LIMITS.anonymous_message_bytes
            events = server.receive(raw(CALL, payload=bytes(length - HEADER_BYTES)))
            if fails:
                self.assertEqual(failure(events), "len-long")
            else:
                only(events, CallReceived)
                server.max_message_bytes = MESSAGE_BYTES
                self.assertEqual(server.max_message_bytes, MESSAGE_BYTES)
                self.assertEqual(server.receive(raw(CALL, serial=1, length=65_537)), [])


class HeaderRows(Rows):
    """H."""

    def test_h01_to_h07_numbers_that_nobody_serves(self) -> None:
        """R with the same numbers, whatever they are."""
        for program, version, procedure in (
            (1, 1, 1),
            (PROGRAM, 2, 1),
            (PROGRAM, 1, 99999),
            (PROGRAM, 1, -1),
            (PROGRAM, 1, -(2**31)),
            (PROGRAM, 1, 0),
        ):
            server = Connection(False, admit=lambda header: RPCFailed("unknown procedure"))
            data = raw(CALL, program=program, version=version, procedure=procedure, payload=b"xx")
            server.receive(data)
            self.assertEqual(frames(server.outgoing)[0][0][1:4], (program, version, procedure))

    def test_h08_reply_to_a_server(self) -> None:
        """D."""
        self.assert_dropped(raw(REPLY, OK, b"body"))

    def test_h09_message_that_nobody_wants(self) -> None:
        """D, its body unread."""
        server = Connection(False)
        server.admit_message = lambda header: None
        self.assert_dropped(raw(MESSAGE, OK, b"body"), server)

    def test_h09_message_with_a_status(self) -> None:
        """D."""
        self.assert_dropped(raw(MESSAGE, ERROR))

    def test_h10_h11_unknown_type(self) -> None:
        """C(bad-type), at either end."""
        for type in (99, -1, 7):
            for opener in (False, True):
                self.assert_failed(raw(type), "bad-type", Connection(opener))

    def test_h12_h13_call_with_a_status(self) -> None:
        """R."""
        for status in (ERROR, CONTINUE, 77, -1):
            self.assert_refused(
                raw(CALL, status, b"args", serial=5), 39, f"Unexpected message status {int(status)}"
            )

    def test_h14_h16_refused_by_the_user(self) -> None:
        """R, and no work done: the error of admit, its body unread."""
        answers: list[int | RemoteError] = [RemoteError("not open", code=1), 1000]
        server = Connection(False, admit=lambda header: answers.pop(0))
        self.assert_refused(raw(CALL, payload=b"x"), 1, "not open", server)

    def test_h17_file_descriptors(self) -> None:
        """C(fds): none can be passed, at either end."""
        for type in (4, 5):
            for opener in (False, True):
                self.assert_failed(raw(type, OK, (33).to_bytes(4, "big")), "fds", Connection(opener))

    def test_h19_serial_in_use(self) -> None:
        """R: of two things of one number neither could be told from the other."""
        server = Connection(False)
        header = only(server.receive(raw(CALL, serial=0xFFFFFFFF)), CallReceived).header
        self.assert_refused(raw(CALL, serial=0xFFFFFFFF), 39, "serial 4294967295 is in use", server)
        stream, _ = server.accept(header, b"")
        self.assertEqual(server.receive(raw(CALL, serial=0xFFFFFFFF)), [])
        self.assertEqual(len(server.take_outgoing()), 1)
        server.fail(stream, SystemCallFailed())
        only(server.receive(raw(CALL, serial=0xFFFFFFFF)), CallReceived)

    def test_h19_refusal_leaves_the_first_alone(self) -> None:
        """The second's refusal is not remembered as the first's: S01 still holds for it."""
        server = Connection(False)
        header = only(server.receive(raw(CALL)), CallReceived).header
        server.receive(raw(CALL))
        server.reply(header, b"")
        self.assert_failed(raw(STREAM, CONTINUE, b"x"), "unknown-stream", server)

    def test_h20_stream_of_an_unknown_program(self) -> None:
        """D, if the programs are known; else as S01."""
        for data in (raw(STREAM, CONTINUE, b"x", program=9), raw(HOLE, CONTINUE, bytes(12), program=9)):
            server = Connection(False)
            server.programs = {(PROGRAM, VERSION)}
            self.assertEqual(server.programs, {(PROGRAM, VERSION)})
            self.assert_dropped(data, server)
        server = Connection(False)
        server.programs = {(PROGRAM, VERSION)}
        self.assert_failed(raw(STREAM, CONTINUE, b"x"), "unknown-stream", server)


class KeepaliveRows(Rows):
    """K."""

    def test_k01_ping(self) -> None:
        """PONG with serial 0 whatever the PING's serial and payload; at either end, at any time."""
        for opener in (False, True):
            connection = Connection(opener)
            ping = keep(keepalive.PING, serial=77)
            self.assertEqual(connection.receive(ping), [])
            self.assertEqual(connection.take_outgoing(), [PONG])
            self.assertEqual(PONG, keep(keepalive.PONG))
            self.assertEqual(connection.receive(PONG), [])
            self.assertEqual((connection.outgoing, connection.dropped_count, connection.activity), ([], 0, 2))
            self.assertEqual(connection.ping(), PING)
        server = Connection(False)
        server.receive(raw(MESSAGE, OK, b"payload", program=keepalive.PROGRAM, procedure=1))
        self.assertEqual(server.outgoing, [PONG])

    def test_k02_unknown_procedure(self) -> None:
        """D: procedure, version, status."""
        self.assert_dropped(keep(3))
        self.assert_dropped(keep(keepalive.PING, version=2))
        self.assert_dropped(keep(keepalive.PING, status=ERROR))

    def test_k03_ping_as_call(self) -> None:
        """R, by who admits."""
        server = Connection(False, admit=lambda header: RPCFailed("Cannot find program"))
        self.assertEqual(server.receive(keep(keepalive.PING, CALL)), [])
        self.assertEqual(frames(server.outgoing)[0][0][1:], (keepalive.PROGRAM, 1, 1, REPLY, 0, ERROR))

    def test_k04_ping_flood(self) -> None:
        """C(flood) after 3 x 20 in a second, having answered no more than that."""
        server = Connection(False, clock=Clock())
        events: list[Event] = server.receive(PING * 300_000)
        self.assertEqual(failure(events), "flood")
        self.assertEqual(len(server.outgoing), 3 * (DEFAULT_LIMITS.ping_burst_count + 1) - 1)

    def test_k05_ping_behind_calls(self) -> None:
        """Calls unanswered do not stand before a PONG."""
        server = Connection(False)
        server.receive(b"".join(raw(CALL, serial=n) for n in range(1056)) + PING)
        self.assertEqual(server.outgoing, [PONG])
