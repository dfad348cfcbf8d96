"""Declaring procedures: what is entered, what is refused, what a responder is."""

from __future__ import annotations

import types
from typing import TYPE_CHECKING, Annotated, Any
from unittest import TestCase

from rpcstream.errors import BadSchema, BadValue, RemoteError
from rpcstream.programs.base import Download, Duplex, Event, Kind, Procedure, Program, Request, Upload
from rpcstream.wire import Int, Max, Struct, Text, UHyper, UInt, codec_of

if TYPE_CHECKING:
    from rpcstream.net.calls import Call, DownloadCall, DuplexCall, UploadCall

FILES = Program("files", number=0x2F11E500, version=1)
LIBVIRT_LIKE = Program("libvirt-like", number=0x2F11E501, version=1, lenient=True)

Name = Annotated[str, Max(255)]


class Size(
    Procedure[UHyper], program=FILES, number=1, permission="files.read", idempotent=True, resource="name"
):
    """Bytes in the file called name."""

    name: Name


class Fetch(Download[UHyper], program=FILES, number=2, permission="files.read"):
    name: Name
    offset: UHyper = 0


class Store(Upload[None], program=FILES, number=3, permission="files.write", exclusive=True):
    name: Name
    count: UHyper


class Stored(Event, program=FILES, number=4, permission="files.read"):
    name: Name


class Shell(Duplex["Terminal"], program=FILES, number=-5, permission="files.shell"):
    index: Int = 0


class Look(Procedure["Terminal | None"], program=LIBVIRT_LIKE, number=1, permission="look"):
    flag: bool
    name: Text | None


class Terminal(Struct):
    rows: UInt


class InfoTests(TestCase):
    def test_info(self) -> None:
        """A request class tells all about its procedure."""
        info = Size.__procedure__
        self.assertIs(info.program, FILES)
        self.assertIs(info.request, Size)
        self.assertEqual(
            (
                info.number,
                info.kind,
                info.permission,
                info.idempotent,
                info.resource,
                info.exclusive,
                info.name,
            ),
            (1, Kind.CALL, "files.read", True, "name", False, "Size"),
        )
        self.assertEqual(repr(info), "<call files.Size number 1>")
        self.assertEqual(repr(FILES), "<Program files 0x2f11e500 version 1>")
        self.assertTrue(Store.__procedure__.exclusive)

    def test_kinds(self) -> None:
        """The base is the kind."""
        for request, kind in (
            (Fetch, Kind.DOWNLOAD),
            (Store, Kind.UPLOAD),
            (Shell, Kind.DUPLEX),
            (Stored, Kind.EVENT),
        ):
            self.assertIs(request.__procedure__.kind, kind)
            self.assertTrue(issubclass(request, Request))

    def test_table(self) -> None:
        """The program knows its procedures by number."""
        self.assertEqual(FILES.procedures, {1: Size, 2: Fetch, 3: Store, 4: Stored, -5: Shell})

    def test_codecs(self) -> None:
        """Arguments and result, made once; a result may be declared later."""
        info = Fetch.__procedure__
        self.assertIs(info.arguments, info.arguments)
        self.assertIs(info.result, info.result)
        request = Fetch("disk")
        self.assertEqual(info.arguments.decode(info.arguments.encode(request)), request)
        self.assertEqual(info.result.encode(5), (5).to_bytes(8, "big"))
        self.assertEqual(Store.__procedure__.result.max_bytes, 0)
        self.assertEqual(Stored.__procedure__.result.max_bytes, 0)
        self.assertEqual(Shell.__procedure__.result.encode(Terminal(3)), b"\0\0\0\3")

    def test_lenient_program(self) -> None:
        """A lenient program takes any flag in arguments and results."""
        info = Look.__procedure__
        self.assertEqual(info.arguments.decode(b"\0\0\0\2\1\0\0\0\0\0\0\1\xff\0\0\0"), Look(True, "\udcff"))
        self.assertEqual(info.result.decode(b"\1\0\0\0\0\0\0\5"), Terminal(5))
        self.assertIsNot(codec_of(Look), info.arguments)

    def test_requests_are_values(self) -> None:
        """Positional and named construction, defaults, equality."""
        self.assertEqual(Fetch("x"), Fetch(name="x", offset=0))
        self.assertNotEqual(Size("x"), Stored("x"))
        self.assertEqual(Store("x", 3).count, 3)
        self.assertRaises(BadValue, Size.__procedure__.arguments.encode, Stored("x"))

    def test_new_class(self) -> None:
        """A compiler of layouts makes the same kind of object."""
        program = Program("compiled", number=77, version=1)
        keywords: dict[str, Any] = {"program": program, "number": 9, "permission": "compiled"}

        def fill(namespace: dict[str, Any]) -> None:
            namespace["__annotations__"] = {"a": Int, "class_": Text}
            namespace["__module__"] = __name__

        made: Any = types.new_class("Made", (Procedure[UHyper],), keywords, fill)
        self.assertIs(program.procedures[9], made)
        info = made.__procedure__
        self.assertEqual(info.arguments.decode(info.arguments.encode(made(5, "x"))), made(a=5, class_="x"))
        self.assertEqual(info.result.max_bytes, 8)


