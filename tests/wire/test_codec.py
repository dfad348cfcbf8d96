"""The derived codecs: equal to the interpreted Construct, strict, and quick to say what is wrong."""

from __future__ import annotations

from typing import Annotated, Any

import construct
from hypothesis import given, strategies

from rpcstream.errors import BadValue, DecodeError
from rpcstream.limits import XDR_ELEMENT_COUNT
from rpcstream.wire import PAYLOAD_BYTES, Codec, Int, Max, Struct, UInt, codec_of, composite, xdr
from tests.wire.support import (
    INT,
    QUICK,
    VALUES,
    CodecTestCase,
    Colour,
    Lists,
    Mixed,
    Numbers,
    Point,
    Small,
    Sum,
    Texts,
    outcome,
    processor_seconds,
)

ANYTHING = strategies.one_of(
    strategies.none(),
    strategies.booleans(),
    strategies.integers(),
    strategies.floats(),
    strategies.text(max_size=12),
    strategies.binary(max_size=12),
    strategies.lists(strategies.integers(), max_size=5),
    strategies.tuples(strategies.integers(), strategies.integers()),
    strategies.sampled_from(Colour),
    *VALUES.values(),
)


class EqualToConstructTests(CodecTestCase):
    def check(self, struct: type[Struct]) -> None:
        codec = codec_of(struct)

        @QUICK
        @given(VALUES[struct], strategies.integers(0, 1 << 20))
        def whole_values(value: Any, seed: int) -> None:
            data = codec.encode(value)
            self.assertEqual(codec.construct.build(value), data)
            self.assertLessEqual(len(data), codec.max_bytes)
            decoded = codec.decode(data)
            self.assertEqual(decoded, value)
            self.assertIs(type(decoded), struct)
            self.assertEqual(codec.decode(memoryview(data)), value)
            self.assertEqual(codec.decode(bytearray(data)), value)
            self.check_damage(codec, data, seed)

        @QUICK
        @given(VALUES[struct], strategies.integers(0, 20), ANYTHING)
        def wrong_fields(value: Any, index: int, wrong: Any) -> None:
            values = list(tuple.__getitem__(value, slice(None)))
            values[index % len(values)] = wrong
            self.check_encoding(codec, struct(*values))

        @QUICK
        @given(strategies.binary(max_size=80))
        def any_bytes(data: bytes) -> None:
            self.check_decoding(codec, data)

        @QUICK
        @given(strategies.lists(strategies.sampled_from([0, 1, 2, 3, 4, 5, 7, 0xFFFFFFFF]), max_size=24))
        def any_words(words: list[int]) -> None:
            self.check_decoding(codec, b"".join(word.to_bytes(4, "big") for word in words))

        whole_values()
        wrong_fields()
        any_bytes()
        any_words()

    def test_plain_numbers(self) -> None:
        """A record of plain numbers, which is one C call."""
        self.check(Sum)

    def test_optional(self) -> None:
        """A record with an optional field."""
        self.check(Point)

    def test_texts(self) -> None:
        """Text and bytes of all kinds."""
        self.check(Texts)

    def test_numbers(self) -> None:
        """Every kind of number, flags and enums."""
        self.check(Numbers)

    def test_small(self) -> None:
        """What takes four bytes for one, and stock Constructs."""
        self.check(Small)

    def test_lists(self) -> None:
        """Arrays, fixed and not."""
        self.check(Lists)

    def test_mixed(self) -> None:
        """Unions, nested records, void."""
        self.check(Mixed)

    @QUICK
    @given(ANYTHING)
    def test_wrong_as_a_whole(self, value: Any) -> None:
        """Whatever is given in place of a Struct: the same verdict, and only BadValue."""
        for struct in VALUES:
            if type(value) is not struct:
                self.assertEqual(outcome(codec_of(struct).encode, value), ("BadValue", ""))
                self.check_encoding(codec_of(struct), value)

    def test_canonical(self) -> None:
        """encode(decode(b)) is b, for whatever is accepted."""
        codec = codec_of(Mixed)

        @QUICK
        @given(VALUES[Mixed], INT)
        def check(value: Any, seed: int) -> None:
            data = bytearray(codec.encode(value))
            data[seed % len(data)] ^= 1 << (seed % 8)
            found, decoded = outcome(codec.decode, bytes(data))
            if found == "value":
                self.assertEqual(codec.encode(decoded), bytes(data))

        check()


