"""
Bare ends, with nothing of rpcstream: C{python -m benchmarks.bare_end ROLE KIND ...}.

C{KIND}: C{tls} is pyOpenSSL on a blocking socket, 256 KiB a write; C{tls-memory} has
TLS in memory, 256 KiB a system call, and a digest at each end; C{sendfile} is
L{os.sendfile} over TCP, C{sendfile-unix} the same over a UNIX socket, whose path is
the target and the port.  The server takes one connection after the other, stores
or forgets what comes, and answers with 8 bytes, how much it was.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import time
from contextlib import suppress
from typing import Any

from blake3 import blake3
from OpenSSL import SSL

WRITE_BYTES = 256 * 1024
READ_BYTES = 1024 * 1024
CIPHERS = b"TLS_AES_128_GCM_SHA256"
"""What rpcstream's ends agree on."""


def _context(pki: str, end: str) -> SSL.Context:
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_min_proto_version(SSL.TLS1_3_VERSION)
    context.set_tls13_ciphersuites(CIPHERS)
    context.use_certificate_chain_file(f"{pki}/{end}cert.pem")
    context.use_privatekey_file(f"{pki}/{end}key.pem")
    context.load_verify_locations(f"{pki}/cacert.pem")
    context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, lambda *_: True)
    return context


class _InMemory:
    """As much of a pyOpenSSL connection as is used here, between memory and a blocking socket."""

    def __init__(self, context: SSL.Context, raw: socket.socket, connects: bool) -> None:
        self._raw = raw
        self._tls = SSL.Connection(context, None)
        (self._tls.set_connect_state if connects else self._tls.set_accept_state)()
        self._hasher = blake3()

    def do_handshake(self) -> None:
        while True:
            try:
                self._tls.do_handshake()
                break
            except SSL.WantReadError:
                self._flush()
                self._tls.bio_write(self._raw.recv(WRITE_BYTES))
        self._flush()

    def _flush(self) -> None:
        with suppress(SSL.WantReadError):
            while True:
                self._raw.sendall(self._tls.bio_read(2 * WRITE_BYTES))

    def sendall(self, data: bytes) -> None:
        self._hasher.update(data)
        self._tls.sendall(data)
        self._flush()

    def recv(self, size: int) -> bytes:
        buffer = bytearray(size)
        return bytes(buffer[: self.recv_into(buffer, size)])

    def recv_into(self, buffer: bytearray, size: int) -> int:
        """Fill it, as far as the peer sends so much: not a record at a time."""
        view, filled, size = memoryview(buffer), 0, min(size, WRITE_BYTES)
        while filled < size:
            try:
                filled += self._tls.recv_into(view[filled:size])
            except SSL.WantReadError:
                data = self._raw.recv(WRITE_BYTES)
                if not data:
                    break
                self._tls.bio_write(data)
        self._hasher.update(view[:filled])
        return filled

    def shutdown(self) -> None:
        self._tls.shutdown()
        self._flush()


def _secure(kind: str, context: SSL.Context, raw: socket.socket, connects: bool) -> Any:
    """A TLS connection after its handshake."""
    connection: Any
    if kind == "tls-memory":
        connection = _InMemory(context, raw, connects)
    else:
        connection = SSL.Connection(context, raw)
        (connection.set_connect_state if connects else connection.set_accept_state)()
    connection.do_handshake()
    return connection


def _receive(connection: Any, target: str, syncs: bool) -> int:
    """Until the sender has ended its half: as many bytes as it has announced."""
    head = b""
    while len(head) < 8:
        head += connection.recv(8 - len(head))
    left = total = int.from_bytes(head, "big")
    file = os.open(target, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600) if target else -1
    buffer = bytearray(READ_BYTES)
    view = memoryview(buffer)
    while left:
        count = connection.recv_into(buffer, min(left, READ_BYTES))
        if not count:
            break
        left -= count
        if file >= 0:
            written = 0
            while written < count:
                written += os.write(file, view[written:count])
    if file >= 0:
        if syncs:
            os.fsync(file)
        os.close(file)
    return total - left


def _listen(kind: str, target: str) -> socket.socket:
    """At a port, or at the path C{target}."""
    if kind != "sendfile-unix":
        return socket.create_server(("127.0.0.1", 0))
    listening = socket.socket(socket.AF_UNIX)
    listening.bind(target)
    listening.listen()
    return listening


def _connect(kind: str, port: str) -> socket.socket:
    if kind != "sendfile-unix":
        return socket.create_connection(("127.0.0.1", int(port)))
    raw = socket.socket(socket.AF_UNIX)
    raw.connect(port)
    return raw


def serve(kind: str, pki: str, target: str = "", sync: str = "") -> None:
    """Take connections until the process is ended."""
    context = _context(pki, "server") if kind.startswith("tls") else None
    with _listen(kind, target) as listening:
        print(
            json.dumps({"port": listening.getsockname()[1] if kind != "sendfile-unix" else target}),
            flush=True,
        )
        while True:
            raw, _ = listening.accept()
            connection: Any = raw
            if context is not None:
                connection = _secure(kind, context, raw, False)
            count = _receive(connection, "" if kind == "sendfile-unix" else target, bool(sync))
            connection.sendall(count.to_bytes(8, "big"))
            if context is not None:
                connection.shutdown()
            raw.close()


def _pieces(path: str, size: int) -> Any:
    if path:
        with open(path, "rb", buffering=0) as file:
            while piece := file.read(WRITE_BYTES):
                yield piece
        return
    pool = os.urandom(8 << 20)
    for start in range(0, size, WRITE_BYTES):
        at = start % len(pool)
        yield pool[at : at + min(WRITE_BYTES, size - start)]


def send(kind: str, port: str, size: str, pki: str, path: str = "") -> None:
    """Send once, and print what it took."""
    raw = _connect(kind, port)
    connection: Any = raw
    if kind.startswith("tls"):
        connection = _secure(kind, _context(pki, "client"), raw, True)
    started = time.perf_counter()
    count = int(size)
    connection.sendall(count.to_bytes(8, "big"))
    if kind.startswith("sendfile"):
        with open(path, "rb") as file:
            sent = 0
            while sent < count:
                sent += os.sendfile(raw.fileno(), file.fileno(), sent, count - sent)
    else:
        for piece in _pieces(path, count):
            connection.sendall(piece)
    answer = b""
    while len(answer) < 8:
        answer += connection.recv(8 - len(answer))
    seconds = time.perf_counter() - started
    print(json.dumps({"amount": int.from_bytes(answer, "big"), "seconds": seconds}))


if __name__ == "__main__":
    role: Any = {"serve": serve, "send": send}[sys.argv[1]]
    role(*sys.argv[2:])
