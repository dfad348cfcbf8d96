"""
Why a connection in use was lost, for people to read.
"""

from __future__ import annotations

from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.python.failure import Failure

__all__ = ["reason_text"]


def reason_text(reason: Failure) -> str:
    """Say in one line why the transport was lost."""
    if reason.check(ConnectionDone):
        return "the peer closed the connection"
    if reason.check(ConnectionLost):
        return "the connection was lost"
    return reason.getErrorMessage() or repr(reason.value)
