"""The XDR declarations, strict and bounded: rows X01 to X17 of the catalogue of bad inputs."""

from __future__ import annotations

import io
import math
import tracemalloc
from enum import IntEnum
from functools import partial
from typing import Annotated, Any

import construct

from rpcstream.errors import BadSchema, BadValue, DecodeError
from rpcstream.limits import STRING_BYTES, XDR_ELEMENT_COUNT
from rpcstream.wire import (
    Char,
    Codec,
    Double,
    Fixed,
    Float,
    Hyper,
    Int,
    Max,
    Short,
    Struct,
    Text,
    UChar,
    UHyper,
    UInt,
    UShort,
    codec_of,
    composite,
    reader,
    xdr,
)
from tests.wire.support import CodecTestCase, Colour, Point, processor_seconds

HUGE_COUNTS = (0xFFFFFFFF, 0x80000000, 0x7FFFFFFF, 0x40000001, 0x20000000)


def word(number: int) -> bytes:
    return (number & 0xFFFFFFFF).to_bytes(4, "big")


class BadInputTests(CodecTestCase):
    def refused(self, annotation: Any, data: bytes, text: str = "", lenient: bool = False) -> None:
        """Refused by the codec, with this reason, and by the interpreted Construct."""
        codec = codec_of(annotation, lenient)
        with self.assertRaises(DecodeError) as caught:
            codec.decode(data)
        self.assertIn(text, caught.exception.reason)
        self.check_decoding(codec, data)

    def accepted(self, annotation: Any, data: bytes, value: Any, lenient: bool = False) -> None:
        codec = codec_of(annotation, lenient)
        self.assertEqual(codec.decode(data), value)
        self.check_decoding(codec, data)

    def test_x01_length_beyond_payload(self) -> None:
        """A length beyond what was sent."""
        for annotation in (
            Annotated[str, Max(100)],
            Annotated[bytes, Max(100)],
            Annotated[bytes, xdr.Chars(100)],
        ):
            self.refused(annotation, word(9) + b"12345678", "8 left")
            self.refused(annotation, word(1), "left")

    def test_x02_length_ffffffff(self) -> None:
        """The largest length costs no memory and no time."""
        kinds = (
            Annotated[str, Max(0xFFFFFFFF)],
            Annotated[bytes, Max(0xFFFFFFFF)],
            Annotated[bytes, xdr.Chars(0xFFFFFFFF)],
            Annotated[tuple[UInt, ...], Max(0xFFFFFFFF)],
            Annotated[tuple[Point, ...], Max(0xFFFFFFFF)],
        )
        codecs = [codec_of(kind) for kind in kinds]
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        for codec in codecs:
            for count in HUGE_COUNTS:
                data = word(count) + b"abcd"
                seconds = processor_seconds(partial(self.assertRaises, DecodeError, codec.decode, data))
                self.assertLess(seconds, 0.05)
        self.assertLess(tracemalloc.get_traced_memory()[1], 1 << 20)

    def test_x03_limits(self) -> None:
        """n - 1 and n bytes are served, n + 1 is refused although it is all there."""
        for size, annotation in ((8, Annotated[bytes, Max(8)]), (STRING_BYTES, Text)):
            make: Any = bytes if size == 8 else str
            filling = (lambda n: b"x" * n) if make is bytes else (lambda n: "x" * n)
            for count in (size - 1, size):
                encoded = codec_of(annotation).encode(filling(count))
                self.assertEqual(codec_of(annotation).decode(encoded), filling(count))
            self.assertRaises(BadValue, codec_of(annotation).encode, filling(size + 1))
            self.refused(annotation, word(size + 1) + b"x" * (size + 1) + bytes(-(size + 1) % 4))

    def test_x04_empty_payload(self) -> None:
        """Nothing where something is needed."""
        for annotation in (Int, Point, Text, bool, Point | None, Annotated[tuple[Int, ...], Max(1)]):
            self.refused(annotation, b"")

    def test_x05_flags(self) -> None:
        """Our flags are 0 or 1; libvirt's are any number, as go-libvirt sends them."""
        for flag in (2, 0x01000000, 0xFFFFFFFF):
            self.refused(bool, word(flag), "neither 0 nor 1")
            self.refused(Point | None, word(flag) + bytes(8), "neither 0 nor 1")
            self.accepted(bool, word(flag), True, lenient=True)
            self.accepted(UInt | None, word(flag) + word(7), 7, lenient=True)
            self.accepted(
                Point | None, word(flag) + word(5) + word(flag) + word(7), Point(5, 7), lenient=True
            )
        self.assertEqual(codec_of(UInt | None, True).encode(7), word(1) + word(7))

    def test_x07_trailing_bytes(self) -> None:
        """Bytes left over are refused, in every kind of codec."""
        for annotation, value in (
            (Int, 1),
            (Point, Point(1)),
            (None, None),
            (Text, "x"),
            (Annotated[bytes, Fixed(4)], b"abcd"),
        ):
            data = codec_of(annotation).encode(value)
            for count in (1, 3, 4, 64):
                self.refused(annotation, data + bytes(count))

    def test_x08_text(self) -> None:
        """NUL, bad UTF-8 and lone surrogates; nothing is cut at a NUL."""
        strict = Annotated[str, Max(20)]
        for data in (b"a\0bc", b"\0\0\0\0", b"abc\0"):
            self.refused(strict, word(4) + data, "NUL")
            self.refused(Text, word(4) + data, "NUL")
        for data in (b"\xff\xfe\xfd\xfc", b"ab\xc3(", b"\xed\xa0\x80x", b"\xf0\x9f\x98x"):
            self.refused(strict, word(4) + data, "not UTF-8 at byte")
            text = codec_of(Text).decode(word(4) + data)
            self.assertEqual(codec_of(Text).encode(text), word(4) + data)
        for value in ("\ud800", "a\udcff"):
            self.assertRaisesRegex(BadValue, "not valid text at character", codec_of(strict).encode, value)
        self.assertRaises(BadValue, codec_of(Text).encode, "\ud800")
        for annotation in (strict, Text):
            self.assertRaisesRegex(BadValue, "NUL", codec_of(annotation).encode, "a\0b")

    def test_x10_negative_counts(self) -> None:
        """A negative count is a huge one."""
        for annotation in (Annotated[tuple[Int, ...], Max(1000)], Text, Annotated[bytes, Max(1000)]):
            self.refused(annotation, word(-1), "at most")
            self.refused(annotation, word(-(1 << 31)), "at most")

    def test_x11_count_times_size(self) -> None:
        """A count whose product with the element size passes 2**32."""
        for annotation in (
            Annotated[tuple[UHyper, ...], Max(0xFFFFFFFF)],
            Annotated[tuple[Point, ...], Max(0xFFFFFFFF)],
        ):
            for count in HUGE_COUNTS:
                self.refused(annotation, word(count) + bytes(16), "16 bytes left")

    def test_x12_x13_array_limits(self) -> None:
        """No element and n elements are served, n + 1 is refused."""
        for element, one in ((UInt, 7), (Point, Point(7))):
            annotation: Any = Annotated[tuple[element, ...], Max(3)]  # type: ignore[valid-type]
            part = codec_of(element).encode(one)
            for count in (0, 2, 3):
                self.accepted(annotation, word(count) + part * count, (one,) * count)
            self.refused(annotation, word(4) + part * 4, "at most 3")
            self.assertRaisesRegex(BadValue, "at most 3", codec_of(annotation).encode, (one,) * 4)

    def test_x14_discriminants(self) -> None:
        """Unknown discriminants and enum values."""
        for number in (1, 6, 8, -2):
            self.refused(Colour, word(number), "is not a Colour")
        for member in Colour:
            self.accepted(Colour, word(member), member)
        codec: Codec[Any] = Codec(composite.Union({1: xdr.Int, -7: xdr.Void()}))
        self.assertEqual(codec.decode(word(-7)), (-7, None))
        self.assertRaisesRegex(DecodeError, "no arm for discriminant 2", codec.decode, word(2) + word(5))

    def test_x16_zero_size_elements(self) -> None:
        """An array of nothing is refused when it is declared."""

        class Empty(Struct):
            pass

        for element in (None, Empty, Annotated[bytes, Fixed(0)], Annotated[tuple[Int, ...], Fixed(0)]):
            for limit in (Max(1 << 31), Fixed(5)):
                annotation: Any = Annotated[tuple[element, ...], limit]  # type: ignore[valid-type]
                self.assertRaisesRegex(BadSchema, "take bytes", codec_of, annotation)
        for declaration in (construct.LazyBound(lambda: xdr.Int), construct.GreedyBytes, construct.Pass):
            self.assertRaises(BadSchema, composite.Array, declaration, 5)

    def test_x17_extremes(self) -> None:
        """NaN, infinities, the largest and smallest numbers, no bytes at all."""
        for annotation, values in (
            (Int, (-(1 << 31), (1 << 31) - 1, 0)),
            (UInt, (0, (1 << 32) - 1)),
            (Hyper, (-(1 << 63), (1 << 63) - 1)),
            (UHyper, (0, (1 << 64) - 1)),
            (Double, (math.inf, -math.inf, -0.0, 5e-324)),
            (Float, (math.inf, -0.0)),
            (Char, (-128, 127)),
            (UChar, (0, 255)),
            (Short, (-32768, 32767)),
            (UShort, (0, 65535)),
            (Annotated[bytes, Max(4)], (b"",)),
            (Annotated[bytes, Fixed(0)], (b"",)),
            (Text, ("",)),
        ):
            codec = codec_of(annotation)
            for value in values:
                self.assertEqual(repr(codec.decode(codec.encode(value))), repr(value))
        for annotation in (Double, Float):
            self.assertTrue(math.isnan(codec_of(annotation).decode(codec_of(annotation).encode(math.nan))))

    def test_out_of_range(self) -> None:
        """One past the extremes is a BadValue that says what was wanted."""
        for annotation, values in (
            (Int, (-(1 << 31) - 1, 1 << 31)),
            (UInt, (-1, 1 << 32)),
            (Hyper, (-(1 << 63) - 1, 1 << 63)),
            (UHyper, (-1, 1 << 64)),
            (Float, (1e39,)),
            (Char, (-129, 128, "x", 1.0)),
            (UChar, (-1, 256)),
            (Short, (-32769, 32768)),
            (UShort, (-1, 65536)),
        ):
            for value in values:
                self.assertRaisesRegex(BadValue, "is not", codec_of(annotation).encode, value)

    def test_padding(self) -> None:
        """Padding is zero, and is there."""
        for size in range(1, 8):
            pad = -size % 4
            data = b"x" * size
            for annotation, encoded in (
                (Annotated[bytes, Max(7)], word(size) + data),
                (Annotated[bytes, Fixed(size)], data),
            ):
                self.accepted(annotation, encoded + bytes(pad), data)
                for at in range(pad):
                    self.refused(
                        annotation, encoded + bytes(at) + b"\1" + bytes(pad - at - 1), "padding is not zero"
                    )
                    self.refused(annotation, encoded + bytes(at))

    def test_four_bytes_for_one(self) -> None:
        """A char comes with or without its sign extended; only the low bits count; we extend it."""
        for data, signed, unsigned in (
            (b"\xff\xff\xff\xff", -1, 255),
            (b"\0\0\0\xff", -1, 255),
            (b"\0\0\0\x7f", 127, 127),
            (b"\x12\x34\x56\x80", -128, 128),
        ):
            self.accepted(Char, data, signed)
            self.accepted(UChar, data, unsigned)
        self.accepted(Short, b"\0\0\xff\xfe", -2)
        self.accepted(UShort, b"\xff\xff\xff\xfe", 65534)
        chars = codec_of(Annotated[bytes, xdr.Chars(4)])
        self.assertEqual(chars.encode(b"n\xff"), word(2) + b"\0\0\0n\xff\xff\xff\xff")
        self.assertEqual(chars.decode(word(2) + b"\xff\xff\xffn\0\0\0\xff"), b"n\xff")
        self.assertRaises(BadValue, chars.encode, b"12345")
        self.assertRaises(BadValue, chars.encode, "1234")
        self.refused(Annotated[bytes, xdr.Chars(4)], word(5) + bytes(20), "at most 4")
        fixed = codec_of(Annotated[bytes, xdr.FixedChars(3)])
        self.assertEqual(fixed.encode(b"a\0\x80"), b"\0\0\0a\0\0\0\0\xff\xff\xff\x80")
        self.assertRaises(BadValue, fixed.encode, b"a")

    def test_fixed_sizes(self) -> None:
        """Fixed opaques and arrays must have their size; struct must not cut or fill them."""
        for value in (b"", b"123", b"12345"):
            self.assertRaises(BadValue, codec_of(Annotated[bytes, Fixed(4)]).encode, value)
        pair = codec_of(Annotated[tuple[Int, ...], Fixed(2)])
        for numbers in ((), (1,), (1, 2, 3), 5, None, "ab"):
            self.assertRaises(BadValue, pair.encode, numbers)
        self.assertEqual(pair.encode([1, 2]), pair.encode((1, 2)))
        self.assertRaises(BadSchema, composite.FixedArray, xdr.Int, XDR_ELEMENT_COUNT + 1)

    def test_struct_is_no_array(self) -> None:
        """A Struct is a tuple when it runs, but is not taken for an array."""

        class Pair(Struct):
            a: Int
            b: Int

        codec: Codec[Any] = codec_of(Annotated[tuple[Int, ...], Max(2)])
        self.assertRaisesRegex(BadValue, "is not a tuple", codec.encode, Pair(1, 2))


