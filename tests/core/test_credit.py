"""Credit: the arithmetic, and two connections that keep to it."""

from __future__ import annotations

from collections import deque

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rpcstream.core.credit import CREDIT_MAXIMUM, HOLE_CHARGE, ReceiveCredit, charge_of
from rpcstream.core.events import CreditGranted, StreamData, StreamHole
from rpcstream.errors import BadState, BadValue
from rpcstream.wire.header import HEADER_BYTES

from .support import Pair, credit, frames, only


class ReceiveCreditTests(SynchronousTestCase):
    """One window."""

    def test_charge_limits(self) -> None:
        """A message may cost all that is left, and not one byte more."""
        for size, fits in ((99, True), (100, True), (101, False)):
            window = ReceiveCredit(charge_of(100))
            self.assertEqual(window.take_data(size), fits)
            self.assertEqual(window.left, charge_of(100) - (charge_of(size) if fits else 0))

    def test_hole_limits(self) -> None:
        """A hole costs its 40 bytes, whatever it spans."""
        for left, fits in ((HOLE_CHARGE - 1, False), (HOLE_CHARGE, True), (HOLE_CHARGE + 1, True)):
            self.assertEqual(ReceiveCredit(left).take_hole(), fits)

    def test_half_a_window(self) -> None:
        """Nothing goes back until half of the window is free; then all of it."""
        window = ReceiveCredit(10_000)
        self.assertTrue(window.take_data(5_000))
        self.assertEqual(window.consumed(4_999), 0)
        self.assertEqual(window.consumed(1), 5_000 + HEADER_BYTES)
        self.assertEqual(window.left, 10_000)

    def test_small_windows(self) -> None:
        """Below 8 KiB everything goes back at once, from there on by halves."""
        for size, granted in ((8191, 1), (8192, 0)):
            window = ReceiveCredit(size)
            window.take_data(10)
            self.assertEqual(window.consumed(1), granted)

    def test_header_goes_back_with_the_last_byte(self) -> None:
        """Tiny packets unread keep their headers' share."""
        window = ReceiveCredit(100)  # so small that everything goes back at once
        self.assertTrue(window.take_data(10))
        self.assertTrue(window.take_data(10))
        self.assertEqual(window.consumed(9), 9)
        self.assertEqual(window.consumed(2), 2 + HEADER_BYTES)
        self.assertEqual(window.consumed(9), 9 + HEADER_BYTES)

    def test_holes_go_back_in_order(self) -> None:
        """A hole behind data goes back when the data is consumed."""
        window = ReceiveCredit(1000)
        window.take_hole()
        self.assertEqual(window.consumed(0), HOLE_CHARGE)
        window.take_data(10)
        window.take_hole()
        window.take_hole()
        self.assertEqual(window.consumed(0), 0)
        self.assertEqual(window.consumed(10), charge_of(10) + 2 * HOLE_CHARGE)

    def test_misuse(self) -> None:
        """More than was received, less than nothing, past the maximum."""
        window = ReceiveCredit(1000)
        window.take_data(10)
        self.assertRaises(BadValue, window.consumed, 11)
        self.assertRaises(BadValue, ReceiveCredit(10).consumed, -1)
        self.assertRaises(BadValue, window.grow, 0)
        self.assertRaises(BadValue, window.grow, CREDIT_MAXIMUM - 999)
        self.assertEqual(window.grow(CREDIT_MAXIMUM - 1000) >= CREDIT_MAXIMUM - 1000, True)

    @settings(derandomize=True, max_examples=100, deadline=None)
    @given(st.integers(80, 20_000), st.lists(st.tuples(st.booleans(), st.integers(0, 5_000)), max_size=60))
    def test_conservation(self, size: int, steps: list[tuple[bool, int]]) -> None:
        """
        What the sender may send, what is unread and what is free make up the
        window; a receiver that read all has left a sender that can go on.
        """
        window = ReceiveCredit(size)
        unread = deque[int]()
        for sends, amount in steps:
            if sends and amount == 0:
                if window.take_hole():
                    window.consumed(0)
            elif sends:
                if window.take_data(amount):
                    unread.append(amount)
            else:
                window.consumed(min(amount, sum(unread)))
                rest = min(amount, sum(unread))
                while rest:
                    part = min(rest, unread[0])
                    unread[0] -= part
                    rest -= part
                    if not unread[0]:
                        unread.popleft()
            self.assertGreaterEqual(window.left, 0)
            self.assertLessEqual(window.left + sum(unread) + HEADER_BYTES * len(unread), size)
        window.consumed(sum(unread))
        self.assertGreater(window.left, HEADER_BYTES)


