"""
A stream with both directions: consoles and channels.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, succeed

from rpcstream.errors import Unsupported
from rpcstream.net.incoming import IncomingStream
from rpcstream.net.outgoing import OutgoingStream
from rpcstream.net.progress import PAUSED_CONSUMER, PEER_SOCKET, Progress
from rpcstream.net.streams import R_co

__all__ = ["DuplexStream"]


class DuplexStream(OutgoingStream[R_co], IncomingStream[R_co]):
    """
    Sends and receives.  C{finish()} ends both directions; C{end()} only ours.

    Silence is no stall here: nobody may be typing.
    """

    _half_closing = False
    _finish_wanted = False
    _finish_sent = False

    # --- ending ------------------------------------------------------------------------

    def end(self) -> None:
        """
        Half-close: we send no more and go on receiving.

        @raise Unsupported: we opened the stream to a stock libvirt peer, where an
            empty packet does harm (C{wire-protocol} section 0, fact 3).
        """
        if self.is_opener and not self._link.core.peer_is_rpcstream:
            raise Unsupported("a stock peer has no half-close")
        self._half_closing = True
        self._ask_to_end()

    def finish(self) -> Deferred[Progress]:
        """
        End both directions: what we have sent goes out, what still comes is dropped.

        The opener asks for it; the acceptor says its end of data and answers when
        the opener asks.

        @return: fires with the final progress; fails with what ended the stream before.
        """
        self._finish_wanted = True
        if not self.is_opener:
            self.responder_done()
        elif self._end_written:
            self._send_finish()
        else:
            self._ask_to_end()
        return self.when_closed().addCallback(lambda _: self.progress)

    def responder_done(self) -> None:
        """Our end of data, if it was not said; then the opener's finish is answered."""
        self._half_closing = True
        self._ask_to_end()
        self.confirm()

    def _ask_to_end(self) -> None:
        self._ending = True
        self._link.want_write(self)

    def _write_end(self) -> None:
        self._end_written = True
        if self._half_closing:
            self._link.write_control(self._link.core.end(self._core))
        if self._finish_wanted:
            self._send_finish()

    def _send_finish(self) -> None:
        if self.is_opener and not (self._finish_sent or self._is_closed):
            self._finish_sent = True
            super()._send_finish()

    # --- what the link tells -----------------------------------------------------------

    def data_received(self, data: bytes) -> None:
        """As an L{IncomingStream}."""
        IncomingStream.data_received(self, data)

    def hole_received(self, length: int) -> None:
        """As an L{IncomingStream}."""
        IncomingStream.hole_received(self, length)

    def end_received(self) -> None:
        """The peer sends no more; we may go on."""
        self._reach_end()

    def finish_requested(self) -> None:
        """The opener wants no more of our data: whoever waits to send it shall not wait for its credit."""
        self._finish_waits = True
        self._discard_pending()
        IncomingStream.finish_requested(self)

    def finish_confirmed(self) -> None:
        """As an L{IncomingStream}."""
        IncomingStream.finish_confirmed(self)

    def _add(self, piece: Any, byte_count: int) -> Deferred[None]:
        if self._finish_waits and not self._is_closed:
            return succeed(None)
        return super()._add(piece, byte_count)

    def _refuse_rest(self) -> None:
        """A responder may leave while the other side still talks: that is dropped."""
        self._zeros_left = 0
        while self._spool:
            self._take(None)

    def _released(self, error: Exception | None) -> None:
        try:
            OutgoingStream._released(self, error)
        finally:
            IncomingStream._released(self, error)

    # --- watching ------------------------------------------------------------------------

    def check_stall(self, now: float) -> None:
        """As any stream, but only while something waits to be moved or answered."""
        if self._stalled_by() is None:
            self._moved_at = now
        super().check_stall(now)

    def _stalled_by(self) -> str | None:
        if self._pending:
            return OutgoingStream._stalled_by(self) or PEER_SOCKET
        if self._spool:
            return PAUSED_CONSUMER
        return PEER_SOCKET if self._finish_sent or self._responder_done else None

    def _counted(self) -> tuple[int, int, int]:
        sent, received = OutgoingStream._counted(self), IncomingStream._counted(self)
        return sent[0] + received[0], sent[1] + received[1], sent[2] + received[2]
