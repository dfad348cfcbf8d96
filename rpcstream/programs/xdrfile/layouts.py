"""
From the types of C{.x} files to annotations, Struct classes and enums.

The result is what one would have written by hand with L{rpcstream.wire.annotations}.
A union's value is a tuple C{(discriminant, value of the arm)}, because two arms
may have the same type.
"""

from __future__ import annotations

import contextlib
import enum
import types
from collections.abc import Iterator, Mapping, Sequence
from typing import Annotated, Any, Optional

from rpcstream.errors import BadSchema
from rpcstream.limits import XDR_ELEMENT_COUNT
from rpcstream.programs.xdrfile.constructs import Later
from rpcstream.programs.xdrfile.errors import BadXDRFile
from rpcstream.programs.xdrfile.facts import HEADER_TYPES
from rpcstream.programs.xdrfile.naming import class_name, field_names, unused
from rpcstream.programs.xdrfile.scope import Scope, XDRFile
from rpcstream.programs.xdrfile.syntax import (
    Builtin,
    Declaration,
    EnumBody,
    Name,
    Shape,
    StructBody,
    Type,
    Typedef,
    UnionBody,
    Value,
)
from rpcstream.programs.xdrfile.unions import union
from rpcstream.wire import PAYLOAD_BYTES, Fixed, Max, Struct, xdr
from rpcstream.wire.annotations import Char, Double, Float, Hyper, Int, Short, UChar, UHyper, UInt, UShort
from rpcstream.wire.schema import construct_of

__all__ = ["Layouts", "located"]

_UNLIMITED = (1 << 32) - 1
"""C{x<>}: whatever a count can say; messages have limits of their own."""

_NO_MEMBERS = frozenset({"mro", *dir(int)})
"""What an IntEnum has already."""

_BUILTIN: Mapping[str, Any] = {
    "bool": bool,
    "char": Char,
    "double": Double,
    "float": Float,
    "hyper": Hyper,
    "int": Int,
    "long": Int,
    # No type of Python holds these, and nobody is known to use them.
    "quadruple": Annotated[bytes, Fixed(16)],
    "short": Short,
    "unsigned char": UChar,
    "unsigned hyper": UHyper,
    "unsigned int": UInt,
    "unsigned long": UInt,
    "unsigned short": UShort,
}


@contextlib.contextmanager
def located(file: XDRFile, offset: int) -> Iterator[None]:
    """Give a L{BadSchema} from within the place that it is about."""
    try:
        yield
    except BadXDRFile:
        raise
    except BadSchema as error:
        raise file.source.error(offset, str(error)) from None


def _tuple_of(element: Any) -> Any:
    return tuple[element, ...]


