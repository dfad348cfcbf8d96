"""Declarations, strategies and checks that the wire's tests share."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable
from enum import IntEnum
from typing import Annotated, Any
from unittest import TestCase

import construct
from hypothesis import HealthCheck, settings, strategies

from rpcstream.errors import BadValue, DecodeError
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
    Switch,
    Text,
    UChar,
    UHyper,
    UInt,
    UShort,
    codec_of,
    xdr,
)

QUICK = settings(
    max_examples=60,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)


class Colour(IntEnum):
    RED = -1
    GREEN = 0
    BLUE = 7


class Sum(Struct):
    a: Int
    b: Int


class Point(Struct):
    x: Int
    y: Int | None = None


class Texts(Struct):
    strict: Annotated[str, Max(9)]
    loose: Annotated[str, xdr.String(6, errors="surrogateescape")]
    data: Annotated[bytes, Max(7)]
    tag: Annotated[bytes, Fixed(5)]
    whole: Annotated[bytes, Fixed(8)]


class Numbers(Struct):
    int_: Int
    uint: UInt
    hyper: Hyper
    uhyper: UHyper
    float_: Float
    double: Double
    flag: bool
    colour: Colour


class Small(Struct):
    char: Char
    uchar: UChar
    short: Short
    ushort: UShort
    model: Annotated[bytes, xdr.FixedChars(3)]
    sasl: Annotated[bytes, xdr.Chars(5)]
    stock: Annotated[int, construct.Int64ub]
    other: Annotated[int, construct.Int16ul]
    more: Annotated[bytes, construct.Bytes(2)]


class Lists(Struct):
    numbers: Annotated[tuple[UHyper, ...], Max(4)]
    pair: Annotated[tuple[Short, ...], Fixed(2)]
    words: Annotated[tuple[Annotated[str, Max(4)], ...], Max(3)]
    points: Annotated[tuple[Point, ...], Max(3)]
    flags: Annotated[tuple[bool, ...], Max(3)]


class Mixed(Struct):
    one: Annotated[
        Point | Sum | int | str | None,
        Switch({1: Point, 2: Sum, 3: Hyper, -4: Annotated[str, Max(3)], 5: None}),
    ]
    maybe: Point | None
    inner: Sum
    nothing: None
    behind: UInt


INT = strategies.integers(-(1 << 31), (1 << 31) - 1)
UINT = strategies.integers(0, (1 << 32) - 1)
HYPER = strategies.integers(-(1 << 63), (1 << 63) - 1)
UHYPER = strategies.integers(0, (1 << 64) - 1)
SHORT = strategies.integers(-(1 << 15), (1 << 15) - 1)
BINARY = strategies.binary


def text(limit_bytes: int) -> strategies.SearchStrategy[str]:
    """Text without NUL and surrogates whose UTF-8 is not too long."""
    alphabet = strategies.characters(codec="utf-8", exclude_characters="\0")
    return strategies.text(alphabet, max_size=limit_bytes).filter(
        lambda value: len(value.encode()) <= limit_bytes
    )


LOOSE = (
    BINARY(max_size=6)
    .filter(lambda data: 0 not in data)
    .map(lambda data: data.decode("utf-8", "surrogateescape"))
)
SUMS = strategies.builds(Sum, INT, INT)
POINTS = strategies.builds(Point, INT, strategies.none() | INT)

VALUES: dict[type[Struct], strategies.SearchStrategy[Any]] = {
    Sum: SUMS,
    Point: POINTS,
    Texts: strategies.builds(
        Texts,
        text(9),
        LOOSE,
        BINARY(max_size=7),
        BINARY(min_size=5, max_size=5),
        BINARY(min_size=8, max_size=8),
    ),
    Numbers: strategies.builds(
        Numbers,
        INT,
        UINT,
        HYPER,
        UHYPER,
        strategies.floats(width=32, allow_nan=False),
        strategies.floats(allow_nan=False),
        strategies.booleans(),
        strategies.sampled_from(Colour),
    ),
    Small: strategies.builds(
        Small,
        strategies.integers(-128, 127),
        strategies.integers(0, 255),
        SHORT,
        strategies.integers(0, 65535),
        BINARY(min_size=3, max_size=3),
        BINARY(max_size=5),
        UHYPER,
        strategies.integers(0, 65535),
        BINARY(min_size=2, max_size=2),
    ),
    Lists: strategies.builds(
        Lists,
        strategies.lists(UHYPER, max_size=4).map(tuple),
        strategies.tuples(SHORT, SHORT),
        strategies.lists(text(4), max_size=3).map(tuple),
        strategies.lists(POINTS, max_size=3).map(tuple),
        strategies.lists(strategies.booleans(), max_size=3).map(tuple),
    ),
    Mixed: strategies.builds(
        Mixed,
        POINTS | SUMS | HYPER | text(3) | strategies.none(),
        strategies.none() | POINTS,
        SUMS,
        strategies.none(),
        UINT,
    ),
}
"""A strategy of legal values for each declaration."""


def outcome(function: Callable[..., Any], *arguments: Any) -> tuple[str, Any]:
    """What a codec does: C{("value", ...)} or the name of the error of ours and its field."""
    try:
        return "value", function(*arguments)
    except (BadValue, DecodeError) as error:
        return type(error).__name__, error.field


def reference_outcome(function: Callable[..., Any], error_name: str, *arguments: Any) -> tuple[str, Any]:
    """What the interpreted Construct does, in the same terms; the field is not told."""
    try:
        return "value", function(*arguments)
    except construct.ConstructError:
        return error_name, None
    except ValueError:
        # Stock construct.Bytes leaks this for an int that is too large.
        return error_name, None


class CodecTestCase(TestCase):
    """A test case that can hold a codec against the interpreted Construct."""

    def check_decoding(self, codec: Codec[Any], data: bytes) -> None:
        """Both take C{data} for the same value, or both refuse it."""
        found, value = outcome(codec.decode, data)
        expected, expected_value = reference_outcome(codec.construct.parse, "DecodeError", data)
        self.assertEqual(found, expected, data)
        if found == "value":
            self.assertEqual(repr(value), repr(expected_value))

    def check_encoding(self, codec: Codec[Any], value: Any) -> None:
        """Both give the same bytes for C{value}, or both refuse it."""
        found, data = outcome(codec.encode, value)
        expected, expected_data = reference_outcome(codec.construct.build, "BadValue", value)
        self.assertEqual(found, expected, value)
        if found == "value":
            self.assertEqual(data, expected_data)

    def check_damage(self, codec: Codec[Any], data: bytes, seed: int) -> None:
        """Truncation at each byte, bytes behind, and flipped bits."""
        for size in range(len(data)):
            self.check_decoding(codec, data[:size])
        self.check_decoding(codec, data + b"\0")
        self.check_decoding(codec, data + b"\0\0\0\0")
        chance = random.Random(seed)
        for _ in range(30 if data else 0):
            damaged = bytearray(data)
            for _ in range(chance.choice((1, 1, 1, 2, 8))):
                damaged[chance.randrange(len(data))] ^= 1 << chance.randrange(8)
            self.check_decoding(codec, bytes(damaged))


__all__ = ["QUICK", "VALUES", "CodecTestCase", "Text", "codec_of", "outcome"]


def processor_seconds(work: Callable[[], object]) -> float:
    """What C{work} takes of the processor: the least of three times, whatever else the machine does."""
    least = math.inf
    for _ in range(3):
        started = time.process_time()
        work()
        least = min(least, time.process_time() - started)
    return least
