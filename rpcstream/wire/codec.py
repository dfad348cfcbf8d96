"""
A codec: values of one declaration to bytes and back, fast and strictly.

This is the boundary behind which no exception of Construct, C{struct} or
Unicode shows: encoding raises L{BadValue} and decoding L{DecodeError}, and both
name the field, because after a failure the interpreted Construct is run once.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

import construct

from rpcstream.errors import BadValue, DecodeError
from rpcstream.limits import MESSAGE_BYTES, XDR_ELEMENT_COUNT
from rpcstream.wire.derive import derive
from rpcstream.wire.header import HEADER_BYTES
from rpcstream.wire.items import Layout
from rpcstream.wire.reader import largest_bytes

__all__ = ["PAYLOAD_BYTES", "Codec"]

PAYLOAD_BYTES = MESSAGE_BYTES - HEADER_BYTES
"""Largest payload of a message: 32 MiB - 24 (wire-protocol.md section 1.6)."""
EXPLAINED_BYTES = 4096
"""
Bytes of a peer up to this size are interpreted again to name the bad field.  That
costs 15 to 30 times as much as decoding them, so a large bad message must not buy it.
"""

T = TypeVar("T")
Buffer = bytes | bytearray | memoryview
"""What can be decoded."""


class Codec(Generic[T]):
    """
    Encodes and decodes the values of one declaration.

    C{encode} and C{decode} are closures made for the declaration, kept in the
    instance because a method call would cost half of what they do.

    @ivar encode: C{encode(value)} gives bytes.  Raises L{BadValue}.
    @ivar decode: C{decode(data)} gives the value; all of C{data} belongs to it.
        Raises L{DecodeError}, also for bytes left over.
    @ivar max_bytes: no legal value takes more; a message that announces more
        can be refused before it is read.
    @ivar construct: the declaration.
    """

    __slots__ = ("construct", "decode", "encode", "max_bytes")

    encode: Callable[[T], bytes]
    decode: Callable[[Buffer], T]
    max_bytes: int
    construct: Any

    def __init__(self, declaration: Any) -> None:
        """
        @param declaration: any Construct.
        @raise BadSchema: it nests too deep, or contains itself other than by
            construct.LazyBound.
        """
        layout = derive(declaration)
        largest = largest_bytes(declaration)
        self.construct = declaration
        self.max_bytes = PAYLOAD_BYTES if largest is None else min(largest, PAYLOAD_BYTES)
        if layout.whole is None:
            self.encode = _encoder(declaration, layout, largest is None or largest > PAYLOAD_BYTES)
            self.decode = _decoder(declaration, layout)
        else:
            self.encode = _whole_encoder(declaration, layout.whole.pack)
            self.decode = _whole_decoder(declaration, layout.whole.unpack)

    def __repr__(self) -> str:
        return f"<Codec of {self.construct!r}, at most {self.max_bytes} bytes>"


def _whole_encoder(declaration: Any, pack: Callable[..., bytes]) -> Callable[[Any], bytes]:
    # A record of plain numbers: one C call.
    type = declaration.type

    def encode(value: Any) -> bytes:
        if value.__class__ is type:
            try:
                return pack(*value)
            except Exception:
                pass
        raise _bad_value(declaration, value)

    return encode


def _whole_decoder(declaration: Any, unpack: Callable[[Buffer], Any]) -> Callable[[Buffer], Any]:
    type = declaration.type
    new = tuple.__new__

    def decode(data: Buffer) -> Any:
        try:
            return new(type, unpack(data))
        except Exception:
            raise _bad_bytes(declaration, data, "not the declared size") from None

    return decode


def _encoder(declaration: Any, layout: Layout, may_exceed: bool) -> Callable[[Any], bytes]:
    write = layout.write

    def encode(value: Any) -> bytes:
        parts: list[bytes] = []
        try:
            write(value, parts.append, [XDR_ELEMENT_COUNT])
        except Exception:
            raise _bad_value(declaration, value) from None
        data = b"".join(parts)
        if may_exceed and len(data) > PAYLOAD_BYTES:
            raise BadValue("", f"{len(data)} bytes, a message takes at most {PAYLOAD_BYTES}")
        return data

    return encode


def _decoder(declaration: Any, layout: Layout) -> Callable[[Buffer], Any]:
    read = layout.read

    def decode(data: Buffer) -> Any:
        # Slices of bytes have the methods that text needs; a view has not.
        if not isinstance(data, bytes):
            data = bytes(memoryview(data))
        try:
            value, end = read(data, 0, [XDR_ELEMENT_COUNT])
        except Exception:
            raise _bad_bytes(declaration, data, "does not fit the declared layout") from None
        if end != len(data):
            raise DecodeError("", f"{len(data) - end} trailing bytes")
        return value

    return decode


def _bad_value(declaration: Any, value: Any) -> BadValue:
    try:
        declaration.build(value)
    except construct.ConstructError as error:
        return BadValue(*_located(error))
    except Exception as error:
        return BadValue("", f"{type(error).__name__}: {error}")
    return BadValue("", "does not fit the declared layout")


def _bad_bytes(declaration: Any, data: Buffer, otherwise: str) -> DecodeError:
    if len(data) <= EXPLAINED_BYTES:
        try:
            declaration.parse(bytes(data))
        except construct.ConstructError as error:
            return DecodeError(*_located(error))
        except Exception as error:
            return DecodeError("", f"{otherwise} ({type(error).__name__})")
    return DecodeError("", otherwise)


def _located(error: Exception) -> tuple[str, str]:
    """The dotted field and the reason out of an error of Construct."""
    path: str = getattr(error, "path", None) or ""
    _, *names = path.split(" -> ")
    field = "".join(name if name.startswith("[") else f".{name}" for name in names).lstrip(".")
    reason = getattr(error, "reason", None) or str(error).rpartition("\n")[2]
    return field, reason
