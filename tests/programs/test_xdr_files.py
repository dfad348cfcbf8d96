"""What C{.x} files declare, and what that is on the wire."""

from __future__ import annotations

import tempfile
from enum import IntEnum
from pathlib import Path
from typing import Any
from unittest import TestCase

from hypothesis import given
from hypothesis import strategies as st

from rpcstream.errors import BadValue, DecodeError
from rpcstream.programs import transfer
from rpcstream.programs.base import Download, Duplex, Event, Kind, Procedure, Upload
from rpcstream.programs.xdrfile import compile_text, describe, interface_of, layout_text, load
from rpcstream.wire import Struct, codec_of
from tests.programs.xdr_support import FILES, QUICK, interface, values

UUID = bytes(range(16))
UUID_HEX = UUID.hex()


def encoded(value: Any) -> str:
    """The arguments of a request in words."""
    return value.__procedure__.arguments.encode(value).hex(" ", -4)


class GoldenTests(TestCase):
    maxDiff = None

    def test_layouts(self) -> None:
        """Each file's layouts are what was once read over, line by line."""
        for name in ("things_protocol", "shelf_protocol", "camel_protocol", "weather"):
            found = interface(name)
            text = describe(found.programs, () if found.programs else found.types.values())
            self.assertEqual(text, (FILES / f"{name}.txt").read_text(), name)

    def test_programs_in_python(self) -> None:
        """Programs declared in Python are described in the same words."""
        text = describe([transfer.TRANSFER])
        self.assertIn(
            "program transfer 0x78666572 version 1\n  1 Incoming: upload\n    name: string<255>\n", text
        )
        self.assertIn("\nenum Lane\n  SHARED = 0\n", text)


