"""
Options of TCP sockets.

What lives here: finding the socket under a transport and setting its options.
What must not: TLS and protocols.
"""

from __future__ import annotations

import socket
from typing import Any

from rpcstream.limits import DEFAULT_LIMITS, Limits

__all__ = ["USER_TIMEOUT_SECONDS", "socket_of", "tune_socket"]

USER_TIMEOUT_SECONDS = 30.0
"""Sent bytes not acknowledged for this long end the connection (RFC 5482; Linux alone would
go on for 15 minutes)."""

# Linux numbers, for Pythons that do not name them.
_NOT_SENT_LOW_WATER = getattr(socket, "TCP_NOTSENT_LOWAT", 25)
_USER_TIMEOUT = getattr(socket, "TCP_USER_TIMEOUT", 18)


def socket_of(transport: Any) -> socket.socket | None:
    """
    @param transport: a Twisted transport, TLS or another wrapper around one included.
    @return: the socket at the bottom, C{None} if there is none (in tests).  It stays
        the transport's: do not close it.
    """
    # A wrapper's own getHandle() gives the TLS object, or the inner one's.
    while (inner := getattr(transport, "transport", None)) is not None:
        transport = inner
    get_handle = getattr(transport, "getHandle", None)
    handle = get_handle() if get_handle is not None else None
    return handle if isinstance(handle, socket.socket) else None


def tune_socket(transport: Any, limits: Limits = DEFAULT_LIMITS) -> bool:
    """
    Set TCP_NODELAY (a call must not wait for an acknowledgement), TCP_NOTSENT_LOWAT
    (a call must not queue behind bulk in the kernel) and TCP_USER_TIMEOUT (a peer that
    vanished is noticed).  A socket that is not TCP is left alone; so is one that
    cannot be tuned: the options make it better, not possible.

    @param limits: C{not_sent_bytes} is used.
    @return: whether all options are set.
    """
    handle = socket_of(transport)
    if handle is None or handle.family not in (socket.AF_INET, socket.AF_INET6):
        return False
    try:
        handle.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        handle.setsockopt(socket.IPPROTO_TCP, _NOT_SENT_LOW_WATER, limits.not_sent_bytes)
        handle.setsockopt(socket.IPPROTO_TCP, _USER_TIMEOUT, int(USER_TIMEOUT_SECONDS * 1000))
    except OSError:
        return False
    return True
