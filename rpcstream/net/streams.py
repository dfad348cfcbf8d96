"""
What both directions of a stream have in common: its life and its progress.

The verbs have one meaning each: C{finish()} = all sent, wait for the
confirmation; C{abort(reason)} = give up; C{end()} = half-close (duplex only).
"""

from __future__ import annotations

from collections.abc import Callable
from types import TracebackType
from typing import Any, Generic, Self, TypeVar

from twisted.internet.defer import Deferred, fail, succeed
from twisted.logger import Logger

from rpcstream.core.states import StreamState
from rpcstream.core.streams import Stream
from rpcstream.errors import OperationAborted, RemoteError, StreamAborted, StreamStalled
from rpcstream.net.link import Link
from rpcstream.net.progress import LOCAL_DISK, Progress
from rpcstream.net.threads import Runner

__all__ = ["StreamBase", "Waiters"]

R_co = TypeVar("R_co", covariant=True)


class Waiters:
    """Deferreds that all fire together; each fires exactly once."""

    __slots__ = ("_waiting",)

    def __init__(self) -> None:
        self._waiting: list[Deferred[None]] = []

    def __bool__(self) -> bool:
        return bool(self._waiting)

    def wait(self) -> Deferred[None]:
        """A Deferred for the next L{fire} or L{fail}; cancelling forgets it."""
        waiter: Deferred[None] = Deferred(self._forget)
        self._waiting.append(waiter)
        return waiter

    def _forget(self, waiter: Deferred[None]) -> None:
        if waiter in self._waiting:
            self._waiting.remove(waiter)

    def fire(self) -> None:
        """Let all go on."""
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            waiter.callback(None)

    def fail(self, error: Exception) -> None:
        """Let all fail."""
        waiting, self._waiting = self._waiting, []
        for waiter in waiting:
            waiter.errback(error)


