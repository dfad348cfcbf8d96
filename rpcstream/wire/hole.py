"""
The payload of a STREAM_HOLE message: so many zero bytes at this position.

wire-protocol.md section 2.7: a signed 64-bit length above zero, then 32 bits of
flags that must be zero.
"""

from __future__ import annotations

import struct

from rpcstream.errors import BadValue, DecodeError
from rpcstream.wire.composite import Record
from rpcstream.wire.xdr import Hyper, UInt

__all__ = ["HOLE", "HOLE_BYTES", "decode_hole", "encode_hole"]

HOLE = Record("length" / Hyper, "flags" / UInt)

_PACKED = struct.Struct(">" + "".join(field.subcon.format for field in HOLE.subcons))

HOLE_BYTES = _PACKED.size
"""Size of the payload: 12."""


def encode_hole(length_bytes: int) -> bytes:
    """
    The payload for a hole of C{length_bytes}.

    @raise BadValue: not from 1 to 2**63 - 1.
    """
    try:
        if length_bytes > 0:
            return _PACKED.pack(length_bytes, 0)
    except (struct.error, TypeError):
        pass
    raise BadValue("length", f"a hole cannot be {length_bytes!r} bytes long")


def decode_hole(payload: bytes | bytearray | memoryview) -> int:
    """
    The length of a hole in bytes, always above zero.

    @raise DecodeError: the length is not above zero, a flag is set, or the
        payload is not 12 bytes long.
    """
    try:
        length_bytes, flags = _PACKED.unpack(payload)
    except struct.error:
        raise DecodeError("hole", f"{len(payload)} bytes, {HOLE_BYTES} needed") from None
    if length_bytes <= 0:
        raise DecodeError("length", f"a hole cannot be {length_bytes} bytes long")
    if flags:
        raise DecodeError("flags", f"unknown flags {flags:#x}")
    return int(length_bytes)
