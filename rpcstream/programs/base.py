"""
The bases of request classes: what a procedure or event is declared with.

    >>> class Size(Procedure[UHyper], program=FILES, number=1, permission="files.read"):
    ...     name: Annotated[str, Max(255)]

The base says what happens, its parameter what the reply carries, the class
keywords which procedure it is, and the fields what the arguments are.  An
instance is a request.  There is no metaclass: class keywords go through
C{__init_subclass__}, so that type checkers check them.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar, overload

from rpcstream.programs.program import Kind, ProcedureInfo, Program, Request, register

if TYPE_CHECKING:
    # The layers below may not import these when they run; the checker needs their names.
    from twisted.internet.defer import Deferred

    from rpcstream.net.calls import Call, DownloadCall, DuplexCall, UploadCall

__all__ = [
    "Download",
    "Duplex",
    "Event",
    "Kind",
    "Procedure",
    "ProcedureInfo",
    "Program",
    "Request",
    "Upload",
]

R = TypeVar("R", covariant=True)
"""What the reply carries."""
S = TypeVar("S")
"""The object whose method responds."""
Done = TypeVar("Done", bound="Awaitable[None] | None")
"""What a responder without a result of its own returns."""
F = TypeVar("F", bound=Callable[..., Any])


def _responds_to(request: type[Request], function: F) -> F:
    """Mark a method as responder of a request class; it may respond to several."""
    known: tuple[type[Request], ...] = getattr(function, "__responds_to__", ())
    function.__responds_to__ = (*known, request)  # type: ignore[attr-defined]
    return function


class Procedure(Request, Generic[R]):
    """A call: a request, answered by one reply that carries an C{R}."""

    __slots__ = ()

    def __init_subclass__(
        cls,
        *,
        program: Program,
        number: int,
        permission: str,
        idempotent: bool = False,
        resource: str | None = None,
        exclusive: bool = False,
    ) -> None:
        super().__init_subclass__()
        cls.__procedure__ = register(
            cls,
            Kind.CALL,
            program=program,
            number=number,
            permission=permission,
            idempotent=idempotent,
            resource=resource,
            exclusive=exclusive,
        )

    @overload
    @classmethod
    def responder(
        cls, function: Callable[[S, Call, Self], Coroutine[Any, Any, R]]
    ) -> Callable[[S, Call, Self], Coroutine[Any, Any, R]]: ...

    @overload
    @classmethod
    def responder(
        cls, function: Callable[[S, Call, Self], Deferred[R]]
    ) -> Callable[[S, Call, Self], Deferred[R]]: ...

    @overload
    @classmethod
    def responder(cls, function: Callable[[S, Call, Self], R]) -> Callable[[S, Call, Self], R]: ...

    @classmethod
    def responder(cls, function: Any) -> Any:
        """
        Decorator: the method C{(self, call, request)} answers these calls.

        It returns the result, plainly, as a Deferred or from an C{async def}.
        """
        return _responds_to(cls, function)


class Download(Request, Generic[R]):
    """A call whose reply carries an C{R} and opens a stream from responder to caller."""

    __slots__ = ()

    def __init_subclass__(
        cls,
        *,
        program: Program,
        number: int,
        permission: str,
        idempotent: bool = False,
        resource: str | None = None,
        exclusive: bool = False,
    ) -> None:
        super().__init_subclass__()
        cls.__procedure__ = register(
            cls,
            Kind.DOWNLOAD,
            program=program,
            number=number,
            permission=permission,
            idempotent=idempotent,
            resource=resource,
            exclusive=exclusive,
        )

    @classmethod
    def responder(
        cls, function: Callable[[S, DownloadCall[R], Self], Done]
    ) -> Callable[[S, DownloadCall[R], Self], Done]:
        """Decorator: the method C{(self, call, request)} accepts these calls and sends."""
        return _responds_to(cls, function)


class Upload(Request, Generic[R]):
    """A call whose reply carries an C{R} and opens a stream from caller to responder."""

    __slots__ = ()

    def __init_subclass__(
        cls,
        *,
        program: Program,
        number: int,
        permission: str,
        idempotent: bool = False,
        resource: str | None = None,
        exclusive: bool = False,
    ) -> None:
        super().__init_subclass__()
        cls.__procedure__ = register(
            cls,
            Kind.UPLOAD,
            program=program,
            number=number,
            permission=permission,
            idempotent=idempotent,
            resource=resource,
            exclusive=exclusive,
        )

    @classmethod
    def responder(
        cls, function: Callable[[S, UploadCall[R], Self], Done]
    ) -> Callable[[S, UploadCall[R], Self], Done]:
        """Decorator: the method C{(self, call, request)} accepts these calls and receives."""
        return _responds_to(cls, function)


class Duplex(Request, Generic[R]):
    """A call whose reply carries an C{R} and opens a stream both ways."""

    __slots__ = ()

    def __init_subclass__(
        cls,
        *,
        program: Program,
        number: int,
        permission: str,
        idempotent: bool = False,
        resource: str | None = None,
        exclusive: bool = False,
    ) -> None:
        super().__init_subclass__()
        cls.__procedure__ = register(
            cls,
            Kind.DUPLEX,
            program=program,
            number=number,
            permission=permission,
            idempotent=idempotent,
            resource=resource,
            exclusive=exclusive,
        )

    @classmethod
    def responder(
        cls, function: Callable[[S, DuplexCall[R], Self], Done]
    ) -> Callable[[S, DuplexCall[R], Self], Done]:
        """Decorator: the method C{(self, call, request)} accepts these calls."""
        return _responds_to(cls, function)


class Event(Request):
    """A message that nobody answers, either way."""

    __slots__ = ()

    def __init_subclass__(
        cls,
        *,
        program: Program,
        number: int,
        permission: str,
        idempotent: bool = False,
        resource: str | None = None,
        exclusive: bool = False,
    ) -> None:
        super().__init_subclass__()
        cls.__procedure__ = register(
            cls,
            Kind.EVENT,
            program=program,
            number=number,
            permission=permission,
            idempotent=idempotent,
            resource=resource,
            exclusive=exclusive,
        )

    @classmethod
    def responder(cls, function: Callable[[S, Call, Self], Done]) -> Callable[[S, Call, Self], Done]:
        """Decorator: the method C{(self, call, event)} takes these events."""
        return _responds_to(cls, function)
