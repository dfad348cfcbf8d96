"""
The two transition tables: of a connection, and of a stream.

Each says for every state what every input does: the next state and a
L{Reaction}.  A pair that is not in a table cannot happen by the peer's doing;
by our own it is a mistake (L{rpcstream.errors.BadState}).  The tables know
nothing of roles: that only the opener finishes and only the acceptor confirms
follows from who names which input.  Sections are those of C{wire-protocol.md}.
"""

from __future__ import annotations

from collections.abc import Mapping
from enum import IntEnum
from typing import NamedTuple, TypeAlias, TypeVar

from rpcstream.errors import BadState

__all__ = [
    "CONNECTION",
    "STREAM",
    "ConnectionInput",
    "ConnectionState",
    "Reaction",
    "StreamInput",
    "StreamState",
    "advance",
]


class Reaction(IntEnum):
    """What is to be done about an input, besides the change of state."""

    ALLOW = 0
    """Ours: go ahead, write the frame."""
    DELIVER = 1
    """The peer's: tell the user of the connection."""
    DROP = 2
    """The peer's: forget it in silence; the two sides' messages crossed."""
    FAIL = 3
    """The peer's mistake: the stream fails, the connection lives."""
    HOLD = 4
    """The peer's, too early to tell: kept until the REPLY is there."""
    REFUSE = 5
    """The peer's call: answered by an error."""
    ABORT = 6
    """The peer opened what nobody wants any more: answered by an abort."""


# --- the connection -----------------------------------------------------------------


class ConnectionState(IntEnum):
    """Where a connection is; it only ever moves down this list."""

    RPC = 0
    """Calls, messages and any number of streams."""
    SWITCHING = 1
    """One stream is to have the connection for itself; our output is being flushed."""
    DATA_STREAM = 2
    """That stream has it; nothing else but keepalive, messages and its own control calls."""
    CLOSED = 3
    """Nothing more is taken or given."""


class ConnectionInput(IntEnum):
    """What can happen to a connection."""

    SEND_CALL = 0
    SEND_CONTROL_CALL = 1
    RECEIVE_CALL = 2
    RECEIVE_CONTROL_CALL = 3
    PROPOSE_SWITCH = 4
    COMPLETE_SWITCH = 5
    CLOSE = 6


_C, _I, _R = ConnectionState, ConnectionInput, Reaction


class ConnectionStep(NamedTuple):
    """One entry of the connection's table."""

    state: ConnectionState
    reaction: Reaction


CONNECTION: Mapping[ConnectionState, Mapping[ConnectionInput, ConnectionStep]] = {
    _C.RPC: {
        _I.SEND_CALL: ConnectionStep(_C.RPC, _R.ALLOW),
        _I.SEND_CONTROL_CALL: ConnectionStep(_C.RPC, _R.ALLOW),
        _I.RECEIVE_CALL: ConnectionStep(_C.RPC, _R.DELIVER),
        _I.RECEIVE_CONTROL_CALL: ConnectionStep(_C.RPC, _R.DELIVER),
        # The switch is proposed before it happens: what was sent before the grant is still under way.
        _I.PROPOSE_SWITCH: ConnectionStep(_C.SWITCHING, _R.ALLOW),
        _I.CLOSE: ConnectionStep(_C.CLOSED, _R.ALLOW),
    },
    _C.SWITCHING: {
        # No call of ours from here on: its reply would come to the lane.
        # A call that crossed the grant is refused, so that the peer can make it on another connection.
        _I.RECEIVE_CALL: ConnectionStep(_C.SWITCHING, _R.REFUSE),
        # The peer may have completed the switch before us.
        _I.RECEIVE_CONTROL_CALL: ConnectionStep(_C.SWITCHING, _R.DELIVER),
        _I.COMPLETE_SWITCH: ConnectionStep(_C.DATA_STREAM, _R.ALLOW),
        _I.CLOSE: ConnectionStep(_C.CLOSED, _R.ALLOW),
    },
    _C.DATA_STREAM: {
        # One way: a connection that went exclusive never returns to RPC.
        _I.SEND_CONTROL_CALL: ConnectionStep(_C.DATA_STREAM, _R.ALLOW),
        _I.RECEIVE_CALL: ConnectionStep(_C.DATA_STREAM, _R.REFUSE),
        _I.RECEIVE_CONTROL_CALL: ConnectionStep(_C.DATA_STREAM, _R.DELIVER),
        _I.CLOSE: ConnectionStep(_C.CLOSED, _R.ALLOW),
    },
    _C.CLOSED: {
        _I.RECEIVE_CALL: ConnectionStep(_C.CLOSED, _R.DROP),
        _I.RECEIVE_CONTROL_CALL: ConnectionStep(_C.CLOSED, _R.DROP),
        _I.CLOSE: ConnectionStep(_C.CLOSED, _R.ALLOW),
    },
}


