"""
Names and what they stand for, in one C{.x} file and in those it builds on.

Looked up first in the file itself, then in the files that it includes, then
among what C's headers declare.  Constants are worked out here; types are made in
L{rpcstream.programs.xdrfile.layouts}.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence

from rpcstream.programs.xdrfile.facts import HEADER_CONSTANTS, LIBVIRT_PROGRAMS
from rpcstream.programs.xdrfile.source import Source
from rpcstream.programs.xdrfile.syntax import (
    Constant,
    Declaration,
    Definition,
    EnumBody,
    Name,
    Number,
    ProgramDefinition,
    Shape,
    StructBody,
    Type,
    Typedef,
    TypeDefinition,
    UnionBody,
    Value,
)

__all__ = ["Scope", "XDRFile"]

_ConstantSource = Value | tuple[EnumBody, int]


class XDRFile:
    """
    What one file declares.

    @ivar source: its text.
    @ivar constants: what to work out, by name: a value, or a member of an enum.
    @ivar types: definitions by name.
    @ivar programs: in order.
    @ivar lenient: its types are decoded as libvirt's programs decode them.
    """

    def __init__(self, source: Source, definitions: Sequence[Definition]) -> None:
        """@raise BadXDRFile: a name is declared twice."""
        self.source = source
        self.lenient = False
        self.constants: dict[str, _ConstantSource] = {}
        self.types: dict[str, TypeDefinition | Typedef] = {}
        self.programs: list[ProgramDefinition] = []
        self._offsets: dict[tuple[str, str], int] = {}
        for definition in definitions:
            self._enter(definition)

    def _enter(self, definition: Definition) -> None:
        if isinstance(definition, Constant):
            self._declare("constant", definition.name)
            self.constants[definition.name.text] = definition.value
        elif isinstance(definition, TypeDefinition):
            self._declare("type", definition.name)
            self.types[definition.name.text] = definition
            self._enter_members(definition.body)
        elif isinstance(definition, Typedef):
            self._enter_typedef(definition)
        else:
            self.programs.append(definition)

    def _enter_typedef(self, definition: Typedef) -> None:
        type, name, shape, _ = definition.declaration
        if not name.text:
            raise self.source.error(name.offset, "void cannot have a name of its own")
        if shape is Shape.PLAIN and isinstance(type, Name) and type.text == name.text:
            # typedef struct X X: needed in C, says nothing here.
            return
        self._declare("type", name)
        self.types[name.text] = definition
        self._enter_members(type)

    def _enter_members(self, type: Type) -> None:
        """Members of enums are constants, also of those inside other types."""
        if isinstance(type, EnumBody):
            for index, member in enumerate(type.members):
                self._declare("constant", member.name)
                self.constants[member.name.text] = (type, index)
            return
        for declaration in _parts(type):
            self._enter_members(declaration.type)

    def _declare(self, kind: str, name: Name) -> None:
        first = self._offsets.setdefault((kind, name.text), name.offset)
        if first != name.offset:
            line, _ = self.source.place(first)
            raise self.source.error(name.offset, f"{kind} {name.text} is declared already, in line {line}")

    def place_of(self, name: str) -> int:
        """The offset of the declaration of a constant."""
        return self._offsets["constant", name]


def _parts(type: Type) -> Iterator[Declaration]:
    if isinstance(type, StructBody):
        yield from type.fields
    elif isinstance(type, UnionBody):
        yield type.discriminant
        yield from (arm.declaration for arm in type.arms)
        if type.default is not None:
            yield type.default


class Scope:
    """
    The files that a file's names are looked up in.

    @ivar files: the file itself first.
    """

    def __init__(self, files: Sequence[XDRFile]) -> None:
        self.files = files
        self._under_way: set[tuple[XDRFile, str]] = set()
        self._members: dict[tuple[XDRFile, int], list[int]] = {}

    def _places(self, file: XDRFile) -> Iterator[XDRFile]:
        yield file
        yield from (each for each in self.files if each is not file)

    def definition(self, file: XDRFile, name: str) -> tuple[XDRFile, TypeDefinition | Typedef] | None:
        """The definition of a type as seen from a file, and the file that it stands in."""
        for each in self._places(file):
            if name in each.types:
                return each, each.types[name]
        return None

    def number(self, file: XDRFile, value: Value) -> int:
        """
        What a number or the name of a constant is worth.

        @raise BadXDRFile: nothing declares the name, or it is defined by itself.
        """
        if isinstance(value, Number):
            return value.value
        for each in self._places(file):
            if value.text in each.constants:
                return self.constant(each, value.text)
        if value.text in HEADER_CONSTANTS:
            return HEADER_CONSTANTS[value.text]
        raise file.source.error(value.offset, f"nothing declares a constant {value.text}")

    def constant(self, file: XDRFile, name: str) -> int:
        """
        What a constant that C{file} itself declares is worth.

        @raise BadXDRFile: see L{number}.
        """
        if (file, name) in self._under_way:
            raise file.source.error(file.place_of(name), f"constant {name} is defined by itself")
        self._under_way.add((file, name))
        try:
            found = file.constants[name]
            if isinstance(found, (Name, Number)):
                return self.number(file, found)
            body, index = found
            key = file, body.offset
            known = self._members.get(key) or self._member_numbers(file, body, index + 1)
            return known[index]
        finally:
            self._under_way.discard((file, name))

    def member_numbers(self, file: XDRFile, body: EnumBody) -> list[int]:
        """
        The numbers of an enum's members.

        @raise BadXDRFile: one is not a signed 32-bit integer.
        """
        key = file, body.offset
        if key not in self._members:
            self._members[key] = self._member_numbers(file, body, len(body.members))
        return self._members[key]

    def _member_numbers(self, file: XDRFile, body: EnumBody, count: int) -> list[int]:
        numbers: list[int] = []
        for name, value in body.members[:count]:
            following = numbers[-1] + 1 if numbers else 0
            number = following if value is None else self.number(file, value)
            if not -(1 << 31) <= number < 1 << 31:
                raise file.source.error(name.offset, f"{name.text} = {number} is not a signed 32-bit integer")
            numbers.append(number)
        return numbers

    def program_numbers(self) -> list[int]:
        """Numbers of the programs that the first file declares, in either way."""
        file = self.files[0]
        numbers = [self.number(file, program.number) for program in file.programs]
        names = [name for name in file.constants if name.endswith("_PROGRAM")]
        return numbers + [self.constant(file, name) for name in names]

    def is_libvirt(self) -> bool:
        """Whether the first file declares one of libvirt's own programs."""
        return not LIBVIRT_PROGRAMS.isdisjoint(self.program_numbers())
