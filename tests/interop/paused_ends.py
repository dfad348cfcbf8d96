"""
The two processes of test_memory: a server with endless data, a client that pauses.

C{python -m tests.interop.paused_ends server PORT PKI} or C{client PORT PKI BYTES}.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from twisted.internet import task
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IConsumer
from zope.interface import implementer

from rpcstream.net.calls import Call, DownloadCall, UploadCall
from rpcstream.net.connect import connect
from rpcstream.net.incoming import IncomingStream
from rpcstream.net.service import serve
from rpcstream.programs.base import Download, Procedure, Program, Upload
from rpcstream.services.policy import any_authenticated
from rpcstream.wire import UHyper

ENDLESS = Program("endless", number=0x2F11E501, version=1)
PIECE = bytes(range(256)) * 1024
PAUSE_SECONDS = 1.5
CALLS_PER_SECOND = 50
IDLE_SECONDS = 1.0
"""Between C{ready} and the first stream: memory is sampled idle."""


class Echo(Procedure[UHyper], program=ENDLESS, number=1, permission="endless"):
    value: UHyper


class Pour(Download[None], program=ENDLESS, number=2, permission="endless"):
    byte_count: UHyper


class Drain(Upload[None], program=ENDLESS, number=3, permission="endless"):
    pass


async def pour(stream: Any, byte_count: int) -> None:
    for _ in range(byte_count // len(PIECE)):
        await stream.send(PIECE)


@implementer(IConsumer)
class PausingConsumer:
    """Discards; pauses at the first byte, then at each quarter, for C{PAUSE_SECONDS}."""

    def __init__(self, reactor: Any, byte_count: int) -> None:
        self.count = 0
        self._reactor = reactor
        self._step = byte_count // 4
        self._next_pause = 1
        self._producer: Any = None

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        self._producer = producer

    def unregisterProducer(self) -> None:
        self._producer = None

    def write(self, data: bytes) -> None:
        self.count += len(data)
        if self.count >= self._next_pause and self._producer is not None:
            self._next_pause = self.count + self._step
            self._producer.pauseProducing()
            self._reactor.callLater(PAUSE_SECONDS, self._resume)

    def _resume(self) -> None:
        if self._producer is not None:
            self._producer.resumeProducing()


class Responders:
    def __init__(self, reactor: Any) -> None:
        self._reactor = reactor

    @Echo.responder
    def echo(self, call: Call, request: Echo) -> int:
        return request.value

    @Pour.responder
    async def pour(self, call: DownloadCall[None], request: Pour) -> None:
        await pour(call.accept(None), request.byte_count)

    @Drain.responder
    async def drain(self, call: UploadCall[None], request: Drain) -> None:
        await call.accept(None).deliver_to(PausingConsumer(self._reactor, 4 << 30))


class Caller:
    """Calls fifty times a second and keeps the times."""

    def __init__(self, reactor: Any, connection: Any) -> None:
        self.times: list[float] = []
        self._reactor = reactor
        self._connection = connection
        self._loop = task.LoopingCall(self._call)
        self._loop.start(1 / CALLS_PER_SECOND, now=False)

    def _call(self) -> None:
        started = self._reactor.seconds()
        self._connection.call(Echo(7)).addCallback(
            lambda _: self.times.append(self._reactor.seconds() - started)
        )

    def stop(self) -> dict[str, float]:
        self._loop.stop()
        self.times.sort()
        count = len(self.times)
        return {
            "calls": count,
            "p50_ms": self.times[count // 2] * 1000,
            "p99_ms": self.times[count * 99 // 100] * 1000,
            "max_ms": self.times[-1] * 1000,
        }


async def client(reactor: Any, port: str, pki: str, byte_count: int) -> None:
    async with connect(f"rpcstream+tls://127.0.0.1:{port}/", pki=pki, reactor=reactor) as connection:
        print("ready", flush=True)  # noqa: T201
        await task.deferLater(reactor, IDLE_SECONDS)
        caller = Caller(reactor, connection)
        consumer = PausingConsumer(reactor, byte_count)
        stream: IncomingStream[None] = await connection.open(Pour(byte_count))
        await stream.deliver_to(consumer)
        down = caller.stop()
        caller = Caller(reactor, connection)
        async with connection.open(Drain()) as upload:
            await pour(upload, byte_count)
        print(json.dumps({"received": consumer.count, "down": down, "up": caller.stop()}))  # noqa: T201


def main() -> None:
    role, port, pki = sys.argv[1:4]
    if role == "server":
        from twisted.internet import reactor

        service = serve(
            f"rpctls:{port}:interface=127.0.0.1", Responders(reactor), policy=any_authenticated, pki=pki
        )
        service.startService()
        reactor.run()  # type: ignore[attr-defined]
    else:
        task.react(lambda reactor: Deferred.fromCoroutine(client(reactor, port, pki, int(sys.argv[4]))))


if __name__ == "__main__":
    main()
