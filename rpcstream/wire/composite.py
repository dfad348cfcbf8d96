"""
The XDR types that are made of others: optional, arrays, union and record.

Counts are compared with the bytes that are left before anything is made,
nesting and the number of elements are limited for each message, and an array
whose elements take no bytes is refused when it is declared.  As for the scalar
types, only L{construct.ConstructError} is raised for values and bytes; a
declaration that cannot be used is L{rpcstream.errors.BadSchema}.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

import construct

from rpcstream.errors import BadSchema
from rpcstream.limits import XDR_ELEMENT_COUNT
from rpcstream.wire.reader import (
    WORD_BYTES,
    XDR,
    XDRError,
    budget_of,
    bytes_left,
    largest_bytes,
    shown,
    smallest_bytes,
    take_word,
)
from rpcstream.wire.xdr import Int, UInt

__all__ = ["Array", "FixedArray", "Optional", "Record", "Union"]


def _parse_part(declaration: Any, stream: Any, context: Any, path: str) -> Any:
    return declaration._parsereport(stream, context, path)


class Optional(XDR):
    """
    C{T *x}: a flag, then the value if there is one; C{None} if not.

    @ivar lenient: any flag but 0 means present, as in libvirt's programs
        (go-libvirt sends 0x01000000).
    """

    def __init__(self, subcon: Any, lenient: bool = False) -> None:
        most = largest_bytes(subcon)
        super().__init__(WORD_BYTES, None if most is None else WORD_BYTES + most)
        self.subcon = subcon
        self.lenient = lenient

    def _parse(self, stream: Any, context: Any, path: str) -> Any:
        flag = take_word(stream, path)
        if flag == 0:
            return None
        if flag > 1 and not self.lenient:
            raise XDRError(f"flag {flag} is neither 0 nor 1", path)
        budget = budget_of(stream)
        budget.enter(path)
        value = _parse_part(self.subcon, stream, context, path)
        budget.leave()
        return value

    def _build(self, obj: Any, stream: Any, context: Any, path: str) -> Any:
        if obj is None:
            return UInt._build(0, stream, context, path)
        UInt._build(1, stream, context, path)
        budget = budget_of(stream)
        budget.enter(path)
        self.subcon._build(obj, stream, context, path)
        budget.leave()
        return obj


class _Elements(XDR):
    """What the two kinds of array share: the loop over their elements."""

    def __init__(self, subcon: Any, count_bytes: int, least_count: int, most_count: int) -> None:
        least = smallest_bytes(subcon)
        if least == 0:
            raise BadSchema("an array needs elements that are known to take bytes on the wire")
        most = largest_bytes(subcon)
        super().__init__(
            count_bytes + least_count * least, None if most is None else count_bytes + most_count * most
        )
        self.subcon = subcon
        self.element_bytes = least

    def _parse_elements(self, count: int, stream: Any, context: Any, path: str) -> tuple[Any, ...]:
        left = bytes_left(stream)
        if count * self.element_bytes > left:
            raise XDRError(f"{count} elements announced, {left} bytes left", path)
        budget = budget_of(stream)
        budget.enter(path)
        budget.count(count, path)
        values = tuple(
            _parse_part(self.subcon, stream, context, f"{path} -> [{index}]") for index in range(count)
        )
        budget.leave()
        return values

    def _build_elements(self, values: Sequence[Any], stream: Any, context: Any, path: str) -> None:
        budget = budget_of(stream)
        budget.enter(path)
        budget.count(len(values), path)
        for index, value in enumerate(values):
            self.subcon._build(value, stream, context, f"{path} -> [{index}]")
        budget.leave()


def _check_sequence(obj: Any, path: str) -> None:
    # Exactly these: a Struct is a tuple as well, and would be taken apart.
    if obj.__class__ is not tuple and obj.__class__ is not list:
        raise XDRError(f"{shown(obj)} is not a tuple", path)


class FixedArray(_Elements):
    """C{T x[count]}: so many elements, no count on the wire; a tuple in Python."""

    def __init__(self, subcon: Any, count: int) -> None:
        if count > XDR_ELEMENT_COUNT:
            raise BadSchema(f"{count} elements, a message takes at most {XDR_ELEMENT_COUNT}")
        super().__init__(subcon, 0, count, count)
        self.count = count

    def _parse(self, stream: Any, context: Any, path: str) -> tuple[Any, ...]:
        return self._parse_elements(self.count, stream, context, path)

    def _build(self, obj: Any, stream: Any, context: Any, path: str) -> Any:
        _check_sequence(obj, path)
        if len(obj) != self.count:
            raise XDRError(f"{len(obj)} elements, {self.count} needed", path)
        self._build_elements(obj, stream, context, path)
        return obj


class Array(_Elements):
    """C{T x<limit_count>}: a count, then the elements; a tuple in Python."""

    def __init__(self, subcon: Any, limit_count: int) -> None:
        super().__init__(subcon, WORD_BYTES, 0, limit_count)
        self.limit_count = limit_count

    def _parse(self, stream: Any, context: Any, path: str) -> tuple[Any, ...]:
        count = take_word(stream, path)
        if count > self.limit_count:
            raise XDRError(f"{count} elements announced, at most {self.limit_count} allowed", path)
        return self._parse_elements(count, stream, context, path)

    def _build(self, obj: Any, stream: Any, context: Any, path: str) -> Any:
        _check_sequence(obj, path)
        if len(obj) > self.limit_count:
            raise XDRError(f"{len(obj)} elements, at most {self.limit_count} allowed", path)
        UInt._build(len(obj), stream, context, path)
        self._build_elements(obj, stream, context, path)
        return obj


class Union(XDR):
    """
    C{union switch (int)}: a number, then the arm it selects; no default arm.

    @ivar arms: the declarations by number.
    @ivar types: the Python type of each arm's values, by number.  With it the
        value alone stands for the union, and its type selects the arm.
        Without it (C{None}) a value is a tuple C{(number, value)}.
    """

    def __init__(self, arms: Mapping[int, Any], types: Mapping[int, type] | None = None) -> None:
        if not arms:
            raise BadSchema("a union needs an arm")
        if any(not -(1 << 31) <= number < 1 << 31 for number in arms):
            raise BadSchema("discriminants of a union are signed 32-bit integers")
        if types is not None and len(set(types.values())) != len(arms):
            raise BadSchema("arms of a union that have the same Python type: make each a Struct of its own")
        most = [largest_bytes(arm) for arm in arms.values()]
        known = [size for size in most if size is not None]
        super().__init__(
            WORD_BYTES + min(smallest_bytes(arm) for arm in arms.values()),
            WORD_BYTES + max(known) if len(known) == len(most) else None,
        )
        self.arms = dict(arms)
        self.types = None if types is None else dict(types)
        self.numbers = None if types is None else {type: number for number, type in types.items()}

    def _parse(self, stream: Any, context: Any, path: str) -> Any:
        number = Int._parse(stream, context, path)
        if number not in self.arms:
            raise XDRError(f"no arm for discriminant {number}", path)
        budget = budget_of(stream)
        budget.enter(path)
        value = _parse_part(self.arms[number], stream, context, path)
        budget.leave()
        return (number, value) if self.types is None else value

    def _build(self, obj: Any, stream: Any, context: Any, path: str) -> Any:
        number, value = self.split(obj, path)
        Int._build(number, stream, context, path)
        budget = budget_of(stream)
        budget.enter(path)
        self.arms[number]._build(value, stream, context, path)
        budget.leave()
        return obj

    def split(self, obj: Any, path: str) -> tuple[int, Any]:
        """The discriminant and the arm's value; L{XDRError} if there is none for C{obj}."""
        if self.numbers is not None:
            if obj.__class__ not in self.numbers:
                raise XDRError(f"no arm for a {type(obj).__name__}", path)
            return self.numbers[obj.__class__], obj
        if not isinstance(obj, tuple) or len(obj) != 2:
            raise XDRError(f"{shown(obj)} is not (number, value)", path)
        if not isinstance(obj[0], int) or obj[0] not in self.arms:
            raise XDRError(f"no arm for discriminant {shown(obj[0])}", path)
        return obj


