"""
What a link writes to while a lane has its socket.

To the link it is a transport like others: it goes on with its calls, its
keepalive, its deadlines and its end as before.
"""

from __future__ import annotations

from typing import Any

from rpcstream.net.lane.loop import LaneLoop

__all__ = ["LaneTransport"]


class LaneTransport:
    """
    @ivar real: the transport whose socket the lane has; for what it knows of the peer.
    """

    disconnecting = False

    def __init__(self, real: Any, loop: LaneLoop) -> None:
        self.real = real
        self._loop = loop

    def write(self, data: bytes) -> None:
        """Between two packets."""
        if not self.disconnecting:
            self._loop.post(data)

    def writeSequence(self, data: list[bytes]) -> None:
        """As L{write}."""
        self.write(b"".join(data))

    def loseConnection(self) -> None:
        """After what was written, and the packet that is being written."""
        self.disconnecting = True
        self._loop.close()

    def abortConnection(self) -> None:
        """At once."""
        self.disconnecting = True
        self._loop.abort()

    def pauseProducing(self) -> None:
        """The link has enough to do: read nothing until L{resumeProducing}."""
        self._loop.pause(True)

    def resumeProducing(self) -> None:
        """Read again."""
        self._loop.pause(False)

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Bulk is the lane's."""

    def unregisterProducer(self) -> None:
        """As L{registerProducer}."""

    def getPeer(self) -> Any:
        """Address of the peer."""
        return self.real.getPeer()

    def getHost(self) -> Any:
        """Address of this end."""
        return self.real.getHost()

    def getPeerCertificate(self) -> Any:
        """As the real transport."""
        return self.real.getPeerCertificate()
