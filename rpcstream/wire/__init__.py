"""Bytes to values and back: header, XDR, errors and holes, declared in Construct; strict, no state."""

from rpcstream.wire.annotations import (
    Char,
    Double,
    Fixed,
    Float,
    Hyper,
    Int,
    Max,
    Short,
    Switch,
    Text,
    UChar,
    UHyper,
    UInt,
    UShort,
)
from rpcstream.wire.codec import PAYLOAD_BYTES, Codec
from rpcstream.wire.error import ErrorInfo, decode_error, encode_error, remote_error
from rpcstream.wire.header import (
    HEADER,
    HEADER_BYTES,
    Header,
    MessageType,
    Status,
    decode_header,
    encode_header,
)
from rpcstream.wire.hole import decode_hole, encode_hole
from rpcstream.wire.struct import Struct, codec_of

__all__ = [
    "HEADER",
    "HEADER_BYTES",
    "PAYLOAD_BYTES",
    "Char",
    "Codec",
    "Double",
    "ErrorInfo",
    "Fixed",
    "Float",
    "Header",
    "Hyper",
    "Int",
    "Max",
    "MessageType",
    "Short",
    "Status",
    "Struct",
    "Switch",
    "Text",
    "UChar",
    "UHyper",
    "UInt",
    "UShort",
    "codec_of",
    "decode_error",
    "decode_header",
    "decode_hole",
    "encode_error",
    "encode_header",
    "encode_hole",
    "remote_error",
]
