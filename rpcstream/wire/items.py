"""
The closures of the scalar types, for L{rpcstream.wire.derive}.

A value of fixed size is described by a C{struct} format, so that neighbours can
share one C{struct.Struct}; bytes and text have loops of their own.  The closures
refuse what does not fit by whatever exception comes cheapest.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any, NamedTuple

from rpcstream.wire import xdr

__all__ = ["SCALARS", "Layout", "Read", "Refused", "Write", "item", "pack_word", "unpack_word"]

Write = Callable[[Any, Callable[[bytes], None], list[int]], None]
"""C{write(value, append, budget)}: append the encoding; C{budget[0]} = elements left."""
Read = Callable[[bytes, int, list[int]], tuple[Any, int]]
"""C{read(data, offset, budget)} gives the value and the offset behind it."""

_WORD = struct.Struct(">I")
pack_word = _WORD.pack
unpack_word = _WORD.unpack_from
_PADDING = (b"", b"\0\0\0", b"\0\0", b"\0")  # by size modulo 4


class Refused(Exception):
    """The value or the bytes do not fit; the interpreted Construct knows why."""


class Layout(NamedTuple):
    """
    What one node of a declaration was turned into.

    @ivar format: C{struct} format of a value of fixed size that is one item,
        else C{""}; such a value can share a C{struct.Struct} with neighbours.
    @ivar outgoing: turns a value into that item, C{None} if it is the item.
    @ivar incoming: the reverse.
    @ivar whole: for a record of such fields without conversions: all of it.
    """

    write: Write
    read: Read
    format: str = ""
    outgoing: Callable[[Any], Any] | None = None
    incoming: Callable[[Any], Any] | None = None
    whole: struct.Struct | None = None


# --- one item of fixed size ---------------------------------------------------------


def item(
    format: str,
    outgoing: Callable[[Any], Any] | None = None,
    incoming: Callable[[Any], Any] | None = None,
) -> Layout:
    packed = struct.Struct(">" + format)
    pack, unpack_from, size = packed.pack, packed.unpack_from, packed.size

    def write(value: Any, append: Callable[[bytes], None], budget: list[int]) -> None:
        append(pack(value if outgoing is None else outgoing(value)))

    def read(data: bytes, offset: int, budget: list[int]) -> tuple[Any, int]:
        value = unpack_from(data, offset)[0]
        return value if incoming is None else incoming(value), offset + size

    return Layout(write, read, format, outgoing, incoming)


def _number(declaration: xdr.Number) -> Layout:
    return item(declaration.format)


def _small_int(declaration: xdr.SmallInt) -> Layout:
    return item("I", declaration.outgoing, declaration.incoming)


def _boolean(declaration: xdr.Boolean) -> Layout:
    def outgoing(value: Any) -> Any:
        if value is True or value is False:
            return value
        raise Refused

    return item("I", outgoing, bool if declaration.lenient else {0: False, 1: True}.__getitem__)


def _enumeration(declaration: xdr.Enumeration) -> Layout:
    type = declaration.type

    def outgoing(value: Any) -> Any:
        if isinstance(value, type):
            return value
        raise Refused

    return item("i", outgoing, declaration.members.__getitem__)


def _fixed_opaque(declaration: xdr.FixedOpaque) -> Layout:
    byte_count, padding = declaration.byte_count, declaration.padding

    def outgoing(value: Any) -> Any:
        if not isinstance(value, bytes) or len(value) != byte_count:
            raise Refused
        return value + padding if padding else value

    def incoming(value: bytes) -> bytes:
        if value[byte_count:] != padding:
            raise Refused
        return value[:byte_count]

    return item(f"{byte_count + len(padding)}s", outgoing, incoming if padding else None)


def _fixed_chars(declaration: xdr.FixedChars) -> Layout:
    byte_count = declaration.byte_count

    def outgoing(value: Any) -> bytes:
        if not isinstance(value, bytes) or len(value) != byte_count:
            raise Refused
        return xdr.widen_chars(value)

    return item(f"{4 * byte_count}s", outgoing, xdr.narrow_chars)


# --- bytes and text -------------------------------------------------------------------


def _opaque(declaration: xdr.Opaque) -> Layout:
    limit = declaration.limit_bytes

    def write(value: Any, append: Callable[[bytes], None], budget: list[int]) -> None:
        if not isinstance(value, bytes) or len(value) > limit:
            raise Refused
        size = len(value)
        append(pack_word(size) + value + _PADDING[size & 3])

    def read(data: bytes, offset: int, budget: list[int]) -> tuple[Any, int]:
        size = unpack_word(data, offset)[0]
        offset += 4
        end = offset + size
        padding = _PADDING[size & 3]
        # A padding cut short is not equal, and a cut value is seen by its padding or its end.
        if size > limit or end > len(data) or data[end : end + len(padding)] != padding:
            raise Refused
        return data[offset:end], end + len(padding)

    return Layout(write, read)


def _string(declaration: xdr.String) -> Layout:
    limit, errors = declaration.limit_bytes, declaration.errors

    def write(value: Any, append: Callable[[bytes], None], budget: list[int]) -> None:
        if not isinstance(value, str):
            raise Refused
        data = value.encode("utf-8", errors)
        size = len(data)
        if size > limit or 0 in data:
            raise Refused
        append(pack_word(size) + data + _PADDING[size & 3])

    def read(data: bytes, offset: int, budget: list[int]) -> tuple[Any, int]:
        size = unpack_word(data, offset)[0]
        offset += 4
        end = offset + size
        padding = _PADDING[size & 3]
        if size > limit or end > len(data) or data[end : end + len(padding)] != padding:
            raise Refused
        value = data[offset:end]
        if 0 in value:
            raise Refused
        return value.decode("utf-8", errors), end + len(padding)

    return Layout(write, read)


def _chars(declaration: xdr.Chars) -> Layout:
    limit = declaration.limit_bytes

    def write(value: Any, append: Callable[[bytes], None], budget: list[int]) -> None:
        if not isinstance(value, bytes) or len(value) > limit:
            raise Refused
        append(pack_word(len(value)) + xdr.widen_chars(value))

    def read(data: bytes, offset: int, budget: list[int]) -> tuple[Any, int]:
        size = unpack_word(data, offset)[0]
        offset += 4
        end = offset + 4 * size
        if size > limit or end > len(data):
            raise Refused
        return xdr.narrow_chars(data[offset:end]), end

    return Layout(write, read)


def _void(declaration: xdr.Void) -> Layout:
    def write(value: Any, append: Callable[[bytes], None], budget: list[int]) -> None:
        if value is not None:
            raise Refused

    def read(data: bytes, offset: int, budget: list[int]) -> tuple[Any, int]:
        return None, offset

    return Layout(write, read)


SCALARS: dict[type, Callable[[Any], Layout]] = {
    xdr.Number: _number,
    xdr.SmallInt: _small_int,
    xdr.Boolean: _boolean,
    xdr.Enumeration: _enumeration,
    xdr.FixedOpaque: _fixed_opaque,
    xdr.FixedChars: _fixed_chars,
    xdr.Opaque: _opaque,
    xdr.String: _string,
    xdr.Chars: _chars,
    xdr.Void: _void,
}
"""What makes the closures, by the class of the declaration."""
