"""
Unions of C{.x} files: discriminants, labels, arms.
"""

from __future__ import annotations

from typing import Annotated, Any, Protocol

from rpcstream.programs.xdrfile.constructs import OpenUnion
from rpcstream.programs.xdrfile.naming import class_name
from rpcstream.programs.xdrfile.scope import Scope, XDRFile
from rpcstream.programs.xdrfile.syntax import (
    Builtin,
    Declaration,
    EnumBody,
    Name,
    Shape,
    Type,
    Typedef,
    UnionBody,
)
from rpcstream.wire import composite, xdr
from rpcstream.wire.schema import construct_of

__all__ = ["union"]


class _Layouts(Protocol):
    """What is asked of L{rpcstream.programs.xdrfile.layouts.Layouts}."""

    def declared(self, file: XDRFile, declaration: Declaration, owner: str) -> Any:
        """The annotation of an arm."""


def union(layouts: _Layouts, scope: Scope, file: XDRFile, body: UnionBody, owner: str) -> Any:
    """
    The annotation for a union: values are tuples C{(number, value)}.

    @param owner: the start of class names for types without a name in it.
    @raise BadXDRFile: its discriminant, a label or an arm is impossible.
    """
    legal = _legal_numbers(scope, file, body.discriminant)
    arms: dict[int, Any] = {}
    for labels, declaration in body.arms:
        arm = _arm(layouts, file, declaration, owner)
        for label in labels:
            number = scope.number(file, label)
            if number not in legal:
                name = body.discriminant.name.text
                raise file.source.error(label.offset, f"{number} is not a value that {name} can have")
            if number in arms:
                raise file.source.error(label.offset, f"there is an arm for {number} already")
            arms[number] = arm
    default = None if body.default is None else _arm(layouts, file, body.default, owner)
    is_unsigned = isinstance(legal, range) and legal.start == 0
    if default is not None and not isinstance(legal, range):
        arms.update({number: default for number in legal if number not in arms})
        # libvirt's decoder takes any number for an enum.
        default = default if file.lenient else None
    if default is None and not is_unsigned:
        return Annotated[tuple, composite.Union(arms)]
    return Annotated[tuple, OpenUnion(arms, default, xdr.UInt if is_unsigned else xdr.Int)]


def _arm(layouts: _Layouts, file: XDRFile, declaration: Declaration, owner: str) -> Any:
    name = declaration.name.text
    annotation = layouts.declared(file, declaration, f"{owner}{class_name(name)}" if name else owner)
    construct = construct_of(annotation, file.lenient)
    return name / construct if name else construct


def _legal_numbers(scope: Scope, file: XDRFile, discriminant: Declaration) -> range | frozenset[int]:
    """What a discriminant can be."""
    type: Type = discriminant.type
    home = file
    shape = discriminant.shape
    seen = set()
    while isinstance(type, Name) and shape is Shape.PLAIN:
        if type in seen:
            raise home.source.error(type.offset, f"type {type.text} is defined by itself")
        seen.add(type)
        if type.text in ("bool_t", "u_int", "uint32_t", "int32_t"):
            type = Builtin({"bool_t": "bool", "int32_t": "int"}.get(type.text, "unsigned int"), type.offset)
            break
        found = scope.definition(home, type.text)
        if found is None:
            raise home.source.error(type.offset, f"nothing declares a type {type.text}")
        home, definition = found
        if isinstance(definition, Typedef):
            type, _, shape, _ = definition.declaration
        elif isinstance(definition.body, EnumBody):
            type = definition.body
        else:
            break
    if shape is Shape.PLAIN:
        if isinstance(type, EnumBody):
            return frozenset(scope.member_numbers(home, type))
        if isinstance(type, Builtin) and type.text in ("int", "long"):
            return range(-(1 << 31), 1 << 31)
        if isinstance(type, Builtin) and type.text in ("unsigned int", "unsigned long"):
            return range(1 << 32)
        if isinstance(type, Builtin) and type.text == "bool":
            return frozenset({0, 1})
    raise file.source.error(
        discriminant.type.offset, "a discriminant is an int, an unsigned int, a bool or an enum"
    )
