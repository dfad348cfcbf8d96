"""Streams between a client and a server: every life they can have."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from rpcstream.core.connection import Connection
from rpcstream.core.events import (
    FinishConfirmed,
    FinishRequested,
    ReplyReceived,
    StreamAborted,
    StreamData,
    StreamEnded,
    StreamFailed,
    StreamHole,
)
from rpcstream.core.states import StreamState
from rpcstream.errors import BadState, BadValue, SystemCallFailed
from rpcstream.limits import ERROR_TEXT_BYTES, MESSAGE_BYTES
from rpcstream.wire.error import decode_error
from rpcstream.wire.header import HEADER_BYTES

from .support import (
    CONTINUE,
    ERROR,
    HOLE,
    OK,
    PROCEDURE,
    PROGRAM,
    STREAM,
    VERSION,
    Pair,
    client_with_stream,
    frames,
    only,
    raw,
    server_with_stream,
)


class LifeTests(SynchronousTestCase):
    """wire-protocol.md section 2."""

    def test_upload(self) -> None:
        """2.2: data, finish, confirmation."""
        pair = Pair()
        opener, acceptor = pair.open()
        events = pair.to_server(*(pair.client.send_data(opener, data) for data in (b"ab", bytearray(b"c"))))
        self.assertEqual(events, [StreamData(acceptor, b"ab"), StreamData(acceptor, b"c")])
        self.assertEqual(pair.to_server(pair.client.finish(opener)), [FinishRequested(acceptor)])
        self.assertEqual(pair.to_client(pair.server.confirm(acceptor)), [FinishConfirmed(opener)])
        self.assertEqual((opener.state, acceptor.state), (StreamState.CLOSED, StreamState.CLOSED))
        self.assertEqual((opener.sent_bytes, acceptor.received_bytes), (3, 3))
        self.assertEqual((opener.sent_packet_count, acceptor.received_packet_count), (2, 2))
        self.assertEqual((pair.client.stream_count, pair.server.stream_count), (0, 0))

    def test_frames_on_the_wire(self) -> None:
        """The bytes that libvirt would send (2.2)."""
        pair = Pair()
        opener, acceptor = pair.open(sparse=True)
        self.assertEqual(pair.client.send_data(opener, b"abc"), raw(STREAM, CONTINUE, b"abc"))
        self.assertEqual(pair.client.data_header(opener, 3), raw(STREAM, CONTINUE, b"abc")[:HEADER_BYTES])
        self.assertEqual(
            pair.client.send_hole(opener, 4096), raw(HOLE, CONTINUE, (4096).to_bytes(8, "big") + bytes(4))
        )
        self.assertEqual(pair.client.finish(opener), raw(STREAM, OK))
        self.assertEqual(pair.server.end(acceptor), raw(STREAM, CONTINUE))
        pair.to_server(raw(STREAM, OK))
        self.assertEqual(pair.server.confirm(acceptor), raw(STREAM, OK))
        opener, _ = pair.open()
        self.assertEqual(
            pair.client.abort(opener, "a stock peer takes no reason"), raw(STREAM, ERROR, serial=1)
        )

    def test_download(self) -> None:
        """2.2: data, end of data, finish, confirmation."""
        pair = Pair()
        opener, acceptor = pair.open()
        events = pair.to_client(pair.server.send_data(acceptor, b"abc"), pair.server.end(acceptor))
        self.assertEqual(events, [StreamData(opener, b"abc"), StreamEnded(opener)])
        self.assertRaises(BadState, pair.server.send_data, acceptor, b"x")
        self.assertRaises(BadState, pair.server.end, acceptor)
        pair.to_server(pair.client.finish(opener))
        self.assertEqual(pair.to_client(pair.server.confirm(acceptor)), [FinishConfirmed(opener)])

    def test_early_finish(self) -> None:
        """2.4: finished in the midst of a download: what still comes is discarded, also half a packet."""
        pair = Pair()
        opener, acceptor = pair.open(sparse=True)
        packet = pair.server.send_data(acceptor, b"abcd")
        self.assertEqual(len(pair.to_client(packet[:30])), 1)
        pair.to_server(pair.client.finish(opener))
        more = (
            pair.server.send_data(acceptor, b"x"),
            pair.server.send_hole(acceptor, 5),
            pair.server.end(acceptor),
        )
        self.assertEqual(pair.to_client(packet[30:], *more), [])
        self.assertRaises(BadState, pair.server.send_data, acceptor, b"x")
        self.assertEqual(pair.to_client(pair.server.confirm(acceptor)), [FinishConfirmed(opener)])

    def test_half_close(self) -> None:
        """Between rpcstream peers the opener may end its data and go on reading."""
        pair = Pair()
        opener, acceptor = pair.open()
        self.assertEqual(pair.to_server(pair.client.end(opener)), [StreamEnded(acceptor)])
        self.assertEqual(len(pair.to_client(pair.server.send_data(acceptor, b"x"))), 1)
        self.assertEqual(pair.to_client(pair.server.end(acceptor)), [StreamEnded(opener)])
        self.assertEqual((opener.state, acceptor.state), (StreamState.BOTH_ENDED, StreamState.BOTH_ENDED))
        pair.to_server(pair.client.finish(opener))
        self.assertEqual(pair.to_client(pair.server.confirm(acceptor)), [FinishConfirmed(opener)])

    def test_abort(self) -> None:
        """2.5: answered by OK at once; the opener hears nothing more of it."""
        pair = Pair()
        opener, acceptor = pair.open()
        late = pair.server.send_data(acceptor, b"late")
        aborted = pair.client.abort(opener, "reason")
        self.assertEqual(pair.client.abort(opener), b"")
        self.assertTrue(opener.ended)
        self.assertEqual(pair.to_server(aborted), [StreamAborted(acceptor, "")])
        self.assertEqual(frames(pair.server.outgoing)[0][0][4:], (STREAM, 0, OK))
        self.assertEqual(pair.to_client(late), [])
        self.assertEqual(pair.settle(), ([], []))
        self.assertEqual((pair.client.stream_count, pair.server.stream_count), (0, 0))
        self.assertEqual(pair.server.fail(acceptor, SystemCallFailed()), b"")
        self.assertRaises(BadState, pair.server.confirm, acceptor)

    def test_abort_with_a_reason(self) -> None:
        """Between rpcstream peers the reason arrives; garbled or endless ones cost nothing."""
        pair = Pair(credit=10_000)
        self.assertTrue(pair.client.peer_is_rpcstream)
        opener, acceptor = pair.open()
        self.assertEqual(
            pair.to_server(pair.client.abort(opener, "disk full")), [StreamAborted(acceptor, "disk full")]
        )
        self.assertFalse(Connection(True).peer_is_rpcstream)
        client, stream, _ = client_with_stream()
        client.peer_is_rpcstream = True
        self.assertIn("why", decode_error(frames(client.abort(stream, "why"))[0][1]).message or "")
        for payload, expected in (
            (b"\xff" * 9, "cannot be decoded"),
            (b"\xff" * 64 * 1024, "cannot be decoded"),
            (b"\xff" * (64 * 1024 + 1), ""),
        ):
            server, stream, _ = server_with_stream()
            event = only(server.receive(raw(STREAM, ERROR, payload)), StreamAborted)
            self.assertIs(event.stream, stream)
            self.assertIn(expected, event.reason)
            self.assertEqual(bool(expected), bool(event.reason))
            self.assertLessEqual(len(event.reason), ERROR_TEXT_BYTES)

    def test_abort_after_finish(self) -> None:
        """The opener may still break off while it waits; whichever the acceptor does first counts."""
        pair = Pair()
        opener, acceptor = pair.open()
        pair.to_server(pair.client.finish(opener))
        confirmed = pair.server.confirm(acceptor)
        aborted = pair.client.abort(opener)
        self.assertEqual(pair.to_server(aborted), [])
        self.assertEqual(pair.to_client(confirmed), [])
        self.assertEqual(pair.settle(), ([], []))
        opener, acceptor = pair.open()
        pair.to_server(pair.client.finish(opener))
        self.assertEqual(pair.to_server(pair.client.abort(opener)), [StreamAborted(acceptor, "")])
        self.assertEqual(pair.settle(), ([], []))
        self.assertEqual(pair.client.stream_count, 0)

    def test_failure(self) -> None:
        """2.6: the acceptor's error is final, and nothing is sent about it."""
        pair = Pair()
        opener, acceptor = pair.open()
        failed = pair.server.fail(acceptor, SystemCallFailed("disk full", int1=28))
        self.assertEqual(pair.server.fail(acceptor, SystemCallFailed()), b"")
        event = only(pair.to_client(failed), StreamFailed)
        self.assertEqual((event.error.code, event.error.int1, event.code), (38, 28, ""))
        self.assertEqual((opener.state, pair.client.outgoing), (StreamState.CLOSED, []))

    def test_late_failure(self) -> None:
        """2.2: the finish is answered by an error (ENOSPC found late)."""
        pair = Pair()
        opener, acceptor = pair.open()
        pair.to_server(pair.client.finish(opener))
        only(pair.to_client(pair.server.fail(acceptor, SystemCallFailed())), StreamFailed)
        self.assertEqual(opener.state, StreamState.CLOSED)

    def test_finish_crosses_the_error(self) -> None:
        """2.6: ERROR only, or ERROR and then OK: the first counts, the OK is ignored."""
        client, stream, _ = client_with_stream()
        client.finish(stream)
        only(client.receive(raw(STREAM, ERROR)), StreamFailed)
        self.assertEqual(client.receive(raw(STREAM, OK)), [])
        self.assertEqual(client.dropped_count, 0)

    def test_error_crosses_the_abort(self) -> None:
        """2.9: after ERROR the server answers nothing more; our abort is over with it."""
        client, stream, _ = client_with_stream()
        client.abort(stream)
        self.assertEqual(client.receive(raw(STREAM, ERROR, b"whatever")), [])
        self.assertEqual(client.stream_count, 0)

    def test_roles(self) -> None:
        """Only the opener finishes and aborts, only the acceptor confirms and fails."""
        pair = Pair()
        opener, acceptor = pair.open()
        self.assertRaises(BadState, pair.server.finish, acceptor)
        self.assertRaises(BadState, pair.server.abort, acceptor)
        self.assertRaises(BadState, pair.client.confirm, opener)
        self.assertRaises(BadState, pair.client.fail, opener, SystemCallFailed())

    def test_no_unsolicited_confirmation(self) -> None:
        """0.2: the acceptor cannot confirm what was not finished."""
        pair = Pair()
        _, acceptor = pair.open()
        self.assertRaises(BadState, pair.server.confirm, acceptor)

    def test_packet_limits(self) -> None:
        """Never empty; the largest payload goes, one more byte does not."""
        pair = Pair()
        opener, _ = pair.open()
        largest = MESSAGE_BYTES - HEADER_BYTES
        self.assertEqual(opener.sendable_bytes, largest)
        self.assertRaises(BadValue, pair.client.send_data, opener, b"")
        self.assertRaises(BadValue, pair.client.data_header, opener, largest + 1)
        self.assertEqual(len(pair.client.send_data(opener, bytes(largest))), MESSAGE_BYTES)
        self.assertEqual(opener.sent_packet_count, 1)

    def test_cut_through(self) -> None:
        """Fragments are handed on as they come."""
        pair = Pair(slice_bytes=10)
        opener, acceptor = pair.open()
        events = pair.to_server(pair.client.send_data(opener, bytes(range(40))))
        self.assertGreater(len(events), 3)
        self.assertEqual(
            b"".join(event.data for event in events if isinstance(event, StreamData)), bytes(range(40))
        )
        self.assertEqual((acceptor.received_packet_count, acceptor.received_bytes), (1, 40))

    def test_lane_buffers(self) -> None:
        """Given a memoryview, data events hold views of it."""
        server, stream, _ = server_with_stream()
        buffer = bytearray(raw(STREAM, CONTINUE, b"abc"))
        data = only(server.receive(memoryview(buffer)), StreamData).data
        self.assertIsInstance(data, memoryview)
        self.assertEqual((bytes(data), stream.received_bytes), (b"abc", 3))

    def test_end_in_the_midst_of_a_packet(self) -> None:
        """A stream that we end takes not even the rest of the packet under way."""
        server, stream, _ = server_with_stream()
        packet = raw(STREAM, CONTINUE, bytes(100))
        self.assertEqual(len(server.receive(packet[:50])), 1)
        server.fail(stream, SystemCallFailed())
        self.assertEqual(server.receive(packet[50:]), [])

    def test_data_before_the_reply(self) -> None:
        """15: a client takes data, holes and the end of data before REPLY."""
        client = Connection(True)
        client.call(PROGRAM, VERSION, PROCEDURE, b"", opens_stream=True, sparse=True)
        stream = client.streams[0]
        hole = raw(HOLE, CONTINUE, (7).to_bytes(8, "big") + bytes(4))
        self.assertEqual(
            client.receive(raw(STREAM, CONTINUE, b"x") + hole + raw(STREAM, CONTINUE)),
            [StreamData(stream, b"x"), StreamHole(stream, 7), StreamEnded(stream)],
        )
        self.assertEqual(client.receive(raw(STREAM, CONTINUE)), [])
        only(client.receive(raw(1)), ReplyReceived)
        self.assertEqual(stream.state, StreamState.REMOTE_ENDED)


