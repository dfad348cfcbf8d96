"""
One connection, without I/O: bytes in, events and frames out.

Give what was read to L{Connection.receive}; write what
L{Connection.take_outgoing} has; then act on the events.  The methods that send
return the frame to write.  They raise only for mistakes of this side
(L{BadState}, L{BadValue}); whatever the peer sends ends in events.

Nothing here waits, reads a clock but the one given, or knows Twisted.
"""

from __future__ import annotations

from rpcstream.core.events import Event, StreamData
from rpcstream.core.frames import PING, frame
from rpcstream.core.framing import END, Fragment
from rpcstream.core.parts import Parts
from rpcstream.core.states import ConnectionInput, ConnectionState, StreamState
from rpcstream.core.streams import Stream
from rpcstream.errors import BadState, BadValue, RemoteError
from rpcstream.wire.header import HEADER_BYTES, Header, MessageType, Status, decode_header

__all__ = ["Connection"]

_CALL, _REPLY, _MESSAGE, _STREAM, _HOLE = (
    int(MessageType.CALL),
    int(MessageType.REPLY),
    int(MessageType.MESSAGE),
    int(MessageType.STREAM),
    int(MessageType.STREAM_HOLE),
)
_CLOSED = ConnectionState.CLOSED
_RUNNING = (StreamState.OPEN, StreamState.LOCAL_ENDED, StreamState.REMOTE_ENDED, StreamState.BOTH_ENDED)
_WITH_FDS = (int(MessageType.CALL_WITH_FDS), int(MessageType.REPLY_WITH_FDS))