class LibvirtStyleTests(TestCase):
    """Procedures from an enum and structs by their names."""

    def setUp(self) -> None:
        self.shelf = interface("shelf_protocol")

    def test_kinds(self) -> None:
        """Annotations and structs make the kinds; so do the bases."""
        bases = {
            "Open": Procedure,
            "Upload": Upload,
            "Download": Download,
            "Talk": Duplex,
            "EventMoved": Event,
        }
        for name, base in bases.items():
            request = self.shelf.find(name)
            self.assertTrue(issubclass(request, base), name)
        kinds = [each.request.__procedure__.kind for each in self.shelf.procedures]
        self.assertEqual(
            kinds, [Kind.CALL] * 5 + [Kind.UPLOAD, Kind.DOWNLOAD, Kind.DUPLEX, Kind.EVENT, Kind.CALL]
        )

    def test_program(self) -> None:
        """Number, version and permissions; nobody else's program is taken for libvirt's."""
        (program,) = self.shelf.programs
        self.assertEqual((program.name, program.number, program.version), ("shelf", 0x2F5E11F0, 1))
        self.assertFalse(program.lenient)
        self.assertEqual(self.shelf.find("GetInfo").__procedure__.permission, "shelf.get_info")
        self.assertEqual(sorted(program.procedures), list(range(1, 11)))

    def test_annotations(self) -> None:
        """They are those of the comment right before a procedure, no others."""
        procedures = {each.c_name.removeprefix("SHELF_PROC_"): each for each in self.shelf.procedures}
        self.assertEqual(procedures["OPEN"].annotations, {"generate": ("none",), "acl": ("shelf:getattr",)})
        self.assertEqual(procedures["GET_INFO"].annotations["acl"], ("shelf:read", "shelf:write"))
        self.assertEqual(procedures["SET_PARAMS"].annotations, {})
        self.assertEqual(procedures["UPLOAD"].sparse_flag, "VIR_STORAGE_VOL_UPLOAD_SPARSE_STREAM")
        self.assertIsNone(procedures["DOWNLOAD"].sparse_flag)

    def test_find(self) -> None:
        """By number, by C's name with and without its prefix, by the class, in any spelling."""
        wanted = self.shelf.procedures[1].request
        for key in (2, "2", "SHELF_PROC_GET_INFO", "GET_INFO", "GetInfo", "get-info", "getinfo", "get_info"):
            self.assertIs(self.shelf.find(key), wanted, key)
        self.assertEqual(self.shelf.procedure(10).c_name, "SHELF_PROC_CLOSE_2")
        self.assertIn("10 procedures", repr(self.shelf))

    def test_not_found(self) -> None:
        """The error says what may have been meant."""
        for key, text in (
            ("GetInof", "has no procedure 'GetInof'; is it GetInfo?"),
            (99, "has no procedure 99"),
            ("²", "has no procedure"),
            ("", "has no procedure"),
        ):
            with self.assertRaises(BadValue) as caught:
                self.shelf.find(key)
            self.assertIn(text, str(caught.exception))
            self.assertEqual(caught.exception.field, "procedure")

    def test_types(self) -> None:
        """Structs, enums and constants by their names, also of the file that is included."""
        thing = self.shelf.types["things_nonnull_thing"]
        self.assertTrue(issubclass(thing, Struct))
        self.assertEqual(thing.__name__, "ThingsNonnullThing")
        state = self.shelf.types["shelf_state"]
        self.assertTrue(issubclass(state, IntEnum))
        self.assertEqual(state.SHELF_STATE_FULL, 8)
        self.assertEqual(self.shelf.constants["THINGS_STRING_MAX"], 64)
        self.assertEqual(self.shelf.constants["SHELF_STATE_BROKEN"], 9)

    def test_wire(self) -> None:
        """Bytes by hand: chars and shorts in words, optionals set and unset, typed parameters."""
        thing = self.shelf.types["things_nonnull_thing"]("ab", UUID, -1)
        thing_hex = (
            f"00000002 61620000 {UUID_HEX[:8]} {UUID_HEX[8:16]} {UUID_HEX[16:24]} {UUID_HEX[24:]} ffffffff"
        )
        self.assertEqual(encoded(self.shelf.find("Open")(None, 3)), "00000000 00000003")
        self.assertEqual(encoded(self.shelf.find("Open")("x", 3)), "00000001 00000001 78000000 00000003")
        self.assertEqual(encoded(self.shelf.find("GetInfo")(thing)), thing_hex)
        parameter = self.shelf.types["things_param"]
        request = self.shelf.find("SetParams")(
            None, (parameter("n", (4, 1 << 63)), parameter("s", (7, "t"))), b"\1\2\3", (7,), (None, "w")
        )
        self.assertEqual(
            encoded(request),
            "00000000 00000002 00000001 6e000000 00000004 80000000 00000000"
            " 00000001 73000000 00000007 00000001 74000000 00000003 01020300"
            " 00000001 00000000 00000007 00000002 00000000 00000001 00000001 77000000",
        )
        result = self.shelf.find("GetInfo").__procedure__.result
        state = self.shelf.types["shelf_state"]
        data = bytes.fromhex(
            "00000002"
            + "00000069 00000036" + 6 * "00000000"
            + "00000001 ffffffff 0000fffe fffffffe ffffffff"
            + "ffffffff ffffffff 00000000 00000005 3ff80000 00000000 00000001"
        )  # fmt: skip
        value = result.decode(data)
        self.assertEqual(
            value[:], (2, b"i6" + bytes(6), b"\xff", 65534, -2, -1, -1, 5, 1.5, state.SHELF_STATE_USED)
        )
        self.assertEqual(result.encode(value), data)

    def test_names(self) -> None:
        """Keywords and reserved names have an underscore behind them."""
        self.assertEqual(
            self.shelf.find("Move").__fields__, ("from_", "class_", "responder_", "place_", "place__")
        )

    def test_camel_case(self) -> None:
        """Structs in the other spelling are found, and so are versions called otherwise."""
        desk = interface("camel_protocol")
        self.assertEqual(desk.programs[0].version, 2)
        self.assertEqual(desk.find("OPEN_LOCK").__fields__, ("flags",))
        self.assertEqual(desk.find("OpenLock").__procedure__.result.encode(
            desk.types["virDeskProtocolOpenLockRet"](3)), b"\0\0\0\3")  # fmt: skip
        self.assertIs(desk.find("Lost").__procedure__.kind, Kind.EVENT)
        self.assertEqual(desk.find(3).__name__, "Close")


