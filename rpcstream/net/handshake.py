"""
TLS handshakes, a few milliseconds of them in each turn of the reactor.

A step of a handshake (a ClientHello, a signature, a chain to verify) takes the
processor 1 to 2 ms.  The reactor serves every socket that is ready before it turns
again, so that a hundred peers which arrive together would hold up everybody else's
calls for as long as all their steps take.  They take turns instead.

What lives here: the budget, and what reads a connection until its handshake is over.
What must not: who is good (L{rpcstream.net.tls}), and the confirmation's byte
(L{rpcstream.net.confirmation}).
"""

from __future__ import annotations

import functools
from collections import OrderedDict
from collections.abc import Callable
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.protocols.tls import TLSMemoryBIOFactory, TLSMemoryBIOProtocol
from twisted.python.failure import Failure

from rpcstream.net.confirmation import ClientConfirmation, ServerConfirmation

__all__ = ["BUDGET_SECONDS", "Handshake", "HandshakeBudget", "budget_of"]

BUDGET_SECONDS = 0.004
"""For the handshakes of one turn, all together; the last step may overdraw it.  With that, and as
much again for everything else, a turn stays well below the 20 ms that calls may be held up."""

T = TypeVar("T")

_log = Logger()


class HandshakeBudget:
    """
    The time that handshakes may take in one turn of a reactor.

    Steps run at once while there is some left; the others wait for later turns, first
    come, first served.  Costs a timer in each turn with handshakes, none in others.
    """

    def __init__(self, reactor: IReactorTime, seconds: float = BUDGET_SECONDS) -> None:
        self._reactor = reactor
        self._seconds = seconds
        self._spent = 0.0
        self._is_running = False
        self._waiting: OrderedDict[Deferred[Any], Callable[[], Any]] = OrderedDict()
        self._next: IDelayedCall | None = None

    def call(self, step: Callable[[], T]) -> Deferred[T]:
        """
        @param step: runs now or in a later turn.  A step asked for by another one waits,
            or it would be counted twice.
        @return: fires with its result, at once if it could run at once.  Cancelling it
            gives the place away.
        """
        done: Deferred[T] = Deferred(self._forget)
        if self._waiting or self._is_running or self._spent >= self._seconds:
            self._waiting[done] = step
            self._plan()
        else:
            self._run(done, step)
        return done

    def _forget(self, done: Deferred[Any]) -> None:
        self._waiting.pop(done, None)

    def _run(self, done: Deferred[T], step: Callable[[], T]) -> None:
        began = self._reactor.seconds()
        self._is_running = True
        try:
            result: T | Failure = step()
        except Exception:
            result = Failure()
        # What was waiting for the step is part of it.
        done.callback(result)
        self._is_running = False
        # The reactor's clock is the machine's: somebody may set it back.
        self._spent += max(0.0, self._reactor.seconds() - began)
        self._plan()

    def _plan(self) -> None:
        if self._next is None and (self._waiting or self._spent):
            self._next = self._reactor.callLater(0, self._turn)

    def _turn(self) -> None:
        """The reactor calls this once before it looks at its sockets again."""
        self._next = None
        self._spent = 0.0
        while self._waiting and self._spent < self._seconds:
            self._run(*self._waiting.popitem(last=False))
        self._plan()


@functools.cache
def budget_of(reactor: IReactorTime) -> HandshakeBudget:
    """
    @return: what all handshakes of C{reactor} share, those of servers and of clients.
    """
    return HandshakeBudget(reactor)


class Handshake(Protocol):
    """
    A connection until its handshake is over: the TCP transport's protocol, so that TLS
    gets the bytes when it is its turn.  Until then the transport reads no more, so that
    not more than one read waits.

    The confirmation then puts TLS in this place: established connections know nothing
    of all this.  Until TLS begins, this is the confirmation's transport.

    @ivar confirmation: what TLS wraps meanwhile.
    """

    transport: Any

    def __init__(
        self,
        budget: HandshakeBudget,
        tls: TLSMemoryBIOFactory,
        confirmation: ServerConfirmation | ClientConfirmation,
    ) -> None:
        """
        @param tls: makes the TLS protocol around C{confirmation}.
        """
        self._budget = budget
        self.confirmation = confirmation
        self._tls: TLSMemoryBIOProtocol = tls.protocol(tls, confirmation)
        self._has_begun = False
        self._received = b""
        self._turn: Deferred[None] | None = None

    def connectionMade(self) -> None:
        # Its deadline runs from here, whenever the first turn comes.
        self.confirmation.makeConnection(self)  # type: ignore[no-untyped-call]
        self._take_turn()

    def dataReceived(self, data: bytes) -> None:
        self._received += data
        if self._turn is None:
            self._take_turn()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        # What is still waiting is dropped.  The end of a connection is seen only while it is
        # read, and it is not while bytes wait: this one was reset, or aborted at this end, and
        # no answer would reach anybody.
        self._leave()
        (self._tls if self._has_begun else self.confirmation).connectionLost(reason)

    def abortConnection(self) -> None:
        """End it at once; it takes no further step."""
        self._leave()
        (self._tls if self._has_begun else self.transport).abortConnection()

    def _take_turn(self) -> None:
        turn = self._budget.call(self._step)
        if not turn.called:
            self._turn = turn
            self.transport.pauseProducing()
        turn.addErrback(self._failed)

    def _step(self) -> None:
        if self._turn is not None:
            self._turn = None
            # Before the bytes are delivered: who is connected by them may want to pause.
            self.transport.resumeProducing()
        if not self._has_begun:
            self._tls.makeConnection(self.transport)
            self._has_begun = True
        received, self._received = self._received, b""
        if received:
            self._tls.dataReceived(received)

    def _leave(self) -> None:
        self._received = b""
        turn, self._turn = self._turn, None
        if turn is not None:
            turn.cancel()

    def _failed(self, failure: Failure) -> None:
        if not failure.check(CancelledError):
            _log.failure("a step of a TLS handshake", failure)
            self.abortConnection()
