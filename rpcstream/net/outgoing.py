"""
The sending direction of a stream: an IConsumer with back-pressure.

Order is kept between data, holes and the end; one packet at a time is handed
to the link, which asks for it when the transport takes bulk and in turn with
the other streams.
"""

from __future__ import annotations

from collections import deque
from typing import TYPE_CHECKING, Any, TypeVar, cast

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IConsumer, IDelayedCall, IPushProducer
from zope.interface import implementer

from rpcstream.core.streams import Stream
from rpcstream.errors import BadState, BufferFull, StreamAborted
from rpcstream.limits import MESSAGE_BYTES
from rpcstream.net.link import Link
from rpcstream.net.pacing import TokenBucket
from rpcstream.net.progress import LOCAL_DISK, PAUSED_CONSUMER, PEER_SOCKET, RATE_LIMIT, Progress
from rpcstream.net.pull import PullToPush
from rpcstream.net.spool import Hole
from rpcstream.net.streams import R_co, StreamBase, Waiters
from rpcstream.wire.header import HEADER_BYTES

if TYPE_CHECKING:
    from rpcstream.net.sources import Sendable

__all__ = ["OutgoingStream"]

T = TypeVar("T")


@implementer(IConsumer)
class OutgoingStream(StreamBase[R_co]):
    """
    Data from this side to the peer.

    C{async with}: leaving finishes and waits for the confirmation; leaving by
    an exception aborts with its text.
    """

    def __init__(
        self,
        link: Link,
        core: Stream,
        *,
        reply: Any = None,
        total_bytes: int | None = None,
        packet_bytes: int | None = None,
    ) -> None:
        super().__init__(link, core, reply=reply, total_bytes=total_bytes)
        self.packet_bytes = max(1, min(packet_bytes or link.packet_bytes, MESSAGE_BYTES - HEADER_BYTES))
        self._pending: deque[bytes | memoryview | Hole] = deque()
        self._pending_bytes = 0
        self._drained = Waiters()
        self._unregistered = Waiters()
        self._ending = False
        self._end_written = False
        self._bucket: TokenBucket | None = None
        self._pause_timer: IDelayedCall | None = None
        self._producer: Any = None
        self._producer_paused = False
        # A sliver of credit is not worth a packet of its own, unless the whole window is one.
        self._sliver_bytes = 4096 if core.send_credit is None else min(4096, core.send_credit // 2)

    # --- feeding ------------------------------------------------------------------------

    def send(self, data: bytes) -> Deferred[None]:
        """
        Send C{data}, at any length; the stream keeps the object until it is written.

        @return: fires at once while less than C{limits.send_high_bytes} wait,
            otherwise when that is so again; fails with what ended the stream.
        """
        if not isinstance(data, bytes | bytearray | memoryview):
            raise TypeError(f"bytes are sent, not {type(data).__name__}")
        if not data:
            return succeed(None)
        return self._add(data, len(data))

    def send_hole(self, length: int) -> Deferred[None]:
        """
        Send C{length} zero bytes as a hole: 40 bytes on the wire.

        @raise BadState: the stream was not opened sparse.
        """
        if length <= 0:
            return succeed(None)
        if not self._core.sparse:
            raise BadState("this stream takes no holes; send zeros")
        return self._add(Hole(length), 0)

    def _add(self, piece: bytes | Hole, byte_count: int) -> Deferred[None]:
        if self._is_closed:
            return fail(self._error or BadState("the stream is finished"))
        if self._ending:
            return fail(BadState("the stream was finished"))
        self._pending.append(piece)
        self._pending_bytes += byte_count
        self._link.want_write(self)
        if self._pending_bytes < self._high_bytes or self._is_closed:
            return succeed(None)
        return self._drained.wait()

    @property
    def _high_bytes(self) -> int:
        return max(self._link.limits.send_high_bytes, self.packet_bytes)

    def write(self, data: bytes) -> None:
        """
        As IConsumer asks: never waits; a registered producer is paused instead.

        @raise BufferFull: more than C{limits.write_high_bytes} wait.
        """
        if self._is_closed or self._ending or not data:
            return
        if self._pending_bytes >= self._link.limits.write_high_bytes:
            raise BufferFull(self._link.limits.write_high_bytes)
        waiting = self._add(data, len(data))
        if not waiting.called:
            self._pause_producer()
        waiting.addErrback(lambda _: None)

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """As IConsumer; a pull producer is driven by the stream."""
        if self._producer is not None:
            raise RuntimeError("a producer is registered already")
        if self._is_closed:
            producer.stopProducing()
            return
        self._producer_paused = False
        if streaming:
            self._producer = producer
        else:
            pull = self._producer = PullToPush(producer, self._link.clock, self._producer_failed)
            pull.start()
        if self._pending_bytes >= self._high_bytes:
            self._pause_producer()

    def unregisterProducer(self) -> None:
        """As IConsumer; the stream stays open: finish it."""
        producer, self._producer = self._producer, None
        if isinstance(producer, PullToPush):
            producer.stop()
        self._unregistered.fire()

    def _producer_failed(self, error: Exception) -> None:
        self.abort(str(error) or type(error).__name__)

    def when_unregistered(self) -> Deferred[None]:
        """Fires when the registered producer has no more; fails with what ended the stream."""
        if self._is_closed:
            return self.when_closed()
        return self._unregistered.wait()

    def _pause_producer(self) -> None:
        if self._producer is not None and not self._producer_paused:
            self._producer_paused = True
            cast(IPushProducer, self._producer).pauseProducing()

    def send_from(self, source: Sendable) -> Deferred[Progress]:
        """
        Send all of C{source}: bytes, a Path, a binary file, an iterable or async
        iterable of bytes, or a Twisted producer.  Does not finish the stream.

        @return: fires with the progress when all was handed over; cancelling it
            aborts the stream.
        """
        from rpcstream.net.sources import send_from

        return Deferred.fromCoroutine(send_from(self, source))

    # --- the link asks -------------------------------------------------------------------

    def next_frame(self) -> bytes | None:
        """The next packet, within credit, rate and packet size; C{None} when there is none now."""
        if self._is_closed:
            return None
        if not self._pending:
            if self._ending and not self._end_written:
                self._write_end()
            return None
        if self._bucket is not None and self._must_pause():
            return None
        head = self._pending[0]
        if isinstance(head, Hole):
            if not self._core.can_send_hole:
                return None
            self._pending.popleft()
            return self._link.core.send_hole(self._core, head.length)
        wanted = self._packet_limit()
        limit = min(wanted, self._core.sendable_bytes)
        if limit <= 0 or (limit < self._sliver_bytes and limit < min(wanted, self._pending_bytes)):
            return None
        parts, length = self._gather(limit)
        self._pending_bytes -= length
        if self._bucket is not None:
            self._bucket.spend(length + HEADER_BYTES)
        # The one copy: header and payload are one object, and one write.
        return b"".join((self._link.core.data_header(self._core, length), *parts))

    def _packet_limit(self) -> int:
        if self._bucket is None:
            return self.packet_bytes
        # A slow stream moves in small steps: a large packet would look like a stall.
        return min(self.packet_bytes, max(512, int(self._bucket.bytes_per_second / 4)))

    def _gather(self, limit: int) -> tuple[list[bytes | memoryview], int]:
        """Up to C{limit} bytes from the front, in pieces, and how many; nothing is copied yet."""
        pending = self._pending
        parts: list[bytes | memoryview] = []
        length = 0
        while pending and length < limit and not isinstance(pending[0], Hole):
            piece = cast("bytes | memoryview", pending.popleft())
            room = limit - length
            if len(piece) > room:
                view = memoryview(piece)
                pending.appendleft(view[room:])
                piece = view[:room]
            parts.append(piece)
            length += len(piece)
        return parts, length

    def frame_written(self) -> None:
        """Below half of the mark, whoever waited may go on."""
        if self._pending_bytes > self._high_bytes // 2:
            return
        self._drained.fire()
        if self._producer_paused:
            self._producer_paused = False
            if self._producer is not None:
                self._producer.resumeProducing()

    # --- rate ---------------------------------------------------------------------------

    def limit_rate(self, bytes_per_second: float | None) -> None:
        """Send no faster than this on average, from now on; C{None} = as fast as it goes."""
        clock = self._link.clock.seconds
        self.share_rate(None if bytes_per_second is None else TokenBucket(bytes_per_second, clock))

    def share_rate(self, bucket: TokenBucket | None) -> None:
        """Send, from now on, no faster than C{bucket} lets through, which other streams may use, too."""
        self._bucket = bucket
        self._stop_pause()
        if not self._is_closed:
            self._link.want_write(self)

    @property
    def bucket(self) -> TokenBucket | None:
        """The rate limit, C{None} for none."""
        return self._bucket

    def _must_pause(self) -> bool:
        if self._pause_timer is not None:
            return True
        seconds = self._bucket.wait_seconds() if self._bucket is not None else 0.0
        if seconds <= 0:
            return False
        self._pause_timer = self._link.clock.callLater(seconds, self._rate_passed)
        return True

    def _stop_pause(self) -> None:
        if self._pause_timer is not None:
            self._pause_timer.cancel()
            self._pause_timer = None

    def _rate_passed(self) -> None:
        self._pause_timer = None
        if not self._is_closed:
            self._link.want_write(self)

    # --- ending --------------------------------------------------------------------------

    def finish(self) -> Deferred[Progress]:
        """
        All was sent: wait until the peer has confirmed it.

        @return: fires with the final progress; fails with the peer's error, or
            with what ended the stream before.
        """
        if self._is_closed and self._error is None and not self._ending:
            return fail(StreamAborted("the stream has ended", "local"))
        if not self._ending and not self._is_closed:
            self._ending = True
            self._link.want_write(self)
        return self.when_closed().addCallback(lambda _: self.progress)

    def _write_end(self) -> None:
        """Everything is out: the opener asks to finish, the acceptor says end of data."""
        self._end_written = True
        core = self._link.core
        if self.is_opener:
            self._link.write_control(core.finish(self._core))
        else:
            self._link.write_control(core.end(self._core))

    def finish_requested(self) -> None:
        """
        The opener of a download is done with us, at our end of data or early.

        An early finish is legal: no more data is sent, and it is confirmed.
        """
        done = self._end_written or (self._ending and not self._pending)
        self._confirm(None if done else StreamAborted("the reader has finished early", "peer"))

    def _confirm(self, error: Exception | None) -> None:
        if self._link.is_connected:
            self._link.write_control(self._link.core.confirm(self._core))
        self._close(error)

    def responder_done(self) -> None:
        """All was sent, it seems: say so, and wait for the reader's finish."""
        if not self._is_closed:
            self._ending = True
            self._link.want_write(self)

    def credit_granted(self) -> None:
        """The peer takes more: go on."""
        self._link.want_write(self)

    def _discard_pending(self) -> None:
        """Nobody wants what waits here; whoever waits to send more may go on."""
        self._stop_pause()
        self._pending.clear()
        self._pending_bytes = 0
        self._drained.fire()
        producer, self._producer = self._producer, None
        if producer is not None:
            producer.stopProducing()

    def _released(self, error: Exception | None) -> None:
        if error is not None:
            self._drained.fail(error)
        self._link.forget_sender(self)
        try:
            self._discard_pending()
        finally:
            if error is None:
                self._unregistered.fire()
            else:
                self._unregistered.fail(error)

    def _is_awaited(self) -> bool:
        return super()._is_awaited() or bool(self._drained) or bool(self._unregistered)

    async def _leave(self) -> None:
        if not self._is_closed or self._error is not None:
            await self.finish()

    # --- watching ------------------------------------------------------------------------

    def _counted(self) -> tuple[int, int, int]:
        core = self._core
        return core.sent_bytes, core.sent_hole_bytes, core.sent_packet_count

    def _stalled_by(self) -> str | None:
        if self._pause_timer is not None:
            return RATE_LIMIT
        if not self._pending:
            return PEER_SOCKET if self._end_written else LOCAL_DISK
        if self._core.sendable_bytes < min(self._sliver_bytes or 1, self._pending_bytes or 12):
            return PAUSED_CONSUMER
        return PEER_SOCKET if not self._link.is_writable else None
