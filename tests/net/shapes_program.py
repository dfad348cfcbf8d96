"""A program whose arguments have every shape, for rows X; its responder answers with what it got."""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated, Any

from twisted.internet.interfaces import IConsumer
from zope.interface import implementer

from rpcstream.net.calls import Call, UploadCall
from rpcstream.programs.base import Procedure, Program, Upload
from rpcstream.wire import Double, Hyper, Max, Struct, Switch, UInt

SHAPES = Program("shapes", number=0x2F11E501, version=1)


class Colour(IntEnum):
    RED = 1
    GREEN = 2


class Small(Struct):
    number: UInt


class Names(Struct):
    names: Annotated[tuple[Annotated[str, Max(16)], ...], Max(4)]


class Text(Procedure[Names], program=SHAPES, number=1, permission="shapes"):
    text: Annotated[str, Max(16)]


class Flag(Procedure[Names], program=SHAPES, number=2, permission="shapes"):
    flag: bool


class Maybe(Procedure[Names], program=SHAPES, number=3, permission="shapes"):
    number: UInt | None


class Items(Procedure[Names], program=SHAPES, number=4, permission="shapes"):
    items: Annotated[tuple[Hyper, ...], Max(4)]


class Many(Procedure[Names], program=SHAPES, number=5, permission="shapes"):
    rows: Annotated[tuple[Annotated[tuple[UInt, ...], Max(1 << 20)], ...], Max(64)]


class Either(Procedure[Names], program=SHAPES, number=6, permission="shapes"):
    choice: Annotated[Small | str, Switch({1: Small, 2: Annotated[str, Max(16)]})]


class Paint(Procedure[Names], program=SHAPES, number=7, permission="shapes"):
    colour: Colour


class Numbers(Struct):
    real: Double
    low: Hyper
    blob: Annotated[bytes, Max(8)]


class Mirror(Procedure[Numbers], program=SHAPES, number=8, permission="shapes"):
    real: Double
    low: Hyper
    blob: Annotated[bytes, Max(8)]


class List(Procedure[Names], program=SHAPES, number=9, permission="shapes"):
    count: UInt


class Nothing(Procedure[None], program=SHAPES, number=10, permission="shapes"):
    pass


class Hold(Upload[None], program=SHAPES, number=11, permission="shapes"):
    pass


@implementer(IConsumer)
class Holder:
    """A consumer that takes nothing until it is told to."""

    def __init__(self) -> None:
        self.producer: Any = None
        self.taken: list[bytes] = []

    def registerProducer(self, producer: Any, streaming: bool) -> None:
        self.producer = producer
        producer.pauseProducing()

    def unregisterProducer(self) -> None:
        self.producer = None

    def write(self, data: bytes) -> None:
        self.taken.append(data)


class ShapesServer:
    """
    @ivar worked: how many calls reached a responder.
    @ivar held: what holds the data of uploads.
    """

    def __init__(self) -> None:
        self.worked = 0
        self.held: list[Holder] = []

    @Hold.responder
    async def hold(self, call: UploadCall[None], request: Hold) -> None:
        stream = call.accept(None, sparse=True)
        self.held.append(Holder())
        await stream.deliver_to(self.held[-1])

    def _answer(self) -> Names:
        self.worked += 1
        return Names(())

    @Text.responder
    def text(self, call: Call, request: Text) -> Names:
        self._answer()
        return Names((request.text,))

    @Flag.responder
    def flag(self, call: Call, request: Flag) -> Names:
        return self._answer()

    @Maybe.responder
    def maybe(self, call: Call, request: Maybe) -> Names:
        return self._answer()

    @Items.responder
    def items(self, call: Call, request: Items) -> Names:
        return self._answer()

    @Many.responder
    def many(self, call: Call, request: Many) -> Names:
        return self._answer()

    @Either.responder
    def either(self, call: Call, request: Either) -> Names:
        return self._answer()

    @Paint.responder
    def paint(self, call: Call, request: Paint) -> Names:
        return self._answer()

    @Mirror.responder
    def mirror(self, call: Call, request: Mirror) -> Numbers:
        self._answer()
        return Numbers(request.real, request.low, request.blob)

    @List.responder
    def list(self, call: Call, request: List) -> Names:
        self._answer()
        return Names(("x",) * request.count)

    @Nothing.responder
    def nothing(self, call: Call, request: Nothing) -> None:
        self._answer()
