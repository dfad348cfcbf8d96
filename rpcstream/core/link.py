"""
What the parts of a connection share: its state, what goes out, what is
delivered, what becomes of the message being received.
"""

from __future__ import annotations

from collections.abc import Callable, Container
from typing import TypeAlias

from rpcstream.core.events import ConnectionFailed, Event
from rpcstream.core.framing import Fragment
from rpcstream.core.states import CONNECTION, ConnectionInput, ConnectionState, Reaction, advance
from rpcstream.core.streams import Stream
from rpcstream.errors import BadState, RemoteError
from rpcstream.limits import Limits
from rpcstream.wire.header import HEADER_BYTES, Header, MessageType

__all__ = ["Admit", "AdmitMessage", "Intake", "Link"]

_STREAM_TYPES = (int(MessageType.STREAM), int(MessageType.STREAM_HOLE))

Admit: TypeAlias = Callable[[Header], int | RemoteError]
AdmitMessage: TypeAlias = Callable[[Header], int | None]


class Intake:
    """
    What becomes of the body of the message being received.

    Nothing is allocated for bytes that have not come.

    @ivar header: of that message, None between messages.
    @ivar stream: its fragments go to this stream.
    @ivar keeps: its fragments are put together.
    @ivar done: called at its end, with the payload (empty if not kept).
    """

    __slots__ = ("_first", "_rest", "done", "header", "keeps", "stream")

    def __init__(self) -> None:
        self.clear()

    def clear(self) -> None:
        """Between messages."""
        self.header: Header | None = None
        self.stream: Stream | None = None
        self.keeps = False
        self.done: Callable[[Header, bytes], None] | None = None
        self._first = b""
        self._rest: bytearray | None = None

    def discard(self, header: Header, done: Callable[[Header, bytes], None] | None = None) -> None:
        """Forget the body as it comes."""
        self.header, self.done = header, done

    def assemble(self, header: Header, done: Callable[[Header, bytes], None]) -> None:
        """Put the body together."""
        self.header, self.done, self.keeps = header, done, True

    def cut_through(self, header: Header, stream: Stream) -> None:
        """Hand the fragments to C{stream} as they come."""
        self.header, self.stream = header, stream

    def leave(self, stream: Stream) -> None:
        """C{stream} takes no more data, not even the rest of this packet."""
        if self.stream is stream:
            self.stream = None

    def keep(self, fragment: Fragment) -> None:
        """Add to the body; fragments may be single bytes, so they are not kept as objects."""
        if self._rest is not None:
            self._rest += fragment
        elif self._first:
            self._rest = bytearray(self._first)
            self._rest += fragment
        else:
            self._first = bytes(fragment)

    def end(self) -> None:
        """The message is complete."""
        header, done = self.header, self.done
        payload = self._first if self._rest is None else bytes(self._rest)
        self.clear()
        if done is not None and header is not None:
            done(header, payload)

    @property
    def is_stream(self) -> bool:
        """Whether the message being received is a stream's."""
        return self.header is not None and self.header.type in _STREAM_TYPES

    @property
    def pending_bytes(self) -> int:
        """Size that the body being put together will have, 0 if none is."""
        return self.header.length - HEADER_BYTES if self.keeps and self.header is not None else 0

    @property
    def kept_bytes(self) -> int:
        """How much of it is here."""
        return len(self._first if self._rest is None else self._rest)


class Link:
    """
    The state shared by the parts of one connection.

    @ivar opener: whether this side calls and opens.
    @ivar programs: the (program, version) pairs served here, None if unknown.
    @ivar allowed_calls: (program, procedure) of the control calls of an exclusive stream.
    @ivar dropped_count: messages dropped so far that no crossing explains.
    """

    __slots__ = (
        "admit",
        "admit_message",
        "allowed_calls",
        "clock",
        "dropped_count",
        "events",
        "intake",
        "limits",
        "opener",
        "outgoing",
        "peer_is_rpcstream",
        "programs",
        "state",
        "switching",
    )

    def __init__(self, opener: bool, limits: Limits, clock: Callable[[], float], admit: Admit | None) -> None:
        self.opener = opener
        self.limits = limits
        self.clock = clock
        self.admit = admit
        self.admit_message: AdmitMessage | None = None
        self.programs: Container[tuple[int, int]] | None = None
        self.allowed_calls: Container[tuple[int, int]] = frozenset()
        self.peer_is_rpcstream = False
        self.state = ConnectionState.RPC
        self.switching: Stream | None = None
        self.events: list[Event] = []
        self.outgoing: list[bytes] = []
        self.intake = Intake()
        self.dropped_count = 0

    def advance(self, event: ConnectionInput) -> Reaction:
        """
        Feed the connection's table.

        @raise BadState: not allowed now.
        """
        self.state, reaction = advance(CONNECTION, self.state, event)
        return reaction

    @property
    def closed(self) -> bool:
        """Whether nothing more is taken or given."""
        return self.state is ConnectionState.CLOSED

    def fail(self, code: str, detail: str) -> None:
        """The peer made it impossible to go on."""
        self.advance(ConnectionInput.CLOSE)
        self.intake.clear()
        self.events.append(ConnectionFailed(code, detail))

    def drop(self, header: Header) -> None:
        """Forget a message and count it; after too many of them the connection fails."""
        self.intake.discard(header)
        self.dropped_count += 1
        self.judge_drops()

    def judge_drops(self) -> None:
        """Fail if too many messages were dropped."""
        if self.dropped_count > self.limits.dropped_messages:
            self.fail("flood", f"{self.dropped_count} messages that make no sense here")

    def require_role(self, opener: bool, what: str) -> None:
        """
        @raise BadState: C{what} is the other side's to do, or the connection is closed.
        """
        if self.opener is not opener:
            raise BadState(f"only the {'opener' if opener else 'acceptor'} of streams {what}")
        self.require_open()

    def require_open(self) -> None:
        """
        @raise BadState: the connection is closed.
        """
        if self.closed:
            raise BadState("the connection is closed")
