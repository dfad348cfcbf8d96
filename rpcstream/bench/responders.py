"""
The far end of the measurements: takes whatever comes, counts it, forgets it.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any
from weakref import WeakKeyDictionary

from blake3 import blake3
from twisted.internet.interfaces import IConsumer
from twisted.internet.task import deferLater
from zope.interface import implementer

from rpcstream.bench.lanes import agreed_packet_bytes, lane_for
from rpcstream.bench.program import Begin, End, Fire, Measure, Put, Sink, Stall, Sum, Tally, Usage
from rpcstream.limits import DIGEST_BYTES
from rpcstream.net.calls import Call, UploadCall

__all__ = ["BenchResponders", "Count"]


@implementer(IConsumer)
class Count:
    """
    What came on one connection; a consumer for the shared lane and a sink for the other.

    @ivar byte_count: how much.
    """

    is_immediate = True

    def __init__(self, is_digested: bool = False) -> None:
        self.byte_count = 0
        self._hasher = blake3() if is_digested else None

    def write(self, data: Any) -> None:
        """Count, and forget."""
        self.byte_count += len(data)
        if self._hasher is not None:
            self._hasher.update(data)

    def write_hole(self, length: int) -> None:
        """Never: only data is sent here."""

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        """Nothing holds it back."""

    def unregisterProducer(self) -> None:
        """As L{registerProducer}."""

    def tally(self) -> Tally:
        """As the wire tells it."""
        return Tally(self.byte_count, bytes(DIGEST_BYTES) if self._hasher is None else self._hasher.digest())


class BenchResponders:
    """
    @param usage: tells what this process has used.
    @param clock: for what waits.
    """

    def __init__(self, usage: Callable[[], Usage], clock: Any) -> None:
        self._usage = usage
        self._clock = clock
        self._counts: WeakKeyDictionary[Any, Count] = WeakKeyDictionary()

    def _count(self, call: Call) -> Count:
        count = self._counts.get(call.connection)
        if count is None:
            count = self._counts[call.connection] = Count()
        return count

    @Sum.responder
    def sum(self, call: Call, request: Sum) -> int:
        """The sum."""
        return request.a + request.b

    @Put.responder
    def put(self, call: Call, request: Put) -> None:
        """Count the data of a call."""
        self._count(call).write(request.data)

    @Fire.responder
    def fire(self, call: Call, event: Fire) -> None:
        """Count the data of a message."""
        self._count(call).write(event.data)

    @Sink.responder
    async def sink(self, call: UploadCall[int], request: Sink) -> None:
        """Count the data of a stream, over the lane that was asked for if it can be had."""
        count = self._count(call)
        packet_bytes = agreed_packet_bytes(call.connection, request.exclusive_packet_bytes)
        stream = call.accept(packet_bytes)
        if packet_bytes:
            await lane_for(stream).receive(stream, count)
        else:
            await stream.deliver_to(count)

    @Stall.responder
    async def stall(self, call: UploadCall[None], request: Stall) -> None:
        """Take nothing for a while."""
        count = self._count(call)
        stream = call.accept(None)
        await deferLater(self._clock, request.milliseconds / 1000)
        await stream.deliver_to(count)

    @Begin.responder
    def begin(self, call: Call, request: Begin) -> None:
        """Start from nothing."""
        self._counts[call.connection] = Count(request.is_digested)

    @End.responder
    def end(self, call: Call, request: End) -> Tally:
        """What has come."""
        return self._count(call).tally()

    @Measure.responder
    def measure(self, call: Call, request: Measure) -> Usage:
        """What this process has used."""
        return self._usage()