# --- a stream -----------------------------------------------------------------------


class StreamState(IntEnum):
    """Where one end of a stream is."""

    OPENING = 0
    """Opener: CALL sent, no REPLY yet."""
    OPENING_ENDED = 1
    """The same; the acceptor's data has come and ended already (2.3: nothing forces REPLY first)."""
    OPENING_FAILED = 2
    """The same; the acceptor has ended the stream already, and is done with it."""
    OPENING_BAD = 3
    """The same; the acceptor broke a rule, which it is told once there is a stream to abort."""
    FORGOTTEN = 4
    """Opener: cancelled before the REPLY."""
    OPEN = 5
    LOCAL_ENDED = 6
    """We said end of data (empty CONTINUE)."""
    REMOTE_ENDED = 7
    """The peer said it."""
    BOTH_ENDED = 8
    FINISHING = 9
    """Opener: finish (STREAM/OK) sent, the answer is awaited."""
    FINISH_ASKED = 10
    """Acceptor: the finish has come; we may still send what was queued (2.4)."""
    FINISH_ASKED_ENDED = 11
    """The same, our end of data sent."""
    ABORTING = 12
    """Opener: abort (STREAM/ERROR) sent, the answer is awaited."""
    CLOSED = 13


class StreamInput(IntEnum):
    """What can happen to a stream."""

    OPENED = 0
    """REPLY/OK to the opening call."""
    REFUSED = 1
    """REPLY/ERROR to the opening call."""
    FORGET = 2
    """The opening call was cancelled on this side."""
    SEND_DATA = 3
    """Data or a hole."""
    SEND_END = 4
    """Empty CONTINUE."""
    SEND_FINISH = 5
    """STREAM/OK of the opener."""
    SEND_CONFIRM = 6
    """STREAM/OK of the acceptor."""
    SEND_ABORT = 7
    """STREAM/ERROR of the opener."""
    SEND_FAIL = 8
    """STREAM/ERROR of the acceptor."""
    RECEIVE_DATA = 9
    RECEIVE_END = 10
    RECEIVE_FINISH = 11
    RECEIVE_CONFIRM = 12
    RECEIVE_ABORT = 13
    RECEIVE_FAIL = 14
    RECEIVE_BAD = 15
    """A message that breaks a rule of streams: bad hole, unknown status, no credit for it."""


class StreamStep(NamedTuple):
    """One entry of the stream's table."""

    state: StreamState
    reaction: Reaction


_S, _N = StreamState, StreamInput
_Row: TypeAlias = dict[StreamInput, StreamStep]


def _row(*entries: tuple[StreamInput, StreamState, Reaction]) -> _Row:
    return {event: StreamStep(state, reaction) for event, state, reaction in entries}


