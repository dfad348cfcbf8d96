"""
Memory of both processes, and calls on the same connection, while a consumer pauses.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import time
from pathlib import Path

from twisted.python.filepath import FilePath
from twisted.trial.unittest import SynchronousTestCase

from rpcstream.limits import GIB, MIB
from tests.interop.harness import ENVIRONMENT, free_port, make_pki

BYTE_COUNT = 4 * GIB
GROWTH_BYTES = 16 * MIB
SAMPLE_SECONDS = 0.05
CHECKOUT = FilePath(__file__).parent().parent().parent().path


def resident_bytes(pid: int) -> int:
    with open(f"/proc/{pid}/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")


class PausedConsumerTests(SynchronousTestCase):
    def start(self, *arguments: str) -> subprocess.Popen[bytes]:
        environment = {**ENVIRONMENT, "PYTHONPATH": f"{ENVIRONMENT['PYTHONPATH']}{os.pathsep}{CHECKOUT}"}
        process = subprocess.Popen(
            [sys.executable, "-m", "tests.interop.paused_ends", *arguments],
            env=environment, cwd=CHECKOUT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE,
        )  # fmt: skip
        self.addCleanup(process.wait)
        self.addCleanup(process.kill)
        return process

    def test_paused_consumer(self) -> None:
        """4 GiB each way past a pausing consumer: memory stays within 16 MiB, calls are answered."""
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        pki, port = str(make_pki(folder)), str(free_port())
        server = self.start("server", port, pki)
        time.sleep(1.5)
        client = self.start("client", port, pki, str(BYTE_COUNT))
        samples: dict[int, list[int]] = {server.pid: [], client.pid: []}
        assert client.stdout is not None
        self.assertEqual(client.stdout.readline(), b"ready\n")
        while client.poll() is None:
            for pid, sizes in samples.items():
                sizes.append(resident_bytes(pid))
            time.sleep(SAMPLE_SECONDS)
        result = json.loads(client.stdout.read())
        client.stdout.close()
        self.assertEqual(result["received"], BYTE_COUNT)
        for sizes in samples.values():
            self.assertGreater(len(sizes), 50)
            self.assertLess(max(sizes) - sizes[0], GROWTH_BYTES)
        for direction in ("down", "up"):
            figures = result[direction]
            # Every call is answered; how fast is a benchmark's business, a stall is not.
            self.assertGreater(figures["calls"], 100)
            self.assertLess(figures["p99_ms"], 1000)
        growth = [f"{(max(sizes) - sizes[0]) / MIB:.1f} MiB" for sizes in samples.values()]
        print(f"growth server, client: {growth}; {result}")  # noqa: T201
