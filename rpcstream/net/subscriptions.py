"""
Events as the client gets them: async iterators and callbacks.

A subscription is confirmed by the server before anyone is told that it runs;
its queue is bounded, and what does not fit is told, never silent.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from contextlib import suppress
from types import TracebackType
from typing import TYPE_CHECKING, Any, Generic, Self, TypeVar

from twisted.internet.defer import Deferred, fail, succeed

from rpcstream.errors import ConnectionClosed, EventsLost
from rpcstream.net.streams import Waiters
from rpcstream.programs.base import Event

if TYPE_CHECKING:
    from rpcstream.net.client import ClientConnection

__all__ = ["EventQueue", "Subscription"]

E = TypeVar("E", bound=Event)


class Subscription(Generic[E]):
    """
    One callback for one kind of event.

    @ivar confirmed: fires when the server has confirmed the subscription.
    """

    def __init__(self, connection: ClientConnection, kind: type[E], callback: Callable[[E], None]) -> None:
        self._connection = connection
        self.kind = kind
        self.callback = callback
        self.lost: Callable[[int], None] = lambda count: None
        self.ended: Callable[[Exception], None] = lambda error: None
        self.confirmed: Deferred[None] = connection._add_subscription(self)

    def cancel(self) -> Deferred[None]:
        """Stop: no more events from now on; fires when the server knows."""
        return self._connection._drop_subscription(self)


class EventQueue(Generic[E]):
    """
    C{async with connection.events(X) as events: async for event in events: ...}

    Subscribed when entered, unsubscribed on leaving.  Iterating raises
    L{EventsLost} once after a loss, and goes on; it fails when the connection ends.
    """

    def __init__(self, connection: ClientConnection, kind: type[E], limit: int) -> None:
        self._connection = connection
        self._kind = kind
        self._limit = limit
        # Counts of lost events stand where the events would.
        self._queue: deque[E | int] = deque()
        self._event_count = 0
        self._arrived = Waiters()
        self._error: Exception | None = None
        self._subscription: Subscription[E] | None = None

    async def __aenter__(self) -> Self:
        self._subscription = Subscription(self._connection, self._kind, self._add)
        self._subscription.lost = self._lost
        self._subscription.ended = self._ended
        await self._subscription.confirmed
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._subscription is not None:
            # Where there is no connection any more there is no subscription to end.
            with suppress(ConnectionClosed):
                await self._subscription.cancel()

    def _add(self, event: E) -> None:
        if self._event_count >= self._limit:
            self._lost(1)
            return
        self._event_count += 1
        self._queue.append(event)
        self._arrived.fire()

    def _lost(self, count: int) -> None:
        last = self._queue[-1] if self._queue else None
        if isinstance(last, int):
            self._queue[-1] = last + count
        else:
            self._queue.append(count)
        self._arrived.fire()

    def _ended(self, error: Exception) -> None:
        self._error = error
        self._arrived.fail(error)

    def __aiter__(self) -> Self:
        return self

    def __anext__(self) -> Deferred[E]:
        if self._queue:
            first = self._queue.popleft()
            if isinstance(first, int):
                return fail(EventsLost(first))
            self._event_count -= 1
            return succeed(first)
        if self._error is not None:
            return fail(self._error)

        def again(_: Any) -> Deferred[E]:
            return self.__anext__()

        return self._arrived.wait().addCallback(again)
