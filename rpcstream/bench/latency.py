"""
Calls: how many a second, and how long one takes, on an idle connection and on a full one.
"""

from __future__ import annotations

from collections.abc import Sequence
from statistics import median
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from rpcstream.bench.ends import Bench
from rpcstream.bench.moving import PIECE_BYTES, Supply, make_supplies
from rpcstream.bench.plan import Plan, Share
from rpcstream.bench.processes import BenchFailed
from rpcstream.bench.program import Begin, End, Sink, Sum
from rpcstream.bench.waiting import together
from rpcstream.net.client import ClientConnection
from rpcstream.net.outgoing import OutgoingStream

__all__ = ["METHOD", "loaded_calls", "measure_calls", "percentiles"]

METHOD = (
    "A call of two integers, answered with their sum, which is checked; over TLS. One at a time: the "
    "next one when the answer is here. In flight: so many at once, a new one for every answer. Loaded: "
    "paced, one each 2 ms or when the last one is answered, while streams fill the same connection with "
    "all they can; their rate is measured without calls as long and as often, in turn. p99.9 is not told "
    "for less than 1,000 calls, p99 not for less than 100."
)
PACE_SECONDS = 0.002
ROUND_COUNT = 5
"""Turns of the streams with calls and without."""
WARM_CALLS = 50


def percentiles(seconds: Sequence[float]) -> dict[str, float | None]:
    """Latencies in milliseconds: C{None} where there are too few to tell."""
    ordered = sorted(seconds)
    count = len(ordered)
    found: dict[str, float | None] = {}
    for name, share, least_count in (
        ("p50_ms", 0.5, 1), ("p99_ms", 0.99, 100), ("p99_9_ms", 0.999, 1000), ("max_ms", 1.0, 1)
    ):  # fmt: skip
        place = min(count - 1, int(count * share))
        found[name] = round(ordered[place] * 1000, 3) if count >= least_count else None
    return found


class _Caller:
    """Makes calls until its time is up, and keeps how long each took."""

    def __init__(self, connection: ClientConnection, seconds: float) -> None:
        self.seconds: list[float] = []
        self._connection = connection
        self._clock = connection.clock
        self._until = self._clock.seconds()
        self._total_seconds = 0.0
        self.extend(seconds)

    def extend(self, seconds: float) -> None:
        """From now on, it has so much time."""
        self._total_seconds += seconds
        self._until = self._clock.seconds() + seconds

    @property
    def is_over(self) -> bool:
        """Whether its time is up."""
        return bool(self._clock.seconds() >= self._until)

    async def run(self, pace_seconds: float = 0.0) -> None:
        """One after the other."""
        number = 0
        while not self.is_over:
            number += 1
            started = self._clock.seconds()
            result = await self._connection.call(Sum(number, 7))
            took = self._clock.seconds() - started
            self.seconds.append(took)
            if result != number + 7:
                raise BenchFailed(f"{number} + 7 was answered with {result}")
            if took < pace_seconds:
                await deferLater(self._clock, pace_seconds - took)

    def row(self, what: str, in_flight: int) -> dict[str, Any]:
        """What was measured."""
        return {
            "what": what,
            "in_flight": in_flight,
            "calls_per_second": round(len(self.seconds) / self._total_seconds),
            "sample_count": len(self.seconds),
            **percentiles(self.seconds),
        }


async def _idle(connection: ClientConnection, seconds: float, in_flight: int) -> dict[str, Any]:
    caller = _Caller(connection, seconds)
    await together(caller.run() for _ in range(in_flight))
    return caller.row("one at a time" if in_flight == 1 else f"{in_flight} in flight", in_flight)


