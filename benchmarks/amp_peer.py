"""
Twisted's AMP: C{python -m benchmarks.amp_peer serve | send PORT COUNT IN_FLIGHT}, and as a contestant.
"""

from __future__ import annotations

import json
import sys
from typing import Any

from twisted.internet import endpoints, protocol, task
from twisted.internet.defer import Deferred
from twisted.protocols import amp

from benchmarks.our_end import IN_FLIGHT
from benchmarks.work import Contestant, Sample
from rpcstream.bench.waiting import together

__all__ = ["AMP"]


class Sum(amp.Command):
    arguments = [(b"a", amp.Integer()), (b"b", amp.Integer())]
    response = [(b"total", amp.Integer())]


class Server(amp.AMP):
    @Sum.responder
    def sum(self, a: int, b: int) -> dict[str, int]:
        return {"total": a + b}


async def serve(reactor: Any) -> None:
    """Until the process is ended."""
    endpoint = endpoints.TCP4ServerEndpoint(reactor, 0, interface="127.0.0.1")
    listening = await endpoint.listen(protocol.Factory.forProtocol(Server))
    print(json.dumps({"port": listening.getHost().port}), flush=True)
    await Deferred()


async def send(reactor: Any, port: str, count: str, in_flight: str) -> None:
    """Call, and print how long it took."""
    endpoint = endpoints.TCP4ClientEndpoint(reactor, "127.0.0.1", int(port))
    connection = await endpoints.connectProtocol(endpoint, amp.AMP())
    await connection.callRemote(Sum, a=1, b=2)
    numbers = iter(range(int(count)))

    async def some() -> None:
        for number in numbers:
            if (await connection.callRemote(Sum, a=number, b=1))["total"] != number + 1:
                raise ValueError("a wrong sum")

    started = reactor.seconds()
    await together(some() for _ in range(int(in_flight)))
    print(json.dumps({"amount": int(count), "seconds": reactor.seconds() - started}))
    connection.transport.abortConnection()


class TwistedAMP(Contestant):
    name = "Twisted AMP"
    groups = ("calls-one", "calls-many")

    def prepare(self) -> None:
        self.port = self.place.serve_python(self.stack, "benchmarks.amp_peer", "serve")["port"]

    def run(self) -> Sample:
        in_flight = str(1 if self.group == "calls-one" else IN_FLIGHT)
        words = ("send", str(self.port), str(self.place.call_count), in_flight)
        wall, told = self.place.timed_python("benchmarks.amp_peer", *words)
        return Sample(told["amount"], told["seconds"], wall)


AMP: tuple[type[Contestant], ...] = (TwistedAMP,)

if __name__ == "__main__":
    role: Any = {"serve": serve, "send": send}[sys.argv[1]]
    task.react(lambda reactor, *words: Deferred.fromCoroutine(role(reactor, *words)), sys.argv[2:])
