"""
Streams on a connection that others use: nobody may hold it up for long.

libvirt has no flow control.  A reader that takes nothing fills its spool; then
the connection is not read any more, and every call and event on it waits.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.task import LoopingCall

from rpcstream.errors import OperationAborted
from rpcstream.net.progress import PAUSED_CONSUMER
from rpcstream.net.streams import StreamBase

__all__ = ["SHARED_PAUSE_SECONDS", "watch_shared"]

SHARED_PAUSE_SECONDS = 30.0
"""How long a full spool may keep a shared connection from being read."""
_INTERVAL_SECONDS = 1.0


def watch_shared(stream: StreamBase[Any], clock: Any, seconds: float = SHARED_PAUSE_SECONDS) -> None:
    """
    Abort C{stream} when it has kept its connection from being read for so long.

    @param clock: the reactor, or a L{twisted.internet.task.Clock}.
    """
    paused_at: float | None = None
    seen = -1

    def look() -> None:
        nonlocal paused_at, seen
        progress = stream.progress
        moved, seen = progress.byte_count != seen, progress.byte_count
        if moved or progress.stalled_by != PAUSED_CONSUMER:
            paused_at = None
        elif paused_at is None:
            paused_at = clock.seconds()
        elif clock.seconds() - paused_at >= seconds:
            stream.fail_with(
                OperationAborted(
                    f"its reader took nothing for {seconds:g} s and held up a shared connection; "
                    "give the stream a connection of its own, or read faster"
                )
            )

    watching = LoopingCall(look)
    watching.clock = clock
    watching.start(_INTERVAL_SECONDS, now=False)
    stream.when_closed().addBoth(lambda _: watching.stop())
