"""The catalogue of bad inputs: streams (S)."""

from __future__ import annotations

from rpcstream.core.connection import Connection
from rpcstream.core.events import (
    CallReceived,
    CreditGranted,
    FinishRequested,
    ReplyReceived,
    StreamData,
    StreamFailed,
)
from rpcstream.core.states import StreamState
from rpcstream.errors import RemoteError, RPCFailed, SystemCallFailed
from rpcstream.limits import DEFAULT_LIMITS
from rpcstream.programs.flow import FLOW, Credit
from rpcstream.wire.error import decode_error, encode_error
from rpcstream.wire.header import HEADER_BYTES

from .rows import GRACE, Rows, hole
from .support import (
    CALL,
    CONTINUE,
    ERROR,
    HOLE,
    MESSAGE,
    OK,
    PROCEDURE,
    PROGRAM,
    REPLY,
    STREAM,
    VERSION,
    Clock,
    Pair,
    client_with_stream,
    credit,
    failure,
    frames,
    only,
    raw,
    server_with_stream,
)


class StreamRows(Rows):
    """S."""

    LATE = (raw(STREAM, CONTINUE, b"late"), raw(STREAM, CONTINUE), raw(STREAM, ERROR), hole(9))

    def test_s01_to_s04_never_seen(self) -> None:
        """C(unknown-stream): data, end, finish, abort, hole; at either end."""
        for data in (*self.LATE, raw(STREAM, OK)):
            for opener in (False, True):
                self.assert_failed(data, "unknown-stream", Connection(opener))

    def test_s01_of_a_call_without_stream(self) -> None:
        """C(unknown-stream): a call that was answered, but opened nothing."""
        server = Connection(False)
        server.reply(only(server.receive(raw(CALL)), CallReceived).header, b"")
        self.assert_failed(raw(STREAM, CONTINUE, b"x"), "unknown-stream", server)

    def test_s01_early(self) -> None:
        """C(stream-early): before our REPLY. (libvirtd loses it and confirms it.)"""
        server = Connection(False)
        events = server.receive(raw(CALL) + raw(STREAM, CONTINUE, b"x") + raw(STREAM, OK))
        self.assertIsInstance(events[0], CallReceived)
        self.assertEqual(failure(events), "stream-early")

    def test_s02_ended_by_us(self) -> None:
        """Dropped for 60 s without a limit; C(unknown-stream) only after that."""
        for data in self.LATE:
            server, stream, clock = server_with_stream()
            server.fail(stream, SystemCallFailed())
            self.assert_ignored(data, server)
            clock.now += GRACE
            self.assert_ignored(data, server)
            clock.now += 1
            self.assert_failed(data, "unknown-stream", server)

    def test_s02_pause(self) -> None:
        """Time in which we did not read does not count."""
        server, stream, clock = server_with_stream()
        server.fail(stream, SystemCallFailed())
        clock.now += GRACE + 1000
        server.add_pause(1000)
        self.assert_ignored(raw(STREAM, CONTINUE, b"x"), server)

    def test_s03_refused(self) -> None:
        """The same for a call that was refused, by the responder or by admit."""
        for admit in (None, lambda header: RPCFailed("no")):
            server = Connection(False, admit=admit, clock=Clock())
            for event in server.receive(raw(CALL)):
                assert isinstance(event, CallReceived)
                server.reply_error(event.header, RPCFailed("no"))
            server.take_outgoing()
            for data in (*self.LATE, raw(STREAM, OK)):
                self.assert_ignored(data, server)

    def test_s03_after_the_end(self) -> None:
        """The same after a confirmation or an abort, at either end."""
        server, stream, _ = server_with_stream()
        only(server.receive(raw(STREAM, OK)), FinishRequested)
        server.confirm(stream)
        for data in (*self.LATE, raw(STREAM, OK)):
            self.assert_ignored(data, server)
        client, stream, _ = client_with_stream()
        client.finish(stream)
        client.receive(raw(STREAM, OK))
        for data in (*self.LATE, raw(STREAM, OK)):
            self.assert_ignored(data, client)

    def test_s05_s06_after_finish(self) -> None:
        """Data, holes, a second finish: dropped; the destination is unchanged."""
        server, stream, _ = server_with_stream(sparse=True)
        only(server.receive(raw(STREAM, OK)), FinishRequested)
        for data in (raw(STREAM, CONTINUE, b"x"), raw(STREAM, CONTINUE), raw(STREAM, OK), hole(5), hole(-5)):
            self.assert_ignored(data, server)
        self.assertEqual((stream.received_bytes, stream.received_hole_bytes), (0, 0))
        server.confirm(stream)

    def test_s05_after_the_end_of_data(self) -> None:
        """Data or a hole behind the end of data: SE; a second end is dropped."""
        for data in (raw(STREAM, CONTINUE, b"x"), hole(5)):
            server, stream, _ = server_with_stream(sparse=True)
            server.receive(raw(STREAM, CONTINUE))
            self.assertEqual(server.receive(raw(STREAM, CONTINUE)), [])
            self.assert_stream_error(data, "after-end", server, stream)
            client, stream, _ = client_with_stream(sparse=True)
            client.receive(raw(STREAM, CONTINUE))
            self.assert_stream_error(data, "after-end", client, stream)

    def test_s07_hole_on_a_dense_stream(self) -> None:
        """SE; the connection lives."""
        server, stream, _ = server_with_stream()
        self.assert_stream_error(hole(4096), "hole", server, stream)
        client, stream, _ = client_with_stream()
        self.assert_stream_error(hole(4096), "hole", client, stream)

    def test_s08_bad_hole(self) -> None:
        """SE, the stream is dead; a later finish gets SE again, once; other late messages nothing."""
        for data in (
            hole(-4096),
            hole(0),
            hole(4096, flags=1),
            raw(HOLE, CONTINUE, bytes(11)),
            raw(HOLE, CONTINUE, bytes(13)),
            raw(HOLE, CONTINUE),
        ):
            server, stream, _ = server_with_stream(sparse=True)
            self.assert_stream_error(data, "hole", server, stream)
            self.assertEqual(server.receive(raw(STREAM, CONTINUE, b"x")), [])
            self.assertEqual(server.receive(raw(STREAM, OK)), [])
            ((header, payload),) = frames(server.take_outgoing())
            self.assertEqual(header[1:], (PROGRAM, VERSION, PROCEDURE, STREAM, 0, ERROR))
            self.assertIn("hole", decode_error(payload).message or "")
            self.assert_ignored(raw(STREAM, OK), server)
        client, stream, _ = client_with_stream(sparse=True)
        self.assert_stream_error(hole(-1), "hole", client, stream)

    def test_s08_hole_with_a_status(self) -> None:
        """SE. (libvirtd executes it and leaks a request slot.)"""
        for status in (OK, ERROR, 77):
            server, stream, _ = server_with_stream(sparse=True)
            self.assert_stream_error(raw(HOLE, status, bytes(12)), "status", server, stream)

    def test_s08_quirk_of_libvirtd(self) -> None:
        """A REPLY/ERROR with an open stream's serial is that stream's error."""
        for finishing in (False, True):
            client, stream, _ = client_with_stream(sparse=True)
            if finishing:
                client.finish(stream)
            error = RemoteError("Library function returned error but did not set virError", code=1)
            event = only(client.receive(raw(REPLY, ERROR, encode_error(error))), StreamFailed)
            self.assertEqual((event.stream, event.error.code, event.code), (stream, 1, ""))
            self.assertEqual(
                (stream.state, client.outgoing, client.dropped_count), (StreamState.CLOSED, [], 0)
            )
        client, stream, _ = client_with_stream()
        self.assert_failed(raw(REPLY, ERROR, procedure=9), "reply-mismatch", client)

    def test_s14_unknown_status(self) -> None:
        """SE."""
        for status in (77, 3, -1):
            server, stream, _ = server_with_stream()
            self.assert_stream_error(raw(STREAM, status, b"body"), "status", server, stream)
            client, stream, _ = client_with_stream()
            self.assert_stream_error(raw(STREAM, status), "status", client, stream)

    def test_within_a_packet_that_is_discarded(self) -> None:
        """Deadlines see a stream's packet that has begun, whatever becomes of its body."""
        for type, status, payload in (
            (STREAM, 77, b"body"),
            (STREAM, CONTINUE, b"more than was granted"),
            (HOLE, CONTINUE, bytes(12)),
            (HOLE, CONTINUE, bytes(11)),
            (STREAM, OK, b"a finish has no body"),
        ):
            server, _, _ = server_with_stream()
            server.enable_credit(HEADER_BYTES, HEADER_BYTES)
            header = only(server.receive(raw(CALL, serial=1)), CallReceived).header
            server.accept(header, b"")
            before = server.message_number
            data = raw(type, status, payload, serial=1)
            server.receive(data[:-1])
            self.assertTrue(server.is_within_stream_data)
            self.assertEqual((server.pending, server.message_number), ("stream", before))
            activity = server.activity
            server.receive(data[-1:])
            self.assertEqual((server.pending, server.message_number), (None, before + 1))
            self.assertEqual(server.activity, activity + 1)

    def test_serial_used_again(self) -> None:
        """A serial that ended a stream and is a call's now is no stream's."""
        client, stream, _ = client_with_stream()
        client.finish(stream)
        client.receive(raw(STREAM, OK))
        self.assert_ignored(raw(STREAM, CONTINUE, b"late"), client)
        client._calling._next_serial = 0
        self.assertEqual(client.call(PROGRAM, VERSION, PROCEDURE, b"")[0], 0)
        self.assert_failed(raw(STREAM, CONTINUE, b"x"), "unknown-stream", client)

    def test_grants_have_no_serial(self) -> None:
        """A grant is an event: its own serial is 0, the stream's is in it."""
        pair = Pair(credit=1000)
        opener, acceptor = pair.open()
        pair.to_server(pair.client.send_data(opener, bytes(800)))
        ((header, payload),) = frames(pair.server.consumed(acceptor, 800))
        self.assertEqual((header.type, header.serial), (MESSAGE, 0))
        granted = Credit.__procedure__.arguments.decode(payload)
        self.assertEqual((granted.serial, granted.byte_count), (opener.key.serial, 828))

    def test_late_finish_is_told_once_more(self) -> None:
        """The error that repeats our STREAM/ERROR is the stream's, byte for byte the same kind."""
        server, stream, _ = server_with_stream()
        server.receive(raw(STREAM, 77))
        server.take_outgoing()
        late = raw(STREAM, OK, b"x")
        server.receive(late[:-1])
        self.assertEqual(server.pending, "stream")
        server.receive(late[-1:])
        ((header, _),) = frames(server.take_outgoing())
        self.assertEqual((header.type, header.status, header.serial), (STREAM, ERROR, stream.key.serial))
        self.assertEqual(server.receive(raw(STREAM, OK)), [])
        self.assertEqual(server.take_outgoing(), [])

    def test_s14_while_finishing(self) -> None:
        """The opener that waits for its confirmation is told of it, too."""
        client, stream, _ = client_with_stream()
        client.finish(stream)
        self.assert_stream_error(raw(STREAM, 77), "status", client, stream)

    def test_s15_wrong_procedure(self) -> None:
        """C(stream-mismatch): right serial, another procedure, program or version."""
        for wrong in ({"procedure": 8}, {"program": 1}, {"version": 2}):
            for type, payload in ((STREAM, b"x"), (HOLE, bytes(12))):
                server, _, _ = server_with_stream()
                self.assert_failed(raw(type, CONTINUE, payload, **wrong), "stream-mismatch", server)

    def test_s19_too_many_streams(self) -> None:
        """R: see OpeningTests.test_stream_limit; here the default of 16."""
        pair = Pair()
        for _ in range(DEFAULT_LIMITS.streams):
            pair.open()
        header = pair.call(opens_stream=True).header
        self.assertRaises(RemoteError, pair.server.accept, header, b"")

    def test_s21_window(self) -> None:
        """n - 1 and n bytes of credit are taken; by one byte more: SE(window), at either end."""
        for size, fails in ((99, False), (100, False), (101, True)):
            for to in ("server", "client"):
                pair = Pair(credit=100 + HEADER_BYTES)
                opener, acceptor = pair.open()
                connection, stream = (pair.server, acceptor) if to == "server" else (pair.client, opener)
                data = raw(STREAM, CONTINUE, bytes(size))
                if fails:
                    self.assert_stream_error(data, "window", connection, stream)
                else:
                    only(connection.receive(data), StreamData)

    def test_s21_holes(self) -> None:
        """Holes count, too: so many tiny messages cannot be kept waiting."""
        pair = Pair(credit=100)
        _, acceptor = pair.open(sparse=True)
        only(pair.to_server(raw(STREAM, CONTINUE, b"x" * 32)), StreamData)
        self.assertEqual(len(pair.to_server(hole(5))), 1)
        self.assert_stream_error(hole(5), "window", pair.server, acceptor)

    def test_s21_before_the_reply(self) -> None:
        """An acceptor that overdraws before its REPLY is told after it."""
        client = Connection(True)
        client.enable_credit(50, 50)
        client.call(PROGRAM, VERSION, PROCEDURE, b"", opens_stream=True)
        self.assertEqual(client.receive(raw(STREAM, CONTINUE, bytes(23))), [])
        reply, failed = client.receive(raw(REPLY))
        self.assertIsInstance(reply, ReplyReceived)
        assert isinstance(failed, StreamFailed)
        self.assertEqual((failed.code, len(client.outgoing)), ("window", 1))

    def test_s22_zero_and_overflow(self) -> None:
        """C(credit): zero; past 2**63 - 1, exactly; what cannot be decoded."""
        for amount, code in (
            (0, "credit"),
            (2**63 - 1001, None),
            (2**63 - 1000, "credit"),
            (2**64 - 1, "credit"),
        ):
            pair = Pair(credit=1000)
            opener, _ = pair.open()
            if code is None:
                only(pair.to_client(credit(amount)), CreditGranted)
                self.assertEqual(opener.send_credit, 2**63 - 1)
            else:
                self.assert_failed(credit(amount), code, pair.client)
        info = Credit.__procedure__
        for payload in (b"", bytes(23), bytes(25), bytes(10_000)):
            pair = Pair(credit=1000)
            data = raw(MESSAGE, OK, payload, program=FLOW.number, version=FLOW.version, procedure=info.number)
            self.assert_failed(data, "credit", pair.client)

    def test_s22_closed_stream(self) -> None:
        """Dropped, uncounted: it crossed the end. The same for one of another procedure."""
        pair = Pair(credit=1000)
        opener, _ = pair.open()
        self.assert_ignored(credit(5, procedure=8), pair.client)
        pair.client.abort(opener)
        self.assert_ignored(credit(5), pair.client)
        pair.to_client(raw(STREAM, OK))
        self.assert_ignored(credit(5), pair.client)

    def test_s22_without_agreement(self) -> None:
        """D: credit that nobody agreed on, for the connection or for this stream."""
        client, _, _ = client_with_stream()
        self.assert_dropped(credit(5), client)
        client, _, _ = client_with_stream()
        client.enable_credit(1000, 1000)
        self.assert_dropped(credit(5), client)
