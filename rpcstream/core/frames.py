"""
Whole frames, header and payload in one object, ready to be written.
"""

from __future__ import annotations

from rpcstream.errors import BadValue, DecodeError, RemoteError, RPCFailed
from rpcstream.limits import MESSAGE_BYTES
from rpcstream.programs import keepalive
from rpcstream.wire.error import ErrorInfo, decode_error, encode_error
from rpcstream.wire.header import HEADER_BYTES, Header, MessageType, Status, pack_header

__all__ = ["PING", "PONG", "error_frame", "error_info", "frame", "read_error", "reply_frame"]


def frame(
    program: int,
    version: int,
    procedure: int,
    type: int,
    serial: int,
    status: int,
    payload: bytes | bytearray | memoryview = b"",
) -> bytes:
    """
    One frame; the payload is copied once.

    @raise BadValue: a number does not fit, or the payload is larger than a message may be.
    """
    length = HEADER_BYTES + len(payload)
    if length > MESSAGE_BYTES:
        raise BadValue("payload", f"{len(payload)} bytes are more than a message may carry")
    header = pack_header(length, program, version, procedure, type, serial, status)
    return header + payload if payload else header


def reply_frame(header: Header, payload: bytes, status: int = Status.OK) -> bytes:
    """The REPLY to the call with this header."""
    return frame(
        header.program, header.version, header.procedure, MessageType.REPLY, header.serial, status, payload
    )


def error_frame(header: Header, error: RemoteError, type: int = MessageType.REPLY) -> bytes:
    """REPLY/ERROR or STREAM/ERROR for the message with this header; its text is cut to what may be sent."""
    return frame(
        header.program,
        header.version,
        header.procedure,
        type,
        header.serial,
        Status.ERROR,
        encode_error(error),
    )


def error_info(error: RemoteError) -> ErrorInfo:
    """An error of our own in the form that a peer's has."""
    return decode_error(encode_error(error))


def read_error(payload: bytes) -> ErrorInfo:
    """
    The error in a REPLY/ERROR or STREAM/ERROR.

    The peer has said that it failed; that is so however garbled its reason is.
    """
    try:
        return decode_error(payload)
    except DecodeError:
        return error_info(RPCFailed("the peer sent an error that cannot be decoded"))


PING = frame(keepalive.PROGRAM, keepalive.VERSION, keepalive.PING, MessageType.MESSAGE, 0, Status.OK)
PONG = frame(keepalive.PROGRAM, keepalive.VERSION, keepalive.PONG, MessageType.MESSAGE, 0, Status.OK)
