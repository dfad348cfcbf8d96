"""
Taking a live connection away from Twisted, and giving it back to be closed.

Everything that the lane knows of the insides of Twisted and pyOpenSSL is in this
file, and L{is_supported} tries it out once: where it does not hold, the shared
lane is used.  No thread is started here.

What makes it safe (each was seen to matter):
 - output that is still in the write aggregator, in TLS's memory BIO or in the TCP
   transport's buffer would be lost or come after later records: L{is_flushed};
 - Twisted reads a TLS connection until OpenSSL wants more, so its memory BIO is
   empty then and parts of a record are inside the SSL object, which stays;
 - the descriptor is the same and stays non-blocking: the peer may send a
   KeyUpdate at any time, on which a blocking read would hang;
 - Twisted's TLS protocol keeps a stub in place of the SSL object, so that none
   of its ways to close can touch that from another thread.
"""

from __future__ import annotations

import functools
import os
import select
import socket
from typing import Any

from OpenSSL import SSL
from twisted.internet import abstract, tcp
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.protocols.tls import BufferingTLSTransport, TLSMemoryBIOProtocol
from twisted.python.failure import Failure

from rpcstream.net.lane.channel import WANT_READ, WANT_WRITE, Channel, ChannelLost, PlainChannel

try:
    from OpenSSL._util import ffi, lib
except ImportError:
    ffi = lib = None  # then L{is_supported} finds out

_SYSTEM_ERROR = 0x80000000
"""OpenSSL's mark of an error that the system told."""

__all__ = ["TLSChannel", "can_take", "close", "detach", "flush", "is_flushed", "is_supported", "takes_files"]


class TLSChannel(Channel):
    """An SSL object that reads and writes the descriptor itself; used by one thread."""

    is_upset_by_reading = True

    def __init__(self, connection: Any, handle: socket.socket) -> None:
        """
        @param connection: pyOpenSSL's, after the handshake, reading from memory.
        @param handle: non-blocking; it stays its owner's.
        """
        super().__init__(handle)
        self._connection = connection  # owns the SSL object
        self._ssl = connection._ssl
        self._lost: ChannelLost | None = None
        lib.SSL_set_fd(self._ssl, handle.fileno())
        # That has freed the memory BIOs.
        connection._into_ssl = connection._from_ssl = None
        # A large write is one call, during which others may run; buffers are kept between records.
        lib.SSL_clear_mode(self._ssl, lib.SSL_MODE_ENABLE_PARTIAL_WRITE | lib.SSL_MODE_RELEASE_BUFFERS)

    def read(self, view: memoryview) -> tuple[int, int]:
        if self._lost is not None:
            raise self._lost
        # A record (16 KiB) each time round.
        read, ssl, size, filled = lib.SSL_read, self._ssl, len(view), 0
        with ffi.from_buffer(view) as base:
            while filled < size:
                result = read(ssl, base + filled, size - filled)
                if result <= 0:
                    return filled, self._why_not_read(result, filled)
                filled += result
        return filled, 0

    def _why_not_read(self, result: int, filled: int) -> int:
        try:
            return self._why(result)
        except ChannelLost as error:
            if not filled:
                raise
            self._lost = error
            return WANT_READ

    def write(self, view: memoryview, goes_on: bool = False) -> int:
        with ffi.from_buffer(view) as base:
            result: int = lib.SSL_write(self._ssl, base, len(view))
        return result if result > 0 else self._why(result) or WANT_READ

    def end(self) -> int:
        result = lib.SSL_shutdown(self._ssl)
        return 0 if result >= 0 else self._why(result)

    def _why(self, result: int) -> int:
        """
        @return: what a call waits for.
        @raise ChannelLost: nothing more will come.
        """
        error = lib.SSL_get_error(self._ssl, result)
        if error == lib.SSL_ERROR_WANT_READ:
            return WANT_READ
        if error == lib.SSL_ERROR_WANT_WRITE:
            return WANT_WRITE
        if error == lib.SSL_ERROR_ZERO_RETURN:
            raise ChannelLost("", in_order=True)
        number = ffi.errno
        queue = []
        while (code := lib.ERR_get_error()) != 0:
            queue.append(_reason(code))
        text = ", ".join(queue) or (os.strerror(number) if number else "unexpected end")
        raise ChannelLost(text)


def _reason(code: int) -> str:
    """What an entry of OpenSSL's error queue says; some are the system's own numbers."""
    reason = lib.ERR_reason_error_string(code)
    if reason != ffi.NULL:
        text: str = ffi.string(reason).decode("ascii", "replace")
        return text
    return os.strerror(code & ~_SYSTEM_ERROR) if code & _SYSTEM_ERROR else f"error {code:#x}"


