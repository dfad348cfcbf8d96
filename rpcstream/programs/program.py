"""
Programs and what is known of each of their procedures.

A L{Program} is a number, a version and a table; the classes that fill the table
are made with the bases in L{rpcstream.programs.base}.
"""

from __future__ import annotations

import typing
from enum import Enum
from typing import Any, ClassVar

from rpcstream.errors import BadSchema, RemoteError
from rpcstream.wire.codec import Codec
from rpcstream.wire.schema import resolve
from rpcstream.wire.struct import Struct, codec_of

__all__ = ["Kind", "ProcedureInfo", "Program", "Request", "register"]


class Kind(Enum):
    """What comes of sending a request; directions are the caller's."""

    CALL = "call"
    DOWNLOAD = "download"
    UPLOAD = "upload"
    DUPLEX = "duplex"
    EVENT = "event"


class Program:
    """
    A set of procedures under one number.

    @ivar name: for people and logs.
    @ivar number: unsigned, 32 bits.
    @ivar version: a changed meaning of the same procedures.
    @ivar lenient: flags and text are taken as libvirt's programs take them, in
        all arguments and results.
    @ivar procedures: the request classes by number, filled as they are declared.
    @ivar errors: the error classes by code, likewise.
    """

    __slots__ = ("errors", "lenient", "name", "number", "procedures", "version")

    procedures: dict[int, type[Request]]
    errors: dict[int, type[RemoteError]]

    def __init__(self, name: str, number: int, version: int, *, lenient: bool = False) -> None:
        if not 0 <= number < 1 << 32 or not 0 <= version < 1 << 32:
            raise BadSchema(f"program {name}: number and version are unsigned 32-bit integers")
        self.name = name
        self.number = number
        self.version = version
        self.lenient = lenient
        self.procedures = {}
        self.errors = {}

    def __repr__(self) -> str:
        return f"<Program {self.name} {self.number:#x} version {self.version}>"


class ProcedureInfo:
    """
    What a request class says of its procedure; it is its C{__procedure__}.

    @ivar request: the class itself.
    @ivar resource: the field that names what the call is about, for policies.
    @ivar exclusive: its stream may take the whole connection.
    """

    __slots__ = (
        "_arguments",
        "_result",
        "_result_annotation",
        "exclusive",
        "idempotent",
        "kind",
        "number",
        "permission",
        "program",
        "request",
        "resource",
    )

    def __init__(
        self,
        request: type[Request],
        *,
        program: Program,
        number: int,
        kind: Kind,
        permission: str,
        idempotent: bool,
        resource: str | None,
        exclusive: bool,
        result_annotation: Any,
    ) -> None:
        self.request = request
        self.program = program
        self.number = number
        self.kind = kind
        self.permission = permission
        self.idempotent = idempotent
        self.resource = resource
        self.exclusive = exclusive
        self._result_annotation = result_annotation
        self._arguments: Codec[Any] | None = None
        self._result: Codec[Any] | None = None

    @property
    def name(self) -> str:
        """The name of the request class."""
        return self.request.__name__

    @property
    def arguments(self) -> Codec[Any]:
        """
        The codec of the request; derived when it is first asked for.

        @raise BadSchema: a field's annotation has no layout.
        """
        if self._arguments is None:
            self._arguments = codec_of(self.request, self.program.lenient)
        return self._arguments

    @property
    def result(self) -> Codec[Any]:
        """
        The codec of what the reply carries; an event has no reply, and an empty codec.

        @raise BadSchema: the annotation has no layout.
        """
        if self._result is None:
            try:
                annotation = resolve(self._result_annotation, self.request)
                self._result = codec_of(annotation, self.program.lenient)
            except BadSchema as error:
                raise BadSchema(f"result of {self.name}: {error}") from None
        return self._result

    def __repr__(self) -> str:
        return f"<{self.kind.value} {self.program.name}.{self.name} number {self.number}>"


class Request(Struct):
    """
    Base of the five kinds; use those.

    @cvar __procedure__: what the class declares of its procedure.
    """

    __slots__ = ()

    __procedure__: ClassVar[ProcedureInfo]


def register(
    request: type[Request],
    kind: Kind,
    *,
    program: Program,
    number: int,
    permission: str,
    idempotent: bool,
    resource: str | None,
    exclusive: bool,
) -> ProcedureInfo:
    """
    Enter a request class into the table of its program.

    @raise BadSchema: the number is taken or out of range, the permission is
        empty, the resource is not a field, or a keyword does not go with the kind.
    """
    name = request.__name__
    if not -(1 << 31) <= number < 1 << 31:
        raise BadSchema(f"{name}: number {number} is not a signed 32-bit integer")
    known = program.procedures.get(number)
    # A class that is declared again (a reloaded module) takes its own place.
    if known is not None and (known.__module__, known.__qualname__) != (
        request.__module__,
        request.__qualname__,
    ):
        raise BadSchema(f"{name}: number {number} of {program.name} already is {known.__name__}")
    if not permission:
        raise BadSchema(f"{name}: a permission is needed, so that a policy can name it")
    if resource is not None and resource not in request.__fields__:
        raise BadSchema(f"{name}: resource {resource!r} is not one of its fields")
    if exclusive and kind in (Kind.CALL, Kind.EVENT):
        raise BadSchema(f"{name}: exclusive goes with a stream only")
    if idempotent and kind is Kind.EVENT:
        raise BadSchema(f"{name}: an event is never repeated, so it cannot be idempotent")
    info = ProcedureInfo(
        request,
        program=program,
        number=number,
        kind=kind,
        permission=permission,
        idempotent=idempotent,
        resource=resource,
        exclusive=exclusive,
        result_annotation=_result_annotation(request, kind),
    )
    program.procedures[number] = request
    return info


def _result_annotation(request: type[Request], kind: Kind) -> Any:
    """The parameter of the base: C{UHyper} in C{Procedure[UHyper]}."""
    if kind is Kind.EVENT:
        return None
    for base in request.__dict__.get("__orig_bases__", ()):
        arguments = typing.get_args(base)
        if arguments:
            return arguments[0]
    raise BadSchema(f"{request.__name__}: say what comes back, as in Procedure[UHyper] or Procedure[None]")
