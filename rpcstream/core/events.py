"""
What L{Connection.receive<rpcstream.core.connection.Connection.receive>} delivers.

Plain data.  Payloads and fragments belong to whoever gets the event.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import TypeAlias

from rpcstream.core.streams import Stream
from rpcstream.wire.error import ErrorInfo
from rpcstream.wire.header import Header

__all__ = [
    "CallReceived",
    "ConnectionFailed",
    "CreditGranted",
    "Event",
    "FinishConfirmed",
    "FinishRequested",
    "MessageReceived",
    "ReplyFailed",
    "ReplyReceived",
    "StreamAborted",
    "StreamData",
    "StreamEnded",
    "StreamFailed",
    "StreamHole",
]


@dataclass(slots=True)
class CallReceived:
    """A CALL, complete; it wants exactly one of C{reply}, C{reply_error}, C{accept}."""

    header: Header
    payload: bytes


@dataclass(slots=True)
class ReplyReceived:
    """
    The REPLY/OK to a call of ours.

    @ivar stream: the stream that it opened, if the call was to open one.  Its
        state is C{CLOSED} already if the acceptor broke it off before the
        reply; a L{StreamFailed} follows.
    """

    header: Header
    payload: bytes
    stream: Stream | None


@dataclass(slots=True)
class ReplyFailed:
    """The REPLY/ERROR to a call of ours; if it was to open a stream, there is none."""

    header: Header
    error: ErrorInfo


@dataclass(slots=True)
class MessageReceived:
    """A MESSAGE that core has no use for itself; its serial means nothing."""

    header: Header
    payload: bytes


@dataclass(slots=True)
class StreamData:
    """
    A fragment of stream data; packets are not put together.

    @ivar data: never empty.  If a memoryview was given to C{receive}, it is a
        view of the same buffer, to be used before that is written to again.
    """

    stream: Stream
    data: bytes


@dataclass(slots=True)
class StreamHole:
    """C{length_bytes} zero bytes, at this position of the stream."""

    stream: Stream
    length_bytes: int


@dataclass(slots=True)
class StreamEnded:
    """The peer sends no more data (empty CONTINUE); finishing is still to be done."""

    stream: Stream


@dataclass(slots=True)
class FinishRequested:
    """At the acceptor: all sent; it wants C{confirm} or C{fail}."""

    stream: Stream


@dataclass(slots=True)
class FinishConfirmed:
    """At the opener: our finish was confirmed; the stream is over."""

    stream: Stream


@dataclass(slots=True)
class StreamAborted:
    """
    At the acceptor: the opener aborted; the answer is in the outgoing frames.

    @ivar reason: the opener's text, C{""} if it gave none (stock peers give none).
    """

    stream: Stream
    reason: str


@dataclass(slots=True)
class StreamFailed:
    """
    The stream is over without its finish.

    @ivar error: why.
    @ivar code: C{""} if the acceptor said so (STREAM/ERROR); otherwise this
        side found that the peer broke a rule: C{"hole"}, C{"window"},
        C{"status"}, C{"after-end"}, C{"early-ok"}.  What has to be sent about
        it is in the outgoing frames.
    """

    stream: Stream
    error: ErrorInfo
    code: str = ""


@dataclass(slots=True)
class CreditGranted:
    """The peer takes more data on this stream."""

    stream: Stream


@dataclass(slots=True)
class ConnectionFailed:
    """
    The connection cannot go on: write the outgoing frames, then close it.
    Nothing is delivered after this.

    @ivar code: short reason code.
    @ivar detail: a sentence for the log; holds no text of the peer's.
    """

    code: str
    detail: str


Event: TypeAlias = (
    CallReceived
    | ReplyReceived
    | ReplyFailed
    | MessageReceived
    | StreamData
    | StreamHole
    | StreamEnded
    | FinishRequested
    | FinishConfirmed
    | StreamAborted
    | StreamFailed
    | CreditGranted
    | ConnectionFailed
)