def _running(here: StreamState, local_ended: StreamState, remote_ended: StreamState) -> _Row:
    """
    What the four states between opening and ending have in common.

    @param local_ended: the state after our end of data, C{here} if it was sent.
    @param remote_ended: the state after the peer's, C{here} if it has come.
    """
    return _row(
        (_N.SEND_FINISH, _S.FINISHING, _R.ALLOW),  # 2.4, at any time
        (_N.SEND_ABORT, _S.ABORTING, _R.ALLOW),  # 2.5, at any time
        (_N.SEND_FAIL, _S.CLOSED, _R.ALLOW),  # 2.6: final, not acknowledged
        *(
            # 13.6: an empty CONTINUE ends our data once
            [(_N.SEND_DATA, here, _R.ALLOW), (_N.SEND_END, local_ended, _R.ALLOW)]
            if local_ended is not here
            else []
        ),
        *(
            [(_N.RECEIVE_DATA, here, _R.DELIVER), (_N.RECEIVE_END, remote_ended, _R.DELIVER)]
            if remote_ended is not here
            # Data behind the end of data: what it would mean is anybody's guess.
            else [(_N.RECEIVE_DATA, here, _R.FAIL), (_N.RECEIVE_END, here, _R.DROP)]
        ),
        (
            _N.RECEIVE_FINISH,
            _S.FINISH_ASKED_ENDED if local_ended is here else _S.FINISH_ASKED,
            _R.DELIVER,
        ),
        # A confirmation nobody asked for (0.2): the acceptor is done with it, so nothing is sent.
        (_N.RECEIVE_CONFIRM, _S.CLOSED, _R.FAIL),
        (_N.RECEIVE_ABORT, _S.CLOSED, _R.DELIVER),  # answered by STREAM/OK (2.5)
        (_N.RECEIVE_FAIL, _S.CLOSED, _R.DELIVER),  # 2.6: nothing is sent
        (_N.RECEIVE_BAD, here, _R.FAIL),
    )


def _opening(here: StreamState, end: tuple[StreamState, Reaction], data: Reaction) -> _Row:
    """What the states before the REPLY have in common; 15: data before REPLY is accepted."""
    bad = _S.OPENING_BAD
    return _row(
        (_N.REFUSED, _S.CLOSED, _R.DELIVER),
        (_N.FORGET, _S.FORGOTTEN, _R.ALLOW),
        (_N.RECEIVE_DATA, bad if data is _R.HOLD else here, data),
        (_N.RECEIVE_END, *end),
        (_N.RECEIVE_CONFIRM, _S.OPENING_FAILED, _R.HOLD),
        (_N.RECEIVE_FAIL, _S.OPENING_FAILED, _R.HOLD),
        (_N.RECEIVE_BAD, bad, _R.HOLD),
    )


def _finish_asked(here: StreamState, may_send: bool) -> _Row:
    """After the opener's finish, before our answer to it."""
    return _row(
        (_N.SEND_CONFIRM, _S.CLOSED, _R.ALLOW),
        (_N.SEND_FAIL, _S.CLOSED, _R.ALLOW),  # ENOSPC found late (2.2)
        *(
            [(_N.SEND_DATA, here, _R.ALLOW), (_N.SEND_END, _S.FINISH_ASKED_ENDED, _R.ALLOW)]
            if may_send
            else []
        ),
        # Late data, a second finish (S05, S06): the destination stays as it is.
        (_N.RECEIVE_DATA, here, _R.DROP),
        (_N.RECEIVE_END, here, _R.DROP),
        (_N.RECEIVE_FINISH, here, _R.DROP),
        (_N.RECEIVE_BAD, here, _R.DROP),
        (_N.RECEIVE_ABORT, _S.CLOSED, _R.DELIVER),
    )


def _waiting(here: StreamState, *entries: tuple[StreamInput, StreamState, Reaction]) -> _Row:
    """States in which the opener goes on discarding until the answer is there (2.4, 2.5)."""
    return _row((_N.RECEIVE_DATA, here, _R.DROP), (_N.RECEIVE_END, here, _R.DROP), *entries)


