"""The header and the hole: the derived C{struct.Struct} equals the declaration."""

from __future__ import annotations

from typing import Any
from unittest import TestCase

import construct
from hypothesis import given, strategies

from rpcstream.errors import BadValue, DecodeError
from rpcstream.wire import (
    HEADER,
    HEADER_BYTES,
    Header,
    MessageType,
    Status,
    decode_header,
    decode_hole,
    encode_header,
    encode_hole,
)
from rpcstream.wire.hole import HOLE, HOLE_BYTES
from tests.wire.support import INT, QUICK, UINT

HEADERS = strategies.builds(Header, UINT, UINT, UINT, INT, INT, UINT, INT)
CALL = Header(28, 0x20008086, 1, 66, MessageType.CALL, 0, Status.OK)


class HeaderTests(TestCase):
    @QUICK
    @given(HEADERS)
    def test_round_trip(self, header: Header) -> None:
        """Fast and interpreted agree both ways."""
        data = encode_header(header)
        self.assertEqual(HEADER.build(header), data)
        self.assertEqual(decode_header(data), header)
        self.assertEqual(HEADER.parse(data), header)
        self.assertIs(type(HEADER.parse(data)), Header)

    @QUICK
    @given(strategies.binary(min_size=28, max_size=28), strategies.binary(max_size=9))
    def test_any_bytes(self, data: bytes, before: bytes) -> None:
        """Any 28 bytes are a header, at any offset of any buffer."""
        header = HEADER.parse(data)
        for buffer in (before + data, bytearray(before + data + b"behind"), memoryview(before + data)):
            self.assertEqual(decode_header(buffer, len(before)), header)
        self.assertEqual(encode_header(header), data)

    def test_size(self) -> None:
        """28 bytes, the length word included."""
        self.assertEqual(HEADER_BYTES, 28)
        self.assertEqual(HEADER.sizeof(), 28)

    def test_truncated(self) -> None:
        """Fewer bytes are refused at each length, and so is a bad offset."""
        data = encode_header(CALL)
        for size in range(HEADER_BYTES):
            self.assertRaises(DecodeError, decode_header, data[:size])
            self.assertRaises(construct.ConstructError, HEADER.parse, data[:size])
        self.assertRaises(DecodeError, decode_header, data, 1)
        self.assertRaises(DecodeError, decode_header, data, 100)

    def test_bad_values(self) -> None:
        """A number that does not fit is named."""
        for field, value in (
            ("length", -1),
            ("length", 1 << 32),
            ("procedure", 1 << 31),
            ("type", "x"),
            ("serial", None),
            ("status", -(1 << 31) - 1),
        ):
            with self.assertRaises(BadValue) as caught:
                encode_header(Header(**{**CALL._asdict(), field: value}))
            self.assertEqual(caught.exception.field, field)
        wrong: Any = (1, 2, 3)
        self.assertRaises(BadValue, encode_header, wrong)


class HoleTests(TestCase):
    @QUICK
    @given(strategies.integers(1, (1 << 63) - 1))
    def test_round_trip(self, length_bytes: int) -> None:
        """Any length above zero."""
        payload = encode_hole(length_bytes)
        self.assertEqual(len(payload), HOLE_BYTES)
        self.assertEqual(decode_hole(payload), length_bytes)
        self.assertEqual(dict(HOLE.parse(payload)), {"length": length_bytes, "flags": 0})
        self.assertEqual(HOLE.build({"length": length_bytes, "flags": 0}), payload)

    def test_bad_lengths(self) -> None:
        """Zero, negative and too large ones, both ways."""
        for length_bytes in (0, -1, -4096, 1 << 63, "x"):
            self.assertRaises(BadValue, encode_hole, length_bytes)
        for length_bytes in (0, -1, -4096, -(1 << 63)):
            payload = HOLE.build({"length": length_bytes, "flags": 0})
            self.assertRaisesRegex(DecodeError, "length", decode_hole, payload)

    def test_flags(self) -> None:
        """No flag is known."""
        for flags in (1, 0x80000000):
            payload = HOLE.build({"length": 5, "flags": flags})
            self.assertRaisesRegex(DecodeError, "flags", decode_hole, payload)

    def test_size(self) -> None:
        """12 bytes, no more and no fewer."""
        payload = encode_hole(5)
        for size in range(HOLE_BYTES):
            self.assertRaises(DecodeError, decode_hole, payload[:size])
        self.assertRaises(DecodeError, decode_hole, payload + b"\0")
        self.assertEqual(decode_hole(memoryview(payload)), 5)
