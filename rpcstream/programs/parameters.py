"""
Typed parameters: how our own programs can grow.

XDR structs cannot.  So a list of these is the last field of the requests and
replies that may need more one day.  Whoever does not know a name ignores it,
unless it is marked as critical: then the request is refused.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from typing import Annotated

from rpcstream.errors import Unsupported
from rpcstream.wire import Double, Hyper, Int, Max, Struct, Switch, UHyper, UInt
from rpcstream.wire.error import cut_text

__all__ = [
    "PARAMETER_COUNT",
    "BoolValue",
    "BytesValue",
    "DoubleValue",
    "HyperValue",
    "IntValue",
    "Parameter",
    "ParameterValue",
    "Parameters",
    "TextValue",
    "UHyperValue",
    "UIntValue",
    "refuse_unknown_critical",
]

PARAMETER_COUNT = 64
"""Most parameters in one list."""
VALUE_BYTES = 4096
"""Longest string or opaque value."""


class IntValue(Struct):
    """A signed 32-bit number."""

    value: Int


class UIntValue(Struct):
    """An unsigned 32-bit number."""

    value: UInt


class HyperValue(Struct):
    """A signed 64-bit number."""

    value: Hyper


class UHyperValue(Struct):
    """An unsigned 64-bit number."""

    value: UHyper


class DoubleValue(Struct):
    """A floating point number."""

    value: Double


class BoolValue(Struct):
    """True or false."""

    value: bool


class TextValue(Struct):
    """Text, at most 4 KiB of UTF-8."""

    value: Annotated[str, Max(VALUE_BYTES)]


class BytesValue(Struct):
    """At most 4 KiB."""

    value: Annotated[bytes, Max(VALUE_BYTES)]


# The first five numbers are those of libvirt's typed parameters (wire-protocol.md section 4).
ParameterValue = Annotated[
    IntValue | UIntValue | HyperValue | UHyperValue | DoubleValue | BoolValue | TextValue | BytesValue,
    Switch(
        {
            1: IntValue,
            2: UIntValue,
            3: HyperValue,
            4: UHyperValue,
            5: DoubleValue,
            6: BoolValue,
            7: TextValue,
            8: BytesValue,
        }
    ),
]
"""A value with its type, which costs four bytes."""


class Parameter(Struct):
    """
    A named value.

    @ivar critical: whoever does not know the name must refuse the whole.
    """

    name: Annotated[str, Max(80)]
    value: ParameterValue
    critical: bool = False


Parameters = Annotated[tuple[Parameter, ...], Max(PARAMETER_COUNT)]
"""The list as it ends a request or reply."""


def refuse_unknown_critical(parameters: Iterable[Parameter], known_names: Collection[str]) -> None:
    """
    Refuse what must not be ignored.

    @raise Unsupported: a critical parameter has a name that is not known.
    """
    for parameter in parameters:
        if parameter.critical and parameter.name not in known_names:
            name = cut_text(parameter.name)
            raise Unsupported(f"unknown critical parameter: {name!r}", str1="%s", str2=name)
