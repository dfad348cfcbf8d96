"""
Several things at once.
"""

from __future__ import annotations

from collections.abc import Awaitable, Iterable
from typing import TypeVar

from twisted.internet.defer import Deferred, FirstError, gatherResults

__all__ = ["together"]

T = TypeVar("T")


async def together(waiting: Iterable[Awaitable[T]]) -> list[T]:
    """
    Wait for all.

    @return: their results, in order.
    @raise Exception: what the first that failed has raised.
    """

    async def wait(one: Awaitable[T]) -> T:
        return await one

    try:
        results = await gatherResults(
            [Deferred.fromCoroutine(wait(each)) for each in waiting], consumeErrors=True
        )
    except FirstError as error:
        failed: BaseException = error.subFailure.value or error
        raise failed from None
    return list(results)
