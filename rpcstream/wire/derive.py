"""
Fast closures derived from a Construct declaration.

A declaration is walked once; each node becomes a pair of closures, C{write} and
C{read}, and neighbouring fields of fixed size share one C{struct.Struct}.  That
is about 25 times as fast as interpreting the Construct.  What cannot be derived
(a stock Construct, C{LazyBound}) is interpreted in its place.

The closures refuse exactly what the interpreted Construct refuses (tests prove
it) but by whatever exception comes cheapest: L{rpcstream.wire.codec} catches
them all, and asks the interpreted Construct for the reason.
"""

from __future__ import annotations

import struct
from collections.abc import Callable
from typing import Any

import construct

from rpcstream.errors import BadSchema
from rpcstream.limits import XDR_DEPTH
from rpcstream.wire import composite, xdr
from rpcstream.wire.items import SCALARS, Layout, Refused, item, pack_word, unpack_word
from rpcstream.wire.reader import Budget, Reader

__all__ = ["derive"]

_ABSENT = b"\0\0\0\0"
_PRESENT = b"\0\0\0\1"
_STOCK_FORMATS = frozenset("bBhHlLqQfd")


def derive(declaration: Any, depth: int = 0) -> Layout:
    """
    The closures for a declaration.

    @param depth: how many composite values it sits in.
    @raise BadSchema: it nests deeper than L{XDR_DEPTH}.
    """
    if scalar := SCALARS.get(type(declaration)):
        return scalar(declaration)
    if composed := _COMPOSITES.get(type(declaration)):
        if depth >= XDR_DEPTH:
            raise BadSchema(f"nested deeper than {XDR_DEPTH}")
        return composed(declaration, depth)
    if isinstance(declaration, construct.Renamed):
        return derive(declaration.subcon, depth)
    if isinstance(declaration, construct.FormatField):
        return _stock_number(declaration, depth)
    return _interpreted(declaration, depth)


# --- made of others ---------------------------------------------------------------------


def _optional(declaration: composite.Optional, depth: int) -> Layout:
    lenient = declaration.lenient
    inner = derive(declaration.subcon, depth + 1)
    write_inner, read_inner = inner.write, inner.read

    def write(value: Any, append: Callable[[bytes], None], budget: list[int]) -> None:
        if value is None:
            append(_ABSENT)
        else:
            append(_PRESENT)
            write_inner(value, append, budget)

    def read(data: bytes, offset: int, budget: list[int]) -> tuple[Any, int]:
        flag = unpack_word(data, offset)[0]
        if flag == 0:
            return None, offset + 4
        if flag > 1 and not lenient:
            raise Refused
        return read_inner(data, offset + 4, budget)

    return Layout(write, read)


def _elements(
    declaration: Any, depth: int
) -> tuple[Callable[..., None], Callable[[bytes, int, int, list[int]], tuple[Any, int]]]:
    """The loops over the elements of an array: C{write} and C{read(..., count, ...)}."""
    inner = derive(declaration.subcon, depth + 1)
    write_inner, read_inner = inner.write, inner.read
    smallest = declaration.element_bytes

    def charge(count: int, budget: list[int]) -> None:
        if count > budget[0]:
            raise Refused
        budget[0] -= count

    if inner.format and inner.outgoing is None and inner.incoming is None:
        # Plain numbers: one C call for all of them.
        format = inner.format

        def write_numbers(values: Any, append: Callable[[bytes], None], budget: list[int]) -> None:
            charge(len(values), budget)
            append(struct.pack(f">{len(values)}{format}", *values))

        def read_numbers(data: bytes, offset: int, count: int, budget: list[int]) -> tuple[Any, int]:
            if count * smallest > len(data) - offset:
                raise Refused
            charge(count, budget)
            values = struct.unpack_from(f">{count}{format}", data, offset)
            return values, offset + count * smallest

        return write_numbers, read_numbers

    def write(values: Any, append: Callable[[bytes], None], budget: list[int]) -> None:
        charge(len(values), budget)
        for value in values:
            write_inner(value, append, budget)

    def read(data: bytes, offset: int, count: int, budget: list[int]) -> tuple[Any, int]:
        if count * smallest > len(data) - offset:
            raise Refused
        charge(count, budget)
        values: list[Any] = []
        add = values.append
        for _ in range(count):
            value, offset = read_inner(data, offset, budget)
            add(value)
        return tuple(values), offset

    return write, read


def _fixed_array(declaration: composite.FixedArray, depth: int) -> Layout:
    count = declaration.count
    write_elements, read_elements = _elements(declaration, depth)

    def write(value: Any, append: Callable[[bytes], None], budget: list[int]) -> None:
        if (value.__class__ is not tuple and value.__class__ is not list) or len(value) != count:
            raise Refused
        write_elements(value, append, budget)

    def read(data: bytes, offset: int, budget: list[int]) -> tuple[Any, int]:
        return read_elements(data, offset, count, budget)

    return Layout(write, read)


def _array(declaration: composite.Array, depth: int) -> Layout:
    limit = declaration.limit_count
    write_elements, read_elements = _elements(declaration, depth)

    def write(value: Any, append: Callable[[bytes], None], budget: list[int]) -> None:
        if (value.__class__ is not tuple and value.__class__ is not list) or len(value) > limit:
            raise Refused
        append(pack_word(len(value)))
        write_elements(value, append, budget)

    def read(data: bytes, offset: int, budget: list[int]) -> tuple[Any, int]:
        count = unpack_word(data, offset)[0]
        if count > limit:
            raise Refused
        return read_elements(data, offset + 4, count, budget)

    return Layout(write, read)


