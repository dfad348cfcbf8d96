"""
What a responder is given: who calls, and, for streams, the decision.

C{call.accept(result)} is the decision of the proposal's MIGRATION_INCOMING:
only then is there a stream.  A responder that raises before it refuses.
"""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING, Any, Generic, TypeVar

from twisted.logger import Logger

from rpcstream.errors import BadState, ConnectionClosed
from rpcstream.net.duplex import DuplexStream
from rpcstream.net.identity import Principal
from rpcstream.net.incoming import IncomingStream
from rpcstream.net.outgoing import OutgoingStream
from rpcstream.net.streams import StreamBase
from rpcstream.wire.header import Header

if TYPE_CHECKING:
    from rpcstream.core.streams import Stream
    from rpcstream.programs.base import ProcedureInfo

__all__ = ["Call", "DownloadCall", "DuplexCall", "StreamCall", "UploadCall"]

R = TypeVar("R")
S = TypeVar("S", bound=StreamBase[Any])


class Call:
    """
    One call, or one event, as its responder sees it.

    @ivar principal: who calls, as verified.
    @ivar connection: the L{ServerConnection} it came on; for an event of a
        server, the L{ClientConnection}.
    @ivar serial: the call's serial.
    @ivar procedure: what is called.
    """

    def __init__(self, connection: Any, header: Header, procedure: ProcedureInfo) -> None:
        self.connection = connection
        self.header = header
        self.procedure = procedure

    @cached_property
    def log(self) -> Logger:
        """Made when it is first asked for: most calls have nothing to log."""
        return Logger(namespace=f"rpcstream.{self.procedure.program.name}", source=self)

    @property
    def principal(self) -> Principal:
        """Who calls."""
        principal: Principal = self.connection.principal
        return principal

    @property
    def serial(self) -> int:
        """The call's serial."""
        return self.header.serial


class StreamCall(Call, Generic[R]):
    """
    A call that asks for a stream.

    @ivar core_stream: the core's stream, C{None} until it is accepted.
    """

    core_stream: Stream | None = None
    stream: Any = None

    def _opened(self, stream: S) -> S:
        """A responder that does not wait for its stream is cancelled when the caller aborts it."""
        self.stream = stream
        stream.abandoned = lambda: self.connection.cancel_call(self.serial)
        return stream

    def _accept(self, result: R, sparse: bool | None) -> Stream:
        if self.core_stream is not None:
            raise BadState("the stream was accepted already")
        link = self.connection.link
        if not link.is_connected:
            raise ConnectionClosed("the caller is gone")
        payload = self.procedure.result.encode(result)
        takes_holes = link.core.peer_is_rpcstream if sparse is None else sparse
        self.core_stream, frame = link.core.accept(self.header, payload, sparse=takes_holes)
        link.write_control(frame)
        return self.core_stream


class DownloadCall(StreamCall[R]):
    """The caller asks for data."""

    def accept(
        self,
        result: R,
        *,
        total_bytes: int | None = None,
        packet_bytes: int | None = None,
        sparse: bool | None = None,
    ) -> OutgoingStream[R]:
        """
        Decide for it: reply, and open the stream to the caller.

        @param total_bytes: how much will come, for progress only.
        @param packet_bytes: payload of a packet; default: the connection's.
        @param sparse: whether it carries holes; default: to rpcstream peers.
        @raise BadState: decided already.
        @raise ConnectionClosed: the caller is gone.
        """
        stream: OutgoingStream[R] = OutgoingStream(
            self.connection.link,
            self._accept(result, sparse),
            reply=result,
            total_bytes=total_bytes,
            packet_bytes=packet_bytes,
        )
        return self._opened(stream)


class UploadCall(StreamCall[R]):
    """The caller wants to send data."""

    def accept(
        self, result: R, *, total_bytes: int | None = None, sparse: bool | None = None
    ) -> IncomingStream[R]:
        """
        Decide for it: reply, and open the stream from the caller.

        When the responder returns, the caller's finish is confirmed.

        @raise BadState: decided already.
        @raise ConnectionClosed: the caller is gone.
        """
        stream: IncomingStream[R] = IncomingStream(
            self.connection.link, self._accept(result, sparse), reply=result, total_bytes=total_bytes
        )
        return self._opened(stream)


class DuplexCall(StreamCall[R]):
    """The caller wants both directions."""

    def accept(self, result: R, *, sparse: bool | None = None) -> DuplexStream[R]:
        """As L{UploadCall.accept}, for both directions."""
        stream: DuplexStream[R] = DuplexStream(
            self.connection.link, self._accept(result, sparse), reply=result
        )
        return self._opened(stream)