class StandardTests(TestCase):
    """RFC 4506 and RFC 5531."""

    def setUp(self) -> None:
        self.weather = interface("weather")
        self.first, self.second = self.weather.programs

    def test_versions(self) -> None:
        """Each version is a program of its own, and a name that both have must be told apart."""
        self.assertEqual([each.version for each in self.weather.programs], [1, 2])
        with self.assertRaisesRegex(BadValue, "can be WEATHER_READ of .* version 1.*version 2"):
            self.weather.find("WEATHER_READ")
        request = self.weather.find("WEATHER_READ", self.first)
        self.assertEqual(encoded(request("ab")), "00000002 61620000")
        self.assertIs(self.weather.find("WEATHER_FOLLOW").__procedure__.kind, Kind.DOWNLOAD)

    def test_no_arguments(self) -> None:
        """C{void} both ways takes no bytes."""
        request = self.weather.find("WEATHER_NULL")
        self.assertEqual(encoded(request()), "")
        self.assertIsNone(request.__procedure__.result.decode(b""))

    def test_several_arguments(self) -> None:
        """They follow each other; a struct among them is one of them."""
        kind, entry = self.weather.types["kind"], self.weather.types["entry"]
        request = self.weather.find("WEATHER_FOLLOW")(kind.RAIN, entry("i", None))
        self.assertEqual(encoded(request), "fffffffb 00000001 69000000 00000000")

    def test_reading(self) -> None:
        """One of each, by hand."""
        reading = self.weather.types["reading"]
        kind = self.weather.types["kind"]
        wind, when = (codec_of(reading).construct.subcons[index].subcon.type for index in (10, 11))
        value = reading(
            0.5, -2.0, True, kind.SNOW, UUID, b"abc", b"", "ä", (1, -1), (9,), wind.STORM, when(1, 2), (3, 4)
        )
        data = (
            "3f000000 c0000000 00000000 00000001 00000007 "
            f"{UUID_HEX} 61626300 00000000 00000002 c3a40000 00000001 ffffffff 00000001 00000009"
            " 00000004 00000001 00000002 00000002 00000003 00000004"
        )
        self.assertEqual(codec_of(reading).encode(value), bytes.fromhex(data))
        self.assertEqual(codec_of(reading).decode(bytes.fromhex(data)), value)

    def test_strict(self) -> None:
        """Flags are 0 or 1, members of enums are known."""
        result = self.weather.find("WEATHER_READ", self.second).__procedure__.result
        self.assertRaises(DecodeError, result.decode, b"\0\0\0\2")
        self.assertEqual(result.decode(bytes(4)), (0, None))
        codec = self.weather.find("WEATHER_FOLLOW").__procedure__.arguments
        self.assertRaisesRegex(DecodeError, "argument1: 2 is not", codec.decode, b"\0\0\0\2" + bytes(8))

    def test_default_arm(self) -> None:
        """Of an enum: for the other members; of a number: for all others."""
        answer = self.weather.find("WEATHER_ASK").__procedure__.result
        self.assertEqual(answer.encode((7, "t")).hex(), "000000070000000174000000")
        self.assertEqual(answer.decode(bytes.fromhex("fffffffb00000005")), (-5, 5))
        self.assertRaises(BadValue, answer.encode, (2, "t"))
        ask = self.weather.find("WEATHER_ASK")
        self.assertEqual(encoded(ask((5, None))), "00000005")
        self.assertEqual(encoded(ask((2, -1))), "00000002 ffffffff ffffffff")
        deeper = ask((-3, (0xFFFFFFFF, (9, None))))
        self.assertEqual(encoded(deeper), "fffffffd ffffffff 00000001 00000009")
        self.assertEqual(ask.__procedure__.arguments.decode(bytes.fromhex(encoded(deeper))), deeper)
        for wrong in ((-3, (5, None)), (1 << 31, None), "text", (5,), ("5", None), (-3, (-1, None))):
            self.assertRaises(BadValue, ask.__procedure__.arguments.encode, ask(wrong))
        self.assertRaisesRegex(
            DecodeError, "argument.deeper: no arm for discriminant 5",
            ask.__procedure__.arguments.decode, bytes.fromhex("fffffffd00000005"),
        )  # fmt: skip

    def test_lists(self) -> None:
        """A type within itself, in four ways; depth is limited like everywhere."""
        entry, node, tree = (self.weather.types[name] for name in ("entry", "node", "tree"))
        wrapped = self.weather.types["maybe_nodes"].__args__[0]
        walk = self.weather.find("WEATHER_WALK")
        request = walk(entry("a", entry("b", None)), node(1, node(2, None)), wrapped(None))
        self.assertEqual(
            encoded(request),
            "00000001 00000001 61000000 00000001 00000001 62000000 00000000"
            " 00000001 00000001 00000001 00000002 00000000 00000001 00000000",
        )
        self.assertEqual(walk.__procedure__.arguments.decode(bytes.fromhex(encoded(request))), request)
        codec = codec_of(tree)
        forest = tree(1, (tree(2, ()), tree(3, (tree(4, ()),))))
        self.assertEqual(codec.decode(codec.encode(forest)), forest)
        deep = None
        for index in range(40):
            deep = entry(str(index), deep)
        self.assertRaisesRegex(BadValue, "nested", codec_of(entry).encode, deep)
        self.assertRaises(DecodeError, codec_of(entry).decode, (bytes(7) + b"\1") * 40 + bytes(8))

    def test_values(self) -> None:
        """Any legal value of any procedure comes back; the interpreted Construct agrees."""
        for name in ("shelf_protocol", "camel_protocol", "weather"):
            for procedure in interface(name).procedures:
                info = procedure.request.__procedure__
                for codec in (info.arguments, info.result):
                    self.round_trips(codec)

    def round_trips(self, codec: Any) -> None:
        @QUICK
        @given(values(codec.construct))
        def check(value: Any) -> None:
            data = codec.encode(value)
            self.assertEqual(codec.decode(data), value)
            self.assertEqual(codec.construct.build(value), data)
            self.assertLessEqual(len(data), codec.max_bytes)
            if data:
                self.assertRaises(DecodeError, codec.decode, data[:-1])

        check()

    @QUICK
    @given(st.binary(max_size=64))
    def test_any_bytes(self, data: bytes) -> None:
        """Whatever comes is a value or a DecodeError, also with types within themselves."""
        for key in ("WEATHER_WALK", "WEATHER_ASK", "WEATHER_COUNT"):
            codec = self.weather.find(key).__procedure__.arguments
            try:
                value = codec.decode(data)
            except DecodeError:
                continue
            self.assertEqual(codec.encode(value), data)


