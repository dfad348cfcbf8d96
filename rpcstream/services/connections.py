"""
The connections that one transfer uses: one, several at once, and fresh ones.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from twisted.internet.defer import Deferred, DeferredList

from rpcstream.errors import BadState
from rpcstream.limits import EXTENT_BYTES
from rpcstream.net.client import ClientConnection
from rpcstream.net.protection import protection_of
from rpcstream.programs.parts import FEATURE
from rpcstream.services.division import ALL

__all__ = ["CONNECTION_COUNT", "Connections", "Dial", "Line"]

CONNECTION_COUNT: Final = 16
"""Most connections at once."""

Dial = Callable[[], Deferred[ClientConnection]]
"""Makes a further connection to the same server, as the same client."""


class Line:
    """
    A place for one connection at a time, which carries one part after the other.

    @ivar connection: C{None} before it is needed.
    @ivar carried_bytes: data that this connection has carried.
    """

    def __init__(self, connections: Connections, connection: ClientConnection | None = None) -> None:
        self.connection = connection
        self.carried_bytes = 0
        self._connections = connections
        self._before: ClientConnection | None = None

    @property
    def room_count(self) -> int:
        """How many extents may go over it, or over the fresh one that L{connect} would make."""
        connections, connection = self._connections, self.connection
        if not connections.can_dial:
            return ALL
        limit = connections.limit_bytes
        if limit is None:
            return ALL
        left = limit - self.carried_bytes if connection is not None else limit
        return max(1, (left if left >= EXTENT_BYTES else limit) // EXTENT_BYTES)

    async def connect(self) -> ClientConnection:
        """
        The connection for the next part: a fresh one if there is none or it is worn out.

        @raise ConnectRefused: none can be had.
        """
        connections, connection = self._connections, self.connection
        limit = connections.limit_bytes
        is_worn = (
            connections.can_dial
            and limit is not None
            and self.carried_bytes > 0
            and limit - self.carried_bytes < EXTENT_BYTES
        )
        if connection is None or is_worn:
            fresh = await connections.dial()
            self._before, self.connection, self.carried_bytes = connection, fresh, 0
            return fresh
        return connection

    def joined(self) -> None:
        """
        The server has granted a part on the connection: only now the one before may
        go, for with its last connection a transfer ends.
        """
        before, self._before = self._before, None
        if before is not None:
            before.close()


class Connections:
    """
    @ivar lines: the first is there from the beginning, and makes the calls.
    @ivar is_divisible: whether the server knows parts.
    @ivar can_dial: whether there may be more than one connection.
    @ivar limit_bytes: data in one direction that each may carry, C{None} for no limit.
    """

    def __init__(self, first: ClientConnection, dial: Dial | None = None, count: int = 1) -> None:
        """
        @param first: stays the caller's to close.
        @param dial: without it C{first} is the only one, whatever it carries.
        @param count: how many to use at once, if the server knows how to.
        """
        self._dial = dial
        self._all = [first]
        self._written_before = first.link.written_bytes
        self.is_divisible = FEATURE in first.features
        self.can_dial = dial is not None and self.is_divisible
        # Without TLS no key wears out.
        is_protected = protection_of(first.link.transport) is not None
        self.limit_bytes = first.limits.connection_bytes if is_protected else None
        self.lines = [Line(self, first)]
        if self.can_dial:
            self.lines += [Line(self) for _ in range(1, count)]

    @classmethod
    def of(cls, connection: ClientConnection | Connections) -> Connections:
        """One connection as the only one."""
        return connection if isinstance(connection, Connections) else cls(connection)

    @property
    def current(self) -> ClientConnection:
        """The one for calls."""
        return self.lines[0].connection or self._all[0]

    @property
    def made_count(self) -> int:
        """How many connections there were in all."""
        return len(self._all)

    @property
    def written_bytes(self) -> int:
        """All that was handed to the transports since this object was made."""
        return sum(connection.link.written_bytes for connection in self._all) - self._written_before

    async def dial(self) -> ClientConnection:
        """
        A further connection; closed by L{close}.

        @raise BadState: there is no way to make one: ask C{can_dial} first.
        """
        if self._dial is None:
            raise BadState("no further connection can be made")
        connection = await self._dial()
        self._all.append(connection)
        return connection

    async def close(self) -> None:
        """Close all but the first, which is its owner's."""
        await DeferredList([connection.close() for connection in self._all[1:]], consumeErrors=True)