class _Gone:
    """Stands in for the SSL object in Twisted's TLS protocol: nothing goes through it any more."""

    def __init__(self, connection: SSL.Connection) -> None:
        self._certificate = connection.get_peer_certificate()
        self._protocol = connection.get_alpn_proto_negotiated()

    def get_peer_certificate(self) -> Any:
        return self._certificate

    def get_alpn_proto_negotiated(self) -> bytes:
        return self._protocol

    def send(self, data: bytes) -> int:
        raise SSL.WantReadError()

    def recv(self, size: int) -> bytes:
        raise SSL.WantReadError()

    def bio_read(self, size: int) -> bytes:
        raise SSL.WantReadError()

    def bio_write(self, data: bytes) -> int:
        return len(data)

    def bio_shutdown(self) -> None:
        pass

    def shutdown(self) -> bool:
        return False


def can_take(transport: Any) -> bool:
    """Whether C{transport} is one that L{detach} knows: a TCP or UNIX socket, with TLS or without."""
    if isinstance(transport, TLSMemoryBIOProtocol):
        transport = transport.transport
    return isinstance(transport, tcp.Connection) and is_supported()


def takes_files(transport: Any) -> bool:
    """Whether the kernel can move files to this socket: not through TLS."""
    return not isinstance(transport, TLSMemoryBIOProtocol)


def flush(transport: Any) -> None:
    """Move what waits for the reactor's next turn on to the socket's own buffer."""
    if isinstance(transport, BufferingTLSTransport):
        transport._aggregator.flush()


def is_flushed(transport: Any) -> bool:
    """Whether all that was written has gone to the kernel."""
    if isinstance(transport, TLSMemoryBIOProtocol):
        waiting = getattr(transport, "_aggregator", None)
        if transport._appSendBuffer or (waiting is not None and waiting._buffer):
            return False
        transport._flushSendBIO()
        transport = transport.transport
    return not transport._tempDataBuffer and len(transport.dataBuffer) == transport.offset


def detach(transport: Any) -> Channel:
    """
    Take the socket out of the reactor; from here on only the channel uses it.

    @param transport: flushed, connected, and not closing.
    """
    bottom: Any = transport.transport if isinstance(transport, TLSMemoryBIOProtocol) else transport
    bottom.stopReading()
    bottom.stopWriting()
    handle: socket.socket = bottom.socket
    if not isinstance(transport, TLSMemoryBIOProtocol):
        return PlainChannel(handle)
    connection = transport._tlsConnection
    channel = TLSChannel(connection, handle)
    transport._tlsConnection = _Gone(connection)  # type: ignore[assignment]
    # Nothing is left for it to read or to say when the connection is lost.
    transport._lostTLSConnection = True
    return channel


def close(transport: Any, in_order: bool) -> None:
    """
    Close what was detached: C{connectionLost} is called, once, before this returns.

    @param in_order: whether the peer has said that this is the end.
    """
    bottom: Any = transport.transport if isinstance(transport, TLSMemoryBIOProtocol) else transport
    bottom.connectionLost(Failure(ConnectionDone() if in_order else ConnectionLost()))


@functools.cache
def is_supported() -> bool:
    """Whether this machine, this Twisted and this pyOpenSSL are as this file takes them to be."""
    try:
        return _try_descriptor() and _try_twisted() and _try_ssl()
    except Exception:
        return False


def _try_descriptor() -> bool:
    os.close(os.eventfd(0, os.EFD_NONBLOCK | os.EFD_CLOEXEC))
    return hasattr(select, "poll")


def _try_twisted() -> bool:
    descriptor = abstract.FileDescriptor(reactor=object())  # type: ignore[arg-type]
    names = ("_tlsConnection", "_appSendBuffer", "_lostTLSConnection", "_flushSendBIO")
    code = "\n".join(_names_of(TLSMemoryBIOProtocol))
    return (
        descriptor._tempDataBuffer == []
        and (descriptor.dataBuffer, descriptor.offset) == (b"", 0)
        and all(name in code for name in names)
        and "_aggregator" in _names_of(BufferingTLSTransport)
    )


def _names_of(kind: type) -> set[str]:
    """Every name that the methods of a class use or define."""
    found = set(vars(kind))
    for method in vars(kind).values():
        code = getattr(method, "__code__", None)
        if code is not None:
            found.update(code.co_names)
    return found


def _try_ssl() -> bool:
    """A connection that was made for memory begins its handshake over a socket."""
    ours, theirs = socket.socketpair()
    with ours, theirs:
        ours.setblocking(False)
        theirs.setblocking(False)
        connection = SSL.Connection(SSL.Context(SSL.TLS_METHOD), None)
        connection.set_connect_state()
        if connection._into_ssl is None or connection._from_ssl is None:
            return False
        channel = TLSChannel(connection, ours)
        wanted = channel.write(memoryview(b"x"))
        return wanted == WANT_READ and theirs.recv(1) == b"\x16"