STREAM: Mapping[StreamState, Mapping[StreamInput, StreamStep]] = {
    _S.OPENING: _opening(_S.OPENING, (_S.OPENING_ENDED, _R.DELIVER), data=_R.DELIVER)
    | _row((_N.OPENED, _S.OPEN, _R.DELIVER)),
    _S.OPENING_ENDED: _opening(_S.OPENING_ENDED, (_S.OPENING_ENDED, _R.DROP), data=_R.HOLD)
    | _row((_N.OPENED, _S.REMOTE_ENDED, _R.DELIVER)),
    _S.OPENING_FAILED: _opening(_S.OPENING_FAILED, (_S.OPENING_FAILED, _R.DROP), data=_R.DROP)
    | _row(
        (_N.OPENED, _S.CLOSED, _R.DELIVER),
        (_N.FORGET, _S.OPENING_FAILED, _R.ALLOW),  # there will be nothing to abort
        (_N.RECEIVE_CONFIRM, _S.OPENING_FAILED, _R.DROP),  # the first error counts (2.6)
        (_N.RECEIVE_FAIL, _S.OPENING_FAILED, _R.DROP),
        (_N.RECEIVE_BAD, _S.OPENING_FAILED, _R.DROP),
    ),
    _S.OPENING_BAD: _opening(_S.OPENING_BAD, (_S.OPENING_BAD, _R.DROP), data=_R.DROP)
    | _row(
        (_N.OPENED, _S.OPEN, _R.FAIL),  # now there is a stream to abort
        (_N.RECEIVE_CONFIRM, _S.OPENING_FAILED, _R.DROP),
        (_N.RECEIVE_FAIL, _S.OPENING_FAILED, _R.DROP),
        (_N.RECEIVE_BAD, _S.OPENING_BAD, _R.DROP),
    ),
    _S.FORGOTTEN: _waiting(
        _S.FORGOTTEN,
        (_N.OPENED, _S.ABORTING, _R.ABORT),  # a late REPLY/OK is answered by an abort
        (_N.REFUSED, _S.CLOSED, _R.DROP),
        (_N.RECEIVE_CONFIRM, _S.OPENING_FAILED, _R.DROP),
        (_N.RECEIVE_FAIL, _S.OPENING_FAILED, _R.DROP),
        (_N.RECEIVE_BAD, _S.FORGOTTEN, _R.DROP),
    ),
    _S.OPEN: _running(_S.OPEN, _S.LOCAL_ENDED, _S.REMOTE_ENDED),
    _S.LOCAL_ENDED: _running(_S.LOCAL_ENDED, _S.LOCAL_ENDED, _S.BOTH_ENDED),
    _S.REMOTE_ENDED: _running(_S.REMOTE_ENDED, _S.BOTH_ENDED, _S.REMOTE_ENDED),
    _S.BOTH_ENDED: _running(_S.BOTH_ENDED, _S.BOTH_ENDED, _S.BOTH_ENDED),
    _S.FINISHING: _waiting(
        _S.FINISHING,
        (_N.SEND_ABORT, _S.ABORTING, _R.ALLOW),
        (_N.RECEIVE_CONFIRM, _S.CLOSED, _R.DELIVER),
        (_N.RECEIVE_FAIL, _S.CLOSED, _R.DELIVER),  # the first of OK and ERROR counts (2.4, 2.6)
        (_N.RECEIVE_BAD, _S.FINISHING, _R.FAIL),
    ),
    _S.FINISH_ASKED: _finish_asked(_S.FINISH_ASKED, may_send=True),
    _S.FINISH_ASKED_ENDED: _finish_asked(_S.FINISH_ASKED_ENDED, may_send=False),
    _S.ABORTING: _waiting(
        _S.ABORTING,
        (_N.RECEIVE_CONFIRM, _S.CLOSED, _R.DROP),
        (_N.RECEIVE_FAIL, _S.CLOSED, _R.DROP),  # it crossed our abort; no OK will follow
        (_N.RECEIVE_BAD, _S.ABORTING, _R.DROP),
    ),
    _S.CLOSED: _row(
        *(
            (event, _S.CLOSED, _R.DROP)  # 2.4: late data, finish, abort are ignored in silence
            for event in _N
            if event.name.startswith("RECEIVE_")
        )
    ),
}

_State = TypeVar("_State", bound=IntEnum)
_Input = TypeVar("_Input", bound=IntEnum)
_Step = TypeVar("_Step")


def advance(table: Mapping[_State, Mapping[_Input, _Step]], state: _State, event: _Input) -> _Step:
    """
    Look up what C{event} does in C{state}.

    @return: the next state and the reaction.
    @raise BadState: the table has no such entry.
    """
    step = table[state].get(event)
    if step is None:
        raise BadState(f"{event.name} is not allowed in state {state.name}")
    return step
