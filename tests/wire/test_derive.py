"""Codecs of hand-made declarations: stock Constructs, tagged unions, values that contain themselves."""

from __future__ import annotations

from functools import partial
from typing import Any

import construct

from rpcstream.errors import BadSchema, BadValue, DecodeError
from rpcstream.limits import XDR_DEPTH
from rpcstream.wire import PAYLOAD_BYTES, Codec, codec_of, composite, xdr
from tests.wire.support import CodecTestCase, Sum, outcome, processor_seconds


class HandMadeTests(CodecTestCase):
    """Declarations that no annotation gives, but that a user may write."""

    def test_record_without_a_type(self) -> None:
        """Containers out, mappings in."""
        codec: Codec[Any] = Codec(composite.Record("a" / xdr.Int, "b" / xdr.String(5)))
        value = {"a": 5, "b": "five"}
        data = codec.encode(value)
        self.assertEqual(dict(codec.decode(data)), value)
        self.check_damage(codec, data, 1)
        self.assertEqual(outcome(codec.encode, {"a": 5}), ("BadValue", ""))
        self.assertEqual(outcome(codec.encode, 5), ("BadValue", ""))

    def test_tagged_union(self) -> None:
        """Without Python types, a value names its arm."""
        codec: Codec[Any] = Codec(composite.Union({1: xdr.Int, 2: xdr.Int}))
        data = codec.encode((2, 77))
        self.assertEqual(codec.decode(data), (2, 77))
        self.check_damage(codec, data, 2)
        wrong: Any
        for wrong in ((3, 77), 77, (1, 2, 3), ([], 1), ("x", 1)):
            self.assertEqual(outcome(codec.encode, wrong), ("BadValue", ""))
            self.check_encoding(codec, wrong)

    def test_stock_struct(self) -> None:
        """A stock Construct is interpreted, and still bounded and complete."""
        codec: Codec[Any] = Codec(construct.Struct("n" / construct.Int16ul, "rest" / construct.Bytes(3)))
        data = codec.encode({"n": 258, "rest": b"abc"})
        self.assertEqual(data, b"\2\1abc")
        self.assertEqual(codec.decode(data).rest, b"abc")
        self.assertEqual(outcome(codec.decode, data + b"x"), ("DecodeError", ""))
        self.assertEqual(outcome(codec.decode, data[:3])[0], "DecodeError")
        self.assertEqual(outcome(codec.encode, {"n": "x", "rest": b"abc"}), ("BadValue", "n"))
        self.assertEqual(codec.max_bytes, 5)

    def test_foreign_exceptions_stay_inside(self) -> None:
        """A Construct of the user's that raises something else."""

        class Bad(construct.Construct):  # type: ignore[misc,unused-ignore]
            def _parse(self, stream: Any, context: Any, path: str) -> Any:
                raise ZeroDivisionError

            def _build(self, obj: Any, stream: Any, context: Any, path: str) -> Any:
                raise ZeroDivisionError

        codec: Codec[Any] = Codec(Bad())
        self.assertRaises(BadValue, codec.encode, 1)
        self.assertRaises(DecodeError, codec.decode, b"1234")
        self.assertEqual(codec.max_bytes, PAYLOAD_BYTES)

    def test_a_construct_that_fails_only_sometimes(self) -> None:
        """If the interpreted Construct finds nothing wrong, the error is still ours."""
        calls = []

        class Once(construct.Construct):  # type: ignore[misc,unused-ignore]
            def _parse(self, stream: Any, context: Any, path: str) -> Any:
                calls.append(1)
                if len(calls) % 2:
                    raise ValueError
                return stream.read()

            def _build(self, obj: Any, stream: Any, context: Any, path: str) -> Any:
                self._parse(stream, context, path)

        codec: Codec[Any] = Codec(Once())
        self.assertRaises(DecodeError, codec.decode, b"1234")
        self.assertRaises(BadValue, codec.encode, 1)

    def test_repr(self) -> None:
        """A codec says how much its values take."""
        self.assertIn("at most 8 bytes", repr(codec_of(Sum)))


NODE: Any = composite.Record(
    "value" / xdr.Int, "next" / composite.Optional(construct.LazyBound(lambda: NODE))
)
TREE: Any = composite.Record(
    "value" / xdr.Int,
    "children"
    / composite.Array(composite.Record("mark" / xdr.Int, "tree" / construct.LazyBound(lambda: TREE)), 9),
)


def chain(count: int) -> bytes:
    """A linked list on the wire."""
    return b"\0\0\0\5\0\0\0\1" * (count - 1) + b"\0\0\0\5\0\0\0\0"


class DepthTests(CodecTestCase):
    """X09: nesting ends at 32, whatever it is made of."""

    def test_linked_list(self) -> None:
        """16 nodes are a record and a pointer deep each; one more is refused."""
        codec: Codec[Any] = Codec(NODE)
        depth = XDR_DEPTH // 2
        data = chain(depth)
        self.assertEqual(codec.encode(codec.decode(data)), data)
        self.assertEqual(codec.max_bytes, PAYLOAD_BYTES)
        for count in (depth + 1, 200, 10_000, 1_000_000):
            long = chain(count)
            seconds = processor_seconds(partial(self.assertRaises, DecodeError, codec.decode, long))
            self.assertLess(seconds, 1)
        self.check_damage(codec, data, 3)

    def test_deep_value(self) -> None:
        """A value that is too deep is refused when it is encoded."""
        value: Any = None
        for _ in range(XDR_DEPTH // 2 + 1):
            value = {"value": 5, "next": value}
        self.assertRaisesRegex(BadValue, "nested deeper", Codec(NODE).encode, value)

    def test_tree(self) -> None:
        """Elements are charged to the message, not to each array."""
        codec: Codec[Any] = Codec(TREE)
        leaf = {"value": 1, "children": ()}
        value = {"value": 2, "children": ({"mark": 1, "tree": leaf}, {"mark": 2, "tree": leaf})}
        data = codec.encode(value)
        self.assertEqual(codec.encode(codec.decode(data)), data)
        self.check_damage(codec, data, 4)

    def test_static_nesting(self) -> None:
        """A declaration that nests 32 deep works; one level more is a bad schema."""
        declaration: Any = xdr.Int
        for _ in range(XDR_DEPTH):
            declaration = composite.Optional(declaration)
        codec: Codec[Any] = Codec(declaration)
        data = codec.encode(5)
        self.assertEqual(len(data), 4 * XDR_DEPTH + 4)
        self.assertEqual(codec.decode(data), 5)
        self.assertEqual(codec.construct.parse(data), 5)
        for deeper in (composite.Optional(declaration), composite.Record("x" / declaration)):
            self.assertRaisesRegex(BadSchema, "deeper than 32", Codec, deeper)
        self.assertRaises(construct.ConstructError, composite.Optional(declaration).build, 5)

    def test_declaration_in_a_circle(self) -> None:
        """A declaration that was made to contain itself is refused, not followed."""
        record = composite.Record("a" / xdr.Int)
        optional = composite.Optional(record)
        record.subcons.append("b" / optional)
        self.assertRaises(BadSchema, Codec, record)
