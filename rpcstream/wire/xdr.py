"""
The scalar types of XDR (RFC 4506) as Construct declarations.

These declare what is on the wire and are the reference for the fast codecs of
L{rpcstream.wire.derive}, which are proved equal to them by tests.  What is made
of other types (arrays, optionals, unions, records) is in
L{rpcstream.wire.composite}.

All raise L{construct.ConstructError} only; L{rpcstream.wire.codec} turns that
into errors of ours.
"""

from __future__ import annotations

import enum
import struct
from collections.abc import Mapping
from typing import Any

from rpcstream.errors import BadSchema
from rpcstream.wire.reader import WORD_BYTES, XDR, XDRError, pack_word, shown, take, take_padding, take_word

__all__ = [
    "Boolean",
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
    "Short",
    "SmallInt",
    "String",
    "UChar",
    "UHyper",
    "UInt",
    "UShort",
    "Void",
    "narrow_chars",
    "widen_chars",
]


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
        stream.write(pack_word(word))
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
        stream.write(pack_word(obj))
        return obj


class Enumeration(XDR):
    """
    A signed 32-bit number out of those that an IntEnum names.

    @ivar members: the enum's members by their numbers.
    """

    def __init__(self, type: type[enum.IntEnum]) -> None:
        self.type = type
        self.members: Mapping[int, enum.IntEnum] = {int(member): member for member in type}
        if any(not -(1 << 31) <= number < 1 << 31 for number in self.members):
            raise BadSchema(f"{type.__name__} has members that are no signed 32-bit integers")
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
        stream.write(pack_word(len(obj)) + obj + bytes(-len(obj) % WORD_BYTES))
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
        stream.write(pack_word(len(obj)) + widen_chars(obj))
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
