"""
Where messages begin in TLS records.

libvirt, server and client, takes one message and then waits for the socket, though GnuTLS may
have decrypted the next one already: what is not the first of its record waits for whatever
comes later (wire-protocol.md section 5.2).
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any

from twisted.protocols.tls import TLSMemoryBIOProtocol

__all__ = ["separate_writer"]


def separate_writer(transport: Any) -> Callable[[bytes], object]:
    """
    How to write so that what is written begins a record.

    Twisted's TLS transport joins small writes of one turn of the reactor, and this goes past
    that.  It may come before the transport's own C{write}, but not after it.

    @return: takes bytes; C{transport.write} where there is no TLS.
    """
    if isinstance(transport, TLSMemoryBIOProtocol):
        return partial(TLSMemoryBIOProtocol.write, transport)
    write: Callable[[bytes], object] = transport.write
    return write
