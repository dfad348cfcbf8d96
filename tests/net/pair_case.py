"""A client and a server with one file, for tests of producers and consumers."""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IPushProducer
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from rpcstream.testing import ConnectedPair
from tests.net.files_program import Fetch, FileServer, Store

CONTENT = bytes(range(256)) * 20_000


class PairTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.files = FileServer()
        self.files.files["disk"] = CONTENT
        self.pair = ConnectedPair(self.files)

    def upload(self) -> Any:
        return self.pair.result_of(self.pair.client.open(Store("up", 1 << 30)))

    def download(self) -> Any:
        return self.pair.result_of(self.pair.client.open(Fetch("disk")))

    def finish(self, stream: Any) -> bytes:
        self.pair.result_of(stream.finish())
        return self.files.files["up"]


@implementer(IPushProducer)
class Pusher:
    """Writes while it is not paused."""

    def __init__(self, stream: Any, count: int) -> None:
        self.stream, self.count = stream, count
        self.paused = self.stopped = False
        self.pauses = 0

    def resumeProducing(self) -> None:
        self.paused = False
        while self.count and not self.paused and not self.stopped:
            self.count -= 1
            self.stream.write(bytes(50_000))
        if not self.count and not self.stopped:
            self.stopped = True
            self.stream.unregisterProducer()

    def pauseProducing(self) -> None:
        self.pauses += 1
        self.paused = True

    def stopProducing(self) -> None:
        self.stopped = True
