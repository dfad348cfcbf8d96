"""
A stream, as its end of the connection sees it, and the table of those alive.

A stream has no number of its own: it is the program, version, procedure and
serial of the call that opened it (C{wire-protocol.md} section 2.1).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any, NamedTuple

from rpcstream.core.credit import HOLE_CHARGE, ReceiveCredit
from rpcstream.core.ended import EndedStreams
from rpcstream.core.states import STREAM, Reaction, StreamInput, StreamState, advance
from rpcstream.errors import RemoteError
from rpcstream.limits import MESSAGE_BYTES
from rpcstream.wire.error import ErrorInfo
from rpcstream.wire.header import HEADER_BYTES, Header, MessageType, Status, encode_header

__all__ = ["Stream", "StreamKey", "StreamTable"]

PAYLOAD_BYTES = MESSAGE_BYTES - HEADER_BYTES

_MAY_SEND = frozenset(state for state, row in STREAM.items() if StreamInput.SEND_DATA in row)


class StreamKey(NamedTuple):
    """What identifies a stream on its connection."""

    program: int
    version: int
    procedure: int
    serial: int


class Stream:
    """
    One stream; changed by its connection only.

    @ivar key: its identity on the wire.
    @ivar opener: whether this side opened it.
    @ivar sparse: whether holes may be sent and received.
    @ivar state: see L{StreamState}.
    @ivar send_credit: charge that we may still send, None without limit.
    @ivar receive_credit: what we granted, None without limit.
    @ivar received_bytes: data, without headers and holes; so is C{sent_bytes}.
    @ivar received_hole_bytes: length of the holes; so is C{sent_hole_bytes}.
    @ivar received_packet_count: data and hole messages; so is C{sent_packet_count}.
    @ivar tag: for the user of the connection; core never looks at it.
    """

    __slots__ = (
        "data_tail",
        "early_error",
        "key",
        "opener",
        "receive_credit",
        "received_bytes",
        "received_hole_bytes",
        "received_packet_count",
        "route",
        "send_credit",
        "sent_bytes",
        "sent_hole_bytes",
        "sent_packet_count",
        "sparse",
        "state",
        "tag",
    )

    def __init__(
        self,
        key: StreamKey,
        *,
        opener: bool,
        sparse: bool,
        send_credit: int | None = None,
        receive_window: int | None = None,
    ) -> None:
        self.key = key
        self.route = tuple(key[:3])  # compared with each header
        # All of a data message's header but its length word.
        self.data_tail = encode_header(Header(0, *key[:3], MessageType.STREAM, key[3], Status.CONTINUE))[4:]
        self.opener = opener
        self.sparse = sparse
        self.state = StreamState.OPENING if opener else StreamState.OPEN
        self.send_credit = send_credit
        self.receive_credit = None if receive_window is None else ReceiveCredit(receive_window)
        self.received_bytes = self.received_hole_bytes = self.received_packet_count = 0
        self.sent_bytes = self.sent_hole_bytes = self.sent_packet_count = 0
        self.early_error: tuple[ErrorInfo, str] | None = None  # held until the REPLY
        self.tag: Any = None

    def __repr__(self) -> str:
        role = "opener" if self.opener else "acceptor"
        return f"<Stream {self.key.serial} procedure {self.key.procedure} {role} {self.state.name}>"

    @property
    def receive_window(self) -> int | None:
        """Charge that the peer may have on the way or unread here, None without limit."""
        return None if self.receive_credit is None else self.receive_credit.window

    @property
    def sendable_bytes(self) -> int:
        """Largest payload that C{send_data} takes now; 0 if none, for want of credit or state."""
        if self.state not in _MAY_SEND:
            return 0
        if self.send_credit is None:
            return PAYLOAD_BYTES
        return max(0, min(self.send_credit - HEADER_BYTES, PAYLOAD_BYTES))

    @property
    def can_send_hole(self) -> bool:
        """Whether C{send_hole} works now."""
        return (
            self.sparse
            and self.state in _MAY_SEND
            and (self.send_credit is None or self.send_credit >= HOLE_CHARGE)
        )

    @property
    def ended(self) -> bool:
        """Whether the stream is over for both sides, or being aborted by us."""
        return self.state is StreamState.CLOSED or self.state is StreamState.ABORTING


class StreamTable:
    """
    The streams alive, and a memory of those that were.

    @ivar live: by serial; serials are unique, since only one side opens.
    @ivar ended: streams and refused calls for which late messages may come.
    """

    __slots__ = ("ended", "live", "receive_initial", "send_initial")

    def __init__(self, ended: EndedStreams) -> None:
        self.live: dict[int, Stream] = {}
        self.ended = ended
        self.send_initial: int | None = None
        self.receive_initial: int | None = None

    def __iter__(self) -> Iterator[Stream]:
        return iter(self.live.values())

    @property
    def has_credit(self) -> bool:
        """Whether credit was agreed on for streams to come."""
        return self.receive_initial is not None

    def open(self, key: StreamKey, *, opener: bool, sparse: bool, credit: bool = True) -> Stream:
        """
        Enter a new stream.

        @param credit: false for a stream whose call came before credit was agreed.
        """
        stream = self.live[key.serial] = Stream(
            key,
            opener=opener,
            sparse=sparse,
            send_credit=self.send_initial if credit else None,
            receive_window=self.receive_initial if credit else None,
        )
        return stream

    def advance(self, stream: Stream, event: StreamInput, error: RemoteError | None = None) -> Reaction:
        """
        Feed C{event} to the stream's table; a stream that closes leaves L{live}.

        @param error: for C{SEND_FAIL}: what a late finish is answered with.
        @raise BadState: not allowed now.
        """
        state, reaction = advance(STREAM, stream.state, event)
        if state is not stream.state:
            stream.state = state
            if state is StreamState.CLOSED and self.live.get(stream.key.serial) is stream:
                del self.live[stream.key.serial]
                self.ended.add(stream.key.serial, error)
        return reaction