class Layouts:
    """Annotations of types, made once each."""

    def __init__(self, scope: Scope) -> None:
        self._scope = scope
        self._made: dict[tuple[XDRFile, str], Any] = {}
        # Types being made, each with the number of indirections that were open then.
        self._under_way: dict[tuple[XDRFile, str], int] = {}
        self._indirections = 0
        self._fields: dict[tuple[XDRFile, int], dict[str, Any]] = {}
        self._enums: dict[tuple[XDRFile, int], type[enum.IntEnum]] = {}
        self._class_names: set[str] = set()

    def named(self, file: XDRFile, name: Name) -> Any:
        """
        The annotation for the name of a type, as seen from C{file}.

        @raise BadXDRFile: nothing declares it, or it cannot exist.
        """
        found = self._scope.definition(file, name.text)
        if found is None:
            if name.text in HEADER_TYPES:
                return HEADER_TYPES[name.text]
            raise file.source.error(name.offset, f"nothing declares a type {name.text}")
        home, definition = found
        key = home, name.text
        if key in self._made:
            return self._made[key]
        if key in self._under_way:
            if self._indirections == self._under_way[key]:
                raise file.source.error(
                    name.offset, f"{name.text} contains itself; that takes an optional, an array or a union"
                )
            return Annotated[Any, Later(name.text, lambda: construct_of(self._made[key], home.lenient))]
        self._under_way[key] = self._indirections
        try:
            if isinstance(definition, Typedef):
                made = self.declared(home, definition.declaration, class_name(name.text))
            else:
                made = self._body(home, definition.body, class_name(name.text))
        finally:
            del self._under_way[key]
        self._made[key] = made
        return made

    def of_type(self, file: XDRFile, type: Type, owner: str) -> Any:
        """
        The annotation for a type by itself.

        @param owner: a class name for a type that has no name.
        """
        if isinstance(type, Name):
            return self.named(file, type)
        if not isinstance(type, Builtin):
            return self._body(file, type, owner)
        if type.text == "void":
            return None
        if type.text == "string":
            return Annotated[str, Max(_UNLIMITED)]
        if type.text == "opaque":
            raise file.source.error(type.offset, "opaque takes a length: opaque x[16] or opaque x<16>")
        return _BUILTIN[type.text]

    def declared(self, file: XDRFile, declaration: Declaration, owner: str) -> Any:
        """
        The annotation for a field, an arm or a typedef.

        @param owner: a class name for a type without a name in it.
        """
        type, name, shape, size = declaration
        if isinstance(type, Builtin) and type.text in ("opaque", "string", "char"):
            found = self._bytes(file, type, shape, size)
            if found is not None:
                return found
        if shape is Shape.PLAIN:
            if isinstance(type, Builtin) and type.text == "string":
                raise file.source.error(name.offset, "a string takes a limit: string x<64>, or string x<>")
            return self.of_type(file, type, owner)
        if shape is Shape.FIXED:
            element, count = self.of_type(file, type, owner), self._count(file, size, 1, XDR_ELEMENT_COUNT)
            return Annotated[_tuple_of(element), Fixed(count)]
        self._indirections += 1
        try:
            element = self.of_type(file, type, owner)
        finally:
            self._indirections -= 1
        if shape is Shape.VARIABLE:
            return Annotated[_tuple_of(element), Max(self._count(file, size, 0, _UNLIMITED))]
        if self._is_optional(file, type):
            # None can mean one absence only; a struct of one field costs nothing on the wire.
            element = self.struct(file, owner, {"value": element})
        return Optional[element]  # noqa: UP045 - what is made at run time

    def _bytes(self, file: XDRFile, type: Builtin, shape: Shape, size: Value | None) -> Any:
        """The annotation for bytes and text, C{None} if it is neither."""
        if shape is Shape.FIXED and type.text != "string":
            if type.text == "char":
                return Annotated[bytes, xdr.FixedChars(self._count(file, size, 1, PAYLOAD_BYTES // 4))]
            return Annotated[bytes, Fixed(self._count(file, size, 1, PAYLOAD_BYTES))]
        if shape is Shape.VARIABLE:
            limit = self._count(file, size, 0, _UNLIMITED)
            if type.text == "char":
                return Annotated[bytes, xdr.Chars(limit)]
            return Annotated[str, Max(limit)] if type.text == "string" else Annotated[bytes, Max(limit)]
        if shape is Shape.PLAIN or type.text == "char":
            return None
        raise file.source.error(
            type.offset, f"{type.text} does not go with {shape.value}: name it {type.text} x<n> by a typedef"
        )

    def _count(self, file: XDRFile, size: Value | None, least: int, most: int) -> int:
        if size is None:
            return most
        count = self._scope.number(file, size)
        if not least <= count <= most:
            raise file.source.error(size.offset, f"a length of {count}: it can be from {least} to {most}")
        return count

    def _is_optional(self, file: XDRFile, type: Type) -> bool:
        """Whether C{None} is a value of the type already."""
        while isinstance(type, Name):
            found = self._scope.definition(file, type.text)
            if found is None or not isinstance(found[1], Typedef):
                return False
            file = found[0]
            type, _, shape, _ = found[1].declaration
            if shape is not Shape.PLAIN:
                return shape is Shape.OPTIONAL
        return False

    # --- bodies ---------------------------------------------------------------------

    def _body(self, file: XDRFile, body: EnumBody | StructBody | UnionBody, name: str) -> Any:
        if isinstance(body, EnumBody):
            made = self.enumeration(file, body, name)
            # libvirt's decoder takes any number, so that new members can come.
            return Int if file.lenient else made
        if isinstance(body, StructBody):
            return self.struct(file, name, self.fields(file, body, name))
        self._indirections += 1
        try:
            return union(self, self._scope, file, body, name)
        finally:
            self._indirections -= 1

    def fields(self, file: XDRFile, body: StructBody, owner: str) -> dict[str, Any]:
        """
        Annotations of a struct's fields by the names that they have in Python.

        @raise BadXDRFile: a name is there twice, or there is no field.
        """
        key = file, body.offset
        if key in self._fields:
            # Once for the struct, once more for a request of the same fields.
            return dict(self._fields[key])
        declared: dict[str, Any] = {}
        for field in body.fields:
            name = field.name.text
            if not name:
                # void: nothing on the wire, nothing in Python.
                continue
            if name in declared:
                raise file.source.error(field.name.offset, f"field {name} is there already")
            declared[name] = self.declared(file, field, f"{owner}{class_name(name)}")
        if not declared:
            raise file.source.error(body.offset, "a struct needs a field")
        self._fields[key] = dict(zip(field_names(declared), declared.values(), strict=True))
        return dict(self._fields[key])

    def struct(self, file: XDRFile, name: str, fields: Mapping[str, Any]) -> type[Struct]:
        """A Struct class of these fields."""
        keywords = {"lenient": True} if file.lenient else {}
        namespace = {"__annotations__": dict(fields), "__slots__": (), "__module__": __name__}
        return types.new_class(self._new_name(name), (Struct,), keywords, lambda body: body.update(namespace))

    def enumeration(self, file: XDRFile, body: EnumBody, name: str) -> type[enum.IntEnum]:
        """An IntEnum of these members."""
        key = file, body.offset
        if key not in self._enums:
            names = field_names((member.name.text for member in body.members), _NO_MEMBERS)
            numbers = self._scope.member_numbers(file, body)
            members: Sequence[tuple[str, int]] = list(zip(names, numbers, strict=True))
            # The checker knows enums with literal names only.
            make: Any = enum.IntEnum
            self._enums[key] = make(self._new_name(name), members, module=__name__)
        return self._enums[key]

    def _new_name(self, name: str) -> str:
        name = unused(name, self._class_names)
        self._class_names.add(name)
        return name
