"""Cutting bytes into messages."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rpcstream.core.framing import END, Framer, Piece
from rpcstream.errors import ProtocolViolation
from rpcstream.limits import MESSAGE_BYTES
from rpcstream.wire.header import HEADER_BYTES, Header

from .support import CALL, STREAM, chunks, raw


def _joined(pieces: list[Piece]) -> list[object]:
    """Pieces with neighbouring fragments put together."""
    result: list[object] = []
    for piece in pieces:
        if isinstance(piece, bytes | memoryview):
            assert len(piece) > 0
            if result and isinstance(result[-1], bytes):
                result[-1] += bytes(piece)
            else:
                result.append(bytes(piece))
        else:
            result.append(piece)
    return result


def _code(pieces: list[Piece]) -> str:
    last = pieces[-1]
    assert isinstance(last, ProtocolViolation), pieces
    return last.code


def _length(length: int) -> bytes:
    return length.to_bytes(4, "big")


class FramerTests(SynchronousTestCase):
    """The splitter alone."""

    def test_whole_messages(self) -> None:
        """Header, body and end; a message without body has no fragment."""
        pieces = Framer().feed(raw(CALL, payload=b"abc") + raw(CALL))
        self.assertEqual(
            [type(piece).__name__ for piece in pieces], ["Header", "bytes", "Mark", "Header", "Mark"]
        )
        self.assertEqual(pieces[1], b"abc")

    def test_skip(self) -> None:
        """What lies within a body is taken unseen; its last byte, and what is in no body, is not."""
        framer = Framer()
        self.assertIs(framer.skip(1), False)
        framer.feed(raw(CALL, payload=bytes(10))[:-7])
        self.assertIs(framer.skip(3), True)
        self.assertIs(framer.skip(4), False)
        self.assertIs(framer.skip(3), True)
        self.assertEqual(_joined(framer.feed(b"x" + raw(CALL)))[:2], [b"x", END])
        self.assertIs(framer.skip(1), False)

    def test_every_cut(self) -> None:
        """Two messages cut at each pair of bytes give the same."""
        data = raw(CALL, payload=b"abcdef") + raw(STREAM, 2, b"x")
        whole = _joined(Framer().feed(data))
        for first in range(len(data) + 1):
            for second in range(first, len(data) + 1):
                framer = Framer()
                pieces = [piece for chunk in chunks(data, (first, second)) for piece in framer.feed(chunk)]
                self.assertEqual(_joined(pieces), whole)

    @settings(derandomize=True, max_examples=100, deadline=None)
    @given(st.lists(st.binary(max_size=70), max_size=6), st.lists(st.integers(0, 600), max_size=20))
    def test_any_chunking(self, payloads: list[bytes], cuts: list[int]) -> None:
        """Any messages in any pieces; bytes and memoryviews alike."""
        data = b"".join(raw(CALL, payload=payload, serial=n) for n, payload in enumerate(payloads))
        framer, viewing = Framer(), Framer()
        pieces = [piece for chunk in chunks(data, cuts) for piece in framer.feed(chunk)]
        views = [piece for chunk in chunks(data, cuts) for piece in viewing.feed(memoryview(chunk))]
        expected: list[object] = []
        for n, payload in enumerate(payloads):
            expected += [Header(HEADER_BYTES + len(payload), 0x2F11E500, 1, 7, 0, n, 0)]
            expected += [payload, END] if payload else [END]
        self.assertEqual(_joined(pieces), expected)
        self.assertEqual(_joined(views), expected)
        self.assertIsNone(framer.pending)

    def test_fragment_is_what_was_fed(self) -> None:
        """A fragment within a body is the very object, not a copy."""
        framer = Framer()
        framer.feed(raw(STREAM, 2, length=HEADER_BYTES + 100))
        inner, last = bytes(60), bytes(40)
        self.assertIs(framer.feed(inner)[0], inner)
        self.assertIs(framer.feed(last)[0], last)

    def test_views_are_not_copied(self) -> None:
        """A memoryview comes back as views of the same buffer."""
        buffer = bytearray(raw(CALL, payload=b"abc") + raw(CALL))
        fragment = Framer().feed(memoryview(buffer))[1]
        assert isinstance(fragment, memoryview)
        self.assertIs(fragment.obj, buffer)

    def test_pending(self) -> None:
        """What is owed: nothing, a length word, a body."""
        framer = Framer()
        data = raw(CALL, payload=b"ab")
        seen = [framer.pending]
        for byte in data:
            framer.feed(bytes([byte]))
            seen.append(framer.pending)
        self.assertEqual(seen, [None] + ["length"] * 3 + ["body"] * (len(data) - 4) + [None])

    def test_empty_feed(self) -> None:
        """No bytes, no pieces, wherever we are."""
        framer = Framer()
        for byte in raw(CALL, payload=b"ab"):
            self.assertEqual(framer.feed(b""), [])
            framer.feed(bytes([byte]))

    def test_length_limits(self) -> None:
        """n-1, n, n+1 at both ends of what a length word may be."""
        for length, code in (
            (HEADER_BYTES - 1, "len-short"),
            (HEADER_BYTES, None),
            (HEADER_BYTES + 1, None),
            (MESSAGE_BYTES - 1, None),
            (MESSAGE_BYTES, None),
            (MESSAGE_BYTES + 1, "len-long"),
        ):
            for data in (_length(length), raw(CALL, length=length)):
                pieces = Framer().feed(data)
                found = _code(pieces) if pieces and isinstance(pieces[-1], ProtocolViolation) else None
                self.assertEqual(found, code, length)

    def test_limit_changes(self) -> None:
        """The limit may rise and fall while the connection runs, also within a message."""
        framer = Framer(100)
        self.assertEqual(framer.feed(raw(CALL, length=100))[0], Header(100, 0x2F11E500, 1, 7, 0, 0, 0))
        framer.max_message_bytes = 50
        self.assertEqual(framer.feed(bytes(72))[-1], END)  # what has begun goes on
        self.assertEqual(_code(framer.feed(raw(CALL, length=51))), "len-long")

    def test_dead_after_violation(self) -> None:
        """After a violation nothing more comes out."""
        framer = Framer()
        framer.feed(_length(3))
        self.assertEqual(framer.feed(raw(CALL)), [])

    def test_what_came_before_a_violation(self) -> None:
        """Messages before the bad length word are whole."""
        pieces = Framer().feed(raw(CALL) + raw(CALL, length=1))
        self.assertEqual(pieces[1], END)
        self.assertEqual(_code(pieces), "len-short")

    def test_foreign_protocols(self) -> None:
        """The usual strangers are named in the text."""
        for start, name in (
            (b"GET / HTTP/1.1\r\n", "HTTP"),
            (b"SSH-2.0-x", "SSH"),
            (b"\x16\x03\x01\x02\x00", "TLS"),
        ):
            for size in (4, 1):
                framer = Framer()
                pieces: list[Piece] = []
                for offset in range(0, 4, size):
                    pieces += framer.feed(start[offset : offset + size])
                violation = pieces[-1]
                assert isinstance(violation, ProtocolViolation)
                self.assertIn(name, violation.detail)
                self.assertIn("not RPC", violation.detail)

    @settings(derandomize=True, max_examples=100, deadline=None)
    @given(st.lists(st.binary(max_size=100), max_size=10))
    def test_random_bytes(self, parts: list[bytes]) -> None:
        """No bytes make it raise."""
        framer = Framer(1000)
        for part in parts:
            framer.feed(part)
