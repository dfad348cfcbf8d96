"""
The scalar types of XDR (RFC 4506) as Construct declarations.

These declare what is on the wire and are the reference for the fast codecs of
L{rpcstream.wire.derive}, which are proved equal to them by tests.  They are
strict where Construct's own types are not: a length is compared with the bytes
that are left before anything is read, padding must be zero, and C{parse}
refuses bytes that are left over.  What is made of other types (arrays,
optionals, unions, records) is in L{rpcstream.wire.composite}.

All raise L{construct.ConstructError} only; L{rpcstream.wire.codec} turns that
into errors of ours.
"""

from __future__ import annotations

import enum
import io
import struct
from collections.abc import Mapping
from typing import Any

import construct

from rpcstream.limits import XDR_DEPTH, XDR_ELEMENT_COUNT

__all__ = [
    "XDR",
    "Boolean",
    "Budget",
    "Char",
    "Chars",
    "Double",
    "Enumeration",
    "FixedChars",
    "FixedOpaque",
    "Float",
    "Hyper",
    "Int",
    "Number",
    "Opaque",
    "Reader",
    "Short",
    "SmallInt",
    "String",
    "UChar",
    "UHyper",
    "UInt",
    "UShort",
    "Void",
    "XDRError",
    "budget_of",
    "bytes_left",
    "largest_bytes",
    "shown",
    "smallest_bytes",
    "take",
]

WORD_BYTES = 4
_WORD = struct.Struct(">I")


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


class Number(XDR):
    """
    An integer or floating point number, as the C{struct} module packs it.

    @ivar format: its format character.
    """

    def __init__(self, format: str, description: str) -> None:
        self.format = format
        self.description = description
        self.struct = struct.Struct(">" + format)
        super().__init__(self.struct.size, self.struct.size)

    def _parse(self, stream: Any, context: Any, path: str) -> Any:
        return self.struct.unpack(take(stream, self.struct.size, path))[0]

    def _build(self, obj: Any, stream: Any, context: Any, path: str) -> Any:
        try:
            data = self.struct.pack(obj)
        except (struct.error, OverflowError, TypeError):
            raise XDRError(f"{shown(obj)} is not {self.description}", path) from None
        stream.write(data)
        return obj


Int = Number("i", "a signed 32-bit integer")
UInt = Number("I", "an unsigned 32-bit integer")
Hyper = Number("q", "a signed 64-bit integer")
UHyper = Number("Q", "an unsigned 64-bit integer")
Float = Number("f", "a 32-bit floating point number")
Double = Number("d", "a 64-bit floating point number")


class SmallInt(XDR):
    """
    C{char}, C{short} and their unsigned forms: four bytes on the wire.

    Peers extend the sign or do not, so only the low bits are looked at
    (wire-protocol.md section 4); we extend it.
    """

    def __init__(self, bit_count: int, signed: bool) -> None:
        self.bit_count = bit_count
        self.smallest = -(1 << (bit_count - 1)) if signed else 0
        self.largest = self.smallest + (1 << bit_count) - 1
        super().__init__(WORD_BYTES, WORD_BYTES)

    def incoming(self, word: int) -> int:
        """The number in the low bits of a word."""
        number = word & ((1 << self.bit_count) - 1)
        return number if number <= self.largest else number - (1 << self.bit_count)

    def outgoing(self, number: int) -> int:
        """The word that carries C{number}; ValueError when it does not fit."""
        if not isinstance(number, int) or not self.smallest <= number <= self.largest:
            raise ValueError(f"{shown(number)} is not from {self.smallest} to {self.largest}")
        return number & 0xFFFFFFFF

    def _parse(self, stream: Any, context: Any, path: str) -> int:
        return self.incoming(take_word(stream, path))

    def _build(self, obj: Any, stream: Any, context: Any, path: str) -> Any:
        try:
            word = self.outgoing(obj)
        except ValueError as error:
            raise XDRError(str(error), path) from None
        stream.write(_WORD.pack(word))
        return obj


