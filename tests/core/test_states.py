"""The transition tables, swept: every state with every input."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from rpcstream.core.states import (
    CONNECTION,
    STREAM,
    ConnectionInput,
    ConnectionState,
    Reaction,
    StreamInput,
    StreamState,
    advance,
)
from rpcstream.errors import BadState

S, N, R = StreamState, StreamInput, Reaction
C, I = ConnectionState, ConnectionInput  # noqa: E741

# The tables once more, in letters: one line a state, one column an input.  "." cannot be.
# Reactions: a allow, d deliver, - drop, f fail, h hold, r refuse, b abort.
_LETTER = {R.ALLOW: "a", R.DELIVER: "d", R.DROP: "-", R.FAIL: "f", R.HOLD: "h", R.REFUSE: "r", R.ABORT: "b"}

_STREAM_REACTIONS = """
                    OPENED REFUSED FORGET, SEND_ and RECEIVE_ each: DATA END FINISH CONFIRM ABORT FAIL; BAD
OPENING             d d a  . . . . . .  d d . h . h h
OPENING_ENDED       d d a  . . . . . .  h - . h . h h
OPENING_FAILED      d d a  . . . . . .  - - . - . - -
OPENING_BAD         f d a  . . . . . .  - - . - . - -
FORGOTTEN           b - .  . . . . . .  - - . - . - -
OPEN                . . .  a a a . a a  d d d f d d f
LOCAL_ENDED         . . .  . . a . a a  d d d f d d f
REMOTE_ENDED        . . .  a a a . a a  f - d f d d f
BOTH_ENDED          . . .  . . a . a a  f - d f d d f
FINISHING           . . .  . . . . a .  - - . d . d f
FINISH_ASKED        . . .  a a . a . a  - - - . d . -
FINISH_ASKED_ENDED  . . .  . . . a . a  - - - . d . -
ABORTING            . . .  . . . . . .  - - . - . - -
CLOSED              . . .  . . . . . .  - - - - - - -
"""

_CONNECTION_REACTIONS = """
             SEND_CALL CONTROL  RECEIVE_CALL CONTROL  PROPOSE COMPLETE CLOSE
RPC          a a  d d  a . a
SWITCHING    . .  r d  . a a
DATA_STREAM  . a  r d  . . a
CLOSED       . .  - -  . . a
"""


def _letters(row: Mapping[Any, tuple[Any, Reaction]], inputs: Iterable[Any]) -> list[str]:
    return [_LETTER[row[event][1]] if event in row else "." for event in inputs]


class StreamTableTests(SynchronousTestCase):
    """A stream's table."""

    def test_every_reaction(self) -> None:
        """Every state with every input does what the letters say."""
        lines = [line.split() for line in _STREAM_REACTIONS.strip().splitlines()[1:]]
        self.assertEqual([line[0] for line in lines], [state.name for state in S])
        for name, *letters in lines:
            self.assertEqual(_letters(STREAM[S[name]], N), letters, name)

    def test_advance_total(self) -> None:
        """advance() gives the entry or BadState, for all pairs."""
        for state in S:
            for event in N:
                if event in STREAM[state]:
                    self.assertEqual(advance(STREAM, state, event), STREAM[state][event])
                else:
                    self.assertRaises(BadState, advance, STREAM, state, event)

    def test_every_message_has_an_answer(self) -> None:
        """
        Whatever the peer may send to a live stream has an entry: an opener
        receives confirmations and errors, an acceptor finishes and aborts.
        """
        opener_only = {
            S.OPENING,
            S.OPENING_ENDED,
            S.OPENING_FAILED,
            S.OPENING_BAD,
            S.FORGOTTEN,
            S.FINISHING,
            S.ABORTING,
        }
        acceptor_only = {S.FINISH_ASKED, S.FINISH_ASKED_ENDED}
        both = {N.RECEIVE_DATA, N.RECEIVE_END, N.RECEIVE_BAD}
        for state in S:
            if state not in acceptor_only:
                self.assertLessEqual(both | {N.RECEIVE_CONFIRM, N.RECEIVE_FAIL}, set(STREAM[state]), state)
            if state not in opener_only:
                self.assertLessEqual(both | {N.RECEIVE_FINISH, N.RECEIVE_ABORT}, set(STREAM[state]), state)

    def test_closed_is_final(self) -> None:
        """Nothing leads out of CLOSED, and all of it is dropped."""
        for step in STREAM[S.CLOSED].values():
            self.assertEqual(step, (S.CLOSED, R.DROP))

    def test_everything_ends(self) -> None:
        """From every state CLOSED can be reached, by the peer's messages or by ours."""
        for start in S:
            reached, fresh = {start}, [start]
            while fresh:
                for step in STREAM[fresh.pop()].values():
                    if step.state not in reached:
                        reached.add(step.state)
                        fresh.append(step.state)
            self.assertIn(S.CLOSED, reached, start)

    def test_data_does_not_move(self) -> None:
        """Sending and delivering data leaves the state: what the fast path relies on."""
        for state, row in STREAM.items():
            if N.SEND_DATA in row:
                self.assertIs(row[N.SEND_DATA].state, state)
            step = row[N.RECEIVE_DATA]
            if step.reaction is R.DELIVER:
                self.assertIs(step.state, state)

    def test_bad_message_leaves_room_for_the_objection(self) -> None:
        """Where a bad message fails the stream, one of abort and fail can be sent."""
        for row in STREAM.values():
            step = row[N.RECEIVE_BAD]
            if step.reaction is R.FAIL:
                self.assertIn(N.SEND_ABORT, STREAM[step.state])


class ConnectionTableTests(SynchronousTestCase):
    """The connection's table."""

    def test_every_reaction(self) -> None:
        """Every state with every input does what the letters say."""
        lines = [line.split() for line in _CONNECTION_REACTIONS.strip().splitlines()[1:]]
        self.assertEqual([line[0] for line in lines], [state.name for state in C])
        for name, *letters in lines:
            self.assertEqual(_letters(CONNECTION[C[name]], I), letters, name)

    def test_advance_total(self) -> None:
        """advance() gives the entry or BadState, for all pairs."""
        for state in C:
            for event in I:
                if event in CONNECTION[state]:
                    self.assertEqual(advance(CONNECTION, state, event), CONNECTION[state][event])
                else:
                    self.assertRaises(BadState, advance, CONNECTION, state, event)

    def test_never_back(self) -> None:
        """A connection only moves down: one that went exclusive never returns to RPC."""
        for state, row in CONNECTION.items():
            for step in row.values():
                self.assertGreaterEqual(step.state, state)
