"""
What a user of rpcstream writes, as mypy --strict sees it; never run.

A line that ends with C{# error: CODE} is a planted mistake, which mypy must
report with that code; every other line must be clean.
"""

from __future__ import annotations

from pathlib import Path
from typing import Annotated, assert_type

from twisted.internet.defer import Deferred

from rpcstream import (
    Call,
    ClientConnection,
    Codec,
    Download,
    DownloadCall,
    Duplex,
    DuplexCall,
    Event,
    IncomingStream,
    Int,
    Max,
    OutgoingStream,
    Procedure,
    Program,
    RemoteError,
    RPCService,
    Struct,
    Switch,
    UHyper,
    Upload,
    UploadCall,
    allow,
    codec_of,
    connect,
    serve,
)

FILES = Program("files", number=0x2F11E500, version=1)
Name = Annotated[str, Max(255)]


class Point(Struct):
    x: Int
    index: Int | None = None


class Size(Procedure[UHyper], program=FILES, number=1, permission="files.read", idempotent=True):
    name: Name


class Fetch(Download[UHyper], program=FILES, number=2, permission="files.read"):
    name: Name
    offset: UHyper = 0


class Store(Upload[None], program=FILES, number=3, permission="files.write", resource="name"):
    name: Name
    byte_count: UHyper


class Stored(Event, program=FILES, number=4, permission="files.read"):
    name: Name


class Locate(Procedure[Point], program=FILES, number=5, permission="files.read"):
    where: Annotated[Point | Name, Switch({1: Point, 2: Name})]
    points: Annotated[tuple[Point, ...], Max(3)] = ()


class Talk(Duplex[Point], program=FILES, number=6, permission="files.read"):
    pass


class NoSuchFile(RemoteError, program=FILES, code=1001):
    pass


class WithoutNumber(Procedure[None], program=FILES, permission="files.read"):  # error: call-arg
    pass


class WithoutPermission(Procedure[None], program=FILES, number=8):  # error: call-arg
    pass


class Misspelt(Procedure[None], program=FILES, number=9, permission="p", idempotnt=True):  # error: call-arg
    pass


class FileServer:
    @Size.responder
    def size(self, call: Call, request: Size) -> int:
        assert_type(request.name, str)
        if call.principal.name != "alice":
            raise NoSuchFile("no such file")
        return len(request.name)

    @Size.responder
    async def size_later(self, call: Call, request: Size) -> int:
        return 1

    @Size.responder
    def size_deferred(self, call: Call, request: Size) -> Deferred[int]:
        raise NotImplementedError

    @Fetch.responder
    async def fetch(self, call: DownloadCall[int], request: Fetch) -> None:
        stream = call.accept(request.offset)
        await stream.send_from(Path(request.name))

    @Store.responder
    async def store(self, call: UploadCall[None], request: Store) -> None:
        await call.accept(None).save_to(Path(request.name))

    @Talk.responder
    async def talk(self, call: DuplexCall[Point], request: Talk) -> None:
        call.accept(Point(1))

    @Stored.responder
    def stored(self, call: Call, event: Stored) -> None:
        assert_type(event.name, str)

    @Size.responder  # error: arg-type
    def wrong_result(self, call: Call, request: Size) -> str:
        return ""

    @Size.responder  # error: arg-type
    def wrong_request(self, call: Call, request: Store) -> int:
        return 1

    @Fetch.responder  # error: arg-type
    async def wrong_call(self, call: UploadCall[None], request: Fetch) -> None:
        pass

    @Fetch.responder
    async def wrong_reply(self, call: DownloadCall[int], request: Fetch) -> None:
        call.accept("many")  # error: arg-type


def service() -> RPCService:
    serve("unix:socket", FileServer())  # error: call-arg
    return serve("unix:socket", FileServer(), policy=allow(alice={"files.read"}))


async def client() -> None:
    async with connect("rpcstream+unix:///?socket=socket") as connection:
        assert_type(connection, ClientConnection)
        assert_type(await connection.call(Size("x")), int)
        assert_type(await connection.call(Locate(Point(1))), Point)
        # A result may be given to what takes anything.
        print(await connection.call(Size("x")))  # noqa: T201
        async with connection.open(Fetch("x", offset=3)) as incoming:
            assert_type(incoming, IncomingStream[int])
            assert_type(incoming.reply, int)
            assert_type([piece async for piece in incoming], list[bytes])
        async with connection.open(Store("x", 3)) as outgoing:
            assert_type(outgoing, OutgoingStream[None])
            await outgoing.send(b"abc")
        async with connection.open(Talk()) as duplex:
            assert_type(duplex.reply, Point)
        await connection.call(Store("x", 3))  # error: arg-type
        connection.open(Size("x"))  # error: call-overload
        await outgoing.send("text")  # error: arg-type
        wanted: str = await connection.call(Size("x"))  # error: arg-type
        print(wanted)  # noqa: T201


def values(point: Point) -> None:
    assert_type(codec_of(Point), Codec[Point])
    assert_type(codec_of(Point).decode(b""), Point)
    match point:
        case Point(x, index):
            assert_type(x, int)
            assert_type(index, int | None)
    Size(3)  # error: arg-type
    Size(nam="x")  # error: call-arg
    Store("x")  # error: call-arg
    Size("x").name = "y"  # error: misc
    point.index + 1  # error: operator
    Point(point.y)  # error: attr-defined
