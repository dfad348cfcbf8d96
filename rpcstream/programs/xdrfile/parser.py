"""
The grammar of RFC 4506 section 6 (and of RFC 5531 section 12 for programs), in lark.

This is the only module that imports lark, and it is imported when a file is
loaded.  Taken as rpcgen takes them: C{unsigned} alone, C{long}, C{struct NAME} as
a type, a comma behind the last member of an enum, several arguments.
"""

from __future__ import annotations

import functools
import re
from collections.abc import Iterable
from typing import Any, cast

import lark

from rpcstream.programs.xdrfile import syntax
from rpcstream.programs.xdrfile.source import Source
from rpcstream.programs.xdrfile.syntax import Declaration, Name, Shape

__all__ = ["parse"]

_GRAMMAR = r"""
start: _definition*
_definition: constant | typedef | enumeration | structure | union | program

constant: "const" name "=" value ";"
typedef: "typedef" _declaration ";"
enumeration: "enum" name enum_body ";"
structure: "struct" name struct_body ";"
union: "union" name union_body ";"

enum_body: OPEN member ("," member)* ","? "}"
member: name ["=" value]
struct_body: OPEN (_declaration ";")+ "}"
union_body: SWITCH "(" _declaration ")" "{" arm+ [default] "}"
arm: labels _declaration ";"
labels: ("case" value ":")+
default: "default" ":" _declaration ";"

_declaration: plain | fixed | variable | optional | nothing
plain: _type name
fixed: _type name "[" value "]"
variable: _type name "<" [value] ">"
optional: _type "*" name
nothing: void

_type: builtin | name | "struct" name | "enum" name | "union" name
     | "enum" enum_body | "struct" struct_body | "union" union_body
builtin: UNSIGNED [INT | HYPER | CHAR | SHORT | LONG]
       | INT | HYPER | CHAR | SHORT | LONG | FLOAT | DOUBLE | QUADRUPLE | BOOL | STRING | OPAQUE
void: VOID

program: "program" name "{" version+ "}" "=" value ";"
version: "version" name "{" procedure+ "}" "=" value ";"
procedure: result name "(" arguments ")" "=" value ";"
result: void | _type
arguments: void | _type ("," _type)*

?value: number | name
number: NUMBER
name: NAME

OPEN: "{"
SWITCH: "switch"
UNSIGNED: "unsigned"
INT: "int"
HYPER: "hyper"
CHAR: "char"
SHORT: "short"
LONG: "long"
FLOAT: "float"
DOUBLE: "double"
QUADRUPLE: "quadruple"
BOOL: "bool"
STRING: "string"
OPAQUE: "opaque"
VOID: "void"
NAME: /[A-Za-z_][A-Za-z0-9_]*/
NUMBER: /-?[0-9][A-Za-z0-9_]*/
%ignore /\s+/
"""

_TYPE_WORDS = frozenset(
    {
        "UNSIGNED", "INT", "HYPER", "CHAR", "SHORT", "LONG",
        "FLOAT", "DOUBLE", "QUADRUPLE", "BOOL", "STRING", "OPAQUE",
    }
)  # fmt: skip
_DEFINITION_WORDS = frozenset({"CONST", "TYPEDEF", "ENUM", "STRUCT", "UNION", "PROGRAM"})
_TOO_MANY = 4
_INTEGER = re.compile(r"-?(?:0[xX][0-9a-fA-F]+|0[0-7]*|[1-9][0-9]*)")


