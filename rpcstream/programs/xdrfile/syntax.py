"""
What a C{.x} file says, as a tree: names are not looked up yet.

Each piece knows its offset in the text, so that whatever is wrong with it can be
told with line and column.
"""

from __future__ import annotations

from enum import Enum
from typing import NamedTuple

__all__ = [
    "Arm",
    "Builtin",
    "Constant",
    "Declaration",
    "Definition",
    "EnumBody",
    "Member",
    "Name",
    "Number",
    "ProcedureDefinition",
    "ProgramDefinition",
    "Shape",
    "StructBody",
    "Type",
    "TypeDefinition",
    "Typedef",
    "UnionBody",
    "Value",
    "VersionDefinition",
]


class Name(NamedTuple):
    """An identifier that stands for something, or is being declared."""

    text: str
    offset: int


class Number(NamedTuple):
    """An integer as it was written."""

    value: int
    offset: int


Value = Name | Number


class Shape(Enum):
    """What stands around the name that is declared."""

    PLAIN = "x"
    FIXED = "x[n]"
    VARIABLE = "x<n>"
    OPTIONAL = "*x"


class Builtin(NamedTuple):
    """A type of the language: C{"unsigned hyper"}, C{"opaque"}, C{"void"}."""

    text: str
    offset: int


class Member(NamedTuple):
    """One value of an enum; without a number it is one more than the one before."""

    name: Name
    value: Value | None


class EnumBody(NamedTuple):
    """Between the braces of an enum."""

    members: tuple[Member, ...]
    offset: int


class StructBody(NamedTuple):
    """Between the braces of a struct."""

    fields: tuple[Declaration, ...]
    offset: int


class Arm(NamedTuple):
    """One arm of a union, for one or several values of the discriminant."""

    labels: tuple[Value, ...]
    declaration: Declaration


class UnionBody(NamedTuple):
    """A union, from C{switch} on."""

    discriminant: Declaration
    arms: tuple[Arm, ...]
    default: Declaration | None
    offset: int


Type = Name | Builtin | EnumBody | StructBody | UnionBody


class Declaration(NamedTuple):
    """
    A type with a name: a field, an arm, a typedef.

    @ivar name: empty for C{void}.
    @ivar size: between the brackets; C{None} for C{x<>}.
    """

    type: Type
    name: Name
    shape: Shape
    size: Value | None


class Constant(NamedTuple):
    """C{const NAME = VALUE;}"""

    name: Name
    value: Value


class Typedef(NamedTuple):
    """C{typedef DECLARATION;}"""

    declaration: Declaration


class TypeDefinition(NamedTuple):
    """C{enum NAME {...};}, and the same for struct and union."""

    name: Name
    body: EnumBody | StructBody | UnionBody


class ProcedureDefinition(NamedTuple):
    """
    C{RESULT NAME(ARGUMENTS) = NUMBER;}

    @ivar arguments: none for C{void}.
    """

    name: Name
    result: Type
    arguments: tuple[Type, ...]
    number: Value


class VersionDefinition(NamedTuple):
    """C{version NAME {...} = NUMBER;}"""

    name: Name
    procedures: tuple[ProcedureDefinition, ...]
    number: Value


class ProgramDefinition(NamedTuple):
    """C{program NAME {...} = NUMBER;}"""

    name: Name
    versions: tuple[VersionDefinition, ...]
    number: Value


Definition = Constant | Typedef | TypeDefinition | ProgramDefinition
