"""Typed parameters: all types, and what must not be ignored."""

from __future__ import annotations

import math
from typing import Any
from unittest import TestCase

from hypothesis import given, strategies

from rpcstream.errors import BadSchema, BadValue, DecodeError, Unsupported
from rpcstream.programs.parameters import (
    PARAMETER_COUNT,
    BoolValue,
    BytesValue,
    DoubleValue,
    HyperValue,
    IntValue,
    Parameter,
    Parameters,
    TextValue,
    UHyperValue,
    UIntValue,
    refuse_unknown_critical,
)
from rpcstream.wire import codec_of
from tests.wire.support import BINARY, HYPER, INT, QUICK, UHYPER, UINT, CodecTestCase, text

VALUES = strategies.one_of(
    strategies.builds(IntValue, INT),
    strategies.builds(UIntValue, UINT),
    strategies.builds(HyperValue, HYPER),
    strategies.builds(UHyperValue, UHYPER),
    strategies.builds(DoubleValue, strategies.floats(allow_nan=False)),
    strategies.builds(BoolValue, strategies.booleans()),
    strategies.builds(TextValue, text(20)),
    strategies.builds(BytesValue, BINARY(max_size=20)),
)
PARAMETERS = strategies.lists(
    strategies.builds(Parameter, text(10), VALUES, strategies.booleans()), max_size=4
).map(tuple)


class ParameterTests(CodecTestCase):
    @QUICK
    @given(PARAMETERS, strategies.integers(0, 1 << 20))
    def test_round_trip(self, parameters: tuple[Parameter, ...], seed: int) -> None:
        """Values keep their types, so that 5 and 5 can be told apart."""
        codec = codec_of(Parameters)
        data = codec.encode(parameters)
        self.assertEqual(codec.decode(data), parameters)
        self.check_damage(codec, data, seed)

    def test_discriminants(self) -> None:
        """libvirt's numbers for its types, 8 for ours."""
        codec = codec_of(Parameter)
        values: tuple[Any, ...] = (
            IntValue(0),
            UIntValue(0),
            HyperValue(0),
            UHyperValue(0),
            DoubleValue(math.inf),
            BoolValue(False),
            TextValue(""),
            BytesValue(b""),
        )
        for number, value in enumerate(values, 1):
            self.assertEqual(codec.encode(Parameter("", value))[4:8], number.to_bytes(4, "big"))
        for number in (0, 9):
            self.assertRaises(DecodeError, codec.decode, bytes(7) + bytes([number]) + bytes(8))

    def test_bare_value(self) -> None:
        """A value without its type is refused."""
        bare: Any = 5
        self.assertRaisesRegex(
            BadValue, "value: no arm for a int", codec_of(Parameter).encode, Parameter("a", bare)
        )

    def test_limits(self) -> None:
        """So many parameters and no more."""
        one = Parameter("a", IntValue(1))
        codec_of(Parameters).encode((one,) * PARAMETER_COUNT)
        self.assertRaises(BadValue, codec_of(Parameters).encode, (one,) * (PARAMETER_COUNT + 1))
        self.assertRaises(BadValue, codec_of(Parameter).encode, Parameter("a" * 81, IntValue(1)))
        self.assertRaises(BadValue, codec_of(Parameter).encode, Parameter("a", BytesValue(bytes(4097))))


class CriticalTests(TestCase):
    def test_unknown(self) -> None:
        """Unknown names are ignored unless they are critical."""
        plain, critical = Parameter("rate", IntValue(1)), Parameter("cipher", IntValue(1), critical=True)
        refuse_unknown_critical((plain,), ())
        refuse_unknown_critical((plain, critical), {"cipher"})
        refuse_unknown_critical((), ())
        with self.assertRaisesRegex(Unsupported, "'cipher'") as caught:
            refuse_unknown_critical((plain, critical), {"rate"})
        self.assertEqual(caught.exception.str2, "cipher")

    def test_not_a_schema_error(self) -> None:
        """It is the peer's error to see, not ours to raise at import."""
        self.assertFalse(issubclass(Unsupported, BadSchema))
