"""
What a field of a L{rpcstream.wire.struct.Struct} is annotated with.

The annotation is the layout: an alias from here (C{Int}, C{UHyper}, ...), C{bool},
an IntEnum class, C{T | None}, another Struct, or C{Annotated} with one of the
limits below.  Any Construct among the metadata of C{Annotated} counts, and wins
over everything else.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated, Any

from rpcstream.errors import BadSchema
from rpcstream.limits import STRING_BYTES
from rpcstream.wire import xdr

__all__ = [
    "Char",
    "Double",
    "Fixed",
    "Float",
    "Hyper",
    "Int",
    "Max",
    "Short",
    "Switch",
    "Text",
    "UChar",
    "UHyper",
    "UInt",
    "UShort",
]

Int = Annotated[int, xdr.Int]
"""Signed, 32 bits."""
UInt = Annotated[int, xdr.UInt]
"""Unsigned, 32 bits."""
Hyper = Annotated[int, xdr.Hyper]
"""Signed, 64 bits."""
UHyper = Annotated[int, xdr.UHyper]
"""Unsigned, 64 bits."""
Float = Annotated[float, xdr.Float]
"""32 bits."""
Double = Annotated[float, xdr.Double]
"""64 bits."""
Char = Annotated[int, xdr.Char]
"""Signed, 8 bits, in four bytes."""
UChar = Annotated[int, xdr.UChar]
"""Unsigned, 8 bits, in four bytes."""
Short = Annotated[int, xdr.Short]
"""Signed, 16 bits, in four bytes."""
UShort = Annotated[int, xdr.UShort]
"""Unsigned, 16 bits, in four bytes."""
Text = Annotated[str, xdr.String(STRING_BYTES, errors="surrogateescape")]
"""libvirt's strings: at most 4 MiB of any bytes but NUL; what is not UTF-8 survives."""


class Max:
    """
    The limit of a C{bytes}, C{str} or C{tuple[T, ...]}.

    @ivar count: bytes (for C{str}: of its UTF-8), or elements.
    """

    __slots__ = ("count",)

    def __init__(self, count: int) -> None:
        if not isinstance(count, int) or not 0 <= count < 1 << 32:
            raise BadSchema(f"{type(self).__name__}({count!r}) is not a limit that XDR can have")
        self.count = count

    def __eq__(self, other: object) -> bool:
        return type(other) is type(self) and other.count == self.count

    def __hash__(self) -> int:
        return hash((type(self), self.count))

    def __repr__(self) -> str:
        return f"{type(self).__name__}({self.count})"


class Fixed(Max):
    """The exact number of bytes or elements, which then is not sent."""


class Switch:
    """
    The arms of a union by discriminant: C{Annotated[A | B, Switch({1: A, 2: B})]}.

    The Python type of a value tells its arm, so no two arms may share one; a
    Struct of one field costs nothing on the wire and makes a type of its own.

    @ivar arms: annotations by number.
    """

    __slots__ = ("arms",)

    def __init__(self, arms: Mapping[int, Any]) -> None:
        self.arms = dict(arms)

    def __repr__(self) -> str:
        return f"Switch({self.arms!r})"
