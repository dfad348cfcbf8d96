"""The relay that limits each connection's rate."""

from __future__ import annotations

import socket
import threading
import time

from twisted.trial.unittest import SynchronousTestCase

from rpcstream.bench.narrow import NarrowRelay

RATE = 4_000_000
SIZE = 2_000_000


class NarrowTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.server = socket.create_server(("127.0.0.1", 0))
        self.addCleanup(self.server.close)
        self.relay = NarrowRelay(self.server.getsockname()[1], RATE)
        self.is_over = False
        self.turning = threading.Thread(target=self.turn)
        self.turning.start()
        self.addCleanup(self.end)

    def turn(self) -> None:
        while not self.is_over:
            self.relay.turn(0.05)
        self.relay.close()

    def end(self) -> None:
        self.is_over = True
        self.turning.join(10)

    def carry(self, connection: socket.socket, got: list[bytes]) -> None:
        """Send from the far end, and read at the near end until it ends."""
        far, _ = self.server.accept()
        far.settimeout(20)
        sending = threading.Thread(target=lambda: (far.sendall(bytes(SIZE)), far.close()))
        sending.start()
        count = 0
        while data := connection.recv(1 << 20):
            count += len(data)
        sending.join(20)
        got.append(b"x" * count)

    def test_each_has_its_own_rate(self) -> None:
        """Everything arrives, no faster than the rate of one connection, and all at the same time."""
        started = time.monotonic()
        got: list[bytes] = []
        threads = []
        for _ in range(3):
            near = socket.create_connection(("127.0.0.1", self.relay.port), timeout=20)
            self.addCleanup(near.close)
            threads.append(threading.Thread(target=self.carry, args=(near, got)))
            threads[-1].start()
        for thread in threads:
            thread.join(20)
        seconds = time.monotonic() - started
        self.assertEqual([len(one) for one in got], [SIZE] * 3)
        # Two steps' worth may be saved up at the beginning.
        self.assertGreater(seconds, (SIZE - RATE / 100) / RATE)

    def test_end(self) -> None:
        """The end of one direction is passed on, the other goes on."""
        near = socket.create_connection(("127.0.0.1", self.relay.port), timeout=20)
        self.addCleanup(near.close)
        far, _ = self.server.accept()
        self.addCleanup(far.close)
        far.settimeout(20)
        near.sendall(b"question")
        near.shutdown(socket.SHUT_WR)
        asked = b""
        while data := far.recv(100):
            asked += data
        far.sendall(b"answer")
        far.close()
        answered = b""
        while data := near.recv(100):
            answered += data
        self.assertEqual((asked, answered), (b"question", b"answer"))
