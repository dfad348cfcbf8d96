"""Values as JSON and back: every layout, round trips, errors that name the field."""

from __future__ import annotations

import json
import math
from enum import IntEnum
from typing import Annotated, Any
from unittest import TestCase

import construct
from hypothesis import given

from rpcstream.errors import BadValue
from rpcstream.programs import jobs, transfer
from rpcstream.programs.xdrfile import (
    from_json,
    interface_of,
    read_json,
    request_from_json,
    request_to_json,
    result_to_json,
    to_json,
)
from rpcstream.wire import Codec, Double, Int, Max, Struct, Switch, Text, UInt, codec_of
from tests.programs.xdr_support import QUICK, interface, values

UUID_HEX = "6695eb01f6a4830479aa97f2502e193f"
UUID = bytes.fromhex(UUID_HEX)
THING = {"name": "n", "uuid": UUID_HEX, "id": 1}


class Colour(IntEnum):
    RED = 1
    BLUE = 2


class Inner(Struct):
    number: Int
    name: Text = "none"


class Outer(Struct):
    colour: Colour
    inner: Inner | None
    either: Annotated[Inner | float | None, Switch({1: Inner, 2: Double, 3: None})]
    many: Annotated[tuple[Inner, ...], Max(2)] = ()
    size: UInt = 7


OUTER = codec_of(Outer)


class RoundTripTests(TestCase):
    def test_values(self) -> None:
        """Any value of any declaration comes back from its JSON text."""
        programs = [interface(name).procedures for name in ("shelf_protocol", "camel_protocol", "weather")]
        programs.append(interface_of("ours", transfer.TRANSFER, jobs.JOBS).procedures)
        for procedure in (each for program in programs for each in program):
            info = procedure.request.__procedure__
            for codec in (info.arguments, info.result):
                self.round_trips(codec)

    def round_trips(self, codec: Codec[Any]) -> None:
        @QUICK
        @given(values(codec.construct))
        def check(value: Any) -> None:
            text = json.dumps(to_json(codec, value))
            self.assertTrue(text.isascii())
            self.assertEqual(codec.encode(from_json(codec, read_json(text))), codec.encode(value))

        check()

    def test_bytes_in_names(self) -> None:
        """A name that is not UTF-8 survives, through JSON text as well."""
        codec = codec_of(Inner)
        value = codec.decode(bytes.fromhex("00000001 00000004 fffefdfc"))
        text = json.dumps(to_json(codec, value))
        self.assertEqual(text, r'{"number": 1, "name": "\udcff\udcfe\udcfd\udcfc"}')
        self.assertEqual(from_json(codec, read_json(text)), value)

    def test_requests(self) -> None:
        """Requests, events and results of a procedure."""
        shelf = interface("shelf_protocol")
        request = request_from_json(shelf.find("Open"), {"name": None, "flags": 3})
        self.assertEqual(request, shelf.find("Open")(None, 3))
        self.assertEqual(request_to_json(request), {"name": None, "flags": 3})
        close = shelf.find("Close2")
        self.assertEqual(request_from_json(close, None), close())
        self.assertEqual(request_from_json(close, {}), close())
        moved = {"callbackID": 5, "thing": THING}
        self.assertEqual(request_to_json(request_from_json(shelf.find("EventMoved"), moved)), moved)
        download = shelf.find("Download")
        reply = shelf.types["shelf_download_ret"]("image/png")
        self.assertEqual(result_to_json(download, reply), {"mime": "image/png"})
        self.assertEqual(result_to_json(download.__procedure__, reply), {"mime": "image/png"})
        self.assertIsNone(result_to_json(close, None))

    def test_forms(self) -> None:
        """What each layout looks like."""
        value = Outer(Colour.BLUE, Inner(1), 1.5, (Inner(2, "x"),))
        data = {
            "colour": "BLUE",
            "inner": {"number": 1, "name": "none"},
            "either": {"type": 2, "value": 1.5},
            "many": [{"number": 2, "name": "x"}],
            "size": 7,
        }
        self.assertEqual(to_json(OUTER, value), data)
        self.assertEqual(from_json(OUTER, data), value)
        short = {"colour": 1, "either": {"type": 3}}
        self.assertEqual(from_json(OUTER, short), Outer(Colour.RED, None, None))
        record = {"colour": 1, "either": {"type": 1, "value": {"number": 4}}}
        self.assertEqual(from_json(OUTER, record).either, Inner(4))

    def test_unions_of_files(self) -> None:
        """A typed parameter; an arm by default."""
        shelf, weather = interface("shelf_protocol"), interface("weather")
        data = {"field": "f", "value": {"type": 4, "value": 1 << 63}}
        codec = codec_of(shelf.types["things_param"])
        self.assertEqual(from_json(codec, data).value, (4, 1 << 63))
        self.assertEqual(to_json(codec, from_json(codec, data)), data)
        ask = weather.find("WEATHER_ASK")
        request = request_from_json(ask, {"argument": {"type": 99}})
        self.assertEqual(request, ask((99, None)))
        self.assertEqual(request_to_json(request), {"argument": {"type": 99, "value": None}})

    def test_floats(self) -> None:
        """Numbers that JSON lacks are strings."""
        codec = codec_of(Double)
        for value, data in ((math.inf, "Infinity"), (-math.inf, "-Infinity"), (1.0, 1.0)):
            self.assertEqual(to_json(codec, value), data)
            self.assertEqual(from_json(codec, data), value)
        self.assertEqual(to_json(codec, math.nan), "NaN")
        self.assertTrue(math.isnan(from_json(codec, "NaN")))
        self.assertEqual(from_json(codec, 2), 2.0)

    def test_bytes(self) -> None:
        """Hexadecimal, base64, and a UUID as people write it."""
        codec = codec_of(interface("shelf_protocol").types["things_nonnull_thing"])
        for form in (UUID_HEX, UUID_HEX.upper(), "6695eb01-f6a4-8304-79aa-97f2502e193f",
                     {"base64": "ZpXrAfakgwR5qpfyUC4ZPw=="}):  # fmt: skip
            self.assertEqual(from_json(codec, {**THING, "uuid": form}).uuid, UUID)


