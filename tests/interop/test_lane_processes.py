"""Lanes between processes: the command line and a destination under twistd."""

from __future__ import annotations

import os
import subprocess
import time
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from rpcstream.limits import MIB
from tests.interop.harness import COMMAND, ENVIRONMENT, Destination, make_pki, random_file, rpcstream_run


class ProcessTests(SynchronousTestCase):
    """What a user sees of lanes, and what the destination keeps of them."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        self.pki = make_pki(self.folder)
        self.destination = Destination(self.folder, self.pki)
        self.addCleanup(self.destination.stop)

    def run_command(self, *arguments: str) -> dict[str, Any]:
        status, lines, errors = rpcstream_run(*arguments, pki_folder=self.pki)
        self.assertEqual((status, errors), (0, ""))
        return lines[-1]

    def counts(self) -> tuple[int, int]:
        """Threads and descriptors of the destination."""
        process = self.destination.process
        assert process is not None
        return tuple(len(os.listdir(f"/proc/{process.pid}/{what}")) for what in ("task", "fd"))  # type: ignore[return-value]

    def test_both_ways(self) -> None:
        """C{send} and C{receive} say which lane it was; afterwards the destination is as before."""
        source = random_file(self.folder / "source", 24 * MIB)
        self.run_command("send", str(source), self.destination.url("first"))
        threads, descriptors = self.counts()
        for number in range(3):
            target = self.folder / f"target-{number}"
            sent = self.run_command("send", str(source), self.destination.url(f"name-{number}"))
            got = self.run_command("receive", self.destination.url(f"name-{number}"), str(target))
            self.assertEqual((sent["lane"], got["lane"]), ("exclusive", "exclusive"))
            self.assertEqual(sent["digest"], got["digest"])
            self.assertEqual(target.read_bytes(), source.read_bytes())
        end = time.monotonic() + 10
        while (counts := self.counts()) != (counts[0], descriptors) or counts[0] > threads + 8:
            self.assertLess(time.monotonic(), end, (counts, threads, descriptors))
            time.sleep(0.05)

    def test_stopped(self) -> None:
        """SIGTERM in the midst of a lane's data: both ends leave in time, and the rest is resumed."""
        source = random_file(self.folder / "source", 48 * MIB)
        words = ["send", str(source), self.destination.url("a"), "--pki", str(self.pki)]
        sender = subprocess.Popen(
            [*COMMAND, *words, "--bwlimit", "16M"], env=ENVIRONMENT, stderr=subprocess.PIPE
        )
        partial = self.destination.store / ".rpcstream" / "partials" / "a"
        while not partial.exists():
            self.assertIsNone(sender.poll())
            time.sleep(0.05)
        time.sleep(1)
        started = time.monotonic()
        self.destination.stop()
        _, errors = sender.communicate(timeout=20)
        self.assertLess(time.monotonic() - started, 10)
        self.assertEqual((sender.returncode, errors.count(b"\n")), (1, 1), errors)
        self.destination.start()
        sent = self.run_command("send", str(source), self.destination.url("a"))
        self.assertEqual(sent["lane"], "exclusive")
        self.assertGreater(sent["resumed_from"], 0)
        self.assertEqual((self.destination.store / "a").read_bytes(), source.read_bytes())
