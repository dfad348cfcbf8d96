"""
Calls and bulk data streams over one TLS connection, for Twisted; wire compatible with libvirt.

What a program needs that is built on rpcstream is here.  A name is imported
from its home when it is first used, so that C{import rpcstream} stays cheap and
pulls Twisted in only for those who use it.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rpcstream.errors import (
        BadSchema,
        BadState,
        BadValue,
        BufferFull,
        CallCancelled,
        ConfigurationError,
        ConnectionClosed,
        ConnectRefused,
        DeadlineExceeded,
        DecodeError,
        EventsLost,
        LocalError,
        PeerError,
        ProtocolViolation,
        RemoteError,
        RPCStreamError,
        StreamAborted,
        StreamStalled,
    )
    from rpcstream.limits import DEFAULT_LIMITS, Limits
    from rpcstream.net.calls import Call, DownloadCall, DuplexCall, UploadCall
    from rpcstream.net.client import ClientConnection
    from rpcstream.net.connect import connect
    from rpcstream.net.duplex import DuplexStream
    from rpcstream.net.identity import Principal
    from rpcstream.net.incoming import IncomingStream
    from rpcstream.net.outgoing import OutgoingStream
    from rpcstream.net.progress import Progress
    from rpcstream.net.service import RPCService, serve
    from rpcstream.net.spool import Hole
    from rpcstream.programs.base import Download, Duplex, Event, Procedure, Program, Upload
    from rpcstream.services.policy import Rule, RulePolicy, allow
    from rpcstream.wire import (
        Char,
        Codec,
        Double,
        Fixed,
        Float,
        Hyper,
        Int,
        Max,
        Short,
        Struct,
        Switch,
        Text,
        UChar,
        UHyper,
        UInt,
        UShort,
        codec_of,
    )

__all__ = [
    "DEFAULT_LIMITS",
    "BadSchema",
    "BadState",
    "BadValue",
    "BufferFull",
    "Call",
    "CallCancelled",
    "Char",
    "ClientConnection",
    "Codec",
    "ConfigurationError",
    "ConnectRefused",
    "ConnectionClosed",
    "DeadlineExceeded",
    "DecodeError",
    "Double",
    "Download",
    "DownloadCall",
    "Duplex",
    "DuplexCall",
    "DuplexStream",
    "Event",
    "EventsLost",
    "Fixed",
    "Float",
    "Hole",
    "Hyper",
    "IncomingStream",
    "Int",
    "Limits",
    "LocalError",
    "Max",
    "OutgoingStream",
    "PeerError",
    "Principal",
    "Procedure",
    "Program",
    "Progress",
    "ProtocolViolation",
    "RPCService",
    "RPCStreamError",
    "RemoteError",
    "Rule",
    "RulePolicy",
    "Short",
    "StreamAborted",
    "StreamStalled",
    "Struct",
    "Switch",
    "Text",
    "UChar",
    "UHyper",
    "UInt",
    "UShort",
    "Upload",
    "UploadCall",
    "allow",
    "codec_of",
    "connect",
    "serve",
]

__version__ = "0.1.0"

_HOMES = {
    "BadSchema": "rpcstream.errors",
    "BadState": "rpcstream.errors",
    "BadValue": "rpcstream.errors",
    "BufferFull": "rpcstream.errors",
    "CallCancelled": "rpcstream.errors",
    "ConfigurationError": "rpcstream.errors",
    "ConnectRefused": "rpcstream.errors",
    "ConnectionClosed": "rpcstream.errors",
    "DeadlineExceeded": "rpcstream.errors",
    "DecodeError": "rpcstream.errors",
    "EventsLost": "rpcstream.errors",
    "LocalError": "rpcstream.errors",
    "PeerError": "rpcstream.errors",
    "ProtocolViolation": "rpcstream.errors",
    "RPCStreamError": "rpcstream.errors",
    "RemoteError": "rpcstream.errors",
    "StreamAborted": "rpcstream.errors",
    "StreamStalled": "rpcstream.errors",
    "DEFAULT_LIMITS": "rpcstream.limits",
    "Limits": "rpcstream.limits",
    "Call": "rpcstream.net.calls",
    "DownloadCall": "rpcstream.net.calls",
    "DuplexCall": "rpcstream.net.calls",
    "UploadCall": "rpcstream.net.calls",
    "ClientConnection": "rpcstream.net.client",
    "connect": "rpcstream.net.connect",
    "DuplexStream": "rpcstream.net.duplex",
    "Principal": "rpcstream.net.identity",
    "IncomingStream": "rpcstream.net.incoming",
    "OutgoingStream": "rpcstream.net.outgoing",
    "Progress": "rpcstream.net.progress",
    "RPCService": "rpcstream.net.service",
    "serve": "rpcstream.net.service",
    "Hole": "rpcstream.net.spool",
    "Download": "rpcstream.programs.base",
    "Duplex": "rpcstream.programs.base",
    "Event": "rpcstream.programs.base",
    "Procedure": "rpcstream.programs.base",
    "Program": "rpcstream.programs.base",
    "Upload": "rpcstream.programs.base",
    "Rule": "rpcstream.services.policy",
    "RulePolicy": "rpcstream.services.policy",
    "allow": "rpcstream.services.policy",
    "Char": "rpcstream.wire",
    "Codec": "rpcstream.wire",
    "Double": "rpcstream.wire",
    "Fixed": "rpcstream.wire",
    "Float": "rpcstream.wire",
    "Hyper": "rpcstream.wire",
    "Int": "rpcstream.wire",
    "Max": "rpcstream.wire",
    "Short": "rpcstream.wire",
    "Struct": "rpcstream.wire",
    "Switch": "rpcstream.wire",
    "Text": "rpcstream.wire",
    "UChar": "rpcstream.wire",
    "UHyper": "rpcstream.wire",
    "UInt": "rpcstream.wire",
    "UShort": "rpcstream.wire",
    "codec_of": "rpcstream.wire",
}
"""Where each public name lives."""


def __getattr__(name: str) -> object:
    """Import a public name from its home (PEP 562)."""
    home = _HOMES.get(name)
    if home is None:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    value: object = getattr(importlib.import_module(home), name)
    globals()[name] = value
    return value


def __dir__() -> list[str]:
    """The public names, whether imported yet or not."""
    return sorted({*globals(), *_HOMES})
