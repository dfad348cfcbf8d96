"""
One attempt at a transfer, as the destination sees it: the connections that carry it.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from rpcstream.errors import OperationAborted, RemoteError
from rpcstream.net.server import ServerConnection
from rpcstream.net.streams import StreamBase
from rpcstream.programs.parts import ATTEMPT_BYTES

__all__ = ["Attempt"]


class Attempt:
    """
    What the streams of one attempt have in common.

    It ends as a whole: with the first of its streams that fails, when a
    connection is lost in the midst of one, or when the last connection is gone.

    @ivar key: by which further parts are opened; nobody else can know it.
    @ivar connections: that carry it, or have carried a part of it.
    @ivar streams: that run.
    @ivar ended_by: why it is over, without a COMMIT; C{None} as long as it is not.
    """

    def __init__(self) -> None:
        self.key = os.urandom(ATTEMPT_BYTES)
        self.connections: dict[ServerConnection, int] = {}
        self.streams: set[StreamBase[Any]] = set()
        self.ended_by: RemoteError | None = None

    def join(self, connection: ServerConnection, lost: Callable[[RemoteError], object]) -> None:
        """
        The connection carries it from now on.

        @param lost: called with the reason when the attempt cannot go on.
        """

        def gone() -> None:
            streams = self.connections.pop(connection, 0)
            if streams or not self.connections:
                lost(OperationAborted("a connection of this transfer was lost"))

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

    def end(self, error: RemoteError) -> None:
        """It is over, without a COMMIT; the first reason counts."""
        self.ended_by = self.ended_by or error

    def fail_streams(self) -> None:
        """Tell all that still run, once L{end} has said why."""
        streams, self.streams = self.streams, set()
        for stream in streams:
            stream.fail_with(self.ended_by or OperationAborted("the transfer is over"))
