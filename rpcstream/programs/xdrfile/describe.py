"""
Layouts as text, in the words of RFC 4506.

Made from the Constructs themselves, so it tells what really goes over the wire,
of programs declared in Python as well as of compiled ones.  The text is stable:
kept as a golden file, it shows a layout that was changed by mistake.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from enum import IntEnum
from typing import Any

from rpcstream.programs.program import Kind, Program
from rpcstream.programs.xdrfile.constructs import Later, OpenUnion, unnamed
from rpcstream.wire import Struct, composite, xdr
from rpcstream.wire.schema import construct_of

__all__ = ["describe", "fields_text", "layout_text"]

_NUMBERS = {
    "i": "int",
    "I": "unsigned int",
    "q": "hyper",
    "Q": "unsigned hyper",
    "f": "float",
    "d": "double",
}
_WORD_LIMIT = (1 << 32) - 1


def layout_text(declaration: Any) -> str:
    """
    The type that a Construct stands for: C{unsigned int}, C{string<255>}, C{Point[2]}.

    Structs and enums are named only.
    """
    return _Text().text(declaration)


def fields_text(declaration: Any) -> str:
    """The fields of a struct in one line, or the type of anything else."""
    text = _Text()
    if isinstance(declaration, composite.Record):
        return ", ".join(text.field(field) for field in declaration.subcons) or "void"
    return text.text(declaration)


def describe(programs: Iterable[Program], types: Iterable[Any] = ()) -> str:
    """
    All layouts of some programs: each procedure, then each struct and enum that they use.

    @param types: Struct and IntEnum classes to describe as well; anything else is passed over.
    @raise BadSchema: a declaration has no layout.
    """
    text = _Text()
    lines: list[str] = []
    for program in programs:
        leniency = ", lenient" if program.lenient else ""
        lines.append(f"program {program.name} {program.number:#010x} version {program.version}{leniency}")
        for number, request in sorted(program.procedures.items()):
            info = request.__procedure__
            lines.append(f"  {number} {info.name}: {info.kind.value}")
            lines += [f"    {text.field(field)}" for field in info.arguments.construct.subcons]
            if info.kind is not Kind.EVENT:
                lines.append(f"    -> {text.text(info.result.construct)}")
        lines.append("")
    for each in types:
        if isinstance(each, type) and issubclass(each, (Struct, IntEnum)):
            text.text(construct_of(each))
    return "\n".join((*lines, *text.definitions()))


class _Text:
    """
    Writes types, and remembers those that have names.

    Two that are called the same get numbers.
    """

    def __init__(self) -> None:
        # By the class of the values: a Record is made anew for each leniency.
        self._names: dict[type, str] = {}
        self._waiting: list[tuple[str, Any]] = []
        self._open: list[Later] = []

    def definitions(self) -> list[str]:
        """What the names stand for, in the order of the names."""
        found: dict[str, list[str]] = {}
        while self._waiting:
            name, declaration = self._waiting.pop()
            if isinstance(declaration, xdr.Enumeration):
                members = declaration.type.__members__.items()
                found[name] = [f"enum {name}", *(f"  {each} = {int(value)}" for each, value in members), ""]
            else:
                found[name] = [
                    f"struct {name}",
                    *(f"  {self.field(field)}" for field in declaration.subcons),
                    "",
                ]
        return [line for name in sorted(found) for line in found[name]]

    def field(self, renamed: Any) -> str:
        """C{name: type}."""
        return f"{renamed.name}: {self.text(renamed)}"

    def text(self, declaration: Any) -> str:
        """A type in one line."""
        declaration = unnamed(declaration)
        if isinstance(declaration, Later):
            return self._inner(declaration)
        write = _TYPES.get(type(declaration))
        return f"({type(declaration).__name__})" if write is None else write(self, declaration)

    def _inner(self, declaration: Later) -> str:
        """A type inside itself; a union has no name of its own to stop at."""
        if declaration in self._open:
            return declaration.type_name
        self._open.append(declaration)
        found = self.text(declaration.target)
        self._open.pop()
        return found

    def named(self, python_type: type, declaration: Any) -> str:
        """The name of a struct or an enum, which will be defined once."""
        if python_type not in self._names:
            name, number = python_type.__name__, 2
            while name in self._names.values():
                name, number = f"{python_type.__name__}_{number}", number + 1
            self._names[python_type] = name
            self._waiting.append((name, declaration))
        return self._names[python_type]


def _count(count: int) -> str:
    return "" if count == _WORD_LIMIT else str(count)


def _number(text: _Text, declaration: xdr.Number) -> str:
    return _NUMBERS[declaration.format]


def _small_int(text: _Text, declaration: xdr.SmallInt) -> str:
    sign = "" if declaration.smallest else "unsigned "
    return f"{sign}{'char' if declaration.bit_count == 8 else 'short'}"


def _string(text: _Text, declaration: xdr.String) -> str:
    return f"string<{_count(declaration.limit_bytes)}>"


def _optional(text: _Text, declaration: composite.Optional) -> str:
    return f"{text.text(declaration.subcon)}*"


def _union(text: _Text, declaration: Any) -> str:
    arms = [f"{number}: {text.text(arm)}" for number, arm in sorted(declaration.arms.items())]
    if isinstance(declaration, OpenUnion) and declaration.default is not None:
        arms.append(f"default: {text.text(declaration.default)}")
    return f"union {{{'; '.join(arms)}}}"


def _record(text: _Text, declaration: composite.Record) -> str:
    if declaration.type is None:
        return f"struct {{{'; '.join(text.field(field) for field in declaration.subcons)}}}"
    return text.named(declaration.type, declaration)


_TYPES: dict[type, Callable[[_Text, Any], str]] = {
    xdr.Number: _number,
    xdr.SmallInt: _small_int,
    xdr.Boolean: lambda text, declaration: "bool",
    xdr.Enumeration: lambda text, declaration: text.named(declaration.type, declaration),
    xdr.Void: lambda text, declaration: "void",
    xdr.FixedOpaque: lambda text, declaration: f"opaque[{declaration.byte_count}]",
    xdr.Opaque: lambda text, declaration: f"opaque<{_count(declaration.limit_bytes)}>",
    xdr.String: _string,
    xdr.FixedChars: lambda text, declaration: f"char[{declaration.byte_count}]",
    xdr.Chars: lambda text, declaration: f"char<{_count(declaration.limit_bytes)}>",
    composite.Optional: _optional,
    composite.FixedArray: lambda text, each: f"{text.text(each.subcon)}[{each.count}]",
    composite.Array: lambda text, each: f"{text.text(each.subcon)}<{_count(each.limit_count)}>",
    composite.Union: _union,
    OpenUnion: _union,
    composite.Record: _record,
}
