"""
From annotations to Construct declarations.

C{construct_of} reads the annotation of a field, of a result or of a whole
Struct class, and gives the declaration that says what is on the wire.
"""

from __future__ import annotations

import enum
import sys
import types
import typing
from collections.abc import Iterator
from typing import Annotated, Any, ForwardRef

import construct

from rpcstream.errors import BadSchema
from rpcstream.wire import composite, xdr
from rpcstream.wire.annotations import Fixed, Max, Switch

__all__ = ["construct_of", "resolve"]

_BARE = {
    int: "say how wide: Int, UInt, Hyper, UHyper, or Annotated[int, a Construct]",
    float: "say how wide: Float or Double",
    str: "give a limit: Annotated[str, Max(number of bytes)]",
    bytes: "give a limit: Annotated[bytes, Max(number of bytes)], or Fixed",
    tuple: "give a limit: Annotated[tuple[T, ...], Max(number of elements)], or Fixed",
    list: "use Annotated[tuple[T, ...], Max(number of elements)]",
    dict: "use a tuple of a Struct for the pairs",
}

_Inside = tuple[type, ...]


def construct_of(annotation: Any, lenient: bool = False, *, inside: tuple[type, ...] = ()) -> Any:
    """
    The Construct that an annotation or Struct class stands for.

    @param lenient: any flag but 0 is true or present and text may be any bytes,
        as in libvirt's programs; a Struct class can ask for it itself.
    @param inside: the Struct classes that the annotation stands in, outermost
        first, to find one that contains itself.
    @raise BadSchema: there is none; the text says what to write instead.
    """
    if annotation is None or annotation is type(None):
        return xdr.Void()
    if isinstance(annotation, construct.Construct):
        return annotation
    origin = typing.get_origin(annotation)
    if origin is Annotated:
        return _annotated(annotation.__origin__, annotation.__metadata__, lenient, inside)
    if _is_union(annotation):
        return _optional(annotation, lenient, inside)
    if annotation is bool:
        return xdr.Boolean(lenient)
    if isinstance(annotation, type) and origin is None:
        if hasattr(annotation, "__fields__"):
            return _record(annotation, lenient, inside)
        if issubclass(annotation, enum.IntEnum):
            return xdr.Enumeration(annotation)
    bare = origin if isinstance(origin, type) else annotation
    cure = _BARE.get(bare, "use what rpcstream.wire.annotations lists, or Annotated with a Construct")
    raise BadSchema(f"{_name(annotation)} has no layout: {cure}")


def _annotated(base: Any, metadata: tuple[Any, ...], lenient: bool, inside: _Inside) -> Any:
    declarations = [item for item in metadata if isinstance(item, construct.Construct)]
    if declarations:
        return declarations[-1]
    for item in reversed(metadata):
        if isinstance(item, Max):
            return _limited(base, item, lenient, inside)
        if isinstance(item, Switch):
            return _union(base, item, lenient, inside)
    return construct_of(base, lenient, inside=inside)


def _limited(base: Any, limit: Max, lenient: bool, inside: _Inside) -> Any:
    fixed = isinstance(limit, Fixed)
    if base is bytes:
        return xdr.FixedOpaque(limit.count) if fixed else xdr.Opaque(limit.count)
    if base is str and not fixed:
        return xdr.String(limit.count, "surrogateescape" if lenient else "strict")
    if typing.get_origin(base) is tuple:
        arguments = typing.get_args(base)
        if len(arguments) == 2 and arguments[1] is Ellipsis:
            element = construct_of(arguments[0], lenient, inside=inside)
            make = composite.FixedArray if fixed else composite.Array
            return make(element, limit.count)
    raise BadSchema(f"{limit!r} does not go with {_name(base)}: it limits bytes, str or tuple[T, ...]")


def _optional(annotation: Any, lenient: bool, inside: _Inside) -> Any:
    inner = [argument for argument in typing.get_args(annotation) if argument is not type(None)]
    if len(inner) != 1 or len(inner) == len(typing.get_args(annotation)):
        raise BadSchema(f"{_name(annotation)} needs a Switch: Annotated[A | B, Switch({{1: A, 2: B}})]")
    declaration = construct_of(inner[0], lenient, inside=inside)
    void_arm = isinstance(declaration, composite.Union) and type(None) in (declaration.numbers or ())
    if void_arm or isinstance(declaration, composite.Optional | xdr.Void):
        raise BadSchema(f"{_name(annotation)}: None would mean two things")
    return composite.Optional(declaration, lenient)


def _union(base: Any, switch: Switch, lenient: bool, inside: _Inside) -> Any:
    types_of_arms = {number: _python_type(arm) for number, arm in switch.arms.items()}
    members = typing.get_args(base) if _is_union(base) else (base,)
    if {_python_type(member) for member in members} != set(types_of_arms.values()):
        raise BadSchema(f"{switch!r} does not have the arms of {_name(base)}")
    arms = {number: construct_of(arm, lenient, inside=inside) for number, arm in switch.arms.items()}
    return composite.Union(arms, types_of_arms)


def _is_union(annotation: Any) -> bool:
    return typing.get_origin(annotation) in (typing.Union, types.UnionType)


def _python_type(annotation: Any) -> type:
    """The class of the values that an annotation allows."""
    if annotation is None:
        return type(None)
    while typing.get_origin(annotation) is Annotated:
        annotation = annotation.__origin__
    python_type = typing.get_origin(annotation) or annotation
    if not isinstance(python_type, type) or python_type is types.UnionType:
        raise BadSchema(f"{_name(annotation)} cannot be an arm of a union: make it a Struct of one field")
    return python_type


# --- Struct classes -------------------------------------------------------------------


def _record(cls: Any, lenient: bool, inside: _Inside) -> Any:
    lenient = lenient or cls.__lenient__
    made: dict[bool, Any] = cls.__records__
    if lenient not in made:
        if cls in inside:
            raise BadSchema(f"{cls.__name__} contains itself; send a tuple of nodes that name each other")
        made[lenient] = composite.Record(*_fields(cls, lenient, (*inside, cls)), type=cls)
    return made[lenient]


def _fields(cls: Any, lenient: bool, inside: _Inside) -> Iterator[Any]:
    hints = _hints(cls)
    for name in cls.__fields__:
        try:
            declaration = construct_of(hints[name], lenient, inside=inside)
        except BadSchema as error:
            raise BadSchema(f"{cls.__name__}.{name}: {error}") from None
        yield name / declaration


def _hints(cls: Any) -> dict[str, Any]:
    try:
        return typing.get_type_hints(cls, include_extras=True)
    except NameError as error:
        raise BadSchema(
            f"{cls.__name__}: {error}; declare it and what it uses at module level, "
            "where annotations can be looked up"
        ) from None
    except Exception as error:
        raise BadSchema(f"{cls.__name__}: {error}") from None


def resolve(annotation: Any, cls: type) -> Any:
    """
    An annotation with the names in it looked up in the module of C{cls}.

    @raise BadSchema: a name is not there.
    """
    if isinstance(annotation, str | ForwardRef):
        module = sys.modules.get(cls.__module__)
        holder = types.SimpleNamespace(__annotations__={"result": annotation})
        try:
            return typing.get_type_hints(holder, vars(module) if module else {}, include_extras=True)[
                "result"
            ]
        except Exception as error:
            raise BadSchema(f"{cls.__name__}: {error}; declare it at module level") from None
    return annotation


def _name(annotation: Any) -> str:
    return annotation.__qualname__ if isinstance(annotation, type) else repr(annotation)
