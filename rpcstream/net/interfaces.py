"""
The seams of the network layer: what a L{Link<rpcstream.net.link.Link>} asks of
its streams and of the end it belongs to.

Only declarations live here.
"""

from __future__ import annotations

from typing import Protocol

from rpcstream.core import events
from rpcstream.errors import ConnectionClosed, RemoteError

__all__ = ["BulkSender", "Session", "StreamEvents"]


class BulkSender(Protocol):
    """Something with stream packets to send, one at a time."""

    def next_frame(self) -> bytes | None:
        """The next packet to write; C{None} when there is none now."""
        ...

    def frame_written(self) -> None:
        """The packet was handed to the transport."""
        ...


class StreamEvents(Protocol):
    """What a stream of the net layer is told; it is the C{tag} of its core stream."""

    errors: dict[int, type[RemoteError]]

    def data_received(self, data: bytes) -> None: ...

    def hole_received(self, length: int) -> None: ...

    def end_received(self) -> None: ...

    def finish_requested(self) -> None: ...

    def finish_confirmed(self) -> None: ...

    def peer_aborted(self, reason: str) -> None: ...

    def stream_failed(self, error: Exception) -> None: ...

    def credit_granted(self) -> None: ...

    def check_stall(self, now: float) -> None: ...


class Session(Protocol):
    """One end's meaning of a connection: the client's or the server's."""

    def link_made(self) -> None: ...

    def call_received(self, event: events.CallReceived) -> None: ...

    def reply_received(self, event: events.ReplyReceived) -> None: ...

    def reply_failed(self, event: events.ReplyFailed) -> None: ...

    def message_received(self, event: events.MessageReceived) -> None: ...

    def writable_again(self) -> None: ...

    def link_lost(self, reason: ConnectionClosed) -> None: ...
