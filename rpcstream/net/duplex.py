"""
A stream with both directions: consoles and channels.
"""

from __future__ import annotations

from rpcstream.errors import Unsupported
from rpcstream.net.incoming import IncomingStream
from rpcstream.net.outgoing import OutgoingStream
from rpcstream.net.streams import R_co

__all__ = ["DuplexStream"]


class DuplexStream(OutgoingStream[R_co], IncomingStream[R_co]):
    """
    Sends and receives.  C{finish()} ends both directions; C{end()} only ours.
    """

    _half_closing = False

    def end(self) -> None:
        """
        Half-close: we send no more and go on receiving.

        @raise Unsupported: we opened the stream to a stock libvirt peer, where an
            empty packet does harm (C{wire-protocol} section 0, fact 3).
        """
        if self.is_opener and not self._link.core.peer_is_rpcstream:
            raise Unsupported("a stock peer has no half-close")
        self._ending = self._half_closing = True
        self._link.want_write(self)

    def _write_end(self) -> None:
        if not self._half_closing:
            super()._write_end()
            return
        self._end_written = True
        self._link.write_control(self._link.core.end(self._core))

    def data_received(self, data: bytes) -> None:
        IncomingStream.data_received(self, data)

    def hole_received(self, length: int) -> None:
        IncomingStream.hole_received(self, length)

    def end_received(self) -> None:
        self._reach_end()

    def finish_requested(self) -> None:
        IncomingStream.finish_requested(self)

    def finish_confirmed(self) -> None:
        IncomingStream.finish_confirmed(self)

    def _released(self, error: Exception | None) -> None:
        OutgoingStream._released(self, error)
        IncomingStream._released(self, error)

    def _stalled_by(self) -> str | None:
        return None

    async def _leave(self) -> None:
        if self._half_closing and not self._is_closed:
            self._link.write_control(self._link.core.finish(self._core))
            await self.when_closed()
        elif not self._is_closed:
            await self.finish()

    def _counted(self) -> tuple[int, int, int]:
        sent, received = OutgoingStream._counted(self), IncomingStream._counted(self)
        return sent[0] + received[0], sent[1] + received[1], sent[2] + received[2]