def _union(declaration: composite.Union, depth: int) -> Layout:
    arms = {number: derive(arm, depth + 1) for number, arm in declaration.arms.items()}
    readers = {number: arm.read for number, arm in arms.items()}
    tagged = declaration.types is None
    number_of = xdr.Int.struct

    def write(value: Any, append: Callable[[bytes], None], budget: list[int]) -> None:
        number, value = declaration.split(value, "")
        append(number_of.pack(number))
        arms[number].write(value, append, budget)

    def read(data: bytes, offset: int, budget: list[int]) -> tuple[Any, int]:
        number = number_of.unpack_from(data, offset)[0]
        value, offset = readers[number](data, offset + 4, budget)
        return (number, value) if tagged else value, offset

    return Layout(write, read)


# --- records ------------------------------------------------------------------------------

_SegmentWrite = Callable[[Any, Callable[[bytes], None], list[int]], None]
_SegmentRead = Callable[[bytes, int, list[int], list[Any]], int]


def _single(index: int, layout: Layout) -> tuple[_SegmentWrite, _SegmentRead]:
    """A segment of one field of varying size."""
    write_field, read_field = layout.write, layout.read

    def write(values: Any, append: Callable[[bytes], None], budget: list[int]) -> None:
        write_field(values[index], append, budget)

    def read(data: bytes, offset: int, budget: list[int], values: list[Any]) -> int:
        value, offset = read_field(data, offset, budget)
        values.append(value)
        return offset

    return write, read


def _run(first: int, layouts: list[Layout]) -> tuple[_SegmentWrite, _SegmentRead]:
    """A segment of neighbouring fields of fixed size."""
    packed = struct.Struct(">" + "".join(layout.format for layout in layouts))
    pack, unpack_from, size = packed.pack, packed.unpack_from, packed.size
    behind = first + len(layouts)
    outgoing = [(index, layout.outgoing) for index, layout in enumerate(layouts) if layout.outgoing]
    incoming = [(index, layout.incoming) for index, layout in enumerate(layouts) if layout.incoming]

    def write(values: Any, append: Callable[[bytes], None], budget: list[int]) -> None:
        items = values[first:behind]
        if outgoing:
            items = list(items)
            for index, convert in outgoing:
                items[index] = convert(items[index])
        append(pack(*items))

    def read(data: bytes, offset: int, budget: list[int], values: list[Any]) -> int:
        if incoming:
            items = list(unpack_from(data, offset))
            for index, convert in incoming:
                items[index] = convert(items[index])
            values += items
        else:
            values += unpack_from(data, offset)
        return offset + size

    return write, read


def _record(declaration: composite.Record, depth: int) -> Layout:
    layouts = [derive(field, depth + 1) for field in declaration.subcons]
    segments: list[tuple[_SegmentWrite, _SegmentRead]] = []
    index = 0
    while index < len(layouts):
        behind = index
        while behind < len(layouts) and layouts[behind].format:
            behind += 1
        if behind == index:
            segments.append(_single(index, layouts[index]))
            index += 1
        else:
            segments.append(_run(index, layouts[index:behind]))
            index = behind
    writers = [write for write, _ in segments]
    readers = [read for _, read in segments]
    type, split, make = declaration.type, declaration.split, declaration.make
    new = tuple.__new__

    def write(value: Any, append: Callable[[bytes], None], budget: list[int]) -> None:
        values = value if type is not None and value.__class__ is type else split(value, "")
        for write_segment in writers:
            write_segment(values, append, budget)

    def read(data: bytes, offset: int, budget: list[int]) -> tuple[Any, int]:
        values: list[Any] = []
        for read_segment in readers:
            offset = read_segment(data, offset, budget, values)
        return make(values) if type is None else new(type, values), offset

    whole = None
    if type is not None and all(_is_plain(layout) for layout in layouts):
        whole = struct.Struct(">" + "".join(layout.format for layout in layouts))
    return Layout(write, read, whole=whole)


def _is_plain(layout: Layout) -> bool:
    return bool(layout.format) and layout.outgoing is None and layout.incoming is None


# --- what is not ours ---------------------------------------------------------------------


def _stock_number(declaration: Any, depth: int) -> Layout:
    # Annotated[int, construct.Int64ub]: big-endian and no conversion, or interpreted.
    order, format = declaration.fmtstr[0], declaration.fmtstr[1:]
    if order == ">" and format in _STOCK_FORMATS:
        return item(format)
    return _interpreted(declaration, depth)


def _interpreted(declaration: Any, depth: int) -> Layout:
    """Any other Construct: interpreted, within the depth and elements that are left."""

    def write(value: Any, append: Callable[[bytes], None], budget: list[int]) -> None:
        stream = Reader(b"", Budget(depth, budget[0]))
        declaration.build_stream(value, stream)
        budget[0] = stream.xdr_budget.element_count
        append(stream.getvalue())

    def read(data: bytes, offset: int, budget: list[int]) -> tuple[Any, int]:
        stream = Reader(data, Budget(depth, budget[0]))
        stream.seek(offset)
        value = declaration.parse_stream(stream)
        budget[0] = stream.xdr_budget.element_count
        return value, stream.tell()

    return Layout(write, read)


_COMPOSITES: dict[type, Callable[[Any, int], Layout]] = {
    composite.Optional: _optional,
    composite.FixedArray: _fixed_array,
    composite.Array: _array,
    composite.Union: _union,
    composite.Record: _record,
}