class HoleTests(SynchronousTestCase):
    """2.7."""

    def test_holes(self) -> None:
        """Holes and data keep their order; the largest hole goes."""
        pair = Pair()
        opener, acceptor = pair.open(sparse=True)
        events = pair.to_server(
            pair.client.send_hole(opener, 1),
            pair.client.send_hole(opener, 2**63 - 1),
            pair.client.send_data(opener, b"x"),
        )
        self.assertEqual(
            events, [StreamHole(acceptor, 1), StreamHole(acceptor, 2**63 - 1), StreamData(acceptor, b"x")]
        )
        self.assertEqual((opener.sent_hole_bytes, acceptor.received_hole_bytes), (2**63, 2**63))
        self.assertEqual((opener.sent_packet_count, acceptor.received_packet_count), (3, 3))

    def test_misuse(self) -> None:
        """On a dense stream, of no length, too long, after the end."""
        pair = Pair()
        dense, _ = pair.open()
        self.assertFalse(dense.can_send_hole)
        self.assertRaises(BadState, pair.client.send_hole, dense, 1)
        sparse, _ = pair.open(sparse=True)
        for length in (0, -1, 2**63):
            self.assertRaises(BadValue, pair.client.send_hole, sparse, length)
        pair.client.end(sparse)
        self.assertFalse(sparse.can_send_hole)
        self.assertRaises(BadState, pair.client.send_hole, sparse, 1)

    def test_hole_for_a_stream_that_ended_within_it(self) -> None:
        """The stream ends while the hole's twelve bytes come."""
        server, stream, _ = server_with_stream(sparse=True)
        hole = raw(HOLE, CONTINUE, (7).to_bytes(8, "big") + bytes(4))
        server.receive(hole[:35])
        server.fail(stream, SystemCallFailed())
        self.assertEqual(server.receive(hole[35:]), [])
        client, stream, _ = client_with_stream(sparse=True)
        client.receive(hole[:35])
        client.finish(stream)
        self.assertEqual(client.receive(hole[35:]), [])

    def test_error_for_a_stream_that_ended_within_it(self) -> None:
        """The stream ends while the peer's error comes: at the acceptor by our own error."""
        server, stream, _ = server_with_stream()
        abort = raw(STREAM, ERROR, bytes(20))
        server.receive(abort[:35])
        server.fail(stream, SystemCallFailed())
        self.assertEqual((server.receive(abort[35:]), server.outgoing), ([], []))