class ElementCountTests(CodecTestCase):
    def nested(self) -> Any:
        return composite.Array(composite.Array(xdr.UInt, XDR_ELEMENT_COUNT), 8)

    def test_all_arrays_together(self) -> None:
        """262,144 elements in all: one more is refused, both ways, by both."""
        codec: Codec[Any] = Codec(self.nested())
        half = (0,) * (XDR_ELEMENT_COUNT // 2 - 1)
        fits = (half, half)
        data = codec.encode(fits)
        self.assertEqual(codec.decode(data), fits)
        too_many = (half, (*half, 0))
        self.assertRaisesRegex(BadValue, "262144 array elements", codec.encode, too_many)
        bigger = data[:4] + data[4 : 4 + len(data) // 2 - 2]
        bigger += (len(half) + 1).to_bytes(4, "big") + bytes(4 * (len(half) + 1))
        self.assertRaises(DecodeError, codec.decode, bigger)
        self.assertRaises(construct.ConstructError, codec.construct.parse, bigger)

    def test_records(self) -> None:
        """The same for elements that are not plain numbers."""
        codec: Codec[Any] = Codec(composite.Array(xdr.Boolean(), 1 << 31))
        self.assertRaises(BadValue, codec.encode, (True,) * (XDR_ELEMENT_COUNT + 1))
        count = XDR_ELEMENT_COUNT + 1
        self.assertRaises(DecodeError, codec.decode, count.to_bytes(4, "big") + bytes(4 * count))


class SizeTests(CodecTestCase):
    def test_max_bytes(self) -> None:
        """The largest legal value is as large as the codec says."""
        largest = Lists(
            numbers=(0,) * 4,
            pair=(0, 0),
            words=("xxxx",) * 3,
            points=(Point(1, 1),) * 3,
            flags=(True,) * 3,
        )
        codec = codec_of(Lists)
        self.assertEqual(len(codec.encode(largest)), codec.max_bytes)
        self.assertEqual(codec_of(None).max_bytes, 0)
        self.assertEqual(codec_of(UInt).max_bytes, 4)

    def test_payload_limit(self) -> None:
        """What would not fit a message is refused when it is encoded, at n + 1."""
        codec = codec_of(Annotated[bytes, Max(1 << 31)])
        self.assertEqual(codec.max_bytes, PAYLOAD_BYTES)
        self.assertEqual(len(codec.encode(bytes(PAYLOAD_BYTES - 4))), PAYLOAD_BYTES)
        self.assertRaisesRegex(BadValue, "a message takes at most", codec.encode, bytes(PAYLOAD_BYTES - 3))


class Deep(Struct):
    lists: Annotated[tuple[Lists, ...], Max(2)]
    sum: Sum


class FieldNameTests(CodecTestCase):
    def test_value(self) -> None:
        """BadValue names the field, however deep, and why."""
        lists = Lists((), (1, 2), ("ok", "too long"), (), ())
        with self.assertRaises(BadValue) as caught:
            codec_of(Deep).encode(Deep((lists,), Sum(1, 2)))
        self.assertEqual(caught.exception.field, "lists[0].words[1]")
        self.assertEqual(caught.exception.reason, "8 bytes, at most 4 allowed")
        self.assertEqual(str(caught.exception), "lists[0].words[1]: 8 bytes, at most 4 allowed")

    def test_bytes(self) -> None:
        """DecodeError names the field."""
        codec = codec_of(Deep)
        data = codec.encode(Deep((Lists((), (1, 2), (), (Point(1, None),), ()),), Sum(1, 2)))
        at = data.index(b"\0\0\0\1\0\0\0\0", 20)
        damaged = data[: at + 4] + b"\0\0\0\2" + data[at + 8 :]
        with self.assertRaises(DecodeError) as caught:
            codec.decode(damaged)
        self.assertEqual(caught.exception.field, "lists[0].points[0].y")

    def test_large_bytes(self) -> None:
        """A large bad message is not interpreted: no field, and no time."""
        codec = codec_of(Annotated[tuple[Point, ...], Max(1 << 20)])
        data = codec.encode((Point(1, 2),) * 20_000)
        self.assertEqual(outcome(codec.decode, data[:-1]), ("DecodeError", ""))
        bad_seconds = processor_seconds(lambda: outcome(codec.decode, data[:-1]))
        # Interpreting it would take twenty times as long as decoding it.
        self.assertLess(bad_seconds, 5 * processor_seconds(lambda: codec.decode(data)))

    def test_huge_values_in_the_text(self) -> None:
        """The value that is shown is cut."""
        with self.assertRaises(BadValue) as caught:
            codec_of(Sum).encode(Sum(1, "x" * 100_000))  # type: ignore[arg-type]
        self.assertLess(len(str(caught.exception)), 200)

    def test_values_without_a_repr(self) -> None:
        """A value whose repr fails is refused like any other."""

        class Nasty:
            def __repr__(self) -> str:
                raise ZeroDivisionError

        self.assertRaisesRegex(BadValue, "a: <Nasty> is not", codec_of(Sum).encode, Sum(Nasty(), 1))  # type: ignore[arg-type]


class SpeedTests(CodecTestCase):
    def test_two_ints(self) -> None:
        """Two ints take less than interpreting their declaration does; by how much is for benchmarks."""
        codec, value = codec_of(Sum), Sum(7, 35)
        data, declared = codec.encode(value), codec.construct
        self.assertEqual(declared.build(value), data)

        def derived() -> None:
            for _ in range(2000):
                codec.decode(codec.encode(value))

        def interpreted() -> None:
            for _ in range(2000):
                declared.parse(declared.build(value))

        self.assertLess(processor_seconds(derived), processor_seconds(interpreted))


class AnnotationCodecTests(CodecTestCase):
    def test_cached(self) -> None:
        """A codec is made once, also for an annotation; leniency counts."""
        self.assertIs(codec_of(Sum), codec_of(Sum))
        self.assertIs(codec_of(Annotated[str, Max(3)]), codec_of(Annotated[str, Max(3)]))
        self.assertIsNot(codec_of(bool), codec_of(bool, True))
        self.assertEqual(codec_of(bool, True).decode(b"\1\0\0\0"), True)

    def test_unhashable(self) -> None:
        """An annotation that cannot be hashed still gets a codec."""
        codec = codec_of(Annotated[int, xdr.Int, ["a list"]])
        self.assertEqual(codec.encode(3), b"\0\0\0\3")

    def test_single_values(self) -> None:
        """Results need no Struct."""
        self.assertEqual(codec_of(Int).encode(-1), b"\xff" * 4)
        self.assertEqual(codec_of(None).encode(None), b"")
        self.assertIsNone(codec_of(None).decode(b""))
        self.assertRaises(DecodeError, codec_of(None).decode, b"\0")
        self.assertRaises(BadValue, codec_of(None).encode, 0)
        self.assertEqual(codec_of(xdr.UInt).decode(b"\0\0\0\3"), 3)
