"""
The relay delays, and changes nothing else.
"""

from __future__ import annotations

import os
import socket
import threading
import time
from contextlib import suppress
from unittest import TestCase

from rpcstream.bench import relay as module
from rpcstream.bench.relay import Relay


class RelayTests(TestCase):
    ROUND_TRIP_SECONDS = 0.04

    def setUp(self) -> None:
        self.target = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(self.target.close)
        self.relay = Relay(self.target.getsockname()[1], self.ROUND_TRIP_SECONDS)
        self.is_over = False
        thread = threading.Thread(target=self.turn)
        thread.start()
        self.addCleanup(thread.join)
        self.addCleanup(self.stop)

    def turn(self) -> None:
        while not self.is_over:
            self.relay.turn(0.05)
        self.relay.close()

    def stop(self) -> None:
        self.is_over = True

    def connect(self) -> tuple[socket.socket, socket.socket]:
        near = socket.create_connection(("127.0.0.1", self.relay.port), timeout=10)
        far, _ = self.target.accept()
        far.settimeout(10)
        self.addCleanup(near.close)
        self.addCleanup(far.close)
        return near, far

    def test_round_trip(self) -> None:
        """There and back takes the round trip at least."""
        near, far = self.connect()
        started = time.monotonic()
        near.sendall(b"x")
        far.sendall(far.recv(1))
        self.assertEqual(near.recv(1), b"x")
        self.assertGreaterEqual(time.monotonic() - started, self.ROUND_TRIP_SECONDS)

    def test_content_and_half_close(self) -> None:
        """Much data arrives whole, and its end after it; the other way stays open till its own."""
        near, far = self.connect()
        data = os.urandom(8 << 20)

        def send() -> None:
            near.sendall(data)
            near.shutdown(socket.SHUT_WR)

        sender = threading.Thread(target=send)
        sender.start()
        received = bytearray()
        while piece := far.recv(1 << 16):
            received += piece
        sender.join()
        self.assertEqual(bytes(received), data)
        far.sendall(b"thanks")
        far.close()
        self.assertEqual(near.recv(100), b"thanks")
        self.assertEqual(near.recv(100), b"")

    def test_full(self) -> None:
        """With too much on its way, reading waits until there is room."""
        self.addCleanup(setattr, module, "HELD_BYTES", module.HELD_BYTES)
        module.HELD_BYTES = 1 << 16
        self.test_content_and_half_close()

    def test_reset(self) -> None:
        """A connection that is reset at one end is closed at the other."""
        near, far = self.connect()
        far.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
        near.sendall(b"x")
        far.recv(1)
        far.close()
        with suppress(ConnectionResetError):
            self.assertEqual(near.recv(1), b"")

    def test_nobody_there(self) -> None:
        """Where nobody listens the connection is closed at once."""
        self.target.close()
        with socket.create_connection(("127.0.0.1", self.relay.port), timeout=10) as near:
            self.assertEqual(near.recv(1), b"")
