"""
Reads the ClientHello, the first message of a TLS connection, before TLS sees it.

A server has to know who calls before the handshake starts: an OpenSSL server
must not speak TLS 1.3 with libvirt's clients (wire-protocol.md, section 0, fact
11), and theirs are told from ours by the missing ALPN protocol.

What lives here: the few fields needed, from bytes in any fragmentation, bounded.
What must not: any decision, and any Twisted.

Sources: RFC 8446 sections 4.1.2, 4.2.1, 5.1; RFC 7301 (ALPN).
"""

from __future__ import annotations

from typing import NamedTuple

from rpcstream.errors import ProtocolViolation

__all__ = ["HELLO_BYTES", "TLS_1_2", "TLS_1_3", "ClientHello", "ClientHelloReader"]

HELLO_BYTES = 16 * 1024
"""Most bytes read in search of the ClientHello's end, record headers included; real ones have
200 to 2,000."""

TLS_1_2 = 0x0303
TLS_1_3 = 0x0304

_RECORD_HEADER_BYTES = 5
_MESSAGE_HEADER_BYTES = 4
_RECORD_BYTES = 2**14
_HANDSHAKE = 22
_CLIENT_HELLO = 1
_ALPN = 16
_SUPPORTED_VERSIONS = 43


class ClientHello(NamedTuple):
    """
    What the client offers.

    @ivar versions: TLS version numbers as sent (0x0304 is TLS 1.3), best first as a rule.
    @ivar protocols: ALPN names in its order of preference, empty without ALPN.
    """

    versions: tuple[int, ...]
    protocols: tuple[bytes, ...]


class ClientHelloReader:
    """
    Collects bytes until the ClientHello is whole.  Costs one copy of it.

    @ivar received: all that was fed; TLS gets it afterwards.
    """

    def __init__(self) -> None:
        self.received = bytearray()
        self._message = bytearray()
        self._record_start = 0

    def feed(self, data: bytes) -> ClientHello | None:
        """
        @param data: the next received bytes, in any fragmentation.
        @return: the ClientHello once it is whole, with whatever follows it left in
            C{received}.
        @raise ProtocolViolation: code C{tls}: this is no TLS, or not as a client may
            begin it; decided as early as the bytes tell.
        """
        self.received += data
        while (payload := self._next_record()) is not None:
            self._message += payload
            if (hello := self._whole_message()) is not None:
                return hello
        if len(self.received) >= HELLO_BYTES:
            raise ProtocolViolation("tls", f"no whole ClientHello in {HELLO_BYTES} bytes")
        return None

    def _next_record(self) -> bytearray | None:
        """
        @return: the payload of the next whole record, C{None} if more bytes are needed.
        """
        header = self.received[self._record_start : self._record_start + _RECORD_HEADER_BYTES]
        if (header[:1] and header[0] != _HANDSHAKE) or (header[1:2] and header[1] != 3):
            raise ProtocolViolation("tls", _what_instead(bytes(self.received)))
        if len(header) < _RECORD_HEADER_BYTES:
            return None
        length = int.from_bytes(header[3:5], "big")
        if not 0 < length <= _RECORD_BYTES:
            raise ProtocolViolation("tls", f"a TLS record of {length} bytes before the handshake")
        start = self._record_start + _RECORD_HEADER_BYTES
        if len(self.received) < start + length:
            return None
        self._record_start = start + length
        return self.received[start : start + length]

    def _whole_message(self) -> ClientHello | None:
        if self._message[0] != _CLIENT_HELLO:
            raise ProtocolViolation("tls", f"TLS handshake message {self._message[0]} before the ClientHello")
        if len(self._message) < _MESSAGE_HEADER_BYTES:
            return None
        end = _MESSAGE_HEADER_BYTES + int.from_bytes(self._message[1:4], "big")
        if end > HELLO_BYTES:
            raise ProtocolViolation("tls", f"a ClientHello of {end} bytes, more than {HELLO_BYTES}")
        if len(self._message) < end:
            return None
        try:
            return _parse(bytes(self._message[_MESSAGE_HEADER_BYTES:end]))
        except _Short:
            raise ProtocolViolation("tls", "malformed ClientHello") from None


class _Short(Exception):
    """A field reaches past the end of what holds it."""


class _Fields:
    """The bytes of a TLS structure, taken from the front."""

    def __init__(self, content: bytes) -> None:
        self._content = content
        self._offset = 0

    def take(self, byte_count: int) -> bytes:
        end = self._offset + byte_count
        if end > len(self._content):
            raise _Short
        taken = self._content[self._offset : end]
        self._offset = end
        return taken

    def number(self, byte_count: int) -> int:
        return int.from_bytes(self.take(byte_count), "big")

    def vector(self, length_bytes: int) -> _Fields:
        return _Fields(self.take(self.number(length_bytes)))

    @property
    def left(self) -> int:
        return len(self._content) - self._offset


def _parse(body: bytes) -> ClientHello:
    fields = _Fields(body)
    legacy_version = fields.number(2)
    fields.take(32)  # random
    fields.vector(1)  # session id
    fields.vector(2)  # cipher suites
    fields.vector(1)  # compression methods
    versions: tuple[int, ...] = ()
    protocols: tuple[bytes, ...] = ()
    extensions = fields.vector(2) if fields.left else _Fields(b"")
    while extensions.left:
        kind = extensions.number(2)
        extension = extensions.vector(2)
        if kind == _SUPPORTED_VERSIONS:
            offered = extension.vector(1)
            versions = tuple(offered.number(2) for _ in range(offered.left // 2))
        elif kind == _ALPN:
            names = extension.vector(2)
            found = []
            while names.left:
                found.append(names.take(names.number(1)))
            protocols = tuple(found)
    # Before TLS 1.3 there was no list: the client names its highest version and takes any lower.
    return ClientHello(versions or (legacy_version,), protocols)


def _what_instead(start: bytes) -> str:
    """
    @return: what bytes that are no TLS look like, for whoever reads the log.
    """
    if start[:4] == b"\0\0\0\x1c" or start[:2] == b"\0\0":
        return "not TLS: it looks like plain RPC; the peer must use rpcstream+tls://"
    if start[:4] in (b"GET ", b"POST", b"HEAD", b"PUT ", b"OPTI", b"CONN", b"PRI "):
        return "not TLS: it looks like HTTP"
    if start[:4] == b"SSH-":
        return "not TLS: it looks like SSH"
    if start and start[0] & 0x80 and start[2:3] == b"\x01":
        return "not TLS 1.2 or 1.3: it looks like an SSLv2 hello"
    return f"not TLS: it begins with {start[:8].hex()}"
