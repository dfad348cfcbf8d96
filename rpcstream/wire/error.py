"""
The error struct: the payload of REPLY/ERROR and of a server's STREAM/ERROR.

wire-protocol.md section 3.  What we send can always be sent: texts are cut,
numbers brought into range.  What a peer sends may hold any bytes, and its flags
are taken as libvirt takes them.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Annotated

from rpcstream.errors import COMMON_ERRORS, RemoteError, Unsupported
from rpcstream.limits import ERROR_TEXT_BYTES
from rpcstream.wire.annotations import Fixed, Int, Text
from rpcstream.wire.reader import shown
from rpcstream.wire.struct import Struct, codec_of

__all__ = [
    "ErrorDomain",
    "ErrorInfo",
    "ErrorNetwork",
    "cut_text",
    "decode_error",
    "encode_error",
    "remote_error",
]

_RPC_CODE = 39
_UNKNOWN_PROCEDURE = "unknown procedure"
_INT_RANGE = range(-(1 << 31), 1 << 31)


class ErrorDomain(Struct, lenient=True):
    """The domain an error is about; libvirtd never sends it."""

    name: Text
    uuid: Annotated[bytes, Fixed(16)]
    id: Int


class ErrorNetwork(Struct, lenient=True):
    """The network an error is about; libvirtd never sends it."""

    name: Text
    uuid: Annotated[bytes, Fixed(16)]


class ErrorInfo(Struct, lenient=True):
    """
    An error as it is on the wire.

    @ivar domain: number of the part that raised it.
    @ivar dom: the virtual machine it is about.
    """

    code: Int
    domain: Int
    message: Text | None
    level: Int
    dom: ErrorDomain | None
    str1: Text | None
    str2: Text | None
    str3: Text | None
    int1: Int
    int2: Int
    net: ErrorNetwork | None


_CODEC = codec_of(ErrorInfo)


def cut_text(text: str, limit_bytes: int = ERROR_TEXT_BYTES) -> str:
    """
    C{text} as valid UTF-8 without NUL, at most C{limit_bytes} of it.

    Surrogates, which stand for bytes that were not UTF-8, and NULs become
    escapes; the cut is made between characters.
    """
    data = text.replace("\0", "\\x00").encode("utf-8", "backslashreplace")
    return data[:limit_bytes].decode("utf-8", "ignore")


def _text(value: object) -> str | None:
    return None if value is None else cut_text(value if isinstance(value, str) else shown(value))


def _number(value: object, otherwise: int) -> int:
    return int(value) if isinstance(value, int) and value in _INT_RANGE else otherwise


def encode_error(error: RemoteError) -> bytes:
    """The payload that carries C{error}; never fails, whatever its fields hold."""
    # A subclass may have set its fields to anything, or none of them.
    fields = vars(error)
    return _CODEC.encode(
        ErrorInfo(
            code=_number(fields.get("code", type(error).default_code), 1),
            domain=_number(fields.get("domain"), 7),
            message=_text(fields.get("message", type(error).__name__)),
            level=_number(fields.get("level"), 2),
            dom=None,
            str1=_text(fields.get("str1")),
            str2=_text(fields.get("str2")),
            str3=_text(fields.get("str3")),
            int1=_number(fields.get("int1"), -1),
            int2=_number(fields.get("int2"), -1),
            net=None,
        )
    )


def decode_error(payload: bytes) -> ErrorInfo:
    """
    The error in a payload, its texts as long as the peer made them.

    @raise DecodeError: it is none.
    """
    return _CODEC.decode(payload)


def remote_error(info: ErrorInfo, program_errors: Mapping[int, type[RemoteError]]) -> RemoteError:
    """
    The exception for an error that came from the peer.

    Its class is looked up by code in the table of the call's program, then among
    libvirt's common ones; an unknown code gives a plain L{RemoteError}.  Texts
    are cut to L{ERROR_TEXT_BYTES}.

    @param program_errors: the C{errors} of the program that was called.
    """
    code = info.code
    message = cut_text(info.message or "")
    if code == _RPC_CODE and message.startswith(_UNKNOWN_PROCEDURE):
        # libvirt's clients rely on this to fall back to older calls (wire-protocol.md section 1.4).
        code = Unsupported.default_code
    kind = program_errors.get(code) or COMMON_ERRORS.get(code) or RemoteError
    # A subclass may have a constructor of its own, which the peer's words must not reach.
    error = kind.__new__(kind)
    RemoteError.__init__(
        error,
        message,
        code=code,
        domain=info.domain,
        level=info.level,
        str1=_text(info.str1),
        str2=_text(info.str2),
        str3=_text(info.str3),
        int1=info.int1,
        int2=info.int2,
    )
    return error