Char = SmallInt(8, signed=True)
UChar = SmallInt(8, signed=False)
Short = SmallInt(16, signed=True)
UShort = SmallInt(16, signed=False)


class Boolean(XDR):
    """
    True or false: 1 or 0.

    @ivar lenient: any value but 0 is true, as in libvirt's programs
        (wire-protocol.md section 0, fact 8).
    """

    def __init__(self, lenient: bool = False) -> None:
        self.lenient = lenient
        super().__init__(WORD_BYTES, WORD_BYTES)

    def _parse(self, stream: Any, context: Any, path: str) -> bool:
        word = take_word(stream, path)
        if word > 1 and not self.lenient:
            raise XDRError(f"{word} is neither 0 nor 1", path)
        return word != 0

    def _build(self, obj: Any, stream: Any, context: Any, path: str) -> Any:
        if not isinstance(obj, bool):
            raise XDRError(f"{shown(obj)} is not a bool", path)
        stream.write(_WORD.pack(obj))
        return obj


class Enumeration(XDR):
    """
    A signed 32-bit number out of those that an IntEnum names.

    @ivar members: the enum's members by their numbers.
    """

    def __init__(self, type: type[enum.IntEnum]) -> None:
        self.type = type
        self.members: Mapping[int, enum.IntEnum] = {int(member): member for member in type}
        super().__init__(WORD_BYTES, WORD_BYTES)

    def _parse(self, stream: Any, context: Any, path: str) -> enum.IntEnum:
        number = Int._parse(stream, context, path)
        if number not in self.members:
            raise XDRError(f"{number} is not a {self.type.__name__}", path)
        return self.members[number]

    def _build(self, obj: Any, stream: Any, context: Any, path: str) -> Any:
        if not isinstance(obj, self.type):
            raise XDRError(f"{shown(obj)} is not a {self.type.__name__}", path)
        return Int._build(int(obj), stream, context, path)


class Void(XDR):
    """Nothing on the wire; C{None} in Python."""

    def __init__(self) -> None:
        super().__init__(0, 0)

    def _parse(self, stream: Any, context: Any, path: str) -> None:
        return None

    def _build(self, obj: Any, stream: Any, context: Any, path: str) -> Any:
        if obj is not None:
            raise XDRError(f"{shown(obj)} is not None", path)


class FixedOpaque(XDR):
    """C{opaque x[byte_count]}: so many bytes, no count, padded to four."""

    def __init__(self, byte_count: int) -> None:
        self.byte_count = byte_count
        self.padding = bytes(-byte_count % WORD_BYTES)
        super().__init__(byte_count + len(self.padding), byte_count + len(self.padding))

    def _parse(self, stream: Any, context: Any, path: str) -> bytes:
        data = take(stream, self.byte_count, path)
        take_padding(stream, self.byte_count, path)
        return data

    def _build(self, obj: Any, stream: Any, context: Any, path: str) -> Any:
        if not isinstance(obj, bytes) or len(obj) != self.byte_count:
            raise XDRError(f"{shown(obj)} is not {self.byte_count} bytes", path)
        stream.write(obj + self.padding)
        return obj


