"""
The thread of a lane: it alone reads and writes the socket, until the end.

Frames of the reactor (calls, replies, the ends of streams) come through
L{LaneLoop.post} and go between packets; what is received goes to the job, or
back to the reactor as events.  One eventfd wakes the thread for everything.
"""

from __future__ import annotations

import contextlib
import os
import select
import threading
import time
from collections import deque
from collections.abc import Callable
from typing import NamedTuple

from twisted.logger import Logger

from rpcstream.core.events import Event, StreamData, StreamHole
from rpcstream.limits import Limits
from rpcstream.net.lane.channel import WANT_WRITE, Channel, ChannelLost
from rpcstream.net.lane.guarded import GuardedConnection
from rpcstream.net.lane.job import Job
from rpcstream.net.lane.output import Output

__all__ = ["LaneEnd", "LaneLoop"]

SCRATCH_BYTES = 64 * 1024
"""What is read at once while no job takes data."""
TOLD_SECONDS = 0.5
"""Not reading for so long is told: silence of the peer then means nothing."""


class LaneEnd(NamedTuple):
    """
    Why the thread has ended.

    @ivar in_order: the peer has taken leave.
    """

    in_order: bool
    text: str


class LaneLoop:
    """
    @ivar received_bytes: all that was read.
    """

    log = Logger()

    def __init__(
        self,
        channel: Channel,
        core: GuardedConnection,
        limits: Limits,
        *,
        deliver: Callable[[list[Event]], None],
        reading: Callable[[bool], None],
        ended: Callable[[LaneEnd], None],
    ) -> None:
        """
        @param limits: C{control_queue_count}, C{control_stuck_seconds} are used.
        @param deliver: called in the thread with events that are the reactor's.
        @param reading: called in the thread when it does not read for a while
            (a full disk queue, a rate limit), and when it does again.
        @param ended: called in the thread, last of all.
        """
        self._channel = channel
        self._core = core
        self._limits = limits
        self._deliver = deliver
        self._reading = reading
        self._ended = ended
        self._event_fd = os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC)
        self._event_lock = threading.Lock()
        self._output = Output(channel)
        self._job: Job | None = None
        self._next_job: Job | None = None
        self._held: deque[Event] = deque()
        self._scratch = memoryview(bytearray(SCRATCH_BYTES))
        self._read_wants = 0
        self._is_closing = self._is_aborted = False
        self._is_paused = self._is_asleep = False
        self._full_at = self._blocked_at = 0.0
        self._is_told = False
        self._poll = select.poll()
        self._poll.register(self._event_fd, select.POLLIN)
        self._polled = -1
        self.received_bytes = 0
        self._thread = threading.Thread(target=self._run, name="rpcstream lane", daemon=True)

    @property
    def written_bytes(self) -> int:
        """All that jobs have sent, with their headers."""
        return self._output.written_bytes

    # --- from any thread ----------------------------------------------------------------

    def start(self) -> None:
        """Begin."""
        self._thread.start()

    def wake(self) -> None:
        """There is something new to do."""
        if not self._is_asleep:
            return  # it looks once more before it sleeps
        with self._event_lock:
            if self._event_fd >= 0:
                os.eventfd_write(self._event_fd, 1)

    def post(self, frame: bytes) -> None:
        """Write C{frame} before the next packet."""
        self._output.controls.append(frame)
        self.wake()

    def attach(self, job: Job) -> None:
        """Do C{job} now; the one before has ended."""
        self._next_job = job
        self.wake()

    def pause(self, is_paused: bool) -> None:
        """Whether the reactor has so much to do that nothing shall be read."""
        self._is_paused = is_paused
        self.wake()

    def close(self) -> None:
        """Write what was posted, take leave of the peer, wait for it to do so, and end."""
        self._is_closing = True
        self.wake()

    def abort(self) -> None:
        """End at once."""
        self._is_aborted = True
        self._channel.break_off()
        self.wake()

    # --- the thread -----------------------------------------------------------------------

    def _run(self) -> None:
        end = LaneEnd(False, "aborted by this side")
        try:
            while not self._is_aborted:
                self._change_job()
                written = self._output.write(self._job, self._is_closing)
                if self._read() or written:
                    self._is_asleep = False
                elif self._is_asleep:
                    self._wait()
                else:
                    # Whoever comes from now on wakes it; who came before is seen in one more round.
                    self._is_asleep = True
        except ChannelLost as lost:
            end = LaneEnd(lost.in_order, str(lost))
            if lost.in_order:
                self._answer_end()
        except Exception:
            end = LaneEnd(False, "internal error")
            self.log.failure("a lane has failed")
        finally:
            self._leave(end)

    def _change_job(self) -> None:
        """Between two reads, so that no buffer is taken for another's."""
        if self._next_job is not None:
            self._job, self._next_job = self._next_job, None
        job = self._job
        if job is not None and job.has_all and not self._held:
            self._job = None
            job.end_of_data()

    def _answer_end(self) -> None:
        """The peer has taken leave: so do we, as far as it goes without waiting."""
        with contextlib.suppress(ChannelLost):  # it has gone for good
            self._output.answer_end()

    def _leave(self, end: LaneEnd) -> None:
        for job in (self._job, self._next_job):
            if job is not None:
                job.cancel()
        with self._event_lock:
            os.close(self._event_fd)
            self._event_fd = -1
        self._ended(end)

    # --- reading --------------------------------------------------------------------------

    def _read(self) -> bool:
        """@return: whether there is more to do; C{_read_wants} says what reading waits for, 0 if for room."""
        self._read_wants = 0
        if self._is_closing:
            count, self._read_wants = self._channel.read(self._scratch)
            return count > 0
        if self._is_paused or self._is_full() or (self._held and not self._go_on()):
            return False
        job = self._job
        view = self._scratch if job is None or not job.takes_data else job.room()
        if view is None:
            return False
        count, self._read_wants = self._channel.read(view)
        if not count:
            return False
        self.received_bytes += count
        core, data = self._core, view[:count]
        with core.lock:
            stream = core.take_fragment(data)
            # Most of bulk data lies within one packet.
            events: list[Event] = core.receive(data) if stream is None else [StreamData(stream, data)]  # type: ignore[arg-type]
            if core.outgoing:
                self._output.controls.extend(core.take_outgoing())
        if job is not None and job.takes_data:
            job.filled(count)
        self._handle(events, view is self._scratch)
        return not self._read_wants or bool(self._output.controls)

    def _is_full(self) -> bool:
        """
        Whether the peer lets so many answers wait that none shall be added.

        @raise ChannelLost: for too long (row K04).
        """
        if len(self._output.controls) < self._limits.control_queue_count:
            self._full_at = 0.0
            return False
        now = time.monotonic()
        self._full_at = self._full_at or now
        if now - self._full_at > self._limits.control_stuck_seconds:
            raise ChannelLost("the peer does not read its answers")
        return True

    def _handle(self, events: list[Event], is_scratch: bool) -> None:
        """Data is the job's, the rest the reactor's."""
        passed: list[Event] = []
        for number, event in enumerate(events):
            if isinstance(event, StreamData | StreamHole):
                if not self._take(event):
                    # Nobody takes it yet: neither it nor what comes behind it may get lost.
                    rest = events[number:]
                    self._held.extend(_kept(one) for one in rest) if is_scratch else self._held.extend(rest)
                    break
                continue
            passed.append(event)
        if passed:
            self._deliver(passed)

    def _take(self, event: StreamData | StreamHole) -> bool:
        job = self._job
        if event.stream.ended:
            return True
        if job is None or not job.takes_data or event.stream is not job.stream:
            return False
        if isinstance(event, StreamData):
            job.data(memoryview(event.data))
        else:
            job.hole(event.length_bytes)
        return True

    def _go_on(self) -> bool:
        """With what was held back; @return: whether all of it could be handed on."""
        events, self._held = list(self._held), deque()
        self._handle(events, False)
        return not self._held

    # --- waiting --------------------------------------------------------------------------

    def _wait(self) -> None:
        """Nothing can be done: wait for the peer, the disk, the rate limit or the reactor."""
        wanted = 0
        for wants in (self._read_wants, self._output.wants):
            if wants:
                wanted |= select.POLLOUT if wants == WANT_WRITE else select.POLLIN
        if wanted != self._polled:
            self._polled = wanted
            self._poll.register(self._channel.fileno, wanted)
        job = self._job
        seconds = 1.0
        if job is not None:
            seconds = min(seconds, job.waits(self._output.is_unwritten, not self._read_wants))
        self._tell_reading(bool(self._read_wants))
        try:
            found = dict(self._poll.poll(max(1, int(seconds * 1000))))
        finally:
            self._is_asleep = False
            if job is not None:
                job.goes_on()
        if job is not None and not found:
            job.idle()
        if self._event_fd in found:
            os.eventfd_read(self._event_fd)
        state = found.get(self._channel.fileno, 0)
        if state & (select.POLLERR | select.POLLHUP | select.POLLNVAL) and not self._read_wants:
            raise ChannelLost("the connection was lost")

    def _tell_reading(self, reads: bool) -> None:
        """Silence of the peer means nothing while we do not read."""
        if reads:
            self._blocked_at = 0.0
            if self._is_told:
                self._is_told = False
                self._reading(True)
        elif not self._blocked_at:
            self._blocked_at = time.monotonic()
        elif not self._is_told and time.monotonic() - self._blocked_at >= TOLD_SECONDS:
            self._is_told = True
            self._reading(False)


def _kept(event: Event) -> Event:
    """The same, without a view of a buffer that is used again."""
    return StreamData(event.stream, bytes(event.data)) if isinstance(event, StreamData) else event
