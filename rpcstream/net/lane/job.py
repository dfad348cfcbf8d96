"""
What a lane does for one stream: the part that sending and receiving share.

A job's Deferred fires once, when all is done or nothing of it will be used any
more.  What touches files is a L{FileJob}: it has a thread for files and digests
beside the lane's, so that reading, digesting, encrypting and writing overlap.
"""

from __future__ import annotations

import threading
from abc import ABC, abstractmethod
from collections.abc import Callable

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads

from rpcstream.core.streams import Stream
from rpcstream.storage.file_part import FilePart

__all__ = ["IDLE_SECONDS", "Data", "FileJob", "Job", "Packet"]

IDLE_SECONDS = 1.0
"""Longest sleep of a lane; whatever changes wakes it earlier."""

Data = memoryview | FilePart
"""Bytes, here or in a file."""
Packet = tuple[bytes, Data]
"""A header, or a whole frame, and the data that follows it."""


class Job(ABC):
    """
    @ivar stream: the core's.
    @ivar takes_data: whether received data is for it.
    @ivar waits_for: what it waits for now, as L{rpcstream.net.progress} names it.
    @ivar has_all: set when the reactor has heard that the peer has sent all.
    @ivar done: fires when all data was written to the socket, or to the file.
    """

    takes_data = False

    def __init__(self, stream: Stream, reactor: IReactorFromThreads, wake: Callable[[], None]) -> None:
        self.stream = stream
        self.waits_for: str | None = None
        self.done: Deferred[None] = Deferred(lambda _: self.cancel())
        self._reactor = reactor
        self._wake = wake
        self.has_all = False
        self._is_cancelled = False

    @abstractmethod
    def start(self) -> None:
        """Begin; in the reactor."""

    @abstractmethod
    def _unblock(self) -> None:
        """Let whoever works for it see that the job was cancelled."""

    def cancel(self) -> None:
        """Nobody wants it any more, and its stream tells why; from any thread, safe to call again."""
        if not self._is_cancelled:
            self._is_cancelled = True
            self._unblock()

    def fail(self, error: BaseException | None) -> None:
        """In the reactor: the stream has ended."""
        self._is_cancelled = True
        self._unblock()
        self._tell(error)

    def _finish(self, error: BaseException | None) -> None:
        """From any thread: tell the reactor."""
        self._reactor.callFromThread(self._tell, error)

    def _tell(self, error: BaseException | None) -> None:
        if self.done.called:
            return
        if error is None:
            self.done.callback(None)
        else:
            self.done.errback(error)

    # --- what the loop asks, in its thread ------------------------------------------------

    # A job that only sends is asked for packets, one that only receives for room.

    def next_packet(self) -> Packet | None:
        """The next packet to send; C{None} if there is none now."""
        return None

    def source_failed(self, error: Exception) -> None:  # noqa: B027
        """Part of a packet that has begun could not be read: it went as zeros, and nothing may follow."""

    def room(self) -> memoryview | None:
        """Where to read to; C{None} if there is no room now."""
        return None

    def filled(self, count: int) -> None:  # noqa: B027
        """So much was read there."""

    def data(self, data: memoryview) -> None:  # noqa: B027
        """Stream data, a part of what was read."""

    def hole(self, length: int) -> None:  # noqa: B027
        """A hole."""

    def end_of_data(self) -> None:  # noqa: B027
        """The peer has sent all."""

    @abstractmethod
    def waits(self, is_unwritten: bool, has_no_room: bool) -> float:
        """
        The lane is going to sleep.

        @return: how long at most, in seconds.
        """

    def goes_on(self) -> None:
        """It has woken up."""
        self.waits_for = None

    def idle(self) -> None:  # noqa: B027
        """It has slept all that time."""


class FileJob(Job):
    """A job with a thread for files."""

    def start(self) -> None:
        threading.Thread(target=self._run, name="rpcstream lane files", daemon=True).start()

    @abstractmethod
    def _run(self) -> None:
        """The thread for files."""
