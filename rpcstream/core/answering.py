"""
The acceptor's side of calls: who may call what, and exactly one reply to each.
"""

from __future__ import annotations

from rpcstream.core.events import CallReceived
from rpcstream.core.frames import error_frame, reply_frame
from rpcstream.core.link import Link
from rpcstream.core.states import ConnectionInput, ConnectionState, Reaction
from rpcstream.core.streams import Stream, StreamKey, StreamTable
from rpcstream.errors import BadState, RemoteError, ResourceBusy, RPCFailed
from rpcstream.limits import MESSAGE_BYTES
from rpcstream.wire.header import HEADER_BYTES, Header, Status

__all__ = ["Answering"]

_OK = int(Status.OK)
_CLOSED, _RPC = ConnectionState.CLOSED, ConnectionState.RPC


class Answering:
    """
    Takes CALLs and answers them.

    @ivar unanswered: for the serial of each call delivered and not answered,
        its header and whether credit was agreed on when it came.
    """

    __slots__ = ("_link", "_refusal", "_table", "unanswered")

    def __init__(self, link: Link, table: StreamTable) -> None:
        self._link = link
        self._table = table
        self._refusal: RemoteError = RPCFailed()  # of the call whose body is being discarded
        self.unanswered: dict[int, tuple[Header, bool]] = {}

    def begins(self, header: Header) -> None:
        """
        A CALL has begun.

        A refusal is sent at the end of its body: libvirt's client does not
        send the rest of a call that is answered already.
        """
        link = self._link
        if link.opener:  # 1.4: what our clients call cannot call back
            link.fail("call-to-client", "the accepting side called")
            return
        limit_or_refusal = self._judge(header)
        if isinstance(limit_or_refusal, int):
            if header.length - HEADER_BYTES <= limit_or_refusal:
                link.intake.assemble(header, self._done)
                return
            limit_or_refusal = RPCFailed("Unable to decode message payload")
        self._refusal = limit_or_refusal
        link.intake.discard(header, self._refused)

    def take(self, header: Header, payload: bytes) -> bool:
        """
        A CALL that came whole: as L{begins} and the end of the body.

        @return: false, with nothing done, for a mistake of the peer's.
        """
        if self._link.opener:
            return False
        limit_or_refusal = self._judge(header)
        if self._link.state is _CLOSED:  # by whoever was asked
            return True
        if isinstance(limit_or_refusal, int):
            if len(payload) <= limit_or_refusal:
                self._done(header, payload)
                return True
            limit_or_refusal = RPCFailed("Unable to decode message payload")
        self._refusal = limit_or_refusal
        self._refused(header, payload)
        return True

    def _judge(self, header: Header) -> int | RemoteError:
        """What of the call may be read: so many bytes, or nothing for this reason."""
        link = self._link
        if header.status != _OK:  # H12, H13
            return RPCFailed(f"Unexpected message status {header.status}")
        if link.state is not _RPC:  # there all calls are delivered, and it stays RPC
            control = (header.program, header.procedure) in link.allowed_calls
            event = ConnectionInput.RECEIVE_CONTROL_CALL if control else ConnectionInput.RECEIVE_CALL
            if link.advance(event) is Reaction.REFUSE:
                return ResourceBusy("this connection carries a data stream; call on another one")
        if header.serial in self.unanswered or header.serial in self._table.live:
            # 1.5: a second thing of that number could not be told from the first.
            return RPCFailed(f"serial {header.serial} is in use")
        return MESSAGE_BYTES if link.admit is None else link.admit(header)

    def _refused(self, header: Header, payload: bytes) -> None:
        self._link.outgoing.append(error_frame(header, self._refusal))
        if header.serial not in self.unanswered and header.serial not in self._table.live:
            self._table.ended.add(header.serial)

    def _done(self, header: Header, payload: bytes) -> None:
        self._table.ended.forget(header.serial)
        self.unanswered[header.serial] = header, self._table.has_credit
        self._link.events.append(CallReceived(header, payload))

    # --- replies --------------------------------------------------------------------

    def reply(self, header: Header, payload: bytes) -> bytes:
        """REPLY/OK."""
        if self._link.state is _CLOSED:
            return b""
        self._require_unanswered(header)
        sent = reply_frame(header, payload)
        del self.unanswered[header.serial]
        return sent

    def reply_error(self, header: Header, error: RemoteError) -> bytes:
        """REPLY/ERROR; what a pipelining client sends for a stream is dropped for a while."""
        if self._link.closed:
            return b""
        self._require_unanswered(header)
        sent = error_frame(header, error)
        del self.unanswered[header.serial]
        self._table.ended.add(header.serial)
        return sent

    def accept(self, header: Header, payload: bytes, sparse: bool) -> tuple[Stream, bytes]:
        """REPLY/OK that opens the stream."""
        credit = self._require_unanswered(header)
        if len(self._table.live) >= self._link.limits.streams:  # S19
            raise ResourceBusy("too many streams on this connection")
        sent = self.reply(header, payload)
        key = StreamKey(header.program, header.version, header.procedure, header.serial)
        return self._table.open(key, opener=False, sparse=sparse, credit=credit), sent

    def _require_unanswered(self, header: Header) -> bool:
        """
        @return: whether credit was agreed on when the call came.
        @raise BadState: the call does not wait for a reply.
        """
        if self._link.opener or self._link.state is _CLOSED:
            self._link.require_role(False, "reply")
        call = self.unanswered.get(header.serial)
        if call is None or (call[0] is not header and call[0] != header):
            raise BadState(f"call {header.serial} does not wait for a reply")
        return call[1]
