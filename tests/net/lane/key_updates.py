"""
A relay between two TLS connections of its own, which asks both ends for new keys
again and again.

Python's ssl has no name for that, so OpenSSL is asked by ctypes.
"""

from __future__ import annotations

import contextlib
import ctypes
import functools
import select
import socket
import ssl
import threading
from pathlib import Path
from typing import Any

__all__ = ["KeyUpdateRelay", "can_update_keys", "client_context", "update_keys"]

_UPDATE_REQUESTED = 1
_PIECE_BYTES = 16 * 1024
_WAITING_BYTES = 1024 * 1024


@functools.cache
def _library() -> Any:
    """The libssl that Python's own ssl module has loaded."""
    with open("/proc/self/maps", encoding="ascii", errors="replace") as maps:
        paths = {line.split()[-1] for line in maps if "libssl" in line}
    library = ctypes.CDLL(sorted(paths)[0])
    library.SSL_key_update.argtypes = (ctypes.c_void_p, ctypes.c_int)
    library.SSL_get_key_update_type.argtypes = (ctypes.c_void_p,)
    library.SSL_version.argtypes = (ctypes.c_void_p,)
    return library


def _pointer(connection: ssl.SSLSocket) -> ctypes.c_void_p:
    """The C{SSL*} of a socket: the second field behind the object's header."""
    inner: Any = connection._sslobj  # type: ignore[attr-defined]
    return ctypes.c_void_p.from_address(id(inner) + 3 * ctypes.sizeof(ctypes.c_void_p))


def can_update_keys() -> bool:
    """Whether the library is found."""
    try:
        _library()
    except (OSError, IndexError, AttributeError):
        return False
    return True


def client_context(pki: Path) -> ssl.SSLContext:
    """Of a client with a certificate of that directory."""
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_CLIENT)
    context.load_cert_chain(pki / "clientcert.pem", pki / "clientkey.pem")
    context.load_verify_locations(pki / "cacert.pem")
    context.minimum_version = ssl.TLSVersion.TLSv1_3
    context.check_hostname = False
    return context


def update_keys(connection: ssl.SSLSocket) -> bool:
    """
    Ask the peer for new keys.

    @return: whether that went; not while a record is half written: OpenSSL refuses it then.
    @raise ssl.SSLWantWriteError: the socket takes nothing now.
    """
    library = _library()
    if library.SSL_key_update(_pointer(connection), _UPDATE_REQUESTED) == 1:
        connection.do_handshake()
        return True
    # Or Python would take the refusal for that of its next call.
    library.ERR_clear_error()
    return False


class KeyUpdateRelay:
    """
    One connection, in a thread.

    @ivar update_count: how many updates were asked for, of both ends together.
    @ivar port: where it listens.
    @ivar error: what ended it.
    """

    def __init__(self, pki: Path, target: int, every_bytes: int) -> None:
        self.update_count = 0
        self.error: OSError | None = None
        self._target = target
        self._every_bytes = every_bytes
        self._server = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
        self._server.load_cert_chain(pki / "servercert.pem", pki / "serverkey.pem")
        self._server.num_tickets = 0
        self._client = client_context(pki)
        for context in (self._server, self._client):
            context.load_verify_locations(pki / "cacert.pem")
            context.minimum_version = ssl.TLSVersion.TLSv1_3
            context.set_alpn_protocols(["rpcstream/1"])
            context.verify_mode = ssl.CERT_REQUIRED
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port: int = self._listener.getsockname()[1]
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()

    def stop(self) -> None:
        """Wait for the connection to end."""
        self._listener.close()
        self._thread.join(10)

    def _run(self) -> None:
        try:
            self._relay()
        except OSError as error:
            self.error = error

    def _relay(self) -> None:
        accepted, _ = self._listener.accept()
        onward = socket.create_connection(("127.0.0.1", self._target))
        with (
            self._server.wrap_socket(accepted, server_side=True) as here,
            self._client.wrap_socket(onward, server_hostname="localhost") as there,
        ):
            for side in (here, there):
                side.setblocking(False)
            self._pump(here, there)

    def _pump(self, here: ssl.SSLSocket, there: ssl.SSLSocket) -> None:
        waiting: dict[ssl.SSLSocket, bytearray] = {here: bytearray(), there: bytearray()}
        other = {here: there, there: here}
        moved = 0
        while True:
            readers = [side for side in other if len(waiting[other[side]]) < _WAITING_BYTES]
            writers = [side for side in other if waiting[side]]
            if not any(side.pending() for side in readers):
                select.select(readers, writers, [], 0.5)
            for side in readers:
                with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLWantWriteError):
                    while len(waiting[other[side]]) < _WAITING_BYTES:
                        data = side.recv(_PIECE_BYTES)
                        if not data:
                            return
                        waiting[other[side]] += data
                        moved += len(data)
            for side in other:
                with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLWantWriteError):
                    while waiting[side]:
                        sent = side.send(waiting[side][:_PIECE_BYTES])
                        del waiting[side][:sent]
            if moved >= self._every_bytes:
                moved = 0
                for side in other:
                    try:
                        self.update_count += update_keys(side)
                    except (ssl.SSLWantReadError, ssl.SSLWantWriteError):
                        self.update_count += 1  # it is under way
