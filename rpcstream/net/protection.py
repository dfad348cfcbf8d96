"""
What protects a connection, as TLS has negotiated it.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from OpenSSL.SSL import Connection

__all__ = ["Protection", "protection_of"]


class Protection(NamedTuple):
    """
    @ivar version: C{"TLSv1.3"}.
    @ivar cipher: OpenSSL's name of the cipher suite.
    """

    version: str
    cipher: str


def protection_of(transport: Any) -> Protection | None:
    """
    @param transport: of a connected protocol.
    @return: C{None} without TLS, or when the connection is lost.
    """
    get_handle = getattr(transport, "getHandle", None)
    handle = get_handle() if get_handle is not None else None
    if not isinstance(handle, Connection):
        return None
    return Protection(handle.get_protocol_version_name(), handle.get_cipher_name() or "")
