"""
Tells the output how far a stream has come, twice a second.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.task import LoopingCall

from rpcstream.cli.running import Session
from rpcstream.net.moving import Moving
from rpcstream.net.streams import StreamBase

__all__ = ["Following"]

INTERVAL_SECONDS = 0.5


class Following:
    """
    Follows one stream after the other; C{with} ends it.

    @param what: the name to show.
    @ivar has_begun: whether a stream was granted.
    """

    def __init__(self, session: Session, what: str) -> None:
        self.has_begun = False
        self._session = session
        self._what = what
        self._stream: StreamBase[Any] | Moving | None = None
        self._calls = LoopingCall(self._tell)
        self._calls.clock = session.reactor

    def opened(self, stream: StreamBase[Any] | Moving, held_bytes: int) -> None:
        """A stream begins, or several together: for L{rpcstream.services.sending.send} and its mirror."""
        self.has_begun = True
        self._stream = stream
        self._session.output.started(self._what, stream.total_bytes, held_bytes)
        if not self._calls.running:
            self._calls.start(INTERVAL_SECONDS, now=False)

    def _tell(self) -> None:
        if self._stream is not None and not self._stream.is_closed:
            self._session.output.progress(self._stream.progress)

    def __enter__(self) -> Following:
        return self

    def __exit__(self, *exception: object) -> None:
        if self._calls.running:
            self._calls.stop()
