"""Rows X of the catalogue of bad inputs, at the level of a whole server."""

from __future__ import annotations

import struct

from rpcstream.wire.header import encode_header
from tests.net.files_program import Sleep
from tests.net.hostile import FILE, OK, SHAPE, HostileTestCase, R, name, rows, word


class DecodingRows(HostileTestCase):
    """X: arguments."""

    def test_nothing_reached_a_responder(self) -> None:
        """A call whose arguments cannot be decoded does no work."""
        self.try_row(SHAPE.frame(1, word(99)), R("Unable to decode"))
        self.assertEqual(self.shapes.worked, 0)


def _string(length: int, body: bytes) -> bytes:
    return SHAPE.frame(1, word(length) + body)


rows(
    DecodingRows,
    {
        "x01_string_beyond_the_payload": (_string(12, b"abcd"), R("Unable to decode")),
        "x02_string_length_0xffffffff": (_string(0xFFFFFFFF, b"abcd"), R("Unable to decode")),
        "x03_string_limit": (_string(16, b"a" * 16), OK()),
        "x03_string_limit_plus_1": (_string(17, b"a" * 17 + bytes(3)), R("Unable to decode")),
        "x04_no_arguments": (SHAPE.frame(1), R("Unable to decode")),
        "x04_arguments_where_there_are_none": (SHAPE.frame(10, b"\0\0\0\0"), R("Unable to decode")),
        "x05_bool_2": (SHAPE.frame(2, word(2)), R("Unable to decode")),
        "x05_bool_0x01000000": (SHAPE.frame(2, word(0x01000000)), R("Unable to decode")),
        "x05_optional_flag_2": (SHAPE.frame(3, word(2) + word(7)), R("Unable to decode")),
        "x05_optional_without_value": (SHAPE.frame(3, word(1)), R("Unable to decode")),
        "x07_trailing_bytes": (_string(4, b"abcd" + bytes(64)), R("Unable to decode")),
        "x08_nul_in_a_string": (_string(3, b"a\0b\0"), R("Unable to decode")),
        "x08_invalid_utf8": (_string(2, b"\xff\xfe\0\0"), R("Unable to decode")),
        "x08_surrogate": (_string(3, b"\xed\xa0\x80\0"), R("Unable to decode")),
        "x08_padding_not_zero": (_string(1, b"axyz"), R("Unable to decode")),
        "x10_negative_count": (SHAPE.frame(4, b"\xff\xff\xff\xff"), R("Unable to decode")),
        "x11_count_0x7fffffff": (SHAPE.frame(4, word(0x7FFFFFFF)), R("Unable to decode")),
        "x11_count_times_size_overflows": (
            SHAPE.frame(4, word(0x20000001) + bytes(8)),
            R("Unable to decode"),
        ),
        "x11_count_beyond_the_payload": (SHAPE.frame(5, word(1) + word(1 << 20)), R("Unable to decode")),
        "x12_list_at_its_limit": (SHAPE.frame(9, word(4)), OK()),
        "x13_empty_list": (SHAPE.frame(4, word(0)), OK()),
        "x14_unknown_union_arm": (SHAPE.frame(6, word(3) + word(1)), R("Unable to decode")),
        "x14_unknown_enum_value": (SHAPE.frame(7, word(3)), R("Unable to decode")),
        "x17_nan_minimum_and_no_bytes": (
            SHAPE.frame(8, struct.pack(">dq", float("nan"), -(2**63)) + word(0)),
            OK(),
        ),
        "p11_longer_than_its_schema": (SHAPE.frame(1, bytes(1 << 20)), R("Unable to decode")),
    },
)


class ResultRows(HostileTestCase):
    """What a responder returns, too, is checked."""

    def test_x12_result_too_long(self) -> None:
        """A result that does not fit its layout is an internal error, and nothing hangs."""
        self.try_row(SHAPE.frame(9, word(5)), R("internal error", code=1))

    def test_x17_round_trip(self) -> None:
        """Extreme numbers come back as they were sent."""
        raw = self.connect()
        payload = struct.pack(">dq", float("nan"), 2**63 - 1) + word(3) + b"\0\1\2\0"
        raw.send(SHAPE.frame(8, payload))
        self.assertEqual(raw.frames[0][1], payload)

    def test_truncated_at_each_byte(self) -> None:
        """A message cut short at any byte, then the end: no traceback, nothing done twice."""
        whole = FILE.frame(1, name("disk"), serial=3)
        for length in range(len(whole)):
            raw = self.connect()
            raw.send(whole[:length])
            raw.transport.loseConnection()
            raw.pump()
            self.assertTrue(raw.is_closed)
            self.assertEqual(raw.frames, [])

    def test_bits_flipped(self) -> None:
        """Any flipped bit of a call ends in a reply, a drop or a close, never in a traceback."""
        whole = FILE.frame(1, name("disk"), serial=3)
        for bit in range(len(whole) * 8):
            data = bytearray(whole)
            data[bit // 8] ^= 1 << bit % 8
            raw = self.connect()
            raw.send(bytes(data))
            raw.transport.abortConnection()

    def test_answer_of_garbage_behind_a_call(self) -> None:
        """A good call in one segment with garbage behind it: C, and no traceback from the call."""
        for procedure, payload in ((1, name("disk")), (2, name("disk") + bytes(8)), (6, b"")):
            raw = self.connect()
            raw.send(FILE.frame(procedure, payload, serial=9) + encode_header((3, 0, 0, 0, 0, 0, 0)))  # type: ignore[arg-type]
            self.assertTrue(raw.is_closed)
        self.assertEqual(set(self.closed_codes()), {"len-short"})

    def test_sleepers_of_a_failed_connection(self) -> None:
        """What still runs for a connection that failed is cancelled."""
        raw = self.connect()
        raw.send(FILE.frame(6, serial=1), FILE.frame(6, serial=2))
        raw.send(word(3))
        self.assertEqual(self.files.cancelled, 2)
        self.assertEqual(Sleep.__procedure__.name, "Sleep")
