"""Properties: any chunking, any bytes."""

from __future__ import annotations

import random
import subprocess
import sys
from collections.abc import Iterable

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from rpcstream.core.connection import Connection
from rpcstream.core.events import (
    CallReceived,
    Event,
    FinishRequested,
    StreamData,
    StreamHole,
)
from rpcstream.core.states import ConnectionState, StreamState
from rpcstream.programs import keepalive
from rpcstream.programs.flow import FLOW
from rpcstream.wire.header import Header

from .support import (
    CONTINUE,
    HOLE,
    MESSAGE,
    OK,
    PROGRAM,
    STREAM,
    Clock,
    chunks,
    credit,
    frames,
    raw,
)

quick = settings(derandomize=True, max_examples=60, deadline=None)


class Automaton:
    """One end that answers everything at once: accepts odd procedures as streams, replies to even ones."""

    def __init__(self, opener: bool, with_credit: bool) -> None:
        self.connection = Connection(opener, clock=Clock())
        if with_credit:
            self.connection.enable_credit(100_000, 100_000)
        self.log: list[object] = []
        self.sent: list[bytes] = []

    def receive(self, data: bytes) -> None:
        events = self.connection.receive(data)
        self.sent += self.connection.take_outgoing()
        for event in events:
            self._note(event)
            self._react(event)

    @property
    def answers(self) -> list[tuple[Header, bytes]]:
        """
        What was sent, sorted: automatic answers go out before the reactions to
        events of the same chunk.
        """
        return sorted(frames(self.sent))

    def _note(self, event: Event) -> None:
        """Neighbouring fragments count as one."""
        last = self.log[-1] if self.log else None
        if isinstance(event, StreamData):
            serial = event.stream.key.serial
            if isinstance(last, tuple) and last[0] == serial:
                self.log[-1] = (serial, last[1] + event.data)
            else:
                self.log.append((serial, event.data))
        elif isinstance(event, StreamHole):
            self.log.append(("hole", event.stream.key.serial, event.length_bytes))
        else:
            self.log.append(type(event).__name__)

    def _react(self, event: Event) -> None:
        connection = self.connection
        if connection.state is ConnectionState.CLOSED:
            return
        if isinstance(event, CallReceived):
            if event.header.procedure % 2 and connection.stream_count < 16:
                _, sent = connection.accept(event.header, b"ret", sparse=bool(event.payload))
                self.sent.append(sent)
            else:
                self.sent.append(connection.reply(event.header, event.payload))
        elif isinstance(event, StreamData):
            self.sent.append(connection.consumed(event.stream, len(event.data)))
        elif isinstance(event, FinishRequested) and event.stream.state is not StreamState.CLOSED:
            self.sent.append(connection.confirm(event.stream))


def session() -> list[bytes]:
    """What a client sends in a session of every kind of message, cut where it waits for the server."""
    hole = raw(HOLE, CONTINUE, (4096).to_bytes(8, "big") + bytes(4))
    ping = raw(MESSAGE, OK, program=keepalive.PROGRAM, procedure=keepalive.PING)
    return [
        raw(0, serial=0, payload=b"sparse") + ping + raw(0, serial=1, procedure=2, payload=bytes(300)),
        raw(STREAM, CONTINUE, b"data" * 50) + hole + raw(0, serial=2) + raw(STREAM, CONTINUE, b"x"),
        raw(STREAM, CONTINUE, b"other", serial=2) + raw(MESSAGE, OK, b"event") + credit(5000) + hole,
        raw(STREAM, CONTINUE, serial=2)
        + raw(STREAM, OK, serial=2)
        + raw(STREAM, 1)
        + raw(STREAM, OK, serial=2),
        raw(0, serial=3, procedure=4) + raw(0, serial=4, payload=b"s"),
        raw(HOLE, CONTINUE, bytes(12), serial=4) + raw(STREAM, OK, serial=4),
    ]


def replay(parts: Iterable[bytes], opener: bool = False, with_credit: bool = True) -> Automaton:
    automaton = Automaton(opener, with_credit)
    for part in parts:
        automaton.receive(part)
    return automaton


