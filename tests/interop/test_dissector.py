"""
What an independent dissector, Wireshark's for libvirt, makes of a transfer on the wire.
"""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import time
from pathlib import Path
from unittest import SkipTest

from twisted.trial.unittest import SynchronousTestCase

from rpcstream.programs import keepalive
from rpcstream.wire import HEADER_BYTES, Header, MessageType, encode_header
from tests.interop.harness import Destination, make_pki, random_file, rpcstream_run
from tests.peers import REQUIRE_PEERS, require_program

SIZE = 3 << 20
PING = encode_header(Header(HEADER_BYTES, keepalive.PROGRAM, 1, keepalive.PING, MessageType.MESSAGE, 0, 0))


class Capture:
    """tshark on the loopback interface, for one port."""

    def __init__(self, program: str, folder: Path, port: int) -> None:
        self._program = program
        self._port = port
        self._file = folder / "capture.pcapng"
        self._messages = folder / "tshark.log"
        with self._messages.open("wb") as messages:
            self.process = subprocess.Popen(
                [
                    program,
                    "-n",
                    "-q",
                    "-B",
                    "64",
                    "-i",
                    "lo",
                    "-f",
                    f"tcp port {port}",
                    "-w",
                    str(self._file),
                ],
                stdin=subprocess.DEVNULL,
                stdout=messages,
                stderr=messages,
            )

    def wait_until_running(self) -> None:
        """@raise AssertionError: it does not capture."""
        deadline = time.monotonic() + 30
        while "Capture started" not in self._messages.read_text():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(f"tshark does not capture: {self._messages.read_text()}")
            time.sleep(0.05)

    def read(self, wanted: str, *fields: str) -> list[list[str]]:
        """The fields of every packet that matches the display filter."""
        options = [option for field in fields for option in ("-e", field)]
        # Two segments captured in the wrong order would cost the message they share.
        options += ["-o", "tcp.reassemble_out_of_order:TRUE"]
        done = subprocess.run(
            [self._program, "-n", "-r", str(self._file), "-Y", wanted,
             "-d", f"tcp.port=={self._port},libvirt", "-T", "fields", "-E", "separator=/t", *options],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=120, check=False,
        )  # fmt: skip
        return [line.split("\t") for line in done.stdout.splitlines()]

    def stop(self) -> None:
        """End it; what it has captured is on disk then."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGINT)
            try:
                self.process.wait(20)
            except subprocess.TimeoutExpired:
                self.process.kill()
                self.process.wait()


def dissecting_tshark() -> str:
    """
    @return: path of a tshark that knows libvirt.
    @raise SkipTest: there is none; AssertionError if C{RPCSTREAM_REQUIRE_PEERS=1}.
    """
    tshark = require_program("tshark")
    decodes = subprocess.run([tshark, "-G", "decodes"], capture_output=True, text=True, check=False)
    if "\tlibvirt" not in decodes.stdout:
        if os.environ.get(REQUIRE_PEERS) == "1":
            raise AssertionError(f"tshark has no dissector for libvirt, but {REQUIRE_PEERS}=1 requires it")
        raise SkipTest("tshark has no dissector for libvirt")
    return tshark


class DissectorTests(SynchronousTestCase):
    """One transfer and one PING in plain TCP, captured and dissected."""

    def setUp(self) -> None:
        self.tshark = dissecting_tshark()
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()

    def captured_transfer(self) -> Capture:
        """Send a file and a PING while tshark listens."""
        pki = make_pki(self.folder)
        destination = Destination(self.folder, pki, "--insecure", endpoint="tcp")
        self.addCleanup(destination.stop)
        capture = Capture(self.tshark, self.folder, destination.port)
        self.addCleanup(capture.stop)
        capture.wait_until_running()
        source = random_file(self.folder / "source", SIZE)
        url = f"rpcstream+tcp://127.0.0.1:{destination.port}/name"
        status, lines, errors = rpcstream_run("send", str(source), url, pki_folder=pki)
        self.assertEqual((0, "done"), (status, lines[-1]["event"]), errors)
        with socket.create_connection(("127.0.0.1", destination.port), 10) as peer:
            peer.sendall(PING)
            self.assertEqual(HEADER_BYTES, len(peer.recv(HEADER_BYTES, socket.MSG_WAITALL)))
        deadline = time.monotonic() + 20
        # What has passed is not at once in the file.
        while not any("Proc=PONG" in text for (text,) in capture.read("libvirt", "_ws.col.Info")):
            self.assertLess(time.monotonic(), deadline, "the PONG was not captured")
            time.sleep(0.2)
        capture.stop()
        return capture

    def test_transfer(self) -> None:
        """Keepalive is named, our programs are messages of unknown programs, nothing is malformed."""
        capture = self.captured_transfer()
        self.assertEqual([], capture.read("_ws.malformed", "frame.number", "_ws.col.Info"))
        texts = [text for (text,) in capture.read("libvirt", "_ws.col.Info")]
        self.assertTrue(any("Prog=KEEPALIVE Proc=PING Type=MESSAGE" in text for text in texts), texts)
        self.assertTrue(any("Prog=KEEPALIVE Proc=PONG Type=MESSAGE" in text for text in texts), texts)
        for expected in (
            "Prog=666c6f77 Proc=1 Type=CALL Serial=0 Status=OK",
            "Prog=666c6f77 Proc=1 Type=REPLY Serial=0 Status=OK",
            "Prog=78666572 Proc=1 Type=CALL Serial=1 Status=OK",
            "Prog=78666572 Proc=1 Type=REPLY Serial=1 Status=OK",
            "Prog=78666572 Proc=1 Type=STREAM Serial=1 Status=CONTINUE",
            "Prog=78666572 Proc=1 Type=STREAM Serial=1 Status=OK",
            "Prog=78666572 Proc=2 Type=CALL Serial=2 Status=OK",
            "Prog=78666572 Proc=2 Type=REPLY Serial=2 Status=OK",
        ):
            self.assertTrue(any(expected in text for text in texts), (expected, texts))

    def test_every_byte_is_accounted_for(self) -> None:
        """The dissector finds the data, whole, in the stream messages: no more, no less."""
        capture = self.captured_transfer()
        rows = capture.read("libvirt.type == 3", "libvirt.program", "libvirt.type", "libvirt.length")
        payload_bytes = 0
        for row in rows:
            kinds, lengths = row[1].split(","), row[2].split(",")
            payload_bytes += sum(
                int(length) - HEADER_BYTES for kind, length in zip(kinds, lengths, strict=True) if kind == "3"
            )
        self.assertEqual(SIZE, payload_bytes)
