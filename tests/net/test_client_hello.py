"""
The ClientHello reader: real hellos in any fragmentation, and whatever else may come.
"""

from __future__ import annotations

from unittest import TestCase

from hypothesis import given, settings
from hypothesis import strategies as st

from rpcstream.errors import ProtocolViolation
from rpcstream.net.client_hello import HELLO_BYTES, TLS_1_2, TLS_1_3, ClientHello, ClientHelloReader
from tests.net.odd_peers import hello

HELLO = hello()


def records(message: bytes, size: int) -> bytes:
    """C{message} cut into TLS records of C{size} bytes."""
    pieces = [message[start : start + size] for start in range(0, len(message), size)]
    return b"".join(b"\x16\x03\x01" + len(piece).to_bytes(2, "big") + piece for piece in pieces)


def message(body: bytes) -> bytes:
    return b"\x01" + len(body).to_bytes(3, "big") + body


def minimal(extensions: bytes | None = None, version: int = TLS_1_2) -> bytes:
    """The body of a ClientHello with one cipher suite."""
    body = version.to_bytes(2, "big") + bytes(32) + b"\0" + b"\0\x02\x13\x01" + b"\x01\0"
    return body if extensions is None else body + len(extensions).to_bytes(2, "big") + extensions


class ReaderTests(TestCase):
    def refused(self, data: bytes) -> str:
        with self.assertRaises(ProtocolViolation) as caught:
            ClientHelloReader().feed(data)
        self.assertEqual(caught.exception.code, "tls")
        return caught.exception.detail

    def test_real_hello(self) -> None:
        """What OpenSSL sends."""
        found = ClientHelloReader().feed(HELLO)
        assert found is not None
        self.assertEqual(found.protocols, (b"rpcstream/1",))
        self.assertIn(TLS_1_3, found.versions)
        self.assertIn(TLS_1_2, found.versions)

    def test_without_extensions(self) -> None:
        """TLS 1.2 knew none: the version is the old field."""
        for extensions in (None, b""):
            found = ClientHelloReader().feed(records(message(minimal(extensions, 0x0301)), 9999))
            self.assertEqual(found, ClientHello((0x0301,), ()))

    def test_every_fragmentation_gives_the_same(self) -> None:
        """Pieces of 1 to 40 bytes, and records of 1 to 40 bytes."""
        whole = ClientHelloReader().feed(HELLO)
        for size in (1, 2, 3, 4, 5, 6, 7, 40):
            reader = ClientHelloReader()
            found = [
                answer
                for start in range(0, len(HELLO), size)
                if (answer := reader.feed(HELLO[start : start + size])) is not None
            ]
            self.assertEqual(found, [whole], size)
            self.assertEqual(bytes(reader.received), HELLO)
            self.assertEqual(ClientHelloReader().feed(records(HELLO[5:], size)), whole)

    def test_what_follows_is_kept(self) -> None:
        """Bytes behind the hello are TLS's."""
        reader = ClientHelloReader()
        self.assertIsNotNone(reader.feed(HELLO + b"more"))
        self.assertEqual(bytes(reader.received), HELLO + b"more")

    def test_not_tls(self) -> None:
        """Decided on the first bytes, with a hint."""
        for data, words in {
            b"\0\0\0\x1c": "plain RPC",
            b"\0\0": "plain RPC",
            b"GET / HTTP/1.1\r\n": "HTTP",
            b"SSH-2.0-x": "SSH",
            b"\x80\x2e\x01\x03\x01": "SSLv2",
            b"\x16\x02": "it begins with 1602",
            b"\x17": "it begins with 17",
            b"hello, world": "it begins with 68656c6c6f2c2077",
        }.items():
            self.assertIn(words, self.refused(data))

    def test_records_of_impossible_size(self) -> None:
        """Empty, or longer than TLS allows."""
        self.assertIn("of 0 bytes", self.refused(b"\x16\x03\x01\0\0"))
        self.assertIn("of 16385 bytes", self.refused(b"\x16\x03\x01\x40\x01"))

    def test_other_message_first(self) -> None:
        """Only a ClientHello begins a connection."""
        self.assertIn("message 2 before", self.refused(records(b"\x02\0\0\0", 99)))

    def test_limit_of_the_message(self) -> None:
        """The declared length is judged at once, at the limit and one past it."""
        most = HELLO_BYTES - 4
        self.assertIsNone(ClientHelloReader().feed(records(b"\x01" + most.to_bytes(3, "big"), 99)))
        self.assertIn("more than 16384", self.refused(records(b"\x01" + (most + 1).to_bytes(3, "big"), 99)))

    def test_limit_of_all_bytes(self) -> None:
        """Many tiny records do not get around it."""
        data = records(message(bytes(HELLO_BYTES // 2)), 1)
        self.assertIsNone(ClientHelloReader().feed(data[: HELLO_BYTES - 1]))
        self.assertIn("no whole ClientHello", self.refused(data[:HELLO_BYTES]))

    def test_truncated_inside(self) -> None:
        """Lengths that disagree, at every byte of a real hello's body."""
        body = HELLO[9:]
        for end in range(len(body)):
            data = records(message(body[:end]), 16384)
            try:
                ClientHelloReader().feed(data)
            except ProtocolViolation as violation:
                self.assertEqual((violation.code, violation.detail), ("tls", "malformed ClientHello"))

    @settings(max_examples=300, derandomize=True, database=None)
    @given(st.binary(max_size=200), st.integers(0, len(HELLO)))
    def test_any_bytes_give_an_answer_or_our_error(self, data: bytes, keep: int) -> None:
        """Nothing but ProtocolViolation comes out."""
        for start in (HELLO[:keep], HELLO[:5] + message(b"")[:keep], b""):
            try:
                ClientHelloReader().feed(start + data)
            except ProtocolViolation as violation:
                self.assertEqual(violation.code, "tls")
