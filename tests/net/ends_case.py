"""A server that does with its streams what a test says."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from rpcstream.limits import Limits
from rpcstream.net.calls import Call, DownloadCall, DuplexCall, UploadCall
from rpcstream.programs.base import Download, Duplex, Procedure, Program, Upload
from rpcstream.testing import ConnectedPair

ENDS = Program("ends", number=0x2F11E503, version=1)


class Down(Download[None], program=ENDS, number=1, permission="ends"):
    pass


class Up(Upload[None], program=ENDS, number=2, permission="ends"):
    pass


class Both(Duplex[None], program=ENDS, number=3, permission="ends"):
    pass


class Plain(Procedure[None], program=ENDS, number=4, permission="ends"):
    pass


class Server:
    """Does what a test says."""

    def __init__(self, work: Callable[[Any], Awaitable[None] | None]) -> None:
        self.work = work
        self.error: BaseException | None = None

    async def _answer(self, call: Any) -> None:
        try:
            doing = self.work(call)
            if doing is not None:
                await doing
        except BaseException as error:
            self.error = error
            raise

    @Down.responder
    async def down(self, call: DownloadCall[None], request: Down) -> None:
        await self._answer(call)

    @Up.responder
    async def up(self, call: UploadCall[None], request: Up) -> None:
        await self._answer(call)

    @Both.responder
    async def both(self, call: DuplexCall[None], request: Both) -> None:
        await self._answer(call)

    @Plain.responder
    def plain(self, call: Call, request: Plain) -> None:
        self.work(call)


class EndsTestCase(SynchronousTestCase):
    limits = Limits()

    def serve(self, work: Callable[[Any], Awaitable[None] | None]) -> None:
        self.server = Server(work)
        self.pair = ConnectedPair(self.server, limits=self.limits)

    def open(self, request: Any, **options: Any) -> Any:
        return self.pair.result_of(self.pair.client.open(request, **options))

    def run_async(self, doing: Awaitable[Any]) -> Any:
        async def run() -> Any:
            return await doing

        return self.pair.result_of(Deferred.fromCoroutine(run()))

    def tearDown(self) -> None:
        """No stream is left at either end."""
        self.pair.pump()
        if self.pair.client.link.is_connected:
            for end in (self.pair.client, self.pair.server):
                self.assertEqual(end.link.core.stream_count, 0)
        self.assertEqual(self.pair.serving.stream_count, 0)
        self.assertEqual(self.pair.server._running.running_count, 0)

    def pass_hours(self, hours: float) -> None:
        for _ in range(int(hours * 360)):
            self.pair.clock.advance(10)
            self.pair.pump()
