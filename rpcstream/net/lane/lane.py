"""
The reactor's side of a lane: from the decision for it to the end of the connection.

L{take_lane} is called as soon as both ends have agreed; L{Lane.send} or
L{Lane.receive} then hands the connection over, once all that this side wrote
has left the process, and moves the data of one stream.  There is no way back:
the connection stays with its lane, for further streams of the same transfer and
for COMMIT, until it ends.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeVar

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from rpcstream.core.connection import Connection
from rpcstream.core.events import Event
from rpcstream.errors import BadState, ConnectionClosed, ResourceBusy
from rpcstream.net.incoming import IncomingStream
from rpcstream.net.lane import takeover
from rpcstream.net.lane.guarded import GuardedConnection
from rpcstream.net.lane.immediate import ImmediateJob
from rpcstream.net.lane.job import Job
from rpcstream.net.lane.loop import LaneEnd, LaneLoop
from rpcstream.net.lane.receiving import ReceiveJob, Sink
from rpcstream.net.lane.sending import SendJob
from rpcstream.net.lane.transport import LaneTransport
from rpcstream.net.link import Link
from rpcstream.net.outgoing import OutgoingStream
from rpcstream.net.pacing import TokenBucket
from rpcstream.net.streams import StreamBase

__all__ = ["Lane", "can_have_lane", "has_lane", "lane_count", "take_lane"]

FLUSH_SECONDS = 0.001
"""How often it is looked whether the socket has taken all output."""

COUNT_SECONDS = 0.5
"""How often the link is told what the lane has moved."""

_lanes: dict[Link, Lane] = {}

J = TypeVar("J", bound=Job)


def lane_count() -> int:
    """Lanes of this process."""
    return len(_lanes)


def has_lane(link: Link) -> bool:
    """Whether this connection is a lane's: then every stream on it is."""
    return link in _lanes


def can_have_lane(link: Link) -> bool:
    """
    Whether the next stream of this connection can have it for itself: nothing
    else goes on there, and the transport is one that can be taken over; or it
    is a lane's already, and its job has ended.
    """
    core = link.core
    if not isinstance(core, GuardedConnection) or core.stream_count or core.unanswered_call_count > 1:
        return False
    lane = _lanes.get(link)
    if lane is not None:
        return not lane.is_busy
    return len(_lanes) < link.limits.exclusive_lanes and takeover.can_take(link.transport)


def take_lane(stream: StreamBase[Any], control_calls: frozenset[tuple[int, int]]) -> Lane:
    """
    The stream is to have its connection for itself.  To be called in the turn in
    which it was opened: from here on there is no credit on this connection.

    @param control_calls: (program, procedure) of the calls that may still be made.
    @raise BadState: there are other streams.
    """
    link = stream.link
    lane = _lanes.get(link)
    if lane is None:
        link.core.propose_switch(stream.core_stream)
        link.core.allowed_calls = control_calls
        lane = _lanes[link] = Lane(link, stream)
    stream.lane = "exclusive"
    return lane


