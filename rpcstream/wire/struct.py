"""
Struct: an annotated class whose instances are what goes over the wire.

    >>> class Point(Struct):
    ...     x: Int
    ...     y: Int = 0

An instance is an immutable value: a tuple at run time, which is the fastest thing
Python can make and take apart.  The type checker does not know that, so that
fields may be called C{count} or C{index}.  What the annotations mean is in
L{rpcstream.wire.schema}; they are looked at when the codec is first asked for.
"""

from __future__ import annotations

import functools
import inspect
import sys
from collections import namedtuple
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar, dataclass_transform, overload

from rpcstream.errors import BadSchema
from rpcstream.wire.codec import Codec
from rpcstream.wire.schema import construct_of

__all__ = ["Struct", "codec_of"]

T = TypeVar("T")

if TYPE_CHECKING:

    class _Tuple:
        pass
else:
    _Tuple = tuple

# The checker knows named tuples with literal names only.
_namedtuple: Any = namedtuple

_MISSING = object()
_SHOWN = 100
_RESERVED = frozenset({"responder"})


@dataclass_transform(frozen_default=True)
class Struct(_Tuple):
    """
    Base of all values that are declared by annotations.

    Class keyword C{lenient=True}: flags and text are taken as libvirt's programs
    take them (any flag but 0 is true, text may be any bytes).

    Equality compares the type too.  Values can be hashed, pickled, copied and
    matched by position.
    """

    __slots__ = ()

    __fields__: ClassVar[tuple[str, ...]] = ()
    __lenient__: ClassVar[bool] = False
    # Declarations made for the class, by leniency: rpcstream.wire.schema keeps them here.
    __records__: ClassVar[dict[bool, Any]] = {}

    def __init_subclass__(cls, *, lenient: bool = False) -> None:
        super().__init_subclass__()
        if cls.__fields__:
            base = cls.__mro__[1].__name__
            raise BadSchema(f"{cls.__name__}: {base} has fields; hold one in a field, do not inherit them")
        if lenient:
            cls.__lenient__ = True
        _make_tuple(cls, _field_names(cls))

    if not TYPE_CHECKING:

        def __new__(cls) -> Struct:
            return tuple.__new__(cls)

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and _as_tuple(self) == _as_tuple(other)

    def __ne__(self, other: object) -> bool:
        return not self == other

    def __hash__(self) -> int:
        return hash((type(self), _as_tuple(self)))

    def __bool__(self) -> bool:
        # A tuple without fields would be false.
        return True

    def __repr__(self) -> str:
        fields = zip(self.__fields__, _as_tuple(self), strict=True)
        return f"{type(self).__name__}({', '.join(f'{name}={_shown(value)}' for name, value in fields)})"

    def __setattr__(self, name: str, value: object) -> None:
        raise AttributeError(f"{type(self).__name__} is immutable; make a new one")

    def __delattr__(self, name: str) -> None:
        raise AttributeError(f"{type(self).__name__} is immutable")

    def __getnewargs__(self) -> tuple[Any, ...]:
        return _as_tuple(self)

    def __replace__(self, **changes: Any) -> Any:
        values = dict(zip(self.__fields__, _as_tuple(self), strict=True))
        return type(self)(**{**values, **changes})


def _as_tuple(value: Any) -> tuple[Any, ...]:
    return tuple.__getitem__(value, slice(None))


def _shown(value: object) -> str:
    # A Struct may hold megabytes, and ends up in logs.
    if isinstance(value, bytes | str) and len(value) > _SHOWN:
        unit = "bytes" if isinstance(value, bytes) else "characters"
        return f"<{len(value)} {unit}>"
    if isinstance(value, tuple) and len(value) > _SHOWN:
        return f"<{len(value)} elements>"
    return repr(value)


def _field_names(cls: type) -> tuple[str, ...]:
    """The names that C{cls} itself annotates, but for ClassVars."""
    if sys.version_info >= (3, 14):  # pragma: no cover
        import annotationlib

        found = annotationlib.get_annotations(cls, format=annotationlib.Format.FORWARDREF)
    else:
        found = inspect.get_annotations(cls)
    return tuple(name for name, annotation in found.items() if not _is_class_var(annotation))


def _is_class_var(annotation: Any) -> bool:
    text = annotation if isinstance(annotation, str) else str(annotation)
    return text.startswith(("ClassVar", "typing.ClassVar", "t.ClassVar"))


def _make_tuple(cls: Any, names: tuple[str, ...]) -> None:
    """Give C{cls} the constructor and the field descriptors of a named tuple."""
    defaults = []
    for name in names:
        if name in _RESERVED:
            raise BadSchema(f"{cls.__name__}: {name!r} is reserved; name the field {name}_")
        # None is a default like any other, so its absence needs a mark of its own.
        default = cls.__dict__.get(name, _MISSING)
        if default is not _MISSING:
            defaults.append(default)
        elif defaults:
            raise BadSchema(f"{cls.__name__}: {name} without a default follows fields that have one")
    try:
        made = _namedtuple(cls.__name__, names, defaults=defaults)
    except ValueError as error:
        raise BadSchema(f"{cls.__name__}: {error}") from None
    for name in names:
        setattr(cls, name, made.__dict__[name])
    cls.__new__ = made.__new__
    cls.__fields__ = names
    cls.__records__ = {}
    # The checker makes one of its own for a dataclass_transform, and forbids the plain assignment.
    type.__setattr__(cls, "__match_args__", names)


@overload
def codec_of(annotation: type[T], lenient: bool = False) -> Codec[T]: ...


@overload
def codec_of(annotation: object, lenient: bool = False) -> Codec[Any]: ...


def codec_of(annotation: Any, lenient: bool = False) -> Codec[Any]:
    """
    The codec of a Struct class or of an annotation; made once, then cached.

    @param annotation: also C{None}, for nothing at all, or a Construct.
    @param lenient: as libvirt's programs want it, see L{construct_of}.
    @raise BadSchema: there is no layout for it.
    """
    try:
        return _cached_codec(annotation, lenient)
    except TypeError:  # not hashable
        return Codec(construct_of(annotation, lenient))


@functools.lru_cache(maxsize=4096, typed=True)
def _cached_codec(annotation: Any, lenient: bool) -> Codec[Any]:
    return Codec(construct_of(annotation, lenient))