class RefusalTests(TestCase):
    """What is wrong is said when the class is made, and nothing is entered."""

    def setUp(self) -> None:
        self.program = Program("wrong", number=1, version=1)
        self.addCleanup(lambda: self.assertEqual(self.program.procedures, {}))

    def refused(self, text: str, base: Any = Procedure[None], **keywords: Any) -> None:
        def fill(namespace: dict[str, Any]) -> None:
            namespace["__annotations__"] = {"name": Name}

        merged = {"program": self.program, "number": 1, "permission": "p", **keywords}
        with self.assertRaises(BadSchema) as caught:
            types.new_class("Wrong", (base,), merged, fill)
        self.assertIn(text, str(caught.exception))

    def test_number(self) -> None:
        """Numbers are signed, 32 bits."""
        self.refused("not a signed 32-bit", number=1 << 31)
        self.refused("not a signed 32-bit", number=-(1 << 31) - 1)

    def test_permission(self) -> None:
        """An empty permission is none."""
        self.refused("a permission is needed", permission="")

    def test_resource(self) -> None:
        """The resource is a field."""
        self.refused("resource 'nme' is not", resource="nme")

    def test_kinds(self) -> None:
        """Keywords that make no sense for the kind."""
        self.refused("exclusive", exclusive=True)
        self.refused("exclusive", base=Event, exclusive=True)
        self.refused("idempotent", base=Event, idempotent=True)

    def test_no_result(self) -> None:
        """What comes back must be said, also when it is nothing."""
        for base in (Procedure, Upload, Download, Duplex):
            self.refused("say what comes back", base=base)

    def test_keywords_are_required(self) -> None:
        """A missing or misspelt keyword is a TypeError at import."""
        for base in (Procedure[None], Upload[None], Download[None], Duplex[None], Event):
            for keywords in (
                {"number": 1, "permission": "p"},
                {"program": self.program, "permission": "p"},
                {"program": self.program, "number": 1},
                {"program": self.program, "number": 1, "permission": "p", "idempotnt": True},
            ):
                self.assertRaises(TypeError, types.new_class, "Wrong", (base,), keywords)

    def test_reserved(self) -> None:
        """The decorator's name is not a field."""

        def fill(namespace: dict[str, Any]) -> None:
            namespace["__annotations__"] = {"responder": Int}

        keywords = {"program": self.program, "number": 1, "permission": "p"}
        self.assertRaisesRegex(
            BadSchema, "reserved", types.new_class, "Wrong", (Procedure[None],), keywords, fill
        )

    def test_subclass_of_a_procedure(self) -> None:
        """A procedure is not derived from another."""
        keywords = {"program": self.program, "number": 1, "permission": "p"}
        self.assertRaisesRegex(BadSchema, "has fields", types.new_class, "Wrong", (Size,), keywords)

    def test_error_codes(self) -> None:
        """A program's error codes begin at 1000 and are its own."""
        with self.assertRaisesRegex(BadSchema, "libvirt's"):

            class Low(RemoteError, program=self.program, code=999):
                pass

        class Fine(RemoteError, program=self.program, code=1000):
            pass

        with self.assertRaisesRegex(BadSchema, "already is Fine"):

            class Again(RemoteError, program=self.program, code=1000):
                pass

        self.assertEqual(self.program.errors, {1000: Fine})

    def test_program_numbers(self) -> None:
        """Unsigned, 32 bits."""
        for number, version in ((-1, 1), (1 << 32, 1), (1, -1), (1, 1 << 32)):
            self.assertRaises(BadSchema, Program, "wrong", number, version)


class DuplicateTests(TestCase):
    def test_duplicate_number(self) -> None:
        """A number is given once."""
        with self.assertRaisesRegex(BadSchema, "number 1 of files already is Size"):

            class Other(Procedure[None], program=FILES, number=1, permission="p"):
                pass

        self.assertIs(FILES.procedures[1], Size)

    def test_reload(self) -> None:
        """The same class declared again takes its own place."""
        program = Program("reloaded", number=5, version=1)
        classes = []
        for _ in range(2):

            class Same(Procedure[None], program=program, number=1, permission="p"):
                pass

            classes.append(Same)
        self.assertIs(program.procedures[1], classes[1])

    def test_bad_result(self) -> None:
        """A result without a layout is named when its codec is asked for."""
        program = Program("bad", number=5, version=1)

        class Bare(Procedure[int], program=program, number=1, permission="p"):
            pass

        class Lost(Procedure["NotThere"], program=program, number=2, permission="p"):  # type: ignore[name-defined]
            pass

        for request, text in ((Bare, "result of Bare: int has no layout"), (Lost, "result of Lost: ")):
            with self.assertRaises(BadSchema) as caught:
                _ = request.__procedure__.result
            self.assertIn(text, str(caught.exception))


class ResponderTests(TestCase):
    def test_marks(self) -> None:
        """The method is returned unchanged, and says what it responds to."""

        class Server:
            @Size.responder
            def size(self, call: Call, request: Size) -> int:
                return len(request.name)

            @Fetch.responder
            async def fetch(self, call: DownloadCall[int], request: Fetch) -> None:
                pass

            @Store.responder
            async def store(self, call: UploadCall[None], request: Store) -> None:
                pass

            @Shell.responder
            async def shell(self, call: DuplexCall[Terminal], request: Shell) -> None:
                pass

            @Stored.responder
            def stored(self, call: Call, event: Stored) -> None:
                pass

        marks = [
            getattr(Server, name).__responds_to__ for name in ("size", "fetch", "store", "shell", "stored")
        ]
        self.assertEqual(marks, [(Size,), (Fetch,), (Store,), (Shell,), (Stored,)])
        nobody: Any = None
        self.assertEqual(Server().size(nobody, Size("four")), 4)

    def test_several(self) -> None:
        """One method may respond to several."""

        def both(self: object, call: Any, request: Any) -> Any:
            return None

        self.assertIs(Stored.responder(Size.responder(both)), both)
        self.assertEqual(both.__responds_to__, (Size, Stored))  # type: ignore[attr-defined]