class Opaque(XDR):
    """C{opaque x<limit_bytes>}: a count, bytes, padded to four."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        super().__init__(WORD_BYTES, WORD_BYTES + limit_bytes + -limit_bytes % WORD_BYTES)

    def _parse(self, stream: Any, context: Any, path: str) -> Any:
        byte_count = take_word(stream, path)
        if byte_count > self.limit_bytes:
            raise XDRError(f"{byte_count} bytes announced, at most {self.limit_bytes} allowed", path)
        data = take(stream, byte_count, path)
        take_padding(stream, byte_count, path)
        return data

    def _build(self, obj: Any, stream: Any, context: Any, path: str) -> Any:
        if not isinstance(obj, bytes):
            raise XDRError(f"{shown(obj)} is not bytes", path)
        if len(obj) > self.limit_bytes:
            raise XDRError(f"{len(obj)} bytes, at most {self.limit_bytes} allowed", path)
        stream.write(_WORD.pack(len(obj)) + obj + bytes(-len(obj) % WORD_BYTES))
        return obj


class String(Opaque):
    """
    C{string x<limit_bytes>}: text in UTF-8, without NUL; the limit is in bytes.

    A NUL is refused because C ends the string there, so that the two ends
    would see different names.

    @ivar errors: C{"strict"} for our programs; C{"surrogateescape"} where names
        may be any bytes and must survive a round trip, as in libvirt's.
    """

    def __init__(self, limit_bytes: int, errors: str = "strict") -> None:
        super().__init__(limit_bytes)
        self.errors = errors

    def _parse(self, stream: Any, context: Any, path: str) -> str:
        data: bytes = super()._parse(stream, context, path)
        if 0 in data:
            raise XDRError("NUL in a string", path)
        try:
            return data.decode("utf-8", self.errors)
        except UnicodeDecodeError as error:
            raise XDRError(f"not UTF-8 at byte {error.start}", path) from None

    def _build(self, obj: Any, stream: Any, context: Any, path: str) -> Any:
        if not isinstance(obj, str):
            raise XDRError(f"{shown(obj)} is not a str", path)
        if "\0" in obj:
            raise XDRError("NUL in a string", path)
        try:
            data = obj.encode("utf-8", self.errors)
        except UnicodeEncodeError as error:
            raise XDRError(f"not valid text at character {error.start}", path) from None
        return super()._build(data, stream, context, path)


class FixedChars(XDR):
    """C{char x[byte_count]}: bytes in Python, four bytes on the wire for each."""

    def __init__(self, byte_count: int) -> None:
        self.byte_count = byte_count
        super().__init__(WORD_BYTES * byte_count, WORD_BYTES * byte_count)

    def _parse(self, stream: Any, context: Any, path: str) -> bytes:
        return narrow_chars(take(stream, WORD_BYTES * self.byte_count, path))

    def _build(self, obj: Any, stream: Any, context: Any, path: str) -> Any:
        if not isinstance(obj, bytes) or len(obj) != self.byte_count:
            raise XDRError(f"{shown(obj)} is not {self.byte_count} bytes", path)
        stream.write(widen_chars(obj))
        return obj


class Chars(XDR):
    """C{char x<limit_bytes>}: a count, then four bytes on the wire for each byte."""

    def __init__(self, limit_bytes: int) -> None:
        self.limit_bytes = limit_bytes
        super().__init__(WORD_BYTES, WORD_BYTES + WORD_BYTES * limit_bytes)

    def _parse(self, stream: Any, context: Any, path: str) -> bytes:
        byte_count = take_word(stream, path)
        if byte_count > self.limit_bytes:
            raise XDRError(f"{byte_count} characters announced, at most {self.limit_bytes} allowed", path)
        return narrow_chars(take(stream, WORD_BYTES * byte_count, path))

    def _build(self, obj: Any, stream: Any, context: Any, path: str) -> Any:
        if not isinstance(obj, bytes):
            raise XDRError(f"{shown(obj)} is not bytes", path)
        if len(obj) > self.limit_bytes:
            raise XDRError(f"{len(obj)} bytes, at most {self.limit_bytes} allowed", path)
        stream.write(_WORD.pack(len(obj)) + widen_chars(obj))
        return obj


def narrow_chars(data: bytes) -> bytes:
    """The low byte of each word (a sender may have extended its sign)."""
    return data[3::4]


def widen_chars(data: bytes) -> bytes:
    """A word for each byte, its sign extended as C's C{char} has it on x86."""
    wide = bytearray(WORD_BYTES * len(data))
    wide[0::4] = wide[1::4] = wide[2::4] = data.translate(_SIGN)
    wide[3::4] = data
    return bytes(wide)


_SIGN = bytes(0xFF if byte > 0x7F else 0 for byte in range(256))