class LenientTests(TestCase):
    """libvirt's programs are known by their numbers."""

    TEXT = """
        enum colour { RED = 1, BLUE };
        struct remote_paint_args { colour c; string name<9>; bool wet; remote_x *more; };
        struct remote_paint_ret { remote_u u; };
        union remote_u switch (colour c) { case RED: int i; default: void; };
        typedef int remote_x;
        const REMOTE_PROGRAM = 0x20008086; const REMOTE_PROTOCOL_VERSION = 1;
        enum remote_procedure { REMOTE_PROC_PAINT = 1, REMOTE_PROC_DOMAIN_OPEN_CONSOLE = 201,
            REMOTE_PROC_DOMAIN_MIGRATE_PREPARE_TUNNEL3_PARAMS = 304 };
    """

    def test_lenient(self) -> None:
        """Unknown members, flags other than 0 and 1, and names that are not UTF-8 are taken."""
        remote = compile_text(self.TEXT)
        self.assertTrue(remote.programs[0].lenient)
        info = remote.find("Paint").__procedure__
        data = bytes.fromhex("00000063 00000001 ff000000 00000002 01000000 00000005")
        self.assertEqual(info.arguments.decode(data)[:], (99, "\udcff", True, 5))
        self.assertEqual(info.result.decode(bytes.fromhex("00000063"))[:], ((99, None),))
        self.assertEqual(remote.types["colour"].BLUE, 2)
        self.assertIn("version 1, lenient\n", describe(remote.programs))

    def test_facts(self) -> None:
        """What no annotation says is known."""
        remote = compile_text(self.TEXT)
        self.assertIs(remote.find(304).__procedure__.kind, Kind.UPLOAD)
        self.assertIs(remote.find(201).__procedure__.kind, Kind.DUPLEX)

    def test_choice(self) -> None:
        """It can be said for any file."""
        self.assertFalse(compile_text(self.TEXT, lenient=False).programs[0].lenient)
        self.assertRaises(
            DecodeError,
            compile_text(self.TEXT, lenient=False).find(1).__procedure__.arguments.decode,
            bytes.fromhex("00000063 00000000 00000001 00000000"),
        )
        self.assertTrue(compile_text("const A_PROGRAM = 5; const A_VERSION = 1; enum a { A_PROC_B = 1 };",
                                     lenient=True).programs[0].lenient)  # fmt: skip


