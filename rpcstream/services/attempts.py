"""
One attempt at a transfer, as the destination sees it: the connections that carry it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from rpcstream.net.server import ServerConnection
from rpcstream.programs.parts import ATTEMPT_BYTES

__all__ = ["Attempt"]


class Attempt:
    """
    What the streams of one attempt have in common.

    It ends as a whole: with the first of its streams that fails, when a
    connection is lost in the midst of one, or when the last connection is gone.

    @ivar key: by which further parts are opened; nobody else can know it.
    @ivar connections: that carry it, or have carried a part of it.
    @ivar is_ended: whether it is over without a COMMIT, and C{why_ended}.
    """

    def __init__(self) -> None:
        self.key = os.urandom(ATTEMPT_BYTES)
        self.connections: dict[ServerConnection, int] = {}
        self.is_ended = False
        self.why_ended = ""

    def join(self, connection: ServerConnection, lost: Callable[[str], object]) -> None:
        """
        The connection carries it from now on.

        @param lost: called with the reason when the attempt cannot go on.
        """

        def gone() -> None:
            streams = self.connections.pop(connection, 0)
            if streams or not self.connections:
                lost("a connection of this transfer was lost")

        self.connections.setdefault(connection, 0)
        connection.when_lost(self, gone)

    @contextmanager
    def streaming_on(self, connection: ServerConnection) -> Iterator[None]:
        """A stream runs on the connection, until it has come to its end as it should."""
        self.connections[connection] = self.connections.get(connection, 0) + 1
        yield
        if connection in self.connections:
            self.connections[connection] -= 1

    def leave(self) -> None:
        """No connection has anything to do with it any more."""
        for connection in self.connections:
            connection.forget_lost(self)
        self.connections.clear()

    def end(self, why: str) -> None:
        """It is over, without a COMMIT; the first reason counts."""
        if not self.is_ended:
            self.is_ended, self.why_ended = True, why