class ChunkingTests(SynchronousTestCase):
    """The same bytes in any pieces."""

    def test_the_session_is_served(self) -> None:
        """The session does what it is there for."""
        names = [entry for entry in replay(session()).log if isinstance(entry, str)]
        for name in (
            "CallReceived",
            "StreamEnded",
            "FinishRequested",
            "StreamAborted",
            "StreamFailed",
            "CreditGranted",
        ):
            self.assertIn(name, names)
        self.assertNotIn("ConnectionFailed", names)

    def test_single_bytes(self) -> None:
        """F16: whole, and byte by byte."""
        whole = replay(session())
        single = replay(bytes([byte]) for part in session() for byte in part)
        self.assertEqual(single.log, whole.log)
        self.assertEqual(single.answers, whole.answers)

    @quick
    @given(st.lists(st.integers(0, 400), max_size=12))
    def test_any_chunking(self, cuts: list[int]) -> None:
        """Cut anywhere: the same events and the same answers."""
        whole = replay(session())
        cut = replay(chunk for part in session() for chunk in chunks(part, cuts))
        self.assertEqual(cut.log, whole.log)
        self.assertEqual(cut.answers, whole.answers)


class HostileTests(SynchronousTestCase):
    """No bytes make it raise; what it sends is always well formed."""

    def check(self, automaton: Automaton) -> None:
        frames(automaton.sent)
        failures = [n for n, entry in enumerate(automaton.log) if entry == "ConnectionFailed"]
        self.assertIn(failures, ([], [len(automaton.log) - 1]))
        for stream in automaton.connection.streams.values():
            self.assertIsNot(stream.state, StreamState.CLOSED)

    @quick
    @given(st.binary(max_size=200), st.booleans())
    def test_random_bytes(self, data: bytes, opener: bool) -> None:
        """Noise."""
        self.check(replay([data], opener))

    def test_mutated_sessions(self) -> None:
        """Each byte of the session changed, and the session cut short there; both ends."""
        random_ = random.Random(1)
        parts = session()
        for number, part in enumerate(parts):
            for offset in range(len(part)):
                changed = bytearray(part)
                changed[offset] ^= 1 << random_.randrange(8)
                self.check(replay([*parts[:number], bytes(changed), *parts[number + 1 :]]))
                cut = replay([*parts[:number], part[:offset]])
                cut.connection.receive_eof()
                self.check(cut)

    @quick
    @given(
        st.lists(
            st.tuples(
                st.sampled_from([0, 1, 2, 3, 3, 3, 4, 5, 6, 6, 99, -1]),
                st.sampled_from([0, 1, 2, 2, 77, -1]),
                st.sampled_from([0, 0, 1, 2, 2**32 - 1]),
                st.sampled_from(
                    [(PROGRAM, 1), (PROGRAM, 2), (PROGRAM, -5), (keepalive.PROGRAM, 1), (FLOW.number, 2)]
                ),
                st.one_of(
                    st.just(b""),
                    st.just(bytes(12)),
                    st.just((7).to_bytes(8, "big") + bytes(4)),
                    st.binary(max_size=40),
                ),
            ),
            max_size=30,
        ),
        st.booleans(),
        st.booleans(),
    )
    def test_well_formed_nonsense(
        self,
        messages: list[tuple[int, int, int, tuple[int, int], bytes]],
        opener: bool,
        with_credit: bool,
    ) -> None:
        """Any types, statuses, serials and programs, at a server and at a client with calls and streams."""
        automaton = Automaton(opener, with_credit)
        if opener:
            for opens in (True, True, False):
                automaton.connection.call(PROGRAM, 1, 1, b"", opens_stream=opens, sparse=True)
            automaton.receive(raw(1, procedure=1))
        else:
            automaton.receive(raw(0, procedure=1, payload=b"sparse"))
        for type, status, serial, (program, procedure), payload in messages:
            automaton.receive(raw(type, status, payload, serial=serial, program=program, procedure=procedure))
        self.check(automaton)


class LayerTests(SynchronousTestCase):
    """The layer rule."""

    def test_no_twisted(self) -> None:
        """Importing the core imports neither Twisted nor anything below it."""
        code = (
            "import sys, rpcstream.core;"
            "print([name for name in sys.modules if name.split('.')[0] in ('twisted', 'OpenSSL')"
            " or name.startswith(('rpcstream.net', 'rpcstream.storage'))])"
        )
        path = [entry for entry in sys.path if entry]
        result = subprocess.run(
            [sys.executable, "-c", f"import sys; sys.path[:0] = {path!r}\n{code}"],
            capture_output=True,
            text=True,
            check=True,
        )
        self.assertEqual(result.stdout.strip(), "[]", result.stderr)
