"""The error struct: always sendable, tolerant of what comes, typed again at the other end."""

from __future__ import annotations

from typing import Any
from unittest import TestCase

from hypothesis import given, strategies

from rpcstream.errors import (
    AccessDenied,
    DecodeError,
    RemoteError,
    RPCFailed,
    SystemCallFailed,
    Unsupported,
)
from rpcstream.limits import ERROR_TEXT_BYTES
from rpcstream.programs.base import Program
from rpcstream.wire import ErrorInfo, codec_of, decode_error, encode_error, remote_error
from rpcstream.wire.error import ErrorDomain, ErrorNetwork, cut_text
from tests.wire.support import QUICK, CodecTestCase

PROGRAM = Program("errors", number=0x2F110001, version=1)


class Late(RemoteError, program=PROGRAM, code=1001):
    pass


class OwnConstructor(RemoteError, program=PROGRAM, code=1002):
    def __init__(self, name: str, size: int) -> None:
        super().__init__(f"{name} has {size}", str1=name, int1=size)


class Careless(RemoteError, program=PROGRAM, code=1003):
    def __init__(self) -> None:
        pass


def over(error: RemoteError) -> RemoteError:
    """The error as it arrives at the other end."""
    return remote_error(decode_error(encode_error(error)), PROGRAM.errors)


class RoundTripTests(TestCase):
    def test_common(self) -> None:
        """libvirt's codes come back as the classes of errors.py, all fields kept."""
        error = over(
            SystemCallFailed("no space", int1=28, str1="%s", str2="no space", domain=38, level=1, int2=5)
        )
        self.assertIs(type(error), SystemCallFailed)
        fields = (error.code, error.message, error.domain, error.level, error.str1, error.str2, error.str3)
        self.assertEqual(fields, (38, "no space", 38, 1, "%s", "no space", None))
        self.assertEqual((error.int1, error.int2), (28, 5))
        self.assertIs(type(over(AccessDenied("no"))), AccessDenied)

    def test_own(self) -> None:
        """A program's codes come back as its classes, whatever their constructors take."""
        self.assertIs(type(over(Late("too late"))), Late)
        error = over(OwnConstructor("disk", 5))
        self.assertIs(type(error), OwnConstructor)
        self.assertEqual((error.message, error.str1, error.int1), ("disk has 5", "disk", 5))
        self.assertIn("disk has 5", str(error))

    def test_unknown(self) -> None:
        """An unknown code is a plain RemoteError."""
        for code in (1999, 42, -5, 0):
            error = over(RemoteError("what", code=code))
            self.assertIs(type(error), RemoteError)
            self.assertEqual(error.code, code)

    def test_unknown_procedure(self) -> None:
        """The words that older peers say become Unsupported; other uses of the code do not."""
        error = over(RPCFailed("unknown procedure: 999"))
        self.assertIs(type(error), Unsupported)
        self.assertEqual(error.code, 3)
        self.assertIs(type(over(RPCFailed("an unknown procedure"))), RPCFailed)
        self.assertIs(type(over(RemoteError("unknown procedure", code=1999))), RemoteError)

    def test_no_fields(self) -> None:
        """A subclass that forgot its fields is sent all the same."""
        error = over(Careless())
        self.assertIs(type(error), Careless)
        self.assertEqual((error.code, error.message, error.int1), (1003, "Careless", -1))

    def test_absent_message(self) -> None:
        """An error without a message gets the name of its class."""
        info = decode_error(encode_error(Late("x"))).__replace__(message=None)
        self.assertEqual(remote_error(info, PROGRAM.errors).message, "Late")


class AlwaysSendableTests(TestCase):
    @QUICK
    @given(
        strategies.one_of(strategies.text(), strategies.none(), strategies.integers(), strategies.binary()),
        strategies.integers() | strategies.none() | strategies.text(),
    )
    def test_any_fields(self, text: Any, number: Any) -> None:
        """Whatever a subclass put into its fields."""
        error = RemoteError("x")
        error.message = error.str1 = error.str2 = error.str3 = text
        error.code = error.domain = error.level = error.int1 = error.int2 = number
        payload = encode_error(error)
        self.assertEqual(codec_of(ErrorInfo).encode(decode_error(payload)), payload)

    def test_cut(self) -> None:
        """4 KiB at most, cut between characters."""
        for text in (
            "x" * 10_000,
            "ä" * 10_000,
            "x" + "ä" * 10_000,
            "\U0001f600" * 2000,
            "\0" * 5000,
            "\ud800" * 5000,
        ):
            info = decode_error(encode_error(RemoteError(text, str1=text)))
            for sent in (info.message, info.str1):
                assert sent is not None
                size = len(sent.encode())
                self.assertLessEqual(size, ERROR_TEXT_BYTES)
                self.assertGreater(size, ERROR_TEXT_BYTES - 4)
        self.assertEqual(cut_text("abc", 3), "abc")
        self.assertEqual(cut_text("abä", 3), "ab")

    def test_never_nul(self) -> None:
        """A NUL would hide the rest from a C peer."""
        self.assertEqual(decode_error(encode_error(RemoteError("a\0b"))).message, "a\\x00b")

    def test_nasty_text(self) -> None:
        """A text that is an object without a usable repr."""

        class Nasty:
            def __repr__(self) -> str:
                raise ZeroDivisionError

        error = RemoteError("x")
        error.message = Nasty()  # type: ignore[assignment]
        self.assertEqual(decode_error(encode_error(error)).message, "<Nasty>")


class HostilePeerTests(CodecTestCase):
    def test_long_text(self) -> None:
        """B10: megabytes of text are cut in the exception."""
        info = decode_error(encode_error(RemoteError("x"))).__replace__(
            message="\x1b[2J" * 1_000_000, str2="y" * 9000
        )
        payload = codec_of(ErrorInfo).encode(info)
        error = remote_error(decode_error(payload), {})
        self.assertEqual(len(error.message.encode()), ERROR_TEXT_BYTES)
        self.assertEqual(len(error.str2 or ""), ERROR_TEXT_BYTES)

    def test_not_utf8(self) -> None:
        """Bytes that are not UTF-8 survive decoding and become escapes in the exception."""
        payload = encode_error(RemoteError("abcd")).replace(b"abcd", b"a\xff\xfed")
        self.assertEqual(remote_error(decode_error(payload), {}).message, "a\\udcff\\udcfed")

    def test_all_parts(self) -> None:
        """The parts that libvirtd never sends are decoded all the same, with any flag."""
        info = ErrorInfo(
            42,
            12,
            "m",
            2,
            ErrorDomain("vm", bytes(16), -1),
            "1",
            None,
            "3",
            4,
            5,
            ErrorNetwork("net", bytes(16)),
        )
        payload = codec_of(ErrorInfo).encode(info)
        self.assertEqual(decode_error(payload), info)
        lenient = payload.replace(b"\0\0\0\1\0\0\0\2vm", b"\1\0\0\0\0\0\0\2vm")
        self.assertNotEqual(lenient, payload)
        self.assertEqual(decode_error(lenient), info)
        self.check_damage(codec_of(ErrorInfo), payload, 6)

    def test_damage(self) -> None:
        """Truncation at each byte and flipped bits: a value or DecodeError, as interpreted."""
        payload = encode_error(Late("too late", str1="%s"))
        self.check_damage(codec_of(ErrorInfo), payload, 7)
        for size in range(len(payload)):
            self.assertRaises(DecodeError, decode_error, payload[:size])
