"""
What all XDR declarations share: the base class, the reader and the budget.

Here is what makes them strict where Construct's own types are not: a length is
compared with the bytes that are left before anything is read, nesting and array
elements of one message are limited, and C{parse} refuses bytes left over.
"""

from __future__ import annotations

import io
import struct
from typing import Any

import construct

from rpcstream.limits import XDR_DEPTH, XDR_ELEMENT_COUNT

__all__ = [
    "WORD_BYTES",
    "XDR",
    "Budget",
    "Reader",
    "XDRError",
    "budget_of",
    "bytes_left",
    "largest_bytes",
    "pack_word",
    "shown",
    "smallest_bytes",
    "take",
    "take_padding",
    "take_word",
]

WORD_BYTES = 4
_WORD = struct.Struct(">I")

pack_word = _WORD.pack
"""The four bytes of an unsigned 32-bit number."""


class XDRError(construct.ConstructError):  # type: ignore[misc,unused-ignore]
    """A value or some bytes do not fit their declaration; C{path} tells where."""

    def __init__(self, reason: str, path: str) -> None:
        super().__init__(reason, path=path)  # type: ignore[no-untyped-call]
        self.reason = reason


class Budget:
    """
    What one message may use while it is interpreted: nesting and elements.

    @ivar depth: composite values that are open at the moment.
    @ivar element_count: array elements that may still come.
    """

    __slots__ = ("depth", "element_count")

    def __init__(self, depth: int = 0, element_count: int = XDR_ELEMENT_COUNT) -> None:
        self.depth = depth
        self.element_count = element_count

    def enter(self, path: str) -> None:
        """Open a composite value; L{leave} closes it again."""
        if self.depth >= XDR_DEPTH:
            raise XDRError(f"nested deeper than {XDR_DEPTH}", path)
        self.depth += 1

    def leave(self) -> None:
        """Close the innermost composite value."""
        self.depth -= 1

    def count(self, element_count: int, path: str) -> None:
        """Charge array elements, before they are made."""
        if element_count > self.element_count:
            raise XDRError(f"more than {XDR_ELEMENT_COUNT} array elements in one message", path)
        self.element_count -= element_count


class Reader(io.BytesIO):
    """
    The stream a message is parsed from: it knows its size and carries the budget.

    @ivar size_bytes: all bytes of the message.
    """

    def __init__(self, data: bytes, budget: Budget | None = None) -> None:
        super().__init__(data)
        self.size_bytes = len(data)
        self.xdr_budget = budget or Budget()


def budget_of(stream: Any) -> Budget:
    """The budget of the message in C{stream}, which gets one when it has none."""
    budget: Budget | None = getattr(stream, "xdr_budget", None)
    if budget is None:
        budget = stream.xdr_budget = Budget()
    return budget


def bytes_left(stream: Any) -> int:
    """How many bytes are still to be read from C{stream} (in memory or seekable)."""
    here: int = stream.tell()
    if isinstance(stream, Reader):
        return stream.size_bytes - here
    end: int = stream.seek(0, io.SEEK_END)
    stream.seek(here)
    return end - here


def take(stream: Any, byte_count: int, path: str) -> bytes:
    """Read exactly C{byte_count} bytes; nothing is allocated when they are not there."""
    left = bytes_left(stream)
    if byte_count > left:
        raise XDRError(f"{byte_count} bytes needed, {left} left", path)
    data: bytes = stream.read(byte_count)
    return data


def take_word(stream: Any, path: str) -> int:
    """Read an unsigned 32-bit number."""
    word: int = _WORD.unpack(take(stream, WORD_BYTES, path))[0]
    return word


def take_padding(stream: Any, byte_count: int, path: str) -> None:
    """Read the zero bytes that fill C{byte_count} bytes up to a multiple of four."""
    if any(take(stream, -byte_count % WORD_BYTES, path)):
        raise XDRError("padding is not zero", path)


def shown(value: object) -> str:
    """C{repr(value)}, cut so that it fits an error text."""
    try:
        text = repr(value)
    except Exception:
        text = f"<{type(value).__name__}>"
    return text if len(text) <= 60 else f"{text[:57]}..."


class XDR(construct.Construct):  # type: ignore[misc,unused-ignore]
    """
    Base of our Constructs: they know their size limits and parse strictly.

    @ivar smallest_bytes: size of the smallest legal value.
    @ivar largest_bytes: size of the largest one, C{None} if there is no limit.
    """

    smallest_bytes: int
    largest_bytes: int | None

    def __init__(self, smallest_bytes: int, largest_bytes: int | None) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.smallest_bytes = smallest_bytes
        self.largest_bytes = largest_bytes

    def parse(self, data: bytes, **contextkw: Any) -> Any:
        """Interpret a whole message; bytes that are left over are refused."""
        stream = Reader(data)
        value = self.parse_stream(stream, **contextkw)  # type: ignore[no-untyped-call]
        if left := bytes_left(stream):
            raise XDRError(f"{left} trailing bytes", "(parsing)")
        return value

    def _sizeof(self, context: Any, path: str) -> int:
        if self.smallest_bytes != self.largest_bytes:
            raise construct.SizeofError("the size depends on the value", path=path)  # type: ignore[no-untyped-call]
        return self.smallest_bytes


def smallest_bytes(declaration: Any) -> int:
    """Least bytes that a value of any Construct takes; 0 where that is unknown."""
    declaration = _unnamed(declaration)
    if isinstance(declaration, XDR):
        return declaration.smallest_bytes
    return _fixed_bytes(declaration) or 0


def largest_bytes(declaration: Any) -> int | None:
    """Most bytes that a value of any Construct takes; C{None} where that is unknown."""
    declaration = _unnamed(declaration)
    if isinstance(declaration, XDR):
        return declaration.largest_bytes
    return _fixed_bytes(declaration)


def _unnamed(declaration: Any) -> Any:
    while isinstance(declaration, construct.Renamed):
        declaration = declaration.subcon
    return declaration


def _fixed_bytes(declaration: Any) -> int | None:
    # A LazyBound may lead back to where we are, and its function may refer to
    # a name that does not exist yet.
    if isinstance(declaration, construct.LazyBound):
        return None
    try:
        size: int = declaration.sizeof()
    except Exception:
        return None
    return size
