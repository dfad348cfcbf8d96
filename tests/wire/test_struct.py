"""Struct: a value, whatever Python does with it; and its declaration, late and strict."""

from __future__ import annotations

import copy
import pickle
from typing import Annotated, Any, ClassVar
from unittest import TestCase

import construct

from rpcstream.errors import BadSchema, BadValue
from rpcstream.wire import Fixed, Int, Max, Struct, Switch, Text, UHyper, UInt, codec_of, xdr
from rpcstream.wire.schema import construct_of, resolve
from tests.wire.support import Colour, Point, Sum


class Count(Struct):
    """Its fields have the names of tuple's methods, and of much else."""

    label: ClassVar[str] = "label"

    count: Int
    index: Int
    number: UInt = 7
    layout: Text | None = None


class Twin(Struct):
    a: Int
    b: Int


class Nothing(Struct):
    pass


class Outer(Struct):
    """Refers to what is declared below."""

    later: Later
    laters: Annotated[tuple[Later, ...], Max(2)] = ()


class Later(Struct):
    x: Int


class ValueTests(TestCase):
    def test_construction(self) -> None:
        """By position, by name, with defaults; None is a default like others."""
        value = Count(1, index=2)
        self.assertEqual((value.count, value.index, value.number, value.layout), (1, 2, 7, None))
        self.assertEqual(Count.label, "label")
        for arguments, keywords in (
            ((1,), {}),
            ((1, 2, 3, None, 5), {}),
            ((1, 2), {"nmber": 3}),
            ((1, 2), {"count": 3}),
        ):
            self.assertRaises(TypeError, Count, *arguments, **keywords)

    def test_equality(self) -> None:
        """Equal values of another type are not equal, nor is a tuple."""
        self.assertEqual(Sum(1, 2), Sum(1, 2))
        self.assertNotEqual(Sum(1, 2), Sum(2, 1))
        self.assertNotEqual(Sum(1, 2), Twin(1, 2))
        self.assertNotEqual(Sum(1, 2), (1, 2))
        self.assertNotEqual((1, 2), Sum(1, 2))
        self.assertTrue(Sum(1, 2) != Twin(1, 2))
        self.assertFalse(Sum(1, 2) != Sum(1, 2))

    def test_hash(self) -> None:
        """Equal values are one key; equal fields of two types are two."""
        self.assertEqual(len({Sum(1, 2), Sum(1, 2), Twin(1, 2), Sum(2, 1)}), 3)

    def test_immutable(self) -> None:
        """Nothing can be assigned, added or deleted."""
        value: Any = Sum(1, 2)
        for name in ("a", "other", "__class__"):
            with self.assertRaises(AttributeError):
                setattr(value, name, 5)
        with self.assertRaises(AttributeError):
            del value.a
        self.assertEqual(value, Sum(1, 2))

    def test_copies(self) -> None:
        """Pickle, copy and replace give the same type and value."""
        value = Outer(Later(5), (Later(6),))
        for protocol in range(2, pickle.HIGHEST_PROTOCOL + 1):
            again = pickle.loads(pickle.dumps(value, protocol))
            self.assertEqual(again, value)
            self.assertIs(type(again.later), Later)
        self.assertEqual(copy.copy(value), value)
        self.assertEqual(copy.deepcopy(value), value)
        self.assertEqual(Sum(1, 2).__replace__(b=3), Sum(1, 3))
        self.assertRaises(TypeError, Sum(1, 2).__replace__, c=3)

    def test_match(self) -> None:
        """Patterns by position and by name."""
        match Sum(1, 2):
            case Sum(1, second):
                self.assertEqual(second, 2)
            case _:
                self.fail("no match")
        match Point(1, None):
            case Point(x=1, y=None):
                pass
            case _:
                self.fail("no match")

    def test_true(self) -> None:
        """A value is true, also one without fields."""
        self.assertTrue(Nothing())
        self.assertTrue(Sum(0, 0))
        self.assertTrue(Struct())

    def test_repr(self) -> None:
        """It says what was written, and never megabytes."""
        self.assertEqual(repr(Sum(1, 2)), "Sum(a=1, b=2)")
        self.assertEqual(repr(Outer(Later(5))), "Outer(later=Later(x=5), laters=())")
        self.assertEqual(repr(Nothing()), "Nothing()")
        big = Count(1, 2, 3, "x" * 1000)
        self.assertIn("layout=<1000 characters>", repr(big))
        odd: Any = Sum
        self.assertEqual(repr(odd(b"x" * 101, (1,) * 101)), "Sum(a=<101 bytes>, b=<101 elements>)")

    def test_tuple_when_it_runs(self) -> None:
        """The fastest thing Python has; only equality and truth differ."""
        self.assertIsInstance(Sum(1, 2), tuple)
        self.assertEqual(Count.__match_args__, ("count", "index", "number", "layout"))


