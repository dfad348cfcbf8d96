"""
What a connection is made of; its settings, and its counters to be looked at.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Container, Mapping
from types import MappingProxyType
from typing import Literal

from rpcstream.core.answering import Answering
from rpcstream.core.calling import Calling
from rpcstream.core.ended import EndedStreams
from rpcstream.core.framing import Framer
from rpcstream.core.inbound import Inbound
from rpcstream.core.link import Admit, AdmitMessage, Link
from rpcstream.core.messages import Messages
from rpcstream.core.outbound import Outbound
from rpcstream.core.states import ConnectionState
from rpcstream.core.streams import Stream, StreamTable
from rpcstream.limits import DEFAULT_LIMITS, Limits

__all__ = ["Parts"]


class Parts:
    """
    The base of L{Connection<rpcstream.core.connection.Connection>}.

    @ivar activity: grows with every complete message, and with every piece of
        a stream packet: the peer is alive.
    @ivar message_count: messages begun (their header was good) so far.
    """

    def __init__(
        self,
        opener: bool,
        limits: Limits = DEFAULT_LIMITS,
        admit: Admit | None = None,
        *,
        clock: Callable[[], float] = time.monotonic,
        first_serial: int = 0,
    ) -> None:
        """
        @param opener: true on the connecting side: only it calls and opens streams.
        @param admit: asked with the header of each CALL before its body is
            read: the largest payload to read, or the error to refuse it with
            (the body is then discarded as it comes).  None admits all.
        @param clock: seconds, monotonic.
        """
        self.activity = 0
        self.message_count = 0
        self._framer = Framer()
        self._input_ended = False
        self._drops_counted = False
        link = self._link = Link(opener, limits, clock, admit)
        table = self._table = StreamTable(EndedStreams(limits, clock))
        self._outbound = Outbound(link, table)
        self._answering = Answering(link, table)
        self._inbound = Inbound(link, table, self._outbound, self._answering.unanswered)
        self._calling = Calling(link, table, self._inbound, self._outbound, first_serial)
        self._messages = Messages(link, table)

    # --- settings ---------------------------------------------------------------------

    @property
    def max_message_bytes(self) -> int:
        """
        Largest length word taken, itself included; lower before the peer is
        authenticated.  Counts from the next message on.
        """
        return self._framer.max_message_bytes

    @max_message_bytes.setter
    def max_message_bytes(self, value: int) -> None:
        self._framer.max_message_bytes = value

    @property
    def admit_message(self) -> AdmitMessage | None:
        """
        Asked with the header of each MESSAGE that core has no use for itself:
        the largest payload to read, or None for one that makes no sense here:
        it is dropped and counted.  None (the default) admits all.
        """
        return self._link.admit_message

    @admit_message.setter
    def admit_message(self, value: AdmitMessage | None) -> None:
        self._link.admit_message = value

    @property
    def programs(self) -> Container[tuple[int, int]] | None:
        """
        The (program, version) pairs served here.  A stream message of any other
        is dropped and counted, not fatal as one for an unknown serial is (H20).
        """
        return self._link.programs

    @programs.setter
    def programs(self, value: Container[tuple[int, int]] | None) -> None:
        self._link.programs = value

    @property
    def allowed_calls(self) -> Container[tuple[int, int]]:
        """The (program, procedure) pairs that may be called while a data stream has the connection."""
        return self._link.allowed_calls

    @allowed_calls.setter
    def allowed_calls(self, value: Container[tuple[int, int]]) -> None:
        self._link.allowed_calls = value

    @property
    def peer_is_rpcstream(self) -> bool:
        """Whether the peer takes what a stock one does not; set by C{enable_credit}."""
        return self._link.peer_is_rpcstream

    @peer_is_rpcstream.setter
    def peer_is_rpcstream(self, value: bool) -> None:
        self._link.peer_is_rpcstream = value

    def add_pause(self, seconds: float) -> None:
        """
        Nothing was read for so long.  Tell it when reading goes on: the time in
        which late messages for ended streams are fine is the time in which we read.
        """
        self._table.ended.add_pause(seconds)

    # --- to be looked at ----------------------------------------------------------------

    @property
    def opener(self) -> bool:
        """Whether this side calls and opens streams."""
        return self._link.opener

    @property
    def state(self) -> ConnectionState:
        """RPC, SWITCHING, DATA_STREAM or CLOSED."""
        return self._link.state

    @property
    def streams(self) -> Mapping[int, Stream]:
        """The streams alive by serial, those being opened or aborted included; not to be written to."""
        return MappingProxyType(self._table.live)

    @property
    def stream_count(self) -> int:
        """How many there are."""
        return len(self._table.live)

    @property
    def pending_call_count(self) -> int:
        """Calls of ours that wait for their reply, cancelled ones not counted."""
        return len(self._calling)

    @property
    def unanswered_call_count(self) -> int:
        """Calls of the peer's that wait for ours."""
        return len(self._answering.unanswered)

    @property
    def dropped_count(self) -> int:
        """Messages dropped so far that made no sense."""
        return self._link.dropped_count

    def count_dropped(self) -> None:
        """
        A delivered message made no sense to the user, either.  One too many,
        and what is received next fails the connection.
        """
        self._link.dropped_count += 1
        self._drops_counted = True

    @property
    def pending(self) -> Literal["length", "body", "stream"] | None:
        """
        What the peer owes: C{"length"} (the rest of a length word), C{"body"}
        (of a CALL, REPLY or MESSAGE, or its header), C{"stream"} (of a stream
        packet), or None between messages.
        """
        pending = self._framer.pending
        return "stream" if pending == "body" and self._link.intake.is_stream else pending

    @property
    def message_number(self) -> int:
        """
        Which message is being received, from the first byte of its header to
        its end; of the next one if none is.  What deadlines of whole messages hang on.
        """
        return self.message_count + (self._link.intake.header is None)

    @property
    def is_within_stream_data(self) -> bool:
        """Whether the message that has begun is a stream's, whatever becomes of it."""
        return self._link.intake.is_stream

    @property
    def body_pending_bytes(self) -> int:
        """
        Size of the payload being put together (CALL, REPLY, MESSAGE), as
        declared; 0 if none is.  What budgets are asked for.
        """
        return self._link.intake.pending_bytes

    @property
    def body_received_bytes(self) -> int:
        """How much of it is here, and in memory."""
        return self._link.intake.kept_bytes
