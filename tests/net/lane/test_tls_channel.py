"""
TLS on a lane's socket, without a lane: what it keeps in memory, and how it ends.
"""

from __future__ import annotations

import contextlib
import shutil
import socket
import ssl
import tempfile
from pathlib import Path
from unittest import SkipTest

from OpenSSL import SSL
from twisted.trial.unittest import TestCase

from rpcstream.limits import KIB, MIB
from rpcstream.net.lane.channel import WANT_READ, WANT_WRITE, ChannelLost
from rpcstream.net.lane.takeover import CHUNK_BYTES, TLSChannel
from tests.net.certificates import pki_directory
from tests.net.lane.key_updates import can_update_keys, client_context, update_keys


class TLSChannelTests(TestCase):
    def setUp(self) -> None:
        folder = Path(tempfile.mkdtemp(prefix="rpcstream-"))
        self.addCleanup(shutil.rmtree, folder)
        pki = folder / "pki"
        pki_directory(str(pki))
        ours, theirs = socket.socketpair()
        self.addCleanup(ours.close)
        ours.setblocking(False)
        context = SSL.Context(SSL.TLS_METHOD)
        context.use_certificate_file(str(pki / "servercert.pem"))
        context.use_privatekey_file(str(pki / "serverkey.pem"))
        connection = SSL.Connection(context, None)
        connection.set_accept_state()
        self.ours, self.connection = ours, connection
        self.peer = client_context(pki).wrap_socket(theirs, do_handshake_on_connect=False)
        self.addCleanup(self.peer.close)
        self.peer.setblocking(False)
        for _ in range(4):
            with contextlib.suppress(ssl.SSLWantReadError):
                self.peer.do_handshake()
            with contextlib.suppress(BlockingIOError):
                connection.bio_write(ours.recv(64 * KIB))
            with contextlib.suppress(SSL.WantReadError):
                connection.do_handshake()
            with contextlib.suppress(SSL.WantReadError):
                ours.sendall(connection.bio_read(64 * KIB))
        self.channel = TLSChannel(connection, ours)
        self.buffer = memoryview(bytearray(MIB))

    def read_all(self) -> bytes:
        """What the peer gets now."""
        found = bytearray()
        with contextlib.suppress(ssl.SSLWantReadError):
            while data := self.peer.recv(64 * KIB):
                found += data
        return bytes(found)

    def test_what_waits_is_bounded(self) -> None:
        """However much is written to a peer that does not read: a chunk of it is encrypted, and kept."""
        content = bytes(range(256)) * (4 * MIB // 256)
        view = memoryview(content)
        sent = 0
        while (count := self.channel.write(view[sent:])) > 0:
            sent += count
        self.assertEqual(count, WANT_WRITE)
        self.assertLess(sent, len(content))
        self.assertLessEqual(len(self.channel._unsent), CHUNK_BYTES + 64 * KIB)
        got = b""
        while sent < len(content):
            got += self.read_all()
            sent += max(0, self.channel.write(view[sent:]))
        self.assertEqual(self.channel.flush(), 0)
        self.assertEqual(got + self.read_all(), content)

    def test_goes_on(self) -> None:
        """A header waits for the data that goes with it: one system call for both."""
        self.assertEqual(self.channel.write(memoryview(b"head"), True), 4)
        self.assertEqual(self.read_all(), b"")
        self.assertEqual(self.channel.write(memoryview(b"data")), 4)
        self.assertEqual(self.read_all(), b"headdata")

    def test_new_keys_without_end(self) -> None:
        """Row T16: a peer that asks for ever new keys and reads no answer is not read any more."""
        if not can_update_keys():
            raise SkipTest("Python's ssl has no libssl of its own to ask")
        asked = 0
        wants = WANT_READ
        while wants == WANT_READ and asked < 200_000:
            with contextlib.suppress(ssl.SSLWantReadError, ssl.SSLWantWriteError):
                for _ in range(1000):
                    self.peer.do_handshake()  # what is half written
                    asked += update_keys(self.peer)
            count, wants = self.channel.read(self.buffer)
            self.assertEqual(count, 0)
            self.channel.flush()
        self.assertEqual(wants, WANT_WRITE, f"still read after {asked}")
        waiting = self.channel._waiting_bytes() + len(self.channel._unsent)
        # What one read holds may all be asking.
        self.assertLess(waiting, 4 * CHUNK_BYTES)
        self.assertEqual(self.channel.read(self.buffer), (0, WANT_WRITE))
        # As soon as it reads all goes on.
        for _ in range(100):
            self.read_all()
            self.channel.flush()
            self.channel.read(self.buffer)
        self.assertEqual(self.channel.write(memoryview(b"after all")), 9)
        self.assertEqual(self.read_all(), b"after all")

    def test_end(self) -> None:
        """Leave is taken in order, after what was written, and known from a loss."""
        self.channel.write(memoryview(b"last"))
        self.assertEqual(self.channel.end(), 0)
        self.assertEqual(self.peer.recv(10), b"last")
        self.assertEqual(self.peer.recv(10), b"")
        self.peer.setblocking(True)
        self.peer.unwrap().close()
        with self.assertRaises(ChannelLost) as caught:
            self.channel.read(self.buffer)
        self.assertTrue(caught.exception.in_order)

    def test_lost(self) -> None:
        """What came before the peer vanished is not lost with it."""
        self.peer.send(b"last words")
        self.peer.shutdown(socket.SHUT_RDWR)
        count, _ = self.channel.read(self.buffer)
        self.assertEqual(bytes(self.buffer[:count]), b"last words")
        with self.assertRaises(ChannelLost) as caught:
            self.channel.read(self.buffer)
        self.assertFalse(caught.exception.in_order)
        with self.assertRaises(ChannelLost):
            self.channel.write(memoryview(b"too late"))

    def test_garbage(self) -> None:
        """What is no TLS is told to the peer by an alert, and to us by OpenSSL's words."""
        self.read_all()  # tickets of the handshake
        raw = socket.socket(fileno=self.peer.detach())
        self.addCleanup(raw.close)
        raw.setblocking(False)
        raw.send(b"\x17\x03\x03\x00\x20" + bytes(32))
        with self.assertRaises(ChannelLost) as caught:
            self.channel.read(self.buffer)
        self.assertIn("bad record mac", str(caught.exception))
        alert = raw.recv(100)
        self.assertEqual(alert[:3], b"\x17\x03\x03")
        self.assertEqual(len(alert), 5 + 2 + 1 + 16)