class ManyTests(SynchronousTestCase):
    """Streams and calls on one connection."""

    def test_interleaved(self) -> None:
        """2.11: three streams up, three down, calls between, in single bytes and whole."""
        for slice_bytes in (None, 1, 33):
            for credit in (None, 5_000):
                pair = Pair(slice_bytes=slice_bytes, credit=credit)
                streams = [pair.open() for _ in range(3)]
                at_server: dict[int, bytes] = {}
                at_client: dict[int, bytes] = {}
                for turn in range(20):
                    up, down = [], []
                    for opener, acceptor in streams:
                        up.append(pair.client.send_data(opener, bytes([turn, opener.key.serial]) * 3))
                        down.append(pair.server.send_data(acceptor, bytes([opener.key.serial, turn])))
                    for event in pair.to_server(*up):
                        assert isinstance(event, StreamData)
                        serial = event.stream.key.serial
                        at_server[serial] = at_server.get(serial, b"") + event.data
                        down.append(pair.server.consumed(event.stream, len(event.data)))
                    for event in pair.to_client(*down):
                        if isinstance(event, StreamData):
                            serial = event.stream.key.serial
                            at_client[serial] = at_client.get(serial, b"") + event.data
                    received = pair.call(bytes([turn]))
                    only(pair.to_client(pair.server.reply(received.header, b"")), ReplyReceived)
                for opener, _ in streams:
                    serial = opener.key.serial
                    self.assertEqual(at_server[serial], b"".join(bytes([n, serial]) * 3 for n in range(20)))
                    self.assertEqual(at_client[serial], b"".join(bytes([serial, n]) for n in range(20)))

    def test_error_is_readable_by_libvirt(self) -> None:
        """The payload of our STREAM/ERROR is the error struct."""
        pair = Pair()
        _, acceptor = pair.open()
        ((header, payload),) = frames(pair.server.fail(acceptor, SystemCallFailed("no", domain=38, int1=28)))
        error = decode_error(payload)
        self.assertEqual((header.type, header.status), (STREAM, ERROR))
        self.assertEqual((error.code, error.domain, error.message, error.int1), (38, 38, "no", 28))
