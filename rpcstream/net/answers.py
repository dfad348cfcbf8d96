"""
From what a responder raised to what its caller is told.

The one boundary: nothing but a typed error leaves a responder, and a traceback
goes to our own log only.
"""

from __future__ import annotations

import os
from secrets import token_hex

from twisted.internet.defer import CancelledError
from twisted.logger import Logger
from twisted.python.failure import Failure

from rpcstream.errors import (
    BufferFull,
    ConnectionClosed,
    InternalError,
    OperationAborted,
    RemoteError,
    StreamAborted,
    StreamStalled,
    SystemCallFailed,
)

__all__ = ["as_remote_error"]


def as_remote_error(error: BaseException | None, log: Logger) -> RemoteError:
    """
    The error to send for C{error}.

    A L{RemoteError} is sent as it is; an C{OSError} becomes code 38 with errno
    in C{int1}; what the peer or a cancellation caused is not logged; anything
    else is "internal error" with an id that stands in the log.
    """
    if isinstance(error, RemoteError):
        return error
    if isinstance(error, OSError):
        number = error.errno or 0
        text = os.strerror(number) if number else str(error)
        return SystemCallFailed(text, int1=number, str1=text)
    if isinstance(error, StreamStalled | BufferFull):
        return OperationAborted(str(error))
    if isinstance(error, StreamAborted | ConnectionClosed | CancelledError):
        return OperationAborted(str(error) or "cancelled")
    identifier = token_hex(4)
    log.failure(
        "internal error {identifier} in a responder",
        failure=Failure(error or Exception()),
        identifier=identifier,
    )
    return InternalError(f"internal error {identifier}")
