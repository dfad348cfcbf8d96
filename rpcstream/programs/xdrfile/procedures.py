"""
Procedures of C{.x} files: which there are, of what kind, with which structs.

Two ways of declaring them: the C{program} blocks of RFC 5531, and libvirt's enums
of C{PREFIX_PROC_NAME} members, bound to structs by name (wire-protocol.md section
10.3), in either spelling: C{remote_foo_bar_args} or C{virFooBarArgs}.
"""

from __future__ import annotations

import types
from collections.abc import Iterator, Mapping
from typing import Any, NamedTuple

from rpcstream.programs.base import Download, Duplex, Event, Procedure, Upload
from rpcstream.programs.program import Kind, Program, Request
from rpcstream.programs.xdrfile.facts import KINDS
from rpcstream.programs.xdrfile.layouts import Layouts, located
from rpcstream.programs.xdrfile.naming import class_name, plain
from rpcstream.programs.xdrfile.scope import Scope
from rpcstream.programs.xdrfile.syntax import (
    Builtin,
    EnumBody,
    Name,
    ProcedureDefinition,
    StructBody,
    Type,
    TypeDefinition,
)

__all__ = ["DeclaredProcedure", "Procedures"]

_BASES: Mapping[Kind, Any] = {
    Kind.CALL: Procedure,
    Kind.DOWNLOAD: Download,
    Kind.UPLOAD: Upload,
    Kind.DUPLEX: Duplex,
    Kind.EVENT: Event,
}
_ENUM_MARK = "_PROC_"
_VERSIONS = ("_PROTOCOL_VERSION", "_PROGRAM_VERSION", "_VERSION")


class DeclaredProcedure(NamedTuple):
    """
    One procedure and what its file says of it.

    @ivar request: its class; program, number, kind and codecs are in its C{__procedure__}.
    @ivar c_name: as the file spells it.
    @ivar annotations: the values of each C{@name} in the comment before it.
    """

    request: type[Request]
    c_name: str
    annotations: Mapping[str, tuple[str, ...]]

    @property
    def sparse_flag(self) -> str | None:
        """Name of the flag (bit of the field C{flags}) that makes its stream sparse."""
        return next(iter(self.annotations.get("sparseflag", ())), None)


