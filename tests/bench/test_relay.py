"""
The relay delays, and changes nothing else.
"""

from __future__ import annotations

import os
import socket
import struct
import threading
import time
from contextlib import suppress
from typing import Any
from unittest import TestCase

from rpcstream.bench import relay as module
from rpcstream.bench import splicing
from rpcstream.bench.relay import DelayingRelay


class RelayTests(TestCase):
    ROUND_TRIP_SECONDS = 0.04

    def setUp(self) -> None:
        self.target = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(self.target.close)
        self.relay = DelayingRelay(self.target.getsockname()[1], self.ROUND_TRIP_SECONDS)
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
        self.check_content(8 << 20)

    def check_content(self, size: int) -> None:
        near, far = self.connect()
        data = os.urandom(size)

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

    def limit(self, where: Any, name: str, value: int) -> None:
        self.addCleanup(setattr, where, name, getattr(where, name))
        setattr(where, name, value)

    def test_full(self) -> None:
        """With too much on its way, reading waits until there is room."""
        self.limit(module, "HELD_BYTES", 1 << 16)
        self.check_content(1 << 20)

    def test_pipes_full(self) -> None:
        """Full pipes, which small pieces soon fill: others are used, and not too many."""
        self.limit(splicing, "PIPE_BYTES", 4096)
        self.limit(splicing, "PIPE_COUNT", 4)
        self.check_content(1 << 20)

    def test_held_back(self) -> None:
        """Who sends to a target that takes nothing is held back, and nothing is lost."""
        self.limit(module, "HELD_BYTES", 1 << 20)
        near, far = self.connect()
        near.settimeout(0.5)
        sent = 0
        with self.assertRaises(TimeoutError):
            while True:
                sent += near.send(bytes(1 << 20))
        self.assertEqual(max(way.held_bytes for way in self.relay.ways), 1 << 20)
        near.shutdown(socket.SHUT_WR)
        received = 0
        while piece := far.recv(1 << 20):
            received += len(piece)
        self.assertEqual(received, sent)

    def test_under_load(self) -> None:
        """Nothing is early among much, either: whatever comes within one step waits for the last of it."""
        near, far = self.connect()
        record = struct.Struct("d65528x")

        def send() -> None:
            for _ in range(200):
                near.sendall(record.pack(time.monotonic()))
                time.sleep(0.0005)
            near.shutdown(socket.SHUT_WR)

        sender = threading.Thread(target=send)
        sender.start()
        took = []
        with far.makefile("rb") as file:
            while first := file.read(8):
                took.append(time.monotonic() - struct.unpack("d", first)[0])
                file.read(record.size - 8)
        sender.join()
        self.assertEqual(len(took), 200)
        self.assertGreaterEqual(min(took), self.ROUND_TRIP_SECONDS / 2)

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
