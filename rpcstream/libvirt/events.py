"""
Lifecycle events of domains as a program gets them: callbacks and an async iterator.

What lives here: the values, one subscription, its queue.  What must not: how the
daemon is asked for them (L{rpcstream.libvirt.registrations}).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from types import TracebackType
from typing import TYPE_CHECKING, Any, NamedTuple, Self

from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import Logger

from rpcstream.errors import EventsLost
from rpcstream.net.streams import Waiters
from rpcstream.programs.remote import DomainHandle, Lifecycle

if TYPE_CHECKING:
    from rpcstream.libvirt.domain import Domain
    from rpcstream.libvirt.host import Host

__all__ = ["DomainEvents", "EventsInterrupted", "Gap", "LifecycleEvent", "Subscription"]


class LifecycleEvent(NamedTuple):
    """
    Something has happened to a domain.

    @ivar event: a number if it is newer than this library.
    @ivar detail: why; what it means depends on C{event}.
    """

    domain: Domain
    event: Lifecycle | int
    detail: int


class Gap(NamedTuple):
    """
    Events may be missing here; what was read before may be out of date.

    @ivar reason: why.
    @ivar lost_count: how many were dropped, C{None} if nobody knows.
    """

    reason: str
    lost_count: int | None = None


class EventsInterrupted(EventsLost):
    """The connection was lost and made again: nobody knows what happened in between."""

    def __init__(self, reason: str) -> None:
        super().__init__(0)
        self.args = (f"events may be missing: {reason}",)


class Subscription:
    """
    One consumer of lifecycle events.

    @ivar domain: the only domain wanted, C{None} for all.
    @ivar confirmed: fires when the daemon has confirmed; fails if it refuses.
    """

    log = Logger()

    def __init__(
        self,
        host: Host,
        callback: Callable[[LifecycleEvent], object],
        *,
        domain: DomainHandle | None = None,
        gap: Callable[[Gap], object] = lambda gap: None,
        ended: Callable[[Exception], object] = lambda error: None,
    ) -> None:
        """
        @param gap: called when events may be missing.
        @param ended: called once when no more will come.
        """
        self._host = host
        self._callback = callback
        self._gap = gap
        self._ended = ended
        self.domain = domain
        self.confirmed: Deferred[None] = host.subscribe(self)

    def cancel(self) -> Deferred[None]:
        """Stop: no more events from now on; fires when the daemon knows."""
        return self._host.unsubscribe(self)

    # --- what the registrations tell -----------------------------------------------------

    def event_received(self, domain: DomainHandle, event: int, detail: int) -> None:
        """An event, in the order in which the daemon sent them."""
        kind = Lifecycle(event) if event in Lifecycle._value2member_map_ else event
        self._run(self._callback, LifecycleEvent(self._host.bind_domain(domain), kind, detail))

    def interrupted(self, gap: Gap) -> None:
        """Events may be missing from here on."""
        self._run(self._gap, gap)

    def end(self, error: Exception) -> None:
        """No more will come."""
        self._run(self._ended, error)

    def _run(self, callback: Callable[[Any], object], value: Any) -> None:
        try:
            callback(value)
        except Exception:
            self.log.failure("a callback for domain events failed")


class DomainEvents:
    """
    C{async with host.domain_events() as events: async for event in events: ...}

    Registered when entered, taken back on leaving.  After a loss, iterating raises
    L{EventsLost} once (L{EventsInterrupted} after a reconnect) and goes on; with
    C{gaps} it gives a L{Gap} instead.  It fails when the connection ends for good.
    """

    def __init__(self, host: Host, domain: DomainHandle | None, gaps: bool, limit: int) -> None:
        self._host = host
        self._domain = domain
        self._gives_gaps = gaps
        self._limit = limit
        self._queue: deque[LifecycleEvent | Gap] = deque()
        self._lost_count = 0
        self._arrived = Waiters()
        self._error: Exception | None = None
        self._subscription: Subscription | None = None

    async def __aenter__(self) -> Self:
        self._subscription = Subscription(
            self._host, self._add, domain=self._domain, gap=self._interrupted, ended=self._end
        )
        await self._subscription.confirmed
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        if self._subscription is not None and self._error is None:
            await self._subscription.cancel()

    def _add(self, event: LifecycleEvent) -> None:
        if len(self._queue) >= self._limit:
            self._lost_count += 1
        else:
            self._tell_loss()
            self._queue.append(event)
        self._arrived.fire()

    def _tell_loss(self) -> None:
        """Put what was dropped before the event that follows it."""
        if self._lost_count:
            self._queue.append(Gap("the consumer was too slow", self._lost_count))
            self._lost_count = 0

    def _interrupted(self, gap: Gap) -> None:
        self._queue.append(gap)
        self._arrived.fire()

    def _end(self, error: Exception) -> None:
        self._error = error
        self._arrived.fire()

    def __aiter__(self) -> Self:
        return self

    def __anext__(self) -> Deferred[LifecycleEvent | Any]:
        if not self._queue:
            self._tell_loss()
        if self._queue:
            item = self._queue.popleft()
            if isinstance(item, LifecycleEvent) or self._gives_gaps:
                return succeed(item)
            return fail(
                EventsInterrupted(item.reason) if item.lost_count is None else EventsLost(item.lost_count)
            )
        if self._error is not None:
            return fail(self._error)
        return self._arrived.wait().addCallback(lambda _: self.__anext__())