class StreamBase(Generic[R_co]):
    """
    One stream of a connection, open from the REPLY on.

    @ivar reply: the result that came with the decision to open it.
    @ivar is_opener: whether this side called; then it finishes and aborts,
        otherwise it confirms and fails.
    @ivar errors: the program's own errors, by code.
    @ivar lane: what moves the data: C{"shared"} or C{"exclusive"}.
    @ivar lane_waits: tells what the exclusive lane waits for, while it has the data.
    @ivar abandoned: called when the peer aborts and nobody here waits for the
        stream, so that nobody here would hear of it.
    """

    log = Logger()

    def __init__(
        self,
        link: Link,
        core: Stream,
        *,
        reply: Any = None,
        total_bytes: int | None = None,
    ) -> None:
        self._link = link
        self._core = core
        self.reply: R_co = reply
        self.total_bytes = total_bytes
        self._opened_at = link.clock.seconds()
        self._moved_at = self._opened_at
        self._moved_mark = 0
        self.errors: dict[int, type[RemoteError]] = {}
        self._error: Exception | None = None
        self._is_closed = False
        self._closed = Waiters()
        self.lane = "shared"
        self.lane_waits: Callable[[], str | None] | None = None
        self.abandoned: Callable[[], object] = lambda: None
        core.tag = self

    @property
    def is_opener(self) -> bool:
        """Whether this side called the procedure that opened the stream."""
        return self._core.opener

    @property
    def link(self) -> Link:
        """The connection's protocol."""
        return self._link

    @property
    def core_stream(self) -> Stream:
        """The core's stream."""
        return self._core

    @property
    def has_all(self) -> bool:
        """Whether the peer has sent all its data; of no meaning for a stream that only sends."""
        return False

    @property
    def runner(self) -> Runner:
        """Where blocking work of this connection runs."""
        return self._link.runner

    @property
    def is_closed(self) -> bool:
        """Whether the stream has ended, well or badly."""
        return self._is_closed

    @property
    def progress(self) -> Progress:
        """How far the stream has come."""
        byte_count, hole_bytes, packet_count = self._counted()
        return Progress(
            byte_count,
            hole_bytes,
            packet_count,
            self._link.clock.seconds() - self._opened_at,
            self.total_bytes,
            None if self._is_closed else self._waits_for(),
            self.lane,
        )

    def _waits_for(self) -> str | None:
        return self._stalled_by() if self.lane_waits is None else self.lane_waits()

    def _counted(self) -> tuple[int, int, int]:
        """Data bytes, hole bytes and packets moved in this stream's direction."""
        raise NotImplementedError

    def _stalled_by(self) -> str | None:
        return LOCAL_DISK

    def when_closed(self) -> Deferred[None]:
        """Fires when the stream ended; fails with what ended it badly."""
        if not self._is_closed:
            return self._closed.wait()
        return fail(self._error) if self._error is not None else succeed(None)

    @property
    def _is_opening(self) -> bool:
        """Opener: whether the REPLY is still to come; what the peer sends may come before it."""
        return self._core.state < StreamState.OPEN

    def opened(self, reply: Any) -> Exception | None:
        """
        The REPLY is here (opener only).

        @return: what has ended the stream already; then it is aborted.
        """
        self.reply = reply
        self._opened_at = self._moved_at = self._link.clock.seconds()
        if self._error is not None:
            self._tell_failed(OperationAborted(str(self._error)), str(self._error))
        return self._error

    # --- ending ------------------------------------------------------------------------

    def abort(self, reason: str = "") -> None:
        """
        Give up: the peer gets STREAM/ERROR, waiters here get L{StreamAborted}.

        Harmless on a stream that has ended.
        """
        self.fail_with(OperationAborted(reason or "the stream was aborted"), reason)

    def fail_with(self, error: RemoteError, reason: str | None = None) -> None:
        """End the stream with a typed error; what the peer can see of it is C{error}."""
        if not self._is_closed:
            text = error.message if reason is None else reason
            self._tell_failed(error, text)
            self._close(StreamAborted(text, "local"))

    def _tell_failed(self, error: RemoteError, text: str) -> None:
        # Before the REPLY there is nothing to abort yet: L{opened} does it.
        if self._is_opening:
            return
        core = self._link.core
        self._link.write_control(
            core.abort(self._core, text) if self.is_opener else core.fail(self._core, error)
        )

    def responder_done(self) -> None:
        """The responder has returned: what is left to do is done here (acceptor only)."""
        raise NotImplementedError

    def _close(self, error: Exception | None) -> None:
        """The one place where a stream ends; safe to call again."""
        if self._is_closed:
            return
        self._is_closed = True
        self._error = error
        self._link.resume_reading(self)
        try:
            self._released(error)
        except Exception:  # a producer or consumer of the user's: the others shall hear of the end
            self.log.failure("the end of a stream could not be told")
        if error is None:
            self._closed.fire()
        else:
            self._closed.fail(error)

    def _released(self, error: Exception | None) -> None:
        """Fire what still waits in a subclass."""

    # --- what the link tells -----------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """Data on a stream that only sends: the peer broke the direction."""
        self.fail_with(OperationAborted("no data is taken on this stream"))

    def hole_received(self, length: int) -> None:
        """As L{data_received}."""
        self.data_received(b"")

    def end_received(self) -> None:
        """End of data; nothing to do for a stream that only sends."""

    def finish_requested(self) -> None:
        """The opener has finished (acceptor only)."""

    def finish_confirmed(self) -> None:
        """The acceptor has confirmed our finish (opener only)."""
        self._close(None)

    def peer_aborted(self, reason: str) -> None:
        """The opener gave up (acceptor only)."""
        is_awaited = self._is_awaited()
        self._close(StreamAborted(reason, "peer"))
        if not is_awaited:
            self.abandoned()

    def _is_awaited(self) -> bool:
        """Whether anything here waits for the stream."""
        return bool(self._closed)

    def stream_failed(self, error: Exception) -> None:
        """The acceptor failed, the peer broke a rule of the stream, or the connection is gone."""
        self._close(error)

    def credit_granted(self) -> None:
        """The peer takes more; of interest to a sender only."""

    def check_stall(self, now: float) -> None:
        """Abort with the cause when no byte has moved for C{limits.stall_seconds}."""
        mark = sum(self._counted())
        if mark != self._moved_mark or self._is_opening:
            self._moved_mark = mark
            self._moved_at = now
            return
        seconds = self._link.limits.stall_seconds
        if now - self._moved_at >= seconds and not self._is_closed:
            error = StreamStalled(self._waits_for() or LOCAL_DISK, seconds)
            self._tell_failed(OperationAborted(str(error)), str(error))
            self._close(error)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> bool | None:
        if isinstance(error, GeneratorExit):
            return None  # the interpreter throws a forgotten coroutine away: nothing may be done in it
        if error is not None:
            self.abort(str(error))
            return None
        await self._leave()
        return None

    async def _leave(self) -> None:
        """What leaving C{async with} without an exception means."""
        raise NotImplementedError
