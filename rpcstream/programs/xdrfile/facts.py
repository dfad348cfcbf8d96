"""
What libvirt's C headers and hand-written C code say and its C{.x} files do not.

Numbers and names only (wire-protocol.md sections 8, 10.2 and 10.3).
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rpcstream.programs.program import Kind
from rpcstream.wire.annotations import Char, Hyper, Int, Short, UChar, UHyper, UInt, UShort

__all__ = ["HEADER_CONSTANTS", "HEADER_TYPES", "KINDS", "LIBVIRT_PROGRAMS"]

HEADER_CONSTANTS: Mapping[str, int] = {
    "FALSE": 0,
    "TRUE": 1,
    "VIR_UUID_BUFLEN": 16,
    "VIR_SECURITY_MODEL_BUFLEN": 257,
    "VIR_SECURITY_DOI_BUFLEN": 257,
    "VIR_SECURITY_LABEL_BUFLEN": 4097,
    "VIR_TYPED_PARAM_INT": 1,
    "VIR_TYPED_PARAM_UINT": 2,
    "VIR_TYPED_PARAM_LLONG": 3,
    "VIR_TYPED_PARAM_ULLONG": 4,
    "VIR_TYPED_PARAM_DOUBLE": 5,
    "VIR_TYPED_PARAM_BOOLEAN": 6,
    "VIR_TYPED_PARAM_STRING": 7,
    "VIR_STORAGE_VOL_DOWNLOAD_SPARSE_STREAM": 1,
    "VIR_STORAGE_VOL_UPLOAD_SPARSE_STREAM": 1,
}
"""Names that a C{.x} file may use without declaring them; its own go first."""

HEADER_TYPES: Mapping[str, Any] = {
    "bool_t": bool,
    "int8_t": Char,
    "int16_t": Short,
    "int32_t": Int,
    "int64_t": Hyper,
    "longlong_t": Hyper,
    "quad_t": Hyper,
    "u_char": UChar,
    "u_hyper": UHyper,
    "u_int": UInt,
    "u_long": UInt,
    "u_longlong_t": UHyper,
    "u_quad_t": UHyper,
    "u_short": UShort,
    "uint8_t": UChar,
    "uint16_t": UShort,
    "uint32_t": UInt,
    "uint64_t": UHyper,
}
"""Types of C{rpc/types.h} for which C's library has an XDR function of that name."""

LIBVIRT_PROGRAMS = frozenset(
    {
        0x20008086,  # remote
        0x20008087,  # qemu
        0x00068000,  # lxc
        0x06900690,  # admin
        0x6B656570,  # keepalive
        0x0EA7BEEF,  # lock
        0x87539319,  # log
        0x12341234,  # LXC monitor
    }
)
"""Their peers send flags other than 0 and 1, any bytes as text and new members of enums."""

KINDS: Mapping[str, Kind] = {
    # Written by hand at both ends, and therefore without an annotation.
    "REMOTE_PROC_DOMAIN_MIGRATE_PREPARE_TUNNEL3_PARAMS": Kind.UPLOAD,
    # The annotation says who begins to send; what is typed goes the other way.
    "REMOTE_PROC_DOMAIN_OPEN_CONSOLE": Kind.DUPLEX,
    "REMOTE_PROC_DOMAIN_OPEN_CHANNEL": Kind.DUPLEX,
    # Messages without a struct.
    "KEEPALIVE_PROC_PING": Kind.EVENT,
    "KEEPALIVE_PROC_PONG": Kind.EVENT,
}
"""Procedures that are not what their annotations and structs say."""