class Record(XDR):
    """
    C{struct}: named fields one after the other.

    @ivar type: the tuple class of its values; C{None} for
        L{construct.Container} out and any mapping in.
    """

    def __init__(self, *subcons: Any, type: type[tuple[Any, ...]] | None = None) -> None:
        most = [largest_bytes(subcon) for subcon in subcons]
        known = [size for size in most if size is not None]
        super().__init__(
            sum(smallest_bytes(subcon) for subcon in subcons),
            sum(known) if len(known) == len(most) else None,
        )
        self.subcons = list(subcons)
        self.type = type

    def _parse(self, stream: Any, context: Any, path: str) -> Any:
        budget = budget_of(stream)
        budget.enter(path)
        values = [_parse_part(subcon, stream, context, path) for subcon in self.subcons]
        budget.leave()
        return self.make(values)

    def _build(self, obj: Any, stream: Any, context: Any, path: str) -> Any:
        budget = budget_of(stream)
        budget.enter(path)
        for subcon, value in zip(self.subcons, self.split(obj, path), strict=True):
            subcon._build(value, stream, context, path)
        budget.leave()
        return obj

    def make(self, values: Sequence[Any]) -> Any:
        """The value that these field values make up."""
        if self.type is not None:
            return tuple.__new__(self.type, values)
        return construct.Container(
            (subcon.name, value) for subcon, value in zip(self.subcons, values, strict=True)
        )

    def split(self, obj: Any, path: str) -> Sequence[Any]:
        """The values of the fields in order; L{XDRError} if C{obj} is not of this record."""
        if self.type is not None:
            if obj.__class__ is not self.type:
                raise XDRError(f"{shown(obj)} is not a {self.type.__name__}", path)
            fields: Sequence[Any] = obj
            return fields
        try:
            return [obj[subcon.name] for subcon in self.subcons]
        except (LookupError, TypeError):
            raise XDRError(f"{shown(obj)} lacks a field", path) from None
