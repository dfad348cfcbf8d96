"""
One transfer over four connections between real processes: kill -9 of either end, and again.

The size of the file and the number of runs come from the environment, as in
L{tests.interop.test_kill}.
"""

from __future__ import annotations

import os
import random
import subprocess
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from rpcstream.storage.reading import digest_file
from rpcstream.units import parse_size
from tests.interop.harness import (
    COMMAND,
    ENVIRONMENT,
    Destination,
    Relay,
    make_pki,
    random_file,
    rpcstream_run,
)

SIZE = parse_size(os.environ.get("RPCSTREAM_KILL_BYTES", "96M")) + 12345
RUNS = int(os.environ.get("RPCSTREAM_KILL_RUNS", "6")) // 2
SEED = int(os.environ.get("RPCSTREAM_KILL_SEED", "1"))


class StripedKillTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        self.pki = make_pki(self.folder)
        self.source = random_file(self.folder / "source", SIZE, SEED)
        self.digest = digest_file(self.source).hex()
        self.destination = Destination(self.folder, self.pki)
        self.addCleanup(self.destination.stop)
        self.relay = Relay(self.destination.port)
        self.addCleanup(self.relay.close)

    def run_and_kill(self, command: list[str], at: int, victim: str) -> None:
        """Run a command through the relay; at a byte on its way to the server, kill one end."""
        client = subprocess.Popen(
            [*COMMAND, *command, "--connections", "4", "--json", "--pki", str(self.pki)],
            env=ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        self.relay.at(at, client.kill if victim == "client" else self.destination.kill)
        _, errors = client.communicate(timeout=300)
        self.assertNotIn(b"Traceback", errors)
        if victim == "destination":
            self.assertEqual((client.returncode, errors.count(b"\n")), (1, 1), errors)
            self.destination.start()

    def run_to_the_end(self, count: int, *command: str) -> dict[str, Any]:
        """The same again, perhaps over another number of connections; what it tells in the end."""
        status, lines, errors = rpcstream_run(*command, "--connections", str(count), pki_folder=self.pki)
        self.assertEqual((status, errors), (0, ""))
        told = lines[-1]
        self.assertEqual((told["event"], told["digest"], told["lane"]), ("done", self.digest, "exclusive"))
        # I3: what is durable does not cross again.
        self.assertEqual(told["sent_bytes"], SIZE - told["resumed_from"])
        return told

    def test_send(self) -> None:
        """After kill -9 the same send, over as many or fewer connections, finishes; I1 to I3 hold."""
        generator = random.Random(SEED)
        url = lambda name: self.destination.url(name, self.relay.port)  # noqa: E731
        resumed = 0
        for run in range(RUNS):
            for victim in ("client", "destination"):
                name = f"file-{run}-{victim}"
                at = generator.randrange(SIZE // 2, SIZE)
                self.run_and_kill(["send", str(self.source), url(name)], at, victim)
                self.assertFalse((self.destination.store / name).exists())
                told = self.run_to_the_end((4, 1, 2)[run % 3], "send", str(self.source), url(name))
                resumed += told["resumed_from"]
                subprocess.run(["cmp", self.source, self.destination.store / name], check=True)
                (self.destination.store / name).unlink()
        self.assertGreater(resumed, 0)

    def test_receive(self) -> None:
        """The same for receive, with the destination killed."""
        told = self.run_to_the_end(4, "send", str(self.source), self.destination.url("file"))
        self.assertEqual(told["connections"], 4)
        url = self.destination.url("file", self.relay.port)
        target = self.folder / "back"
        # What goes to the server is a handshake and a call for each connection and part.
        self.run_and_kill(["receive", url, str(target), "--bwlimit", "24M"], 7000, "destination")
        self.assertFalse(target.exists())
        self.run_to_the_end(3, "receive", url, str(target))
        subprocess.run(["cmp", self.source, target], check=True)