class DeclarationTests(CodecTestCase):
    def test_sizeof(self) -> None:
        """Construct's sizeof answers where the size is fixed."""
        self.assertEqual(composite.Record("a" / xdr.Int, "b" / xdr.FixedOpaque(5)).sizeof(), 12)
        self.assertRaises(construct.SizeofError, xdr.Opaque(5).sizeof)

    def test_stock_stream(self) -> None:
        """Our types inside a stock Struct and stream: bounded all the same."""
        stock = construct.Struct(
            "n" / xdr.UInt, "list" / composite.Array(xdr.Boolean(), 10), "end" / xdr.Opaque(4)
        )
        data = word(1) + word(2) + word(0) + word(1) + word(2) + b"ab\0\0"
        parsed = stock.parse(data)
        self.assertEqual((parsed.n, tuple(parsed.list), parsed.end), (1, (False, True), b"ab"))
        self.assertEqual(stock.build(parsed), data)
        for size in range(len(data)):
            self.assertRaises(construct.ConstructError, stock.parse, data[:size])
        self.assertEqual(reader.bytes_left(io.BytesIO(b"1234")), 4)

    def test_sizes_of_stock(self) -> None:
        """Stock Constructs of a known size can be elements."""
        array = composite.Array(construct.Int16ub, 5)
        self.assertEqual((array.smallest_bytes, array.largest_bytes), (4, 14))
        codec: Codec[Any] = Codec(array)
        self.assertEqual(codec.decode(word(2) + b"\0\1\0\2"), (1, 2))
        self.check_damage(codec, codec.encode((1, 2, 3)), 5)

    def test_unbounded_parts(self) -> None:
        """What has no largest size makes the whole have none."""
        rest: Any = construct.GreedyBytes
        for declaration in (
            composite.Optional(rest),
            composite.Record("a" / xdr.Int, "b" / rest),
            composite.Union({1: rest, 2: xdr.Int}),
            composite.Array(composite.Record("a" / xdr.Int, "b" / construct.LazyBound(lambda: rest)), 5),
        ):
            self.assertIsNone(declaration.largest_bytes)

    def test_bad_declarations(self) -> None:
        """Declarations that cannot be used are refused when they are made."""

        class Wide(IntEnum):
            TOO_WIDE = 1 << 31

        self.assertRaises(BadSchema, xdr.Enumeration, Wide)
        self.assertRaises(BadSchema, composite.Union, {})
        self.assertRaises(BadSchema, composite.Union, {1 << 31: xdr.Int})
        self.assertRaises(BadSchema, composite.Union, {1: xdr.Int, 2: xdr.UInt}, {1: int, 2: int})
