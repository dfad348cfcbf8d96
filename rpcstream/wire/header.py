"""
The header of every message: declared once, packed and unpacked fast.

Seven 32-bit numbers, big-endian (wire-protocol.md section 1.1).  C{HEADER} is
the declaration; the C{struct.Struct} that does the work is derived from it when
this module is imported.  What the numbers may be in which state is the core's
concern.
"""

from __future__ import annotations

import struct
from enum import IntEnum
from typing import NamedTuple

from rpcstream.errors import BadValue, DecodeError
from rpcstream.wire.composite import Record
from rpcstream.wire.reader import XDRError
from rpcstream.wire.xdr import Int, UInt

__all__ = [
    "HEADER",
    "HEADER_BYTES",
    "Header",
    "MessageType",
    "Status",
    "decode_header",
    "encode_header",
    "pack_header",
]


class MessageType(IntEnum):
    """What a message is (wire-protocol.md section 1.2)."""

    CALL = 0
    REPLY = 1
    MESSAGE = 2
    STREAM = 3
    CALL_WITH_FDS = 4
    REPLY_WITH_FDS = 5
    STREAM_HOLE = 6


class Status(IntEnum):
    """How it stands with the call or stream that a message belongs to."""

    OK = 0
    ERROR = 1
    CONTINUE = 2


class Header(NamedTuple):
    """
    The header's numbers as they are on the wire; they need not be legal ones.

    @ivar length: bytes of the whole message, these four included.
    @ivar procedure: signed; so are C{type} and C{status}.
    """

    length: int
    program: int
    version: int
    procedure: int
    type: int
    serial: int
    status: int


HEADER = Record(
    "length" / UInt,
    "program" / UInt,
    "version" / UInt,
    "procedure" / Int,
    "type" / Int,
    "serial" / UInt,
    "status" / Int,
    type=Header,
)

_PACKED = struct.Struct(">" + "".join(field.subcon.format for field in HEADER.subcons))
_pack = _PACKED.pack
_unpack_from = _PACKED.unpack_from
_make = Header._make

HEADER_BYTES = _PACKED.size
"""Length word and header: 28."""


def encode_header(header: Header) -> bytes:
    """
    The 28 bytes of a header.

    @raise BadValue: a number does not fit its field.
    """
    try:
        return _pack(*header)
    except struct.error:
        for field, value in zip(HEADER.subcons, header, strict=False):
            try:
                field.subcon.build(value)
            except XDRError as error:
                raise BadValue(field.name, error.reason) from None
        raise BadValue("", f"a header has {len(HEADER.subcons)} numbers") from None


def pack_header(
    length: int, program: int, version: int, procedure: int, type: int, serial: int, status: int
) -> bytes:
    """As L{encode_header}, of the bare numbers; half of its cost."""
    try:
        return _pack(length, program, version, procedure, type, serial, status)
    except struct.error:
        return encode_header(Header(length, program, version, procedure, type, serial, status))


def decode_header(buffer: bytes | bytearray | memoryview, offset: int = 0) -> Header:
    """
    The header that begins at C{offset}; 0.3 us.

    @raise DecodeError: fewer than 28 bytes are left there.
    """
    try:
        return _make(_unpack_from(buffer, offset))
    except struct.error:
        raise DecodeError("header", f"fewer than {HEADER_BYTES} bytes") from None
