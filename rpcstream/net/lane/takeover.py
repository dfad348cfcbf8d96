"""
Taking a live connection away from Twisted, and giving it back to be closed.

Everything that the lane knows of the insides of Twisted and pyOpenSSL is in this
file, and L{is_supported} tries it out once: where it does not hold, the shared
lane is used.  No thread is started here.

What makes it safe (each was seen to matter):
 - output that is still in the write aggregator or in the TCP transport's buffer
   would be lost or come after later records: L{is_flushed};
 - the SSL object and its memory BIOs stay as they are, so that nothing is lost of
   what has come or waits to go;
 - the descriptor is the same and stays non-blocking: the peer may send a
   KeyUpdate at any time, on which a blocking read would hang;
 - Twisted's TLS protocol keeps a stub in place of the SSL object, so that none
   of its ways to close can touch that from another thread.
"""

from __future__ import annotations

import contextlib
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
from rpcstream.net.lane.turns import Turns

try:
    from OpenSSL._util import ffi, lib
except ImportError:
    ffi = lib = None  # then L{is_supported} finds out

__all__ = ["TLSChannel", "can_take", "close", "detach", "flush", "is_flushed", "is_supported", "takes_files"]


CHUNK_BYTES = 256 * 1024
"""Most that is encrypted, sent or received at once."""


_turns = Turns()


class TLSChannel(Channel):
    """
    An SSL object between memory BIOs, and the socket; used by one thread.

    Measured on two cores: OpenSSL on the socket itself takes a system call for each
    record to send and two to read it, and wakes the peer for each.  Through memory,
    256 KiB at once, both ends take a fifth to a half less of the processor.
    """

    def __init__(self, connection: Any, handle: socket.socket) -> None:
        """
        @param connection: pyOpenSSL's, after the handshake, reading from memory.
        @param handle: non-blocking; it stays its owner's.
        """
        super().__init__(handle)
        self._connection = connection  # owns the SSL object, and that the BIOs
        self._ssl = connection._ssl
        self._into_ssl, self._from_ssl = connection._into_ssl, connection._from_ssl
        self._received = bytearray(CHUNK_BYTES)
        self._encrypted = bytearray(2 * CHUNK_BYTES)
        self._unsent = memoryview(b"")
        self._accepted = 0
        self._is_ending = False
        self._lost: ChannelLost | None = None
        self._waiting = ffi.new("char **")
        # A large write is one call, during which others may run; buffers are kept between records.
        lib.SSL_clear_mode(self._ssl, lib.SSL_MODE_ENABLE_PARTIAL_WRITE | lib.SSL_MODE_RELEASE_BUFFERS)

    def read(self, view: memoryview) -> tuple[int, int]:
        with _turns:
            return self._read(view)

    def _read(self, view: memoryview) -> tuple[int, int]:
        if self._lost is not None:
            raise self._lost
        # A record (16 KiB) each time round.
        read, ssl, size, filled = lib.SSL_read, self._ssl, len(view), 0
        with ffi.from_buffer(view) as base:
            while filled < size:
                result = read(ssl, base + filled, size - filled)
                if result > 0:
                    filled += result
                    continue
                try:
                    self._check(result)
                    wants = self._receive()
                except ChannelLost as error:
                    if not filled:
                        raise
                    self._lost = error
                    wants = WANT_READ
                if wants:
                    return filled, wants
        return filled, 0

    def _receive(self) -> int:
        """
        Move what has come to the SSL object.

        @return: 0, or what to wait for.
        """
        if self._waiting_bytes() > CHUNK_BYTES:
            # A peer that asks for ever new keys and does not read the answers.
            return WANT_WRITE
        count = self._receive_some(self._received)
        if count == WANT_READ:
            return WANT_READ
        if not count:
            raise ChannelLost("unexpected end")
        with ffi.from_buffer(self._received) as base:
            if lib.BIO_write(self._into_ssl, base, count) != count:
                raise ChannelLost("no memory")
        return 0

    def write(self, view: memoryview, goes_on: bool = False) -> int:
        with _turns:
            return self._write(view, goes_on)

    def _write(self, view: memoryview, goes_on: bool) -> int:
        if not self._accepted:
            count = min(len(view), CHUNK_BYTES)
            with ffi.from_buffer(view) as base:
                result: int = lib.SSL_write(self._ssl, base, count)
            if result <= 0:
                self._check(result)
                return self.flush() or WANT_READ
            if goes_on and self._waiting_bytes() < CHUNK_BYTES:
                return result
            self._accepted = result
        wants = self.flush()
        if wants:
            return wants
        accepted, self._accepted = self._accepted, 0
        return accepted

    def flush(self) -> int:
        while True:
            while self._unsent:
                count = self._send_some(self._unsent)
                if count == WANT_WRITE:
                    return WANT_WRITE
                self._unsent = self._unsent[count:]
            if not self._waiting_bytes():
                return 0
            with ffi.from_buffer(self._encrypted) as base:
                count = lib.BIO_read(self._from_ssl, base, len(self._encrypted))
            self._unsent = memoryview(self._encrypted)[:count]

    def _waiting_bytes(self) -> int:
        """What the SSL object wants to be sent."""
        count: int = lib.BIO_get_mem_data(self._from_ssl, self._waiting)
        return count

    def end(self) -> int:
        if not self._is_ending:
            self._is_ending = True
            result = lib.SSL_shutdown(self._ssl)
            if result < 0:
                self._check(result)
        return self.flush()

    def _check(self, result: int) -> None:
        """@raise ChannelLost: a call did not only want more from the peer."""
        error = lib.SSL_get_error(self._ssl, result)
        if error == lib.SSL_ERROR_WANT_READ:
            return
        if error == lib.SSL_ERROR_ZERO_RETURN:
            raise ChannelLost("", in_order=True)
        reasons: list[str] = []
        while (code := lib.ERR_get_error()) != 0:
            reason = lib.ERR_reason_error_string(code)
            known = reason != ffi.NULL
            reasons.append(ffi.string(reason).decode("ascii", "replace") if known else f"error {code:#x}")
        with contextlib.suppress(ChannelLost):
            self.flush()  # the alert that tells the peer
        raise ChannelLost(", ".join(reasons) or "unexpected end")


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