class Lane:
    """
    @ivar is_busy: whether a stream's data is being moved.
    @ivar takes_files: whether pieces may be L{FilePart}s: where there is no TLS, the
        kernel moves them.
    """

    def __init__(self, link: Link, first: StreamBase[Any]) -> None:
        """
        @param first: the stream it was decided for; it may be over before the lane begins.
        """
        self._link = link
        self._core: Connection = link.core
        self._reactor = link.clock
        self.takes_files = takeover.takes_files(link.transport)
        self._loop: LaneLoop | None = None
        self._job: Job | None = None
        self._counted = 0, 0
        self._timer: Any = None
        self._trigger: Any = None
        self._attach: Callable[[], None] | None = None
        self._has_all: Callable[[], bool] = lambda: False
        self._is_settled = False
        self._waiting: list[Callable[[], None]] = []
        self.is_busy = False
        # Never in this turn: Twisted may be in the midst of reading the socket.
        self._reactor.callLater(0, self._try, first)

    # --- jobs ---------------------------------------------------------------------------

    def send(
        self, stream: OutgoingStream[Any], pieces: Iterator[Any], packet_bytes: int | None = None
    ) -> Deferred[None]:
        """
        Send every piece; does not finish the stream.

        @param pieces: bytes, holes, and if L{takes_files} parts of files; used, and closed, by a thread.
        @return: fires when all was written to the socket; fails with what ended
            the stream, or with what C{pieces} raised: then abort the stream.
        """

        def make(core: GuardedConnection, wake: Callable[[], None]) -> SendJob:
            return SendJob(
                stream.core_stream,
                core,
                pieces,
                packet_bytes or stream.packet_bytes,
                lambda: stream.bucket,
                self._reactor,
                wake,
            )

        return self._start(stream, make)

    def receive(
        self,
        stream: IncomingStream[Any],
        sink: Sink,
        *,
        written: Callable[[], None] = lambda: None,
        bucket: TokenBucket | None = None,
    ) -> Deferred[None]:
        """
        Write all data of the stream to C{sink}, by a thread.

        @param written: called in the reactor, now and then, after something was written
            (not for a sink that is immediate).
        @param bucket: the rate limit; other streams may use it, too.
        @return: fires when the peer has sent all and it is written; fails with what
            ended the stream, or with what C{sink} raised: then abort the stream.
        """

        def make(core: GuardedConnection, wake: Callable[[], None]) -> Job:
            if bucket is None and getattr(sink, "is_immediate", False):
                return ImmediateJob(stream.core_stream, sink, stream.take_spooled(), self._reactor, wake)
            return ReceiveJob(
                stream.core_stream,
                sink,
                stream.take_spooled(),
                self._reactor,
                wake,
                written=written,
                bucket=bucket,
            )

        return self._start(stream, make)

    def _start(
        self, stream: StreamBase[Any], make: Callable[[GuardedConnection, Callable[[], None]], Job]
    ) -> Deferred[None]:
        if self.is_busy:
            raise ResourceBusy("this connection carries another stream")
        self.is_busy = True
        done: Deferred[None] = Deferred(lambda _: self._cancel())
        closed = stream.when_closed()

        def attach() -> None:
            core, loop = self._core, self._loop
            self._attach = None
            if done.called or not isinstance(core, GuardedConnection):
                return
            job = self._job = make(core, _nothing if loop is None else loop.wake)
            stream.lane_waits = lambda: job.waits_for
            job.done.addBoth(ended)
            job.start()
            job.has_all = stream.has_all
            if loop is not None:
                loop.attach(job)
            else:
                job.end_of_data()

        def ended(result: Any) -> None:
            self._job = self._attach = None
            self.is_busy = False
            stream.lane_waits = None
            self._add_bytes()
            closed.addErrback(_nothing)
            closed.cancel()
            if isinstance(result, Failure):
                tell(result)
            else:
                # COMMIT comes next: it is a lane's call, not possible in the midst of the hand-over.
                self._when_settled(lambda: tell(result))

        def tell(result: Any) -> None:
            if not done.called:
                done.callback(result)

        def stream_ended(_: None) -> None:
            if self._attach is not None:
                # A short one: all of it has come before the lane has begun.
                attach()

        def stream_failed(failure: Failure) -> None:
            if self._job is not None:
                self._job.fail(failure.value)
            elif self.is_busy:
                ended(failure)

        self._attach = attach
        self._has_all = lambda: stream.has_all
        closed.addCallbacks(stream_ended, stream_failed)
        if self._loop is not None and self._attach is not None:
            attach()
        return done

    def _cancel(self) -> None:
        job, self._attach = self._job, None
        if job is not None:
            job.done.cancel()
        self.is_busy = False

    # --- the hand-over --------------------------------------------------------------------

    def _when_settled(self, callback: Callable[[], None]) -> None:
        """Now, or when it is decided whether the lane begins."""
        if self._is_settled:
            callback()
        else:
            self._waiting.append(callback)

    def _settle(self) -> None:
        self._is_settled = True
        if self._attach is not None and self._loop is not None:
            self._attach()
        waiting, self._waiting = self._waiting, []
        for callback in waiting:
            callback()

    def _try(self, first: StreamBase[Any]) -> None:
        link = self._link
        transport: Any = link.transport
        if not link.is_connected or transport.disconnecting:
            _lanes.pop(link, None)  # the stream tells who waits
            self._settle()
            return
        link.flush()
        takeover.flush(transport)
        if not takeover.is_flushed(transport) or not self._switched(first):
            self._reactor.callLater(FLUSH_SECONDS, self._try, first)
            return
        try:
            self._take_over(transport)
        except Exception as error:
            _lanes.pop(link, None)
            link.log.failure("a lane could not take its connection over")
            link.abort(f"the lane could not begin: {error}")
        self._settle()

    def _switched(self, stream: StreamBase[Any]) -> bool:
        try:
            self._core.complete_switch(stream.core_stream)
        except BadState:
            return False  # calls wait for their replies, which come to the reactor still
        return True

    def _take_over(self, transport: Any) -> None:
        channel = takeover.detach(transport)
        core = self._core
        if not isinstance(core, GuardedConnection):
            raise BadState("this connection cannot be shared with a thread")
        call = self._reactor.callFromThread
        loop = self._loop = LaneLoop(
            channel,
            core,
            self._link.limits,
            deliver=lambda events: call(self._deliver, events),
            reading=lambda reads: call(self._tell_reading, reads),
            ended=lambda end: call(self._ended, transport, end),
        )
        link: Any = self._link
        link.transport = LaneTransport(transport, loop)
        self._trigger = self._reactor.addSystemEventTrigger("during", "shutdown", loop.abort)
        loop.start()
        self._count()

    # --- what the loop tells ----------------------------------------------------------------

    def _deliver(self, events: list[Event]) -> None:
        self._link.deliver(events)
        job, loop = self._job, self._loop
        if job is not None and loop is not None and not job.has_all and self._has_all():
            # The lane had taken all the data before it passed on the end of it.
            job.has_all = True
            loop.wake()

    def _tell_reading(self, reads: bool) -> None:
        self._link.is_lane_blocked = not reads

    def _count(self) -> None:
        """Tell the link, twice a second, what goes past it."""
        self._add_bytes()
        self._timer = self._reactor.callLater(COUNT_SECONDS, self._count)

    def _add_bytes(self) -> None:
        loop, link = self._loop, self._link
        if loop is not None:
            written, received = loop.written_bytes, loop.received_bytes
            link.written_bytes += written - self._counted[0]
            link.received_bytes += received - self._counted[1]
            self._counted = written, received

    def _ended(self, transport: Any, end: LaneEnd) -> None:
        self._timer.cancel()
        self._add_bytes()
        _lanes.pop(self._link, None)
        self._reactor.removeSystemEventTrigger(self._trigger)
        if not end.in_order and self._link.is_connected:
            self._link.log.info("connection with {peer} lost: {text}", peer=self._link.peer, text=end.text)
        takeover.close(transport, end.in_order)
        job = self._job
        if job is not None:
            job.fail(ConnectionClosed(end.text))


def _nothing(_: object = None) -> None:
    """For who must call something."""
