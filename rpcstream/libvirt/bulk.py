"""
Streams with a connection of their own, so that a slow one stalls nothing else.

It is made for the stream and closed with it; its cost is a TLS handshake and a
few round trips.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred, DeferredList

from rpcstream.errors import ConnectionClosed

if TYPE_CHECKING:
    from rpcstream.libvirt.connection import Connection

__all__ = ["BulkConnections", "Dial"]

Dial = Callable[[], Deferred["Connection"]]
"""Makes a further connection, for one stream."""


class BulkConnections:
    """The connections that streams have for themselves."""

    def __init__(self, dial: Dial) -> None:
        self._dial = dial
        self._connections: set[Connection] = set()
        self._dialing: set[Deferred[Connection]] = set()
        self._is_closed = False

    def __len__(self) -> int:
        return len(self._connections)

    async def open(self, request: Any, options: dict[str, Any]) -> Any:
        """
        Connect, and open a stream.

        @return: the stream.
        @raise RemoteError: the daemon refuses the connection or the stream.
        """
        if self._is_closed:
            raise ConnectionClosed("the connection was closed")
        dialing = self._dial()
        self._dialing.add(dialing)
        try:
            connection = await dialing
        finally:
            self._dialing.discard(dialing)
        self._connections.add(connection)
        connection.when_closed().addCallback(lambda _: self._connections.discard(connection))
        try:
            stream = await connection.client.open(request, **options)
        except BaseException:
            # Not waited for: whoever asked wants to hear of the error.
            connection.close()
            raise
        stream.when_closed().addBoth(lambda _: connection.close())
        return stream

    def close(self) -> Deferred[Any]:
        """Close all; their streams fail.  Fires when they are gone."""
        self._is_closed = True
        for dialing in list(self._dialing):
            dialing.cancel()
        return DeferredList([connection.close() for connection in self._connections])
