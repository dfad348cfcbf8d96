"""
A connection's core that the reactor and a lane's thread may both use.

Calls, replies and the ends of streams stay the reactor's, also while a lane has
the connection; the thread receives and sends data.  Each holds the lock for
microseconds only.
"""

from __future__ import annotations

import threading
from typing import Any

from rpcstream.core.connection import Connection
from rpcstream.core.events import Event
from rpcstream.core.states import ConnectionState
from rpcstream.core.streams import Stream
from rpcstream.errors import BadState, RemoteError
from rpcstream.wire.header import Header

__all__ = ["GuardedConnection"]


class GuardedConnection(Connection):
    """
    @ivar lock: hold it where several methods belong together, and for
        C{receive} with C{take_outgoing}, which do not take it themselves: while
        the reactor has the connection nobody else is there.
    """

    def __init__(self, *args: Any, **keywords: Any) -> None:
        super().__init__(*args, **keywords)
        self.lock = threading.RLock()
        self._has_lane = False

    def propose_switch(self, stream: Stream) -> None:
        with self.lock:
            super().propose_switch(stream)
            self._has_lane = True

    def _is_over(self, stream: Stream | None = None) -> bool:
        """
        Whether the lane has received what ends C{stream}, or the connection: the
        reactor will hear of it, but may do something until then that is no mistake.
        """
        if not self._has_lane:
            return False
        return self.state is ConnectionState.CLOSED or (stream is not None and stream.ended)

    def call(
        self,
        program: int,
        version: int,
        procedure: int,
        payload: bytes,
        *,
        opens_stream: bool = False,
        sparse: bool = False,
    ) -> tuple[int, bytes]:
        with self.lock:
            return self._calling.call(program, version, procedure, payload, opens_stream, sparse)

    def forget_call(self, serial: int) -> None:
        with self.lock:
            try:
                super().forget_call(serial)
            except BadState:
                # The lane has its reply, which the reactor has not seen yet.
                if not self._has_lane:
                    raise

    def reply(self, header: Header, payload: bytes) -> bytes:
        with self.lock:
            return self._answering.reply(header, payload)

    def reply_error(self, header: Header, error: RemoteError) -> bytes:
        with self.lock:
            return super().reply_error(header, error)

    def accept(self, header: Header, payload: bytes, *, sparse: bool = False) -> tuple[Stream, bytes]:
        with self.lock:
            return super().accept(header, payload, sparse=sparse)

    def message(self, *args: Any, **keywords: Any) -> bytes:
        with self.lock:
            return b"" if self._is_over() else super().message(*args, **keywords)

    def ping(self) -> bytes:
        with self.lock:
            return b"" if self._is_over() else super().ping()

    def end(self, stream: Stream) -> bytes:
        with self.lock:
            return b"" if self._is_over(stream) else super().end(stream)

    def finish(self, stream: Stream) -> bytes:
        with self.lock:
            return b"" if self._is_over(stream) else super().finish(stream)

    def confirm(self, stream: Stream) -> bytes:
        with self.lock:
            return b"" if self._is_over(stream) else super().confirm(stream)

    def abort(self, stream: Stream, reason: str = "") -> bytes:
        with self.lock:
            return super().abort(stream, reason)

    def fail(self, stream: Stream, error: RemoteError) -> bytes:
        with self.lock:
            return super().fail(stream, error)

    def receive_eof(self) -> list[Event]:
        with self.lock:
            return super().receive_eof()

    def close(self) -> None:
        with self.lock:
            super().close()
