"""
The receiving direction of a stream: an IPushProducer, an iterator, a reader.

Received bytes wait in a L{Spool}; what is taken out gives the peer credit
again, or lets the transport be read again when the peer knows no credit.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Self

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.interfaces import IConsumer, IDelayedCall, IPushProducer
from twisted.internet.task import deferLater
from zope.interface import implementer

from rpcstream.core.streams import Stream
from rpcstream.errors import BadState, OperationAborted, StreamAborted
from rpcstream.net.link import Link
from rpcstream.net.pieces import Pieces, read_all
from rpcstream.net.progress import LOCAL_DISK, PAUSED_CONSUMER, PEER_SOCKET, RATE_LIMIT, Progress
from rpcstream.net.spool import ZERO_PIECE_BYTES, Hole, Piece, Spool, zeros
from rpcstream.net.streams import R_co, StreamBase, Waiters
from rpcstream.net.window import Window

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["IncomingStream"]

_FEED_BYTES = 4 * 1024 * 1024
"""Pushed to a consumer in one turn of the reactor."""
_ZERO_PIECES_A_TURN = 16
"""Pieces of a hole given to an iterator in one turn of the reactor."""


@implementer(IPushProducer)
class IncomingStream(StreamBase[R_co]):
    """
    Data from the peer.

    Iterating gives bytes, holes as zeros; L{pieces} gives holes as L{Hole}.
    C{async with}: leaving at the end of data is a clean end, before it an abort.
    """

    def __init__(
        self, link: Link, core: Stream, *, reply: Any = None, total_bytes: int | None = None
    ) -> None:
        super().__init__(link, core, reply=reply, total_bytes=total_bytes)
        self._spool = Spool()
        self._window = Window(core, link.limits)
        self._arrived = Waiters()
        self._delivered = Waiters()
        self._at_end = False
        self._has_ended = False
        self._finish_waits = False
        self._responder_done = False
        self._consumer: Any = None
        self._consumer_paused = False
        self._is_held_back = False
        self._has_paused = False
        self._is_feeding = False
        self._feed_timer: IDelayedCall | None = None
        self._zeros_left = 0
        self._zero_pieces = 0

    # --- what the link tells -----------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """A fragment of a packet, as it came."""
        if self._is_closed:
            return
        if self._window.has_news:
            is_drained = not (self._spool or self._zeros_left or self._consumer_paused)
            more = self._window.growth(is_drained, self._link.clock.seconds())
            if more:
                self._window.granted(self._window.edge, self._link.clock.seconds())
                self._link.write_control(self._link.core.grow_credit(self._core, more))
        if self._consumer is not None and not (self._consumer_paused or self._spool or self._zeros_left):
            self._consumer.write(data)
            self._consumed(len(data))
            return
        self._spool.add(data)
        self._spooled()

    def hole_received(self, length: int) -> None:
        """A hole of C{length} zero bytes."""
        if self._is_closed:
            return
        self._spool.add_hole(length)
        self._spooled()

    def _spooled(self) -> None:
        self._arrived.fire()
        self._feed()
        if not self._spool:
            return
        if self._responder_done and self._consumer is None:
            self._refuse_rest()
            return
        # Credit bounds the data, not what its pieces cost; without credit only TCP holds the peer back.
        high = self._link.limits.spool_high_bytes
        window = self._core.receive_window
        if self._spool.cost_bytes > (high if window is None else 2 * max(high, window)):
            self._has_paused = True
            self._link.pause_reading(self)

    def _refuse_rest(self) -> None:
        """The responder has returned without taking all: to confirm that would lose data in silence."""
        self.fail_with(OperationAborted("the receiver did not take all data"))

    def end_received(self) -> None:
        """
        End of data: the opener owes a finish.

        An upload has all its data when its finish has come, not before: its
        opener may still abort.
        """
        if self._is_closed or self._at_end or not self.is_opener:
            return
        self._has_ended = True
        if not self._is_opening:
            self._send_finish()

    def opened(self, reply: Any) -> Exception | None:
        """As L{StreamBase.opened}; the end of data may have come before the REPLY."""
        error = super().opened(reply)
        if error is None and self._has_ended:
            self._send_finish()
        return error

    @property
    def has_all(self) -> bool:
        """Whether the peer has sent all its data, so that what waits here is the rest."""
        return self._at_end or self._has_ended

    def _send_finish(self) -> None:
        if self._link.is_connected:
            self._link.write_control(self._link.core.finish(self._core))

    def finish_requested(self) -> None:
        """The opener of an upload has sent all; it waits for our confirmation."""
        self._finish_waits = True
        self._reach_end()
        if self._responder_done:
            self.confirm()

    def finish_confirmed(self) -> None:
        """Our finish after the end of data was confirmed: the data is complete."""
        self._reach_end()
        self._close(None)

    def _reach_end(self) -> None:
        self._at_end = True
        self._arrived.fire()
        self._feed()

    def _released(self, error: Exception | None) -> None:
        self._window.close()
        if error is not None:
            self._spool.clear()
            self._zeros_left = 0
            if self._feed_timer is not None:
                self._feed_timer.cancel()
                self._feed_timer = None
            self._arrived.fail(error)
        self._feed()

    def _is_awaited(self) -> bool:
        return super()._is_awaited() or bool(self._arrived) or bool(self._delivered)

    # --- taking ---------------------------------------------------------------------------

    def next_piece(self, limit_bytes: int | None = None) -> Deferred[Piece | None]:
        """
        The next bytes or L{Hole}, at most C{limit_bytes} of data.

        @return: C{None} at the end of data; fails with what ended the stream.
        """
        if self._consumer is not None:
            return fail(BadState("a consumer is attached"))
        if self._spool:
            return succeed(self._take(limit_bytes))
        if self._error is not None:
            return fail(self._error)
        if self._at_end or self._is_closed:
            return succeed(None)
        return self._arrived.wait().addCallback(lambda _: self.next_piece(limit_bytes))

    def next_batch(self, limit_bytes: int) -> Deferred[list[Piece]]:
        """
        All that has arrived, up to about C{limit_bytes}, waiting for the first piece.

        Made for consumers with a cost per hand-over, such as a thread.

        @return: empty at the end of data.
        """

        def gather(first: Piece | None) -> list[Piece]:
            batch: list[Piece] = [] if first is None else [first]
            taken = len(first) if isinstance(first, bytes) else 0
            while self._spool and taken < limit_bytes:
                piece = self._take(None)
                taken += len(piece) if isinstance(piece, bytes) else 0
                batch.append(piece)
            return batch

        return self.next_piece().addCallback(gather)

    def take_spooled(self) -> list[Piece]:
        """All that waits, for a consumer that takes what comes from here on in another way."""
        taken: list[Piece] = []
        while self._spool:
            taken.append(self._take(None))
        return taken

    def _take(self, limit_bytes: int | None) -> Piece:
        piece = self._spool.take(limit_bytes)
        self._consumed(len(piece) if isinstance(piece, bytes) else 0)
        return piece

    def _consumed(self, byte_count: int) -> None:
        link = self._link
        if byte_count and not self._is_closed:
            credit = self._core.receive_credit
            edge = 0 if credit is None else credit.granted
            frame = link.core.consumed(self._core, byte_count)
            if frame:
                self._window.granted(edge, link.clock.seconds())
                link.write_control(frame)
        if self._has_paused and self._spool.cost_bytes <= link.limits.spool_low_bytes:
            self._has_paused = False
            link.resume_reading(self)

    def __aiter__(self) -> Self:
        return self

    def __anext__(self) -> Deferred[bytes]:
        if self._zeros_left:
            self._zero_pieces += 1
            if self._zero_pieces % _ZERO_PIECES_A_TURN:
                return succeed(self._some_zeros())
            # A hole may be of any length: whoever counts its zeros shall not hold the reactor.
            return deferLater(self._link.clock, 0).addCallback(lambda _: self._zeros_or_next())

        def as_bytes(piece: Piece | None) -> bytes:
            if piece is None:
                raise StopAsyncIteration
            if isinstance(piece, Hole):
                self._zeros_left = piece.length
                return self._some_zeros()
            return piece

        return self.next_piece().addCallback(as_bytes)

    def _zeros_or_next(self) -> bytes | Deferred[bytes]:
        return self._some_zeros() if self._zeros_left else self.__anext__()

    def _some_zeros(self) -> bytes:
        length = min(self._zeros_left, ZERO_PIECE_BYTES)
        self._zeros_left -= length
        return zeros(length)

    def pieces(self) -> Pieces:
        """An async iterator of bytes and L{Hole}, in order."""
        return Pieces(self)

    def read(self, *, limit_bytes: int) -> Deferred[bytes]:
        """Collect all; L{BufferFull} and an abort if it is longer than C{limit_bytes}."""
        return Deferred.fromCoroutine(read_all(self, limit_bytes))

    def save_to(self, path: Path, *, replace: bool = False) -> Deferred[Progress]:
        """
        Write all to a file: aside, fsynced, then renamed to C{path}; holes stay holes.

        @raise StorageError: C{path} exists and C{replace} is false.
        """
        from rpcstream.net.files import save_to

        return Deferred.fromCoroutine(save_to(self, path, replace))

    # --- as a producer ----------------------------------------------------------------------

    def deliver_to(self, consumer: Any) -> Deferred[Progress]:
        """
        Push everything to C{consumer} (an IConsumer), holes as zeros.

        @return: fires with the progress at the end of data; fails with what
            ended the stream.
        """
        if self._consumer is not None:
            return fail(BadState("a consumer is attached"))
        sink: IConsumer = consumer
        self._consumer = sink
        sink.registerProducer(self, True)
        done = self._delivered.wait().addCallback(lambda _: self.progress)
        self._feed()
        return done

    def pauseProducing(self) -> None:
        """Called by the consumer: enough for now."""
        self._consumer_paused = True

    def resumeProducing(self) -> None:
        """Called by the consumer: go on."""
        self._consumer_paused = False
        self._feed()

    def stopProducing(self) -> None:
        """Called by the consumer: it is gone; what it did not take is lost to it."""
        if self._consumer is None:
            return
        self._consumer = None
        self._zeros_left = 0
        self._spool.clear()
        self.abort("the consumer stopped")
        self._delivered.fail(StreamAborted("the consumer stopped", "local"))

    def _feed(self) -> None:
        """Push what waits while the consumer takes it, then tell the end."""
        if self._consumer is None or self._is_feeding or self._feed_timer is not None:
            return
        self._is_feeding = True
        fed_bytes = 0
        try:
            while (self._zeros_left or self._spool) and not self._consumer_paused:
                if fed_bytes >= _FEED_BYTES:
                    self._feed_timer = self._link.clock.callLater(0, self._feed_on)
                    return
                data = self._next_to_feed()
                fed_bytes += len(data)
                self._consumer.write(data)
                if self._consumer is None:
                    return
        finally:
            self._is_feeding = False
        if self._error is not None or (self._at_end and not self._spool and not self._zeros_left):
            consumer, self._consumer = self._consumer, None
            try:
                consumer.unregisterProducer()
            finally:
                if self._error is None:
                    self._delivered.fire()
                else:
                    self._delivered.fail(self._error)

    def _next_to_feed(self) -> bytes:
        if not self._zeros_left:
            piece = self._take(None)
            if isinstance(piece, bytes):
                return piece
            self._zeros_left = piece.length
        return self._some_zeros()

    def _feed_on(self) -> None:
        self._feed_timer = None
        self._feed()

    # --- ending ----------------------------------------------------------------------------

    def confirm(self) -> None:
        """
        Answer the opener's finish, now or when it comes (acceptor only).

        Called for a responder when it returns.
        """
        self._responder_done = True
        if self._consumer is None and (self._spool or self._zeros_left) and not self._is_closed:
            self._refuse_rest()
        if self._finish_waits and not self._is_closed:
            if self._link.is_connected:
                self._link.write_control(self._link.core.confirm(self._core))
            self._close(None)

    def responder_done(self) -> None:
        """As L{confirm}."""
        self.confirm()

    async def _leave(self) -> None:
        if self.is_opener and not (self._at_end and not self._spool):
            self.abort("the reader left before the end")
        elif self._error is not None:
            raise self._error

    def _counted(self) -> tuple[int, int, int]:
        core = self._core
        return core.received_bytes, core.received_hole_bytes, core.received_packet_count

    def hold_back(self, waits: bool) -> None:
        """Tell whether the consumer waits because of a rate limit; only L{progress} shows it."""
        self._is_held_back = waits

    def _stalled_by(self) -> str | None:
        if self._is_held_back:
            return RATE_LIMIT
        if self._consumer_paused or self._spool.cost_bytes >= self._link.limits.spool_low_bytes:
            return PAUSED_CONSUMER
        if self._spool:
            return None
        return LOCAL_DISK if self._at_end and not self.is_opener else PEER_SOCKET
