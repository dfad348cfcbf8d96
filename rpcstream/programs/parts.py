"""
How a transfer is divided: several streams carry it, at once or one after the other.

Both ends say in HELLO that they know parts.  The request that opens a transfer
names the extents that its own stream carries, and is answered with the attempt's
key; the requests of further streams, on any connection of the same client, give
that key and extents of their own.  A part never carries what the receiver held
when the attempt began, as the whole stream would not.  COMMIT comes once.

All of it travels in typed parameters: Incoming, Outgoing and Commit are as they were.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Final, NamedTuple

from rpcstream.errors import BadValue
from rpcstream.programs.parameters import BytesValue, Parameter, UHyperValue

__all__ = [
    "ATTEMPT_BYTES",
    "FEATURE",
    "PART_NAMES",
    "PartRequest",
    "asked_part",
    "attempt_of",
    "attempt_parameters",
]

FEATURE: Final = "parts"
"""In HELLO."""
_FIRST: Final = "part.first"
_COUNT: Final = "part.count"
_ATTEMPT: Final = "part.attempt"
PART_NAMES: Final = (_FIRST, _COUNT, _ATTEMPT)
ATTEMPT_BYTES: Final = 16
"""Of the key: nobody guesses it."""


class PartRequest(NamedTuple):
    """
    Which extents a stream carries, as far as there are so many and they are not held.

    @ivar first: index of the first.
    @ivar extent_count: how many.
    @ivar attempt: the key of the attempt it belongs to; C{b""} begins a new one,
        which fences all streams of the one before.
    """

    first: int
    extent_count: int
    attempt: bytes = b""

    @property
    def range(self) -> tuple[int, int]:
        """The indexes of the first, and of the one behind the last."""
        return self.first, self.first + self.extent_count

    @property
    def parameters(self) -> tuple[Parameter, ...]:
        """As they are sent: critical, for who ignored them would take the stream for the whole."""
        return (
            Parameter(_FIRST, UHyperValue(self.first), True),
            Parameter(_COUNT, UHyperValue(self.extent_count), True),
            *attempt_parameters(self.attempt),
        )


def attempt_parameters(attempt: bytes) -> tuple[Parameter, ...]:
    """The key of an attempt, as request and reply carry it; nothing for C{b""}."""
    return (Parameter(_ATTEMPT, BytesValue(attempt), True),) if attempt else ()


def asked_part(parameters: Iterable[Parameter]) -> PartRequest | None:
    """
    @return: C{None} if the stream is to carry all.
    @raise BadValue: the parameters do not belong together.
    """
    values = {parameter.name: parameter.value for parameter in parameters if parameter.name in PART_NAMES}
    if not values:
        return None
    first, count = values.get(_FIRST), values.get(_COUNT)
    if not isinstance(first, UHyperValue) or not isinstance(count, UHyperValue):
        raise BadValue("part", "first and count are needed, as unsigned numbers of 64 bits")
    return PartRequest(first.value, count.value, attempt_of(parameters))


def attempt_of(parameters: Iterable[Parameter]) -> bytes:
    """
    @return: the key of an attempt, C{b""} if there is none.
    @raise BadValue: it is none.
    """
    for parameter in parameters:
        if parameter.name == _ATTEMPT:
            if not isinstance(parameter.value, BytesValue) or len(parameter.value.value) != ATTEMPT_BYTES:
                raise BadValue(_ATTEMPT, f"not {ATTEMPT_BYTES} bytes")
            return parameter.value.value
    return b""
