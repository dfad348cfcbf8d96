"""
What a lane writes: frames of the reactor between packets of a job.
"""

from __future__ import annotations

from collections import deque

from rpcstream.errors import RPCStreamError
from rpcstream.net.lane.channel import Channel
from rpcstream.net.lane.job import Data, Job
from rpcstream.storage.file_part import FilePart

__all__ = ["Output"]

WRITES_A_TURN = 4
"""Packets written before it is looked what came in."""
FIRST_RECORD_BYTES = 16 * 1024
"""A packet's header goes with so much of its data as fills one TLS record."""


class Output:
    """
    Used by the lane's thread; C{controls} may be added to from any.

    @ivar controls: whole frames that go before the next packet.
    @ivar wants: what the last write waits for, 0 if for nothing.
    @ivar written_bytes: all that jobs have sent, with their headers.
    """

    def __init__(self, channel: Channel) -> None:
        self._channel = channel
        self.controls: deque[bytes] = deque()
        self.wants = 0
        self.written_bytes = 0
        self._unwritten: Data = memoryview(b"")
        self._rest: Data = memoryview(b"")
        self._job: Job | None = None
        self._is_end_sent = False

    @property
    def is_unwritten(self) -> bool:
        """Whether a write has begun."""
        return len(self._unwritten) > 0

    def answer_end(self) -> None:
        """
        The peer has taken leave: so do we, as far as it goes without waiting.

        @raise ChannelLost: it has gone for good.
        """
        if not self._is_end_sent and not self._unwritten:
            self._channel.end()

    def write(self, job: Job | None, is_closing: bool) -> bool:
        """
        Write some packets of C{job}, or take leave if this was all.

        @return: whether anything was written; if not, C{wants} says why.
        @raise ChannelLost: the peer takes no more.
        """
        self.wants = self._channel.flush()
        for turn in range(0 if self.wants else WRITES_A_TURN):
            if not self._unwritten and not self._fill(job, is_closing):
                return turn > 0
            count = self._write_some(self._unwritten)
            if count < 0:
                self.wants = count
                return turn > 0
            self._unwritten = self._unwritten[count:]
        return not self.wants

    def _write_some(self, data: Data) -> int:
        """@return: how many bytes, or what to wait for."""
        if isinstance(data, FilePart):
            count = self._channel.write_file(data)
            if count:
                return count
            data = self._unwritten = memoryview(self._read(data))
        return self._channel.write(data, len(self._rest) > 0)

    def _read(self, part: FilePart) -> bytes:
        """Its bytes; zeros if it fails, since its packet has begun: then the job ends behind it."""
        try:
            return part.read()
        except (OSError, RPCStreamError) as error:
            if self._job is not None:
                self._job.source_failed(error)
            return bytes(len(part))

    def _fill(self, job: Job | None, is_closing: bool) -> bool:
        """Find what is to be written next."""
        if self._rest:
            self._unwritten, self._rest = self._rest, memoryview(b"")
            return True
        if self.controls:
            frames = [self.controls.popleft() for _ in range(len(self.controls))]
            self._unwritten = memoryview(b"".join(frames))
            return True
        if is_closing:
            self._end()
            return False
        packet = None if job is None else job.next_packet()
        if packet is None:
            return False
        self._job = job
        head, data = packet
        self.written_bytes += len(head) + len(data)
        if isinstance(data, FilePart):
            self._unwritten, self._rest = memoryview(head), data
            return True
        first = FIRST_RECORD_BYTES - len(head)
        self._unwritten = memoryview(b"".join((head, data[:first])))
        self._rest = data[first:]
        return True

    def _end(self) -> None:
        if not self._is_end_sent:
            self.wants = self._channel.end()
            self._is_end_sent = not self.wants
