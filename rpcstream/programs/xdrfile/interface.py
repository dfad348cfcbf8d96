"""
A compiled C{.x} file: its programs, procedures, types and constants.

    >>> qemu = load("qemu_protocol.x")
    >>> request = qemu.find("QEMU_PROC_DOMAIN_ATTACH")(pid_value=7, flags=0)
"""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

from rpcstream.errors import BadValue
from rpcstream.programs.program import Program, Request
from rpcstream.programs.xdrfile.layouts import Layouts
from rpcstream.programs.xdrfile.naming import plain
from rpcstream.programs.xdrfile.procedures import DeclaredProcedure, Procedures
from rpcstream.programs.xdrfile.scope import Scope, XDRFile
from rpcstream.programs.xdrfile.source import Source, read_source
from rpcstream.programs.xdrfile.syntax import EnumBody, TypeDefinition

__all__ = ["Interface", "compile_text", "interface_of", "load"]


class Interface:
    """
    What can be called.

    @ivar name: of the file.
    @ivar programs: those that the file declares, in order; none for a file of types.
    @ivar procedures: of all of them, in order.
    @ivar types: Struct classes, enums and annotations by their names in the file,
        and in those that it includes.
    @ivar constants: numbers likewise.
    """

    def __init__(
        self,
        name: str,
        programs: Sequence[Program],
        procedures: Sequence[DeclaredProcedure],
        types: Mapping[str, Any],
        constants: Mapping[str, int],
    ) -> None:
        self.name = name
        self.programs = tuple(programs)
        self.procedures = tuple(procedures)
        self.types = types
        self.constants = constants
        self._by_name: dict[str, list[DeclaredProcedure]] = {}
        for procedure in procedures:
            for key in _keys(procedure):
                self._by_name.setdefault(key, []).append(procedure)

    def __repr__(self) -> str:
        return f"<Interface {self.name}: {len(self.procedures)} procedures>"

    def procedure(self, key: str | int, program: Program | None = None) -> DeclaredProcedure:
        """
        Find a procedure.

        @param key: its number, or a name: the one in the file, with or without what
            comes before C{_PROC_}, or that of its class; case, C{_} and C{-} do not
            matter.
        @param program: one of L{programs}, where they have procedures of the same name.
        @raise BadValue: there is none, or there are several.
        """
        if isinstance(key, str) and key.isascii() and key.isdigit():
            key = int(key)
        if isinstance(key, int):
            found = [each for each in self.procedures if each.request.__procedure__.number == key]
        else:
            # Where names differ in case only, the exact one is meant.
            found = [each for each in self.procedures if key in (each.c_name, each.request.__name__)]
            found = found or self._by_name.get(plain(key), [])
        found = [each for each in found if program in (None, each.request.__procedure__.program)]
        if len(found) == 1:
            return found[0]
        if found:
            names = ", ".join(f"{each.c_name} of {each.request.__procedure__.program!r}" for each in found)
            raise BadValue("procedure", f"{key!r} can be {names}")
        raise BadValue("procedure", f"{self.name} has no procedure {key!r}{self._like(key)}")

    def find(self, key: str | int, program: Program | None = None) -> type[Request]:
        """The request class of L{procedure}."""
        return self.procedure(key, program).request

    def _like(self, key: str | int) -> str:
        close = difflib.get_close_matches(plain(str(key)), self._by_name, 3, 0.75)
        names = dict.fromkeys(self._by_name[each][0].request.__name__ for each in close)
        return f"; is it {' or '.join(names)}?" if names else ""


def _keys(procedure: DeclaredProcedure) -> set[str]:
    _, _, tail = procedure.c_name.partition("_PROC_")
    return {plain(procedure.c_name), plain(procedure.request.__name__), plain(tail)} - {""}


def load(path: Path | str, include: Iterable[Path | str] = (), *, lenient: bool | None = None) -> Interface:
    """
    Compile a file.

    C{%#include "NAME.h"} in it stands for C{NAME.x} in the same directory, if there
    is one: that is how libvirt's files use types of each other.

    @param include: further files for names that it does not declare.
    @param lenient: flags, text and enums are taken as libvirt's programs take them;
        by default where the file declares one of these.
    @raise OSError: a file cannot be read.
    @raise BadXDRFile: what is wrong, with file, line and column.
    """
    main = Path(path)
    sources = {main.resolve(): read_source(main)}
    waiting = [main]
    for other in map(Path, include):
        if other.resolve() not in sources:
            sources[other.resolve()] = read_source(other)
            waiting.append(other)
    while waiting:
        current = waiting.pop(0)
        for name in sources[current.resolve()].includes:
            # A plain name: a header elsewhere is C's business.
            beside = current.parent / f"{Path(name).stem}.x"
            if (
                name.endswith(".h")
                and "/" not in name
                and beside.resolve() not in sources
                and beside.is_file()
            ):
                sources[beside.resolve()] = read_source(beside)
                waiting.append(beside)
    return _compiled(list(sources.values()), lenient)


def compile_text(text: str, name: str = "text.x", *, lenient: bool | None = None) -> Interface:
    """
    Compile the text of a file; see L{load}.

    @param name: for errors.
    """
    return _compiled([Source(name, text)], lenient)


def interface_of(name: str, *programs: Program) -> Interface:
    """
    The same view of programs that are declared in Python.

    Their procedures' names are those of the classes.
    """
    procedures = [
        DeclaredProcedure(request, request.__name__, {})
        for program in programs
        for request in program.procedures.values()
    ]
    return Interface(name, programs, procedures, {}, {})


def _compiled(sources: Sequence[Source], lenient: bool | None) -> Interface:
    # lark is needed here, and nowhere else.
    from rpcstream.programs.xdrfile.parser import parse

    try:
        scope = Scope([XDRFile(source, parse(source)) for source in sources])
        is_lenient = scope.is_libvirt() if lenient is None else lenient
        for file in scope.files:
            file.lenient = is_lenient
        layouts = Layouts(scope)
        types = _types(scope, layouts)
        programs, procedures = Procedures(scope, layouts).all()
        return Interface(sources[0].name, programs, procedures, types, _constants(scope))
    except RecursionError:
        raise sources[0].error(0, "definitions depend on each other too deeply") from None


def _types(scope: Scope, layouts: Layouts) -> dict[str, Any]:
    # Also those that no procedure uses: what is wrong with them is told.
    found: dict[str, Any] = {}
    for file in scope.files:
        for name, definition in file.types.items():
            if isinstance(definition, TypeDefinition):
                made = layouts.named(file, definition.name)
                if isinstance(definition.body, EnumBody):
                    made = layouts.enumeration(file, definition.body, name)
            else:
                made = layouts.named(file, definition.declaration.name)
            found.setdefault(name, made)
    return found


def _constants(scope: Scope) -> dict[str, int]:
    found: dict[str, int] = {}
    for file in scope.files:
        for name in file.constants:
            found.setdefault(name, scope.constant(file, name))
    return found
