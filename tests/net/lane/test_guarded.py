"""What the reactor may do about a stream that the lane knows to be over, before it has heard of it."""

from __future__ import annotations

from unittest import TestCase

from rpcstream.errors import BadState, OperationFailed
from rpcstream.net.lane.guarded import GuardedConnection

PROGRAM, VERSION, PROCEDURE, CONTROL = 0x20001234, 1, 7, 9


class CrossingTests(TestCase):
    """Both ends in memory; the client's events are not looked at."""

    def setUp(self) -> None:
        self.client, self.server = GuardedConnection(opener=True), GuardedConnection(opener=False)
        for end in (self.client, self.server):
            end.enable_credit(1 << 20, 1 << 20)
        self.serial, frame = self.client.call(PROGRAM, VERSION, PROCEDURE, b"", opens_stream=True)
        (called,) = self.server.receive(frame)
        self.accepted, reply = self.server.accept(called.header, b"")  # type: ignore[union-attr]
        self.client.receive(reply)
        self.stream = self.client.streams[self.serial]

    def take(self) -> None:
        """A lane gets the connection."""
        for end, stream in ((self.client, self.stream), (self.server, self.accepted)):
            end.propose_switch(stream)
            end.allowed_calls = {(PROGRAM, CONTROL)}
            end.complete_switch(stream)

    def test_finish_and_failure_cross(self) -> None:
        """A finish of a stream that has failed just now sends nothing; without a lane it is a mistake."""
        failed = self.server.fail(self.accepted, OperationFailed("no room"))
        self.client.receive(failed)
        self.assertRaises(BadState, self.client.finish, self.stream)

    def test_finish_and_failure_cross_on_a_lane(self) -> None:
        """As above, with a lane."""
        self.take()
        self.client.receive(self.server.fail(self.accepted, OperationFailed("no room")))
        self.assertEqual(self.client.finish(self.stream), b"")
        self.assertEqual(self.client.end(self.stream), b"")

    def test_confirm_and_abort_cross(self) -> None:
        """The other end: what it confirms was aborted just now."""
        self.take()
        self.server.receive(self.client.finish(self.stream) + self.client.abort(self.stream, "enough"))
        self.assertEqual(self.server.confirm(self.accepted), b"")

    def test_cancelled_call_and_its_reply_cross(self) -> None:
        """A call is cancelled whose reply the lane has."""
        self.take()
        serial, frame = self.client.call(PROGRAM, VERSION, CONTROL, b"")
        (called,) = self.server.receive(frame)
        self.client.receive(self.server.reply(called.header, b""))  # type: ignore[union-attr]
        self.client.forget_call(serial)

    def test_messages_after_the_end(self) -> None:
        """Once the connection has failed nothing is sent any more."""
        self.take()
        self.server.receive(bytes(28))
        self.assertEqual((self.server.ping(), self.server.message(PROGRAM, VERSION, 1, b"")), (b"", b""))