class CreditTests(SynchronousTestCase):
    """Two connections."""

    def test_without_hello(self) -> None:
        """No credit, no limit, no credit messages."""
        pair = Pair()
        opener, acceptor = pair.open()
        self.assertIsNone(opener.send_credit)
        self.assertIsNone(acceptor.receive_window)
        pair.to_server(pair.client.send_data(opener, bytes(10**6)))
        self.assertEqual(pair.server.consumed(acceptor, 10**6), b"")
        self.assertRaises(BadState, pair.server.grow_credit, acceptor, 1)

    def test_sender_stops_at_its_credit(self) -> None:
        """sendable_bytes is exact: n goes, n+1 does not."""
        pair = Pair(credit=1000)
        opener, _ = pair.open()
        self.assertEqual(opener.sendable_bytes, 1000 - HEADER_BYTES)
        self.assertRaises(BadState, pair.client.send_data, opener, bytes(1001 - HEADER_BYTES))
        self.assertEqual(opener.sent_packet_count, 0)
        sent = pair.client.send_data(opener, bytes(1000 - HEADER_BYTES))
        only(pair.to_server(sent), StreamData)
        self.assertEqual(pair.client.sendable_bytes(opener), 0)
        self.assertRaises(BadState, pair.client.send_data, opener, b"x")

    def test_hole_needs_credit(self) -> None:
        """A hole is sent with 40 bytes of credit and not with 39."""
        for window, can in ((HOLE_CHARGE, True), (HOLE_CHARGE - 1, False)):
            pair = Pair(credit=window)
            opener, _ = pair.open(sparse=True)
            self.assertEqual(opener.can_send_hole, can)
            if can:
                only(pair.to_server(pair.client.send_hole(opener, 1 << 40)), StreamHole)
            else:
                self.assertRaises(BadState, pair.client.send_hole, opener, 1)

    def test_ends_need_no_credit(self) -> None:
        """A sender without credit can still end and finish."""
        pair = Pair(credit=0)
        opener, acceptor = pair.open()
        self.assertEqual(acceptor.sendable_bytes, 0)
        pair.to_client(pair.server.end(acceptor))
        pair.to_server(pair.client.finish(opener))
        pair.to_client(pair.server.confirm(acceptor))

    def test_credit_both_ways(self) -> None:
        """Each direction has its own; the sender goes on when credit comes."""
        pair = Pair(credit=20_000)
        opener, acceptor = pair.open()
        pair.to_server(pair.client.send_data(opener, bytes(opener.sendable_bytes)))
        pair.to_client(pair.server.send_data(acceptor, bytes(acceptor.sendable_bytes)))
        granted = pair.server.consumed(acceptor, 10_000)
        self.assertEqual(len(frames(granted)), 1)
        self.assertIs(only(pair.to_client(granted), CreditGranted).stream, opener)
        self.assertEqual(opener.sendable_bytes, 10_000 - HEADER_BYTES)
        granted = pair.client.consumed(opener, 20_000 - HEADER_BYTES)
        self.assertIs(only(pair.to_server(granted), CreditGranted).stream, acceptor)
        self.assertEqual(acceptor.sendable_bytes, 20_000 - HEADER_BYTES)

    def test_grow(self) -> None:
        """A window grown is granted at once."""
        pair = Pair(credit=20_000)
        opener, acceptor = pair.open()
        pair.to_client(pair.server.grow_credit(acceptor, 5_000))
        self.assertEqual(opener.send_credit, 25_000)
        self.assertEqual(acceptor.receive_window, 25_000)

    def test_no_credit_for_what_has_ended(self) -> None:
        """Nobody sends any more: nothing to grant, whatever is consumed."""
        pair = Pair(credit=20_000)
        opener, acceptor = pair.open()
        pair.to_server(pair.client.send_data(opener, bytes(15_000)), pair.client.end(opener))
        self.assertEqual(pair.server.consumed(acceptor, 15_000), b"")
        pair.to_server(pair.client.abort(opener))
        pair.settle()
        self.assertEqual(pair.server.grow_credit(acceptor, 1), b"")

    def test_holes_come_back_by_themselves(self) -> None:
        """A sparse stream of holes only never runs dry."""
        pair = Pair(credit=10_000)
        opener, _ = pair.open(sparse=True)
        for _ in range(1000):
            self.assertTrue(opener.can_send_hole)
            pair.to_server(pair.client.send_hole(opener, 4096))
            pair.settle()

    def test_calls_before_hello_carry_none(self) -> None:
        """A call that came before credit was agreed on opens a stream without."""
        pair = Pair()
        early = pair.call(opens_stream=True)
        pair.server.enable_credit(1000, 1000)
        stream, _ = pair.server.accept(early.header, b"")
        self.assertIsNone(stream.send_credit)
        self.assertIsNone(stream.receive_window)

    def test_any_packet_sizes(self) -> None:
        """A greedy sender and a reader that reads by bits: all arrives, nothing stands still."""
        for window in (80, 500, 9_000, 70_000):
            pair = Pair(credit=window)
            opener, acceptor = pair.open()
            sent = received = 0
            while sent < 300_000:
                room = opener.sendable_bytes
                self.assertGreater(room, 0, window)
                size = min(room, 16_384)
                events = pair.to_server(pair.client.send_data(opener, bytes(size)))
                sent += size
                for event in events:
                    assert isinstance(event, StreamData)
                    received += len(event.data)
                    for part in (len(event.data) // 3, len(event.data) - len(event.data) // 3):
                        pair.to_client(pair.server.consumed(acceptor, part))
            self.assertEqual(sent, received)
            self.assertEqual(acceptor.received_bytes, sent)

    def test_bad_initial_credit(self) -> None:
        """Less than nothing is our mistake."""
        self.assertRaises(BadValue, Pair().client.enable_credit, -1, 0)
        self.assertRaises(BadValue, Pair().client.enable_credit, 0, -1)

    def test_credit_messages_are_events_of_the_flow_program(self) -> None:
        """The frame is what the flow program declares."""
        pair = Pair(credit=100)
        _, acceptor = pair.open()
        self.assertEqual(
            frames(pair.server.grow_credit(acceptor, 5))[0][1], frames(credit(5, procedure=7))[0][1]
        )
