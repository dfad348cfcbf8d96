"""
A Deferred that also is an async context manager.

C{async with connection.open(...) as stream:} then needs no second C{await},
and C{addCallback} still works.  Nothing else lives here.
"""

from __future__ import annotations

from collections.abc import Awaitable, Generator
from types import TracebackType
from typing import Any, Protocol, TypeVar

from twisted.internet.defer import Deferred

__all__ = ["Opening"]


class _Managed(Protocol):
    def __aenter__(self) -> Awaitable[Any]: ...

    def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> Awaitable[bool | None]: ...


T = TypeVar("T", bound=_Managed)


class Opening(Deferred[T]):
    """Fires with an object that is an async context manager; entering waits for it, then enters it."""

    _opened: T

    @classmethod
    def of(cls, deferred: Deferred[T]) -> Opening[T]:
        """
        An Opening that fires as C{deferred} does; cancelling it cancels C{deferred}.
        """
        opening: Opening[T] = cls(lambda _: deferred.cancel())
        deferred.addCallbacks(opening.callback, opening.errback)
        return opening

    async def __aenter__(self) -> T:
        self._opened = await self
        await self._opened.__aenter__()
        return self._opened

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        return await self._opened.__aexit__(kind, error, traceback)

    def __await__(self) -> Generator[Any, None, T]:
        return super().__await__()