class DeclarationTests(TestCase):
    def refused(self, text: str, annotation: Any) -> None:
        with self.assertRaises(BadSchema) as caught:
            codec_of(annotation)
        self.assertIn(text, str(caught.exception))

    def test_bare_types(self) -> None:
        """Bare types have no layout; the text says what to write."""
        for annotation, cure in (
            (int, "Int, UInt, Hyper, UHyper"),
            (str, "Annotated[str, Max("),
            (bytes, "Fixed"),
            (float, "Float or Double"),
            (tuple[Int, ...], "Annotated[tuple[T, ...], Max("),
            (tuple, "Annotated[tuple[T, ...], Max("),
            (list[Int], "Annotated[tuple[T, ...], Max("),
            (dict, "tuple of a Struct"),
            (object, "what rpcstream.wire.annotations lists"),
            (Any, "what rpcstream.wire.annotations lists"),
            ("text", "what rpcstream.wire.annotations lists"),
            (Annotated[int, "five"], "Int, UInt, Hyper, UHyper"),
        ):
            self.refused("has no layout", annotation)
            self.refused(cure, annotation)

    def test_field_is_named(self) -> None:
        """The sentence names class and field, also in depth."""

        class Bad(Struct):
            fine: Int
            wrong: Annotated[tuple[str, ...], Max(4)]

        self.refused("Bad.wrong: str has no layout", Bad)

    def test_limits(self) -> None:
        """Limits go with bytes, text and tuples only."""
        self.refused("does not go with", Annotated[int, Max(4)])
        self.refused("does not go with", Annotated[str, Fixed(4)])
        self.refused("does not go with", Annotated[tuple[Int, Int], Max(4)])
        self.refused("does not go with", Annotated[tuple[Int], Max(4)])
        for count in (-1, 1 << 32, "x", None):
            self.assertRaises(BadSchema, Max, count)
        self.assertRaisesRegex(BadSchema, r"Fixed\(-1\)", Fixed, -1)

    def test_limits_as_values(self) -> None:
        """Limits compare and print."""
        self.assertEqual(Max(3), Max(3))
        self.assertNotEqual(Max(3), Fixed(3))
        self.assertNotEqual(Max(3), 3)
        self.assertEqual(len({Max(3), Max(3), Fixed(3)}), 2)
        self.assertEqual(repr(Fixed(3)), "Fixed(3)")
        self.assertEqual(repr(Switch({1: None})), "Switch({1: None})")

    def test_a_construct_wins(self) -> None:
        """Any Construct among the metadata counts, over limits and over the type."""
        codec = codec_of(Annotated[str, Max(3), xdr.String(10)])
        self.assertEqual(codec.decode(codec.encode("0123456789")), "0123456789")
        self.assertEqual(codec_of(Annotated[int, construct.Int16ub]).encode(258), b"\1\2")
        self.assertEqual(codec_of(Annotated[Text, Max(3)]).max_bytes, 4 + 4 * 1024 * 1024)

    def test_nested_annotated(self) -> None:
        """Annotated in Annotated, a comment among the metadata."""
        inner = Annotated[str, Max(3)]
        self.assertEqual(codec_of(Annotated[inner, "a comment"]).encode("abc"), b"\0\0\0\3abc\0")

    def test_optional(self) -> None:
        """None must mean one thing."""
        for annotation in (
            Annotated[Int | None, "twice"] | None,
            Annotated[Point | None, Switch({1: Point, 0: None})] | None,
            Annotated[None, "nothing"] | None,
        ):
            self.refused("None would mean two things", annotation)

    def test_unions(self) -> None:
        """A union needs a Switch whose arms are its own, and can be told apart."""
        self.refused("needs a Switch", Point | Sum)
        self.refused("needs a Switch", Point | Sum | None)
        self.refused("does not have the arms", Annotated[Point | Sum, Switch({1: Point})])
        self.refused("does not have the arms", Annotated[Point, Switch({1: Point, 2: Sum})])
        self.refused("the same Python type", Annotated[int, Switch({1: Int, 2: UInt})])
        self.refused("cannot be an arm", Annotated[Point | Sum, Switch({1: Point | None, 2: Sum})])
        codec = codec_of(Annotated[Point | Sum, Switch({1: Point, 2: Sum})] | None)
        for value in (None, Point(1), Sum(1, 2)):
            self.assertEqual(codec.decode(codec.encode(value)), value)
        self.assertRaisesRegex(BadValue, "no arm for a Twin", codec.encode, Twin(1, 2))
        single = codec_of(Annotated[tuple[Int, ...], Switch({5: Annotated[tuple[Int, ...], Max(2)]})])
        self.assertEqual(single.decode(single.encode((1, 2))), (1, 2))

    def test_enum(self) -> None:
        """An IntEnum class is a layout; its values are not."""
        self.assertEqual(codec_of(Colour).encode(Colour.RED), b"\xff" * 4)
        wrong: Any = 7
        self.assertRaisesRegex(BadValue, "7 is not a Colour", codec_of(Colour).encode, wrong)

    def test_forward_reference(self) -> None:
        """Annotations are looked up when the codec is asked for, not before."""
        codec = codec_of(Outer)
        value = Outer(Later(1), (Later(2),))
        self.assertEqual(codec.decode(codec.encode(value)), value)

    def test_names_that_cannot_be_found(self) -> None:
        """A class declared in a function uses a name of that function."""

        class Hidden(Struct):
            x: Int

        class User(Struct):
            hidden: Hidden

        self.refused("declare it and what it uses at module level", User)

        class Broken(Struct):
            x: Int[3]  # type: ignore[type-arg, valid-type]

        self.refused("Broken: ", Broken)

    def test_recursion(self) -> None:
        """A type that contains itself is refused with a sentence."""
        self.refused("contains itself", Recursive)
        self.refused("contains itself", Ping)

    def test_reserved_and_impossible_names(self) -> None:
        """The names a field cannot have are refused when the class is made."""
        self.assertRaisesRegex(BadSchema, "name the field responder_", make, {"responder": Int})
        for name in ("class", "_private", "a b"):
            self.assertRaises(BadSchema, make, {name: Int})
        self.assertEqual(make({"class_": Int})(3).class_, 3)

    def test_default_before_required(self) -> None:
        """As for functions."""
        self.assertRaisesRegex(BadSchema, "b without a default", make, {"a": Int, "b": Int}, {"a": 5})

    def test_inheritance(self) -> None:
        """Fields are not inherited: an heir would not be what its base says it is."""
        with self.assertRaisesRegex(BadSchema, "Sum has fields"):

            class Heir(Sum):
                c: Int

    def test_class_keywords(self) -> None:
        """An unknown class keyword is a TypeError."""
        with self.assertRaises(TypeError):

            class Odd(Struct, lenent=True):  # type: ignore[call-arg]
                pass

    def test_lenient(self) -> None:
        """A lenient class is lenient in all its parts; asked for from outside too."""
        data = b"\0\0\0\5\0\0\1\0\0\0\0\6"
        self.assertEqual(codec_of(Point, lenient=True).decode(data), Point(5, 6))
        self.assertEqual(codec_of(Loose).decode(data + b"\0\0\0\1\xff\0\0\0\2\0\0\0").text, "\udcff")
        self.assertRaisesRegex(Exception, "flag 256", codec_of(Point).decode, data)

    def test_resolve(self) -> None:
        """Strings and forward references are looked up in the module of a class."""
        self.assertIs(resolve("Later", Outer), Later)
        self.assertIs(resolve(Later, Outer), Later)
        self.assertRaisesRegex(BadSchema, "at module level", resolve, "NotThere", Outer)
        homeless = make({})
        homeless.__module__ = "no.such.module"
        self.assertRaises(BadSchema, resolve, "Later", homeless)

    def test_construct_of(self) -> None:
        """A Construct stands for itself; a Struct has one for all uses."""
        self.assertIs(construct_of(xdr.Int), xdr.Int)
        self.assertIs(construct_of(Point), construct_of(Point))
        self.assertEqual(construct_of(UHyper), xdr.UHyper)


class Recursive(Struct):
    value: Int
    next: Recursive | None


class Ping(Struct):
    pong: Pong


class Pong(Struct):
    pings: Annotated[tuple[Ping, ...], Max(3)]


class Loose(Struct, lenient=True):
    point: Point
    text: Annotated[str, Max(4)]
    flag: bool


def make(annotations: dict[str, Any], defaults: dict[str, Any] | None = None) -> Any:
    """A Struct class from a table, as a compiler of layouts would make it."""
    return type(
        "Made", (Struct,), {"__annotations__": annotations, "__module__": __name__, **(defaults or {})}
    )