class Connection(Parts):
    """The protocol, seen from one end; settings and counters are those of L{Parts}."""

    # --- receiving --------------------------------------------------------------------

    def receive(self, data: Fragment) -> list[Event]:
        """
        Take bytes of the peer; any bytes, cut anywhere.

        About 1 us for a fragment in the midst of a stream packet.  Write
        L{take_outgoing} before acting on the result.

        @param data: bytes; or a memoryview, of which L{StreamData} events then hold views.
        @return: events in order; nothing comes after a L{ConnectionFailed}.
        """
        link = self._link
        state = link.state
        if state is _CLOSED or self._input_ended:
            return []
        intake = link.intake
        events: list[Event] = []
        link.events = events
        if self._drops_counted:
            self._drops_counted = False
            link.judge_drops()
            if link.closed:
                return events
        if isinstance(data, bytes) and len(data) >= HEADER_BYTES and self._framer.is_between_messages:
            taken = self._take_whole(data)
            if taken:
                if taken == len(data) or link.state is _CLOSED:
                    return events
                data = data[taken:]
        for piece in self._framer.feed(data):
            if isinstance(piece, bytes) or isinstance(piece, memoryview):  # noqa: SIM101 - the first is 40 ns
                stream = intake.stream
                if stream is not None:
                    stream.received_bytes += len(piece)
                    events.append(StreamData(stream, piece))  # type: ignore[arg-type]
                elif intake.keeps:
                    intake.keep(piece)
                continue
            if piece is END:
                self.activity += 1
                intake.end()
            elif isinstance(piece, Header):
                self.message_count += 1
                self._begin(piece)
            else:
                link.fail(piece.code, piece.detail)
            if link.state is _CLOSED:
                break
        if intake.is_stream:
            self.activity += 1  # a large packet on a slow line is life, too
        return events

    def take_fragment(self, data: bytes | memoryview) -> Stream | None:
        """
        The short way of what lies within one packet of a stream, as most of bulk
        data does; for anything else there is L{receive}.

        @param data: not empty.
        @return: the stream it belongs to, counted; None: not taken.
        """
        link = self._link
        stream = link.intake.stream
        if stream is None or link.state is _CLOSED or self._input_ended or self._drops_counted:
            return None
        if not self._framer.skip(len(data)):
            return None
        stream.received_bytes += len(data)
        self.activity += 1
        return stream

    def _take_whole(self, data: bytes) -> int:
        """
        The short way of calls and replies that begin C{data} and are whole in it:
        no pieces, no intake.  It ends before the first message that is not plain,
        for which the long way is there.

        @return: how many bytes were taken.
        """
        link = self._link
        take = self._calling.take if link.opener else self._answering.take
        kind = _REPLY if link.opener else _CALL
        largest = self._framer.max_message_bytes
        offset, last = 0, len(data) - HEADER_BYTES
        while offset <= last:
            header = decode_header(data, offset)
            body = offset + HEADER_BYTES
            end = offset + header.length
            if header.type != kind or end < body or end > len(data) or header.length > largest:
                break
            if not take(header, data[body:end]):
                break
            self.message_count += 1
            self.activity += 1
            offset = end
            if link.state is _CLOSED:
                break
        return offset

    def _begin(self, header: Header) -> None:
        """A message has begun: decide what becomes of its body."""
        kind = header.type
        link = self._link
        if kind in (_STREAM, _HOLE):
            self._inbound.begins(header)
        elif kind == _CALL:
            self._answering.begins(header)
        elif kind == _REPLY:
            if link.opener:
                self._calling.begins(header)
            else:
                link.drop(header)  # H08
        elif kind == _MESSAGE:
            self._messages.begins(header)
        elif kind in _WITH_FDS:
            link.fail("fds", "file descriptors cannot be passed on this connection")
        else:  # H10, H11
            link.fail("bad-type", f"message type {kind}")

    def receive_eof(self) -> list[Event]:
        """
        The peer sends no more.

        @return: empty if nothing was cut short: calls of the peer's may still
            be answered, then close.  Else one L{ConnectionFailed} with code
            C{truncated}.
        """
        link = self._link
        if link.closed or self._input_ended:
            return []
        self._input_ended = True
        link.events = []
        stream_count = sum(not stream.ended for stream in self._table)
        if self._framer.pending is not None:
            link.fail("truncated", "the connection ended within a message")
        elif stream_count:
            link.fail("truncated", f"the connection ended with {stream_count} streams unfinished")
        elif self.pending_call_count:
            link.fail("truncated", f"the connection ended with {self.pending_call_count} calls unanswered")
        return link.events

    def take_outgoing(self) -> list[bytes]:
        """The automatic answers since the last time, in order; to be written before events are acted on."""
        outgoing, self._link.outgoing = self._link.outgoing, []
        return outgoing

    @property
    def outgoing(self) -> list[bytes]:
        """The automatic answers not taken yet."""
        return self._link.outgoing

    # --- calls ------------------------------------------------------------------------

    def call(
        self,
        program: int,
        version: int,
        procedure: int,
        payload: bytes,
        *,
        opens_stream: bool = False,
        sparse: bool = False,
    ) -> tuple[int, bytes]:
        """
        Opener: a CALL.

        @param opens_stream: the reply opens a stream; it is in L{streams} from
            now on and comes again with the L{ReplyReceived
            <rpcstream.core.events.ReplyReceived>}.  Its data may come before that.
        @param sparse: whether that stream may carry holes.
        @return: the serial, and the frame.
        """
        return self._calling.call(program, version, procedure, payload, opens_stream, sparse)

    def forget_call(self, serial: int) -> None:
        """
        Opener: the call was cancelled on this side.

        Nothing is sent for it; its reply is discarded, and a stream that it
        opens all the same is aborted.

        @raise BadState: the call does not wait for a reply.
        """
        self._calling.forget(serial)

    def reply(self, header: Header, payload: bytes) -> bytes:
        """
        Acceptor: the REPLY/OK to the call with this header.

        @return: empty if the connection has closed in the meantime.
        @raise BadState: it is answered already.
        @raise BadValue: the payload is larger than a message may be; the call still waits.
        """
        return self._answering.reply(header, payload)

    def reply_error(self, header: Header, error: RemoteError) -> bytes:
        """
        Acceptor: the REPLY/ERROR to the call with this header.

        @return: empty if the connection has closed in the meantime.
        @raise BadState: it is answered already.
        """
        return self._answering.reply_error(header, error)

    def accept(self, header: Header, payload: bytes, *, sparse: bool = False) -> tuple[Stream, bytes]:
        """
        Acceptor: the REPLY/OK that opens the stream which the call asked for.

        @param sparse: whether holes are agreed on.
        @raise BadState: the call is answered already.
        @raise ResourceBusy: C{limits.streams} are open; the call still waits,
            and this is the error to answer it with.
        """
        return self._answering.accept(header, payload, sparse)

    def message(self, program: int, version: int, procedure: int, payload: bytes, serial: int = 0) -> bytes:
        """Either side: a MESSAGE.  Never send one of a program that a stock client does not know (1.4)."""
        self._link.require_open()
        return frame(program, version, procedure, MessageType.MESSAGE, serial, Status.OK, payload)

    def ping(self) -> bytes:
        """Either side: a keepalive PING; what comes back shows in C{activity}."""
        self._link.require_open()
        return PING

    # --- streams ----------------------------------------------------------------------

    def sendable_bytes(self, stream: Stream) -> int:
        """Largest payload that L{send_data} takes now; see L{Stream.sendable_bytes}."""
        return 0 if self._link.closed else stream.sendable_bytes

    def send_data(self, stream: Stream, data: bytes | bytearray | memoryview) -> bytes:
        """
        A packet of stream data; the data is copied once.

        @raise BadState: more than C{stream.sendable_bytes}.
        @raise BadValue: empty, or larger than a message may be.
        """
        return b"".join((self._outbound.data_header(stream, len(data)), data))

    def data_header(self, stream: Stream, byte_count: int) -> bytes:
        """
        Only the header of a packet, counted and charged as if it were sent: for
        who has the data in a buffer with room before it.  C{byte_count} bytes of
        data must follow it on the wire.
        """
        return self._outbound.data_header(stream, byte_count)

    def send_hole(self, stream: Stream, length_bytes: int) -> bytes:
        """
        C{length_bytes} zeros.

        @raise BadState: not C{stream.can_send_hole}.
        """
        return self._outbound.hole(stream, length_bytes)

    def end(self, stream: Stream) -> bytes:
        """
        Our end of data (empty CONTINUE).  The opener may send it to rpcstream
        peers only: libvirtd takes it for the end of its input file (0.3).
        """
        return self._outbound.end(stream)

    def finish(self, stream: Stream) -> bytes:
        """Opener: all sent; C{FinishConfirmed} or C{StreamFailed} will follow."""
        return self._outbound.finish(stream)

    def confirm(self, stream: Stream) -> bytes:
        """Acceptor: the answer to C{FinishRequested}; the stream is over."""
        return self._outbound.confirm(stream)

    def abort(self, stream: Stream, reason: str = "") -> bytes:
        """
        Opener: break the stream off; nothing more is delivered for it.

        @param reason: sent if C{peer_is_rpcstream}.
        @return: empty if the stream or the connection has ended in the meantime.
        """
        return self._outbound.abort(stream, reason)

    def fail(self, stream: Stream, error: RemoteError) -> bytes:
        """
        Acceptor: end the stream by an error; nothing more is delivered for it.

        @return: empty if the stream or the connection has ended in the meantime.
        """
        return self._outbound.fail(stream, error)

    # --- credit -----------------------------------------------------------------------

    def enable_credit(self, sent_initial: int, received_initial: int) -> None:
        """
        HELLO was exchanged: streams whose call is sent or comes from now on carry credit.

        The opener calls it when the reply to HELLO came, and opens no stream
        before; the acceptor when it replies.

        @param sent_initial: what we promised: what the peer may send on a new stream.
        @param received_initial: what the peer promised.
        """
        if sent_initial < 0 or received_initial < 0:
            raise BadValue("initial_credit_bytes", "less than nothing")
        self._table.receive_initial, self._table.send_initial = sent_initial, received_initial
        self._link.peer_is_rpcstream = True

    def consumed(self, stream: Stream, byte_count: int) -> bytes:
        """
        The user is done with the next C{byte_count} bytes of data of this
        stream.  Holes go back by themselves.

        @return: a frame that gives credit back, mostly empty: grants go out
            when half of the window is free.
        @raise BadValue: more than was delivered.
        """
        credit = stream.receive_credit
        free = 0 if credit is None else credit.consumed(byte_count)
        return self._outbound.grant(stream, free) if free else b""

    def grow_credit(self, stream: Stream, byte_count: int) -> bytes:
        """Widen what the peer may have on the way to us."""
        return self._outbound.grow(stream, byte_count)

    # --- the switch to a data stream ------------------------------------------------------

    def propose_switch(self, stream: Stream) -> None:
        """
        C{stream} is to have the connection for itself: no more calls, either way,
        and no credit any more, for it and whatever comes after it.

        @raise BadState: not the only stream, or not open.
        """
        if stream.state not in _RUNNING or list(self._table) != [stream]:
            raise BadState("only the one open stream of a connection can have it for itself")
        self._link.advance(ConnectionInput.PROPOSE_SWITCH)
        self._link.switching = stream
        stream.send_credit = stream.receive_credit = None
        self._table.send_initial = self._table.receive_initial = None

    def complete_switch(self, stream: Stream) -> None:
        """
        Our output is flushed.  From here on calls other than C{allowed_calls}
        are refused; keepalive goes on.  The stream may be over by then, if it was short.

        @raise BadState: not proposed, being aborted, or calls still wait for a reply.
        """
        if self._link.switching is not stream or stream.state is StreamState.ABORTING:
            raise BadState("the switch was not proposed for this stream")
        if self.pending_call_count or self.unanswered_call_count:
            raise BadState("calls still wait for a reply")
        self._link.advance(ConnectionInput.COMPLETE_SWITCH)

    def close(self) -> None:
        """Nothing more is taken or given; for when the transport is gone."""
        self._link.advance(ConnectionInput.CLOSE)
        self._link.intake.clear()