class Procedures:
    """Makes the request classes of one file."""

    def __init__(self, scope: Scope, layouts: Layouts) -> None:
        self._scope = scope
        self._layouts = layouts
        self._file = scope.files[0]
        self._class_names: set[tuple[Program, str]] = set()

    def all(self) -> tuple[list[Program], list[DeclaredProcedure]]:
        """
        Programs and procedures, in the order of the file.

        @raise BadXDRFile: one of them is impossible.
        """
        found: list[DeclaredProcedure] = []
        programs: list[Program] = []
        for program, procedures in (*self._from_enums(), *self._from_programs()):
            programs.append(program)
            found += procedures
        return programs, found

    # --- libvirt's way ----------------------------------------------------------------

    def _from_enums(self) -> Iterator[tuple[Program, list[DeclaredProcedure]]]:
        structs = self._structs()
        for definition in self._file.types.values():
            if isinstance(definition, TypeDefinition) and isinstance(definition.body, EnumBody):
                prefix = self._prefix(definition.body)
                if prefix is not None:
                    program = self._program(prefix)
                    numbers = self._scope.member_numbers(self._file, definition.body)
                    yield (
                        program,
                        [
                            self._from_member(program, prefix, member.name, number, structs)
                            for member, number in zip(definition.body.members, numbers, strict=True)
                        ],
                    )

    def _prefix(self, body: EnumBody) -> str | None:
        """C{REMOTE} for an enum of C{REMOTE_PROC_...} of which there is a C{REMOTE_PROGRAM}."""
        prefix, mark, _ = body.members[0].name.text.partition(_ENUM_MARK)
        if not mark or f"{prefix}_PROGRAM" not in self._file.constants:
            return None
        for member in body.members:
            if not member.name.text.startswith(prefix + _ENUM_MARK):
                raise self._file.source.error(
                    member.name.offset, f"a procedure's name begins with {prefix}{_ENUM_MARK}"
                )
        return prefix

    def _program(self, prefix: str) -> Program:
        offset = self._file.place_of(f"{prefix}_PROGRAM")
        for ending in _VERSIONS:
            if prefix + ending in self._file.constants:
                version = self._scope.number(self._file, Name(prefix + ending, offset))
                break
        else:
            raise self._file.source.error(offset, f"no constant {prefix}{_VERSIONS[0]} says its version")
        number = self._scope.number(self._file, Name(f"{prefix}_PROGRAM", offset))
        with located(self._file, offset):
            return Program(prefix.lower(), number, version, lenient=self._file.lenient)

    def _structs(self) -> dict[str, tuple[Name, StructBody]]:
        """The file's structs by their names without case and underscores."""
        return {
            plain(name): (definition.name, definition.body)
            for name, definition in self._file.types.items()
            if isinstance(definition, TypeDefinition) and isinstance(definition.body, StructBody)
        }

    def _from_member(
        self,
        program: Program,
        prefix: str,
        member: Name,
        number: int,
        structs: Mapping[str, tuple[Name, StructBody]],
    ) -> DeclaredProcedure:
        name = member.text.removeprefix(prefix + _ENUM_MARK)
        arguments, result, message = (
            structs.get(plain(prefix + name + ending)) for ending in ("args", "ret", "msg")
        )
        if message is not None and (arguments or result):
            other = (arguments or result or message)[0].text
            raise self._file.source.error(
                member.offset, f"{member.text} is an event by {message[0].text}, and none by {other}"
            )
        fields = arguments or message
        annotations = self._file.source.annotations_before(member.offset)
        kind = KINDS.get(member.text)
        if kind is None:
            kind = Kind.EVENT if message else self._kind(member, annotations)
        request = self._request(
            program,
            kind,
            number,
            Name(name, member.offset),
            {} if fields is None else self._layouts.fields(self._file, fields[1], class_name(fields[0].text)),
            None if result is None else self._layouts.named(self._file, result[0]),
        )
        return DeclaredProcedure(request, member.text, annotations)

    def _kind(self, name: Name, annotations: Mapping[str, tuple[str, ...]]) -> Kind:
        """What the annotations make of a procedure; directions are the caller's."""
        for stream in ("readstream", "writestream"):
            for value in annotations.get(stream, ()):
                if not value.isdigit():
                    raise self._file.source.error(name.offset, f"@{stream}: {value!r} is not a number")
        if "readstream" in annotations:
            return Kind.DUPLEX if "writestream" in annotations else Kind.DOWNLOAD
        return Kind.UPLOAD if "writestream" in annotations else Kind.CALL

    # --- RFC 5531's way ---------------------------------------------------------------

    def _from_programs(self) -> Iterator[tuple[Program, list[DeclaredProcedure]]]:
        number = self._scope.number
        for program in self._file.programs:
            for version in program.versions:
                with located(self._file, version.name.offset):
                    made = Program(
                        program.name.text.lower(),
                        number(self._file, program.number),
                        number(self._file, version.number),
                        lenient=self._file.lenient,
                    )
                yield made, [self._from_definition(made, each) for each in version.procedures]

    def _from_definition(self, program: Program, definition: ProcedureDefinition) -> DeclaredProcedure:
        name = definition.name
        annotations = self._file.source.annotations_before(_first_offset(definition))
        made = class_name(name.text)
        request = self._request(
            program,
            self._kind(name, annotations),
            self._scope.number(self._file, definition.number),
            name,
            self._arguments(definition.arguments, made),
            self._layouts.of_type(self._file, definition.result, f"{made}Result"),
        )
        return DeclaredProcedure(request, name.text, annotations)

    def _arguments(self, arguments: tuple[Type, ...], owner: str) -> dict[str, Any]:
        """The fields of a request: those of the one struct, or one for each argument."""
        if len(arguments) == 1 and isinstance(arguments[0], Name):
            found = self._scope.definition(self._file, arguments[0].text)
            if found and isinstance(found[1], TypeDefinition) and isinstance(found[1].body, StructBody):
                return self._layouts.fields(found[0], found[1].body, class_name(arguments[0].text))
        names = ["argument"] if len(arguments) == 1 else [f"argument{n + 1}" for n in range(len(arguments))]
        return {
            name: self._layouts.of_type(self._file, type, f"{owner}{class_name(name)}")
            for name, type in zip(names, arguments, strict=True)
        }

    # --- both -------------------------------------------------------------------------

    def _request(
        self, program: Program, kind: Kind, number: int, name: Name, fields: dict[str, Any], result: Any
    ) -> type[Request]:
        made = class_name(name.text)
        while (program, made) in self._class_names:
            made += "_"
        self._class_names.add((program, made))
        base = _BASES[kind] if kind is Kind.EVENT else _BASES[kind][result]
        keywords = {
            "program": program,
            "number": number,
            # Each its own, so that a policy can tell them apart.
            "permission": f"{program.name}.{name.text.lower()}",
        }
        namespace = {"__annotations__": fields, "__slots__": (), "__module__": __name__}
        with located(self._file, name.offset):
            return types.new_class(made, (base,), keywords, lambda body: body.update(namespace))


def _first_offset(definition: ProcedureDefinition) -> int:
    """Where the declaration of a procedure begins: with its result."""
    result = definition.result
    if isinstance(result, (Name, Builtin)):
        return result.offset
    return definition.name.offset