class FileTests(TestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.folder = Path(folder.name)

    def write(self, name: str, text: str) -> Path:
        path = self.folder / name
        path.write_text(text)
        return path

    def test_includes(self) -> None:
        """Files beside it by their headers, in rings too, and files that are named."""
        ring = '%#include "b.h"\n%#include "a.h"\n%#include <c.h>\nstruct a { b x; };'
        main = self.write("a.x", ring)
        self.write("b.x", '%#include "a.h"\ntypedef a *as; struct b { int y; };')
        self.write("c.x", "typedef $")
        found = load(main, [main])
        self.assertEqual(set(found.types), {"a", "as", "b"})
        other = self.write("other.x", "struct d { e f; };")
        self.write("more", "typedef int e;")
        self.assertEqual(set(load(other, [self.folder / "more"]).types), {"d", "e"})

    def test_own_names_first(self) -> None:
        """Two files may use one name for two things."""
        main = self.write("main.x", '%#include "types.h"\nconst N = 1; struct s { opaque x[N]; t y; };')
        self.write("types.x", "const N = 2; typedef opaque t[N]; typedef int s;")
        text = describe([], load(main).types.values())
        self.assertEqual(text, "struct S\n  x: opaque[1]\n  y: opaque[2]\n")

    def test_line_ends(self) -> None:
        """Files of other systems, with a mark in front and bytes that are no text in comments."""
        path = self.folder / "dos.x"
        path.write_bytes(b'\xef\xbb\xbf/* \xff */\r\n%#include "x.h"\r\nconst A = 1;\r\n')
        self.assertEqual(load(path).constants, {"A": 1})

    def test_missing(self) -> None:
        """A file that is not there is an OSError with its name."""
        with self.assertRaises(FileNotFoundError):
            load(self.folder / "none.x")


class PythonProgramTests(TestCase):
    def test_interface_of(self) -> None:
        """Programs declared in Python are found in the same way."""
        found = interface_of("rpcstream", transfer.TRANSFER)
        self.assertIs(found.find("list-names"), transfer.ListNames)
        self.assertIs(found.find(5), transfer.Stat)

    def test_layout_text(self) -> None:
        """A type alone, also one that is not ours."""
        self.assertEqual(layout_text(codec_of(transfer.Stat).construct.subcons[0]), "string<255>")
        import construct

        self.assertEqual(layout_text(construct.Int64ub), "(FormatField)")