class _Load:
    """Streams that fill a connection until they are told to end."""

    def __init__(self, connection: ClientConnection, stream_count: int) -> None:
        self._connection = connection
        self._stream_count = stream_count
        self._streams: list[OutgoingStream[int]] = []
        self._sending: list[Deferred[None]] = []
        self._is_over = False

    async def start(self) -> None:
        """Open them and begin."""
        await self._connection.call(Begin(False))
        for _ in range(self._stream_count):
            self._streams.append(await self._connection.open(Sink(0)))
        self._sending = [Deferred.fromCoroutine(self._send(stream)) for stream in self._streams]

    async def _send(self, stream: OutgoingStream[int]) -> None:
        async with stream:
            for piece in Supply(PIECE_BYTES, self._connection.clock, float("inf")):
                if self._is_over:
                    break
                await stream.send(piece)

    def byte_count(self) -> int:
        """Sent by all."""
        return sum(stream.progress.byte_count for stream in self._streams)

    async def stop(self) -> int:
        """
        End them.

        @return: the bytes that came.
        @raise BenchFailed: not as many as were sent.
        """
        self._is_over = True
        await together(self._sending)
        tally = await self._connection.call(End(), timeout_seconds=None)
        if tally.byte_count != self.byte_count():
            raise BenchFailed(f"{self.byte_count()} bytes were sent, {tally.byte_count} came")
        return tally.byte_count


async def loaded_calls(
    connection: ClientConnection, stream_count: int, seconds: float, round_count: int
) -> dict[str, Any]:
    """
    Calls while streams fill the same connection; the streams' rate with and without calls in turn,
    so that what disturbs one disturbs the other.

    @param seconds: of all rounds together, in which calls are made; as long again there are none.
    @return: a row; C{keeps} has the ratio of each round, C{p99s_ms} its p99.
    """
    clock = connection.clock
    load = _Load(connection, stream_count)
    await load.start()
    caller = _Caller(connection, 0.0)
    alone: list[float] = []
    beside: list[float] = []
    p99s: list[float | None] = []
    each_seconds = seconds / round_count
    # The first moments are not like the rest: credit and buffers fill.
    await deferLater(clock, each_seconds / 2)
    for number in range(round_count):
        # Forwards and backwards.
        for with_calls in (False, True) if number % 2 else (True, False):
            started, before = clock.seconds(), load.byte_count()
            if with_calls:
                first = len(caller.seconds)
                caller.extend(each_seconds)
                await caller.run(PACE_SECONDS)
                p99s.append(percentiles(caller.seconds[first:])["p99_ms"])
            else:
                await deferLater(clock, each_seconds)
            rate = (load.byte_count() - before) / (clock.seconds() - started)
            (beside if with_calls else alone).append(rate)
    byte_count = await load.stop()
    # In a turn that is too short nothing may have been sent.
    keeps = [one / other for one, other in zip(beside, alone, strict=True) if other]
    return {
        **caller.row(f"while {stream_count} streams run", 1),
        "stream_bytes": byte_count,
        "stream_bytes_per_second": round(median(beside)),
        "stream_bytes_per_second_alone": round(median(alone)),
        "streams_keep": round(median(keeps), 3) if keeps else None,
        "keeps": [round(each, 3) for each in keeps],
        "p99s_ms": p99s,
    }


async def measure_calls(bench: Bench, plan: Plan, share: Share) -> dict[str, Any]:
    """
    @return: C{method}, C{rows}, C{left_out}.
    """
    rows: list[dict[str, Any]] = []
    make_supplies(PIECE_BYTES)
    with bench.far_end() as far_end:
        async with far_end.connect() as connection:
            for number in range(WARM_CALLS):
                await connection.call(Sum(number, 1))
            for in_flight in (1, plan.in_flight):
                if share.has_room(f"{in_flight} in flight", plan.call_seconds):
                    with bench.watched():
                        rows.append(await _idle(connection, plan.call_seconds, in_flight))
            if share.has_room("loaded", 2.2 * plan.call_seconds):
                with bench.watched():
                    rows.append(
                        await loaded_calls(connection, plan.stream_count, plan.call_seconds, ROUND_COUNT)
                    )
    return {"method": METHOD, "rows": rows, "left_out": share.left_out}
