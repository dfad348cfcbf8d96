"""A small program of calls, streams and events, for the tests of the net layer."""

from __future__ import annotations

from typing import Annotated

from twisted.internet.defer import Deferred

from rpcstream.errors import RemoteError
from rpcstream.net.calls import Call, DownloadCall, DuplexCall, UploadCall
from rpcstream.programs.base import Download, Duplex, Event, Procedure, Program, Upload
from rpcstream.wire import Max, UHyper

FILES = Program("files", number=0x2F11E500, version=1)
Name = Annotated[str, Max(255)]


class NoSuchFile(RemoteError, program=FILES, code=1001):
    """There is no file of that name."""


class Size(Procedure[UHyper], program=FILES, number=1, permission="files.read", resource="name"):
    name: Name


class Fetch(Download[UHyper], program=FILES, number=2, permission="files.read"):
    name: Name
    offset: UHyper = 0


class Store(Upload[None], program=FILES, number=3, permission="files.write"):
    name: Name
    size: UHyper


class Stored(Event, program=FILES, number=4, permission="files.read"):
    name: Name


class Echo(Duplex[None], program=FILES, number=5, permission="files.read"):
    pass


class Sleep(Procedure[None], program=FILES, number=6, permission="files.read"):
    pass


class Noted(Event, program=FILES, number=7, permission="files.write"):
    name: Name


class FileServer:
    """Files in a dict."""

    def __init__(self) -> None:
        self.files: dict[str, bytes] = {}
        self.sleeping: list[Deferred[None]] = []
        self.cancelled = 0
        self.noted: list[str] = []
        self.ended_with: list[object] = []

    @Size.responder
    def size(self, call: Call, request: Size) -> int:
        if request.name == "bug":
            raise ZeroDivisionError("secret")
        if request.name not in self.files:
            raise NoSuchFile(f"no file {request.name}", str1=request.name)
        return len(self.files[request.name])

    @Fetch.responder
    async def fetch(self, call: DownloadCall[int], request: Fetch) -> None:
        if request.name not in self.files:
            raise NoSuchFile(f"no file {request.name}")
        content = self.files[request.name][request.offset :]
        stream = call.accept(len(content), total_bytes=len(content))
        await stream.send_from(content)

    @Store.responder
    async def store(self, call: UploadCall[None], request: Store) -> None:
        stream = call.accept(None)
        try:
            content = await stream.read(limit_bytes=request.size)
        except BaseException as error:
            self.ended_with.append(error)
            raise
        self.files[request.name] = content
        call.connection.serving.emit(Stored(request.name))

    @Echo.responder
    async def echo(self, call: DuplexCall[None], request: Echo) -> None:
        stream = call.accept(None)
        async for data in stream:
            await stream.send(data)
        stream.end()

    @Sleep.responder
    def sleep(self, call: Call, request: Sleep) -> Deferred[None]:
        def cancelled(_: object) -> None:
            self.cancelled += 1

        sleeping: Deferred[None] = Deferred(cancelled)
        self.sleeping.append(sleeping)
        return sleeping

    @Noted.responder
    def noted_event(self, call: Call, event: Noted) -> None:
        self.noted.append(event.name)