class _Tree(lark.Transformer[Any, Any]):
    """Makes our tree while lark parses; nothing in here fails."""

    def start(self, children: list[Any]) -> Any:
        return tuple(children)

    def name(self, children: list[Any]) -> Any:
        return Name(str(children[0]), children[0].start_pos)

    def number(self, children: list[Any]) -> Any:
        # Its value is read behind the parser, where an error can be told.
        return children[0]

    def builtin(self, children: list[Any]) -> Any:
        words = [str(token) for token in children if token is not None]
        if words == ["unsigned"]:
            words.append("int")
        return syntax.Builtin(" ".join(words), children[0].start_pos)

    void = builtin

    def constant(self, children: list[Any]) -> Any:
        return syntax.Constant(*children)

    def typedef(self, children: list[Any]) -> Any:
        return syntax.Typedef(*children)

    def enumeration(self, children: list[Any]) -> Any:
        return syntax.TypeDefinition(*children)

    structure = union = enumeration

    def enum_body(self, children: list[Any]) -> Any:
        return syntax.EnumBody(tuple(children[1:]), children[0].start_pos)

    def member(self, children: list[Any]) -> Any:
        return syntax.Member(*children)

    def struct_body(self, children: list[Any]) -> Any:
        return syntax.StructBody(tuple(children[1:]), children[0].start_pos)

    def union_body(self, children: list[Any]) -> Any:
        switch, discriminant, *arms, default = children
        return syntax.UnionBody(discriminant, tuple(arms), default, switch.start_pos)

    def labels(self, children: list[Any]) -> Any:
        return tuple(children)

    def arm(self, children: list[Any]) -> Any:
        return syntax.Arm(*children)

    def default(self, children: list[Any]) -> Any:
        return children[0]

    def plain(self, children: list[Any]) -> Any:
        return Declaration(children[0], children[1], Shape.PLAIN, None)

    def fixed(self, children: list[Any]) -> Any:
        return Declaration(children[0], children[1], Shape.FIXED, children[2])

    def variable(self, children: list[Any]) -> Any:
        return Declaration(children[0], children[1], Shape.VARIABLE, children[2])

    def optional(self, children: list[Any]) -> Any:
        return Declaration(children[0], children[1], Shape.OPTIONAL, None)

    def nothing(self, children: list[Any]) -> Any:
        return Declaration(children[0], Name("", children[0].offset), Shape.PLAIN, None)

    def program(self, children: list[Any]) -> Any:
        name, *versions, number = children
        return syntax.ProgramDefinition(name, tuple(versions), number)

    def version(self, children: list[Any]) -> Any:
        name, *procedures, number = children
        return syntax.VersionDefinition(name, tuple(procedures), number)

    def procedure(self, children: list[Any]) -> Any:
        result, name, arguments, number = children
        return syntax.ProcedureDefinition(name, result, arguments, number)

    def result(self, children: list[Any]) -> Any:
        return children[0]

    def arguments(self, children: list[Any]) -> Any:
        is_void = isinstance(children[0], syntax.Builtin) and children[0].text == "void"
        return () if is_void else tuple(children)


@functools.cache
def _parser() -> lark.Lark:
    return lark.Lark(_GRAMMAR, parser="lalr", transformer=_Tree(), maybe_placeholders=True)


def parse(source: Source) -> tuple[syntax.Definition, ...]:
    """
    The definitions of a file in order.

    @raise BadXDRFile: it does not follow the grammar.
    """
    try:
        tree = _parser().parse(source.grammar)
    except lark.UnexpectedToken as error:
        # The end of the file has no position of its own.
        is_end = error.token.type == "$END"
        offset = len(source.text.rstrip()) if is_end else error.token.start_pos
        found = "the end of the file" if is_end else repr(str(error.token))
        raise source.error(
            offset or 0, f"{_expected(error.accepts or error.expected)}, not {found}"
        ) from None
    except lark.UnexpectedCharacters as error:
        offset = error.pos_in_stream or 0
        raise source.error(offset, f"{source.text[offset]!r} does not belong here") from None
    try:
        return cast("tuple[syntax.Definition, ...]", _with_numbers(source, tree))
    except RecursionError:
        raise source.error(0, "types are nested too deeply") from None


def _expected(terminals: Iterable[str]) -> str:
    """What would have been right, in words."""
    names = set(terminals)
    words = []
    if names >= _TYPE_WORDS:
        names -= _TYPE_WORDS | {"ENUM", "STRUCT", "UNION", "NAME", "VOID"}
        words.append("a type")
    if names >= _DEFINITION_WORDS:
        names -= _DEFINITION_WORDS | {"$END"}
        words.append("a definition (const, typedef, enum, struct, union or program)")
    patterns = {terminal.name: terminal.pattern for terminal in _parser().terminals}
    for name in sorted(names):
        text = {"NAME": "a name", "NUMBER": "a number", "$END": "the end of the file"}.get(name)
        words.append(text or f"'{patterns[name].value}'")
    if len(words) > _TOO_MANY:
        return "something else is expected here"
    return f"{' or '.join(words)} is expected here"


def _with_numbers(source: Source, node: Any) -> Any:
    """The tree with lark's tokens, which are numbers, replaced by ours."""
    if isinstance(node, lark.Token):
        if not _INTEGER.fullmatch(node):
            raise source.error(
                node.start_pos or 0, f"{str(node)!r} is not a number (decimal, 0x.. or octal 0..)"
            )
        text = node.lower()
        # Octal is written in the way of C.
        base = 16 if "x" in text else 8 if text.lstrip("-").startswith("0") else 10
        return syntax.Number(int(text, base), node.start_pos or 0)
    if type(node) is tuple:
        return tuple(_with_numbers(source, each) for each in node)
    if isinstance(node, tuple) and not isinstance(node, (Name, syntax.Builtin)):
        return type(node)(*(_with_numbers(source, each) for each in node))
    return node