class ErrorTests(TestCase):
    def check(self, codec: Codec[Any], data: Any, expected: str) -> None:
        with self.subTest(expected), self.assertRaises(BadValue) as caught:
            from_json(codec, data)
        self.assertTrue(str(caught.exception).startswith(expected), str(caught.exception))

    def test_records(self) -> None:
        """Missing, unknown and wrong fields, with the way to them."""
        inner = {"number": 1}
        either = {"type": 3}
        for data, expected in (
            (None, "null, but it takes an object"),
            ([], "a list, but it takes an object"),
            ({}, "colour: is missing"),
            ({"colour": 1}, "either: is missing"),
            ({"color": 1}, "color: unknown; the fields are colour, inner, either, many, size"),
            ({"colour": "red", "either": either}, "colour: takes one of RED, BLUE"),
            ({"colour": True, "either": either}, "colour: takes one of RED, BLUE"),
            ({"colour": 9, "either": either}, "colour: takes one of RED, BLUE"),
            ({"colour": 1, "inner": {}}, "inner.number: is missing"),
            ({"colour": 1, "inner": {"number": "1"}}, "inner.number: a string, but it takes an integer"),
            ({"colour": 1, "inner": {"number": 1.0}}, "inner.number: a number, but it takes an integer"),
            ({"colour": 1, "inner": {"number": True}}, "inner.number: a boolean, but it takes an integer"),
            ({"colour": 1, "inner": {"number": 1, "name": 1}}, "inner.name: a number, but it takes a string"),
            ({"colour": 1, "either": either, "many": inner}, "many: an object, but it takes a list"),
            ({"colour": 1, "either": either, "many": [inner, None]}, "many[1]: null, but it takes an object"),
            ({"colour": 1, "either": either, "many": [inner] * 3}, "many: 3 elements, at most 2"),
            ({"colour": 1, "either": either, "size": -1}, "size: -1 is not an unsigned 32-bit integer"),
            (
                {"colour": 1, "inner": {"number": 1 << 31}, "either": either},
                "inner.number: 2147483648 is not",
            ),
            (
                {"colour": 1, "inner": {"number": 1, "name": "\0"}, "either": either},
                "inner.name: NUL in a string",
            ),
            (
                {"colour": 1, "inner": {"number": 1, "name": "\ud800"}, "either": either},
                "inner.name: not valid text",
            ),
        ):
            self.check(OUTER, data, expected)

    def test_unions(self) -> None:
        """The discriminant, the value, and what does not belong there."""
        for either, expected in (
            (1.5, "either: a number, but it takes {"),
            ({}, "either.type: is missing"),
            ({"type": "1"}, "either.type: a string, but it takes an integer"),
            ({"type": 9}, "either.type: there is no arm 9; the arms are 1, 2, 3"),
            ({"type": 1, "valeu": 1}, "either.valeu: unknown"),
            ({"type": 1}, "either.value: null, but it takes an object"),
            ({"type": 2, "value": "x"}, "either.value: a string, but it takes a number"),
            ({"type": 2, "value": 10**400}, "either.value: too large a number"),
            ({"type": 3, "value": 0}, "either.value: a number, but it takes null"),
        ):
            self.check(OUTER, {"colour": 1, "either": either}, expected)

    def test_bytes(self) -> None:
        """Bytes that are none."""
        codec = codec_of(interface("shelf_protocol").types["things_nonnull_thing"])
        for form, expected in (
            ("0", "uuid: takes an even number"),
            ("0g", "uuid: takes an even number"),
            ("00 00", "uuid: takes an even number"),
            ("00", "uuid: b'\\x00' is not 16 bytes"),
            ({"base64": "?"}, "uuid: is not base64"),
            ({"base64": 1}, "uuid: an object, but it takes hexadecimal"),
            ({"base64": "", "hex": ""}, "uuid: an object, but it takes hexadecimal"),
            (5, "uuid: a number, but it takes hexadecimal"),
        ):
            self.check(codec, {**THING, "uuid": form}, expected)
        self.check(codec_of(bool), 1, "a number, but it takes true or false")

    def test_too_deep(self) -> None:
        """Lists that nest too deeply for a message, or for Python."""
        codec = codec_of(interface("weather").types["entry"])
        for count in (40, 3000):
            data: Any = None
            for _ in range(count):
                data = {"item": "", "next": data}
            with self.assertRaisesRegex(BadValue, "nested"):
                from_json(codec, data)

    def test_others(self) -> None:
        """A Construct that is not ours has no form, and says so."""
        self.check(Codec(construct.Int64ub), 5, "has no form in JSON (FormatField)")

    def test_values(self) -> None:
        """A value that is not of the layout is named by its field, as when it is encoded."""
        self.assertRaisesRegex(BadValue, "colour: 5", to_json, OUTER, Outer(5, None, None))
        self.assertRaisesRegex(BadValue, "'text' is not", to_json, OUTER, "text")

    def test_text(self) -> None:
        """JSON itself is read strictly."""
        self.assertEqual(read_json('{"a": [1, "\\udc80"]}'), {"a": [1, "\udc80"]})
        for text, expected in (
            ("", "not JSON: Expecting value"),
            ("{'a': 1}", "not JSON: "),
            ('{"a": 1, "b": 2, "a": 3}', "a: is there twice"),
            ("[NaN]", 'not JSON: NaN; write "NaN"'),
            ("[" * 100_000, "not JSON: "),
            (b"\xff", "not JSON: "),
        ):
            with self.subTest(text[:20]), self.assertRaises(BadValue) as caught:
                read_json(text)
            self.assertIn(expected, str(caught.exception))
