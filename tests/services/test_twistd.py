"""Both services as twistd runs them: real processes, real TLS, kill -9."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import TestCase

import rpcstream
from rpcstream.limits import EXTENT_BYTES, MIB
from rpcstream.net.pki import initialise
from rpcstream.programs import jobs
from rpcstream.programs.jobs import JobState
from tests.services.service_case import ServiceCase
from tests.services.twistd_process import Twistd


class TwistdCase(ServiceCase):
    """Services in processes of their own."""

    timeout = 60

    def setUp(self) -> None:
        super().setUp()
        self.pki = self.folder / "pki"
        initialise(self.pki, ["127.0.0.1"], ["alice"])

    def twistd(self, *arguments: object) -> Twistd:
        """Start one; killed when the test has ended."""
        process = Twistd(self.folder / "run", *map(str, arguments))
        self.addCleanup(process.kill, signal.SIGKILL)
        return process

    async def destination_on(self, port: int = 0) -> tuple[Twistd, int]:
        """A destination that listens, and its port."""
        process = self.twistd(
            "destination", "--listen", f"rpctls:{port}:interface=127.0.0.1",
            "--store", self.store, "--pki", self.pki,
        )  # fmt: skip
        found = await process.logged(r"listening on 127\.0\.0\.1:(\d+) \(rpctls:")
        return process, int(found[1])

    async def source_to(self, port: int, *options: object) -> Twistd:
        """A source that takes jobs."""
        process = self.twistd(
            "source", "--listen", f"unix:{self.folder}/s.sock", "--to", f"rpcstream+tls://127.0.0.1:{port}/",
            "--pki", self.pki, "--root", self.root, "--state", self.folder / "state", *options,
        )  # fmt: skip
        await process.logged(r"listening on \S+/s\.sock")
        return process


class ServiceTests(TwistdCase):
    """A destination and a source."""

    async def test_kill_and_go_on(self) -> None:
        """A source that is killed in the middle of a job finishes it after it is started again."""
        destination, port = await self.destination_on()
        await destination.logged("every peer with a certificate of the configured CA may")
        source = await self.source_to(port, "--bwlimit", "16M")
        small = self.root / "small"
        small.write_bytes(os.urandom(300_000))
        done = await self.job_ended(await self.ask(jobs.Submit(str(small), "small")))
        self.assertEqual((done.state, done.message), (JobState.DONE, ""))
        self.assertEqual((self.store / "small").read_bytes(), small.read_bytes())

        large = self.root / "large"
        large.write_bytes(os.urandom(48 * MIB + 5))
        job_id = await self.ask(jobs.Submit(str(large), "large"))
        await self.job_when(job_id, lambda job: job.byte_count >= 2 * EXTENT_BYTES)
        self.assertEqual(await source.kill(signal.SIGKILL), -signal.SIGKILL)
        self.assertFalse((self.store / "large").exists())

        again = await self.source_to(port)
        done = await self.job_ended(job_id)
        self.assertEqual((done.state, done.message, done.attempts), (JobState.DONE, "", 2))
        self.assertEqual((self.store / "large").read_bytes(), large.read_bytes())
        sent = await again.logged(rf"job {job_id}: done: {48 * MIB + 5} bytes, (\d+) sent")
        self.assertLessEqual(int(sent[1]), 48 * MIB + 5 - 2 * EXTENT_BYTES)
        # An orderly end of both, without a word of complaint.
        for process in (again, destination):
            await process.kill()
            self.assertIn("Server Shut Down", process.output)
            self.assertNotIn("Traceback", process.output)
            self.assertNotIn("Unhandled", process.output)

    async def test_start_fails(self) -> None:
        """What keeps a service from starting is told in one line, with exit status 1."""
        _, port = await self.destination_on()
        second = self.twistd(
            "destination", "--listen", f"rpctls:{port}:interface=127.0.0.1", "--store", self.store,
            "--pki", self.pki,
        )  # fmt: skip
        self.assertEqual(await second.ended(), 1)
        self.assertRegex(second.output, "rpcstream: cannot start: .*Address already in use")
        self.assertNotIn("Traceback", second.output)
        self.assertFalse(second.pid_file.exists())
        await self.source_to(port)
        third = self.twistd(
            "source", "--listen", f"unix:{self.folder}/t.sock", "--to", f"rpcstream+tls://127.0.0.1:{port}/",
            "--pki", self.pki, "--root", self.root, "--state", self.folder / "state",
        )  # fmt: skip
        self.assertEqual(await third.ended(), 1)
        self.assertIn("another source service uses it", third.output)
        self.assertNotIn("Traceback", third.output)

    async def test_usage(self) -> None:
        """Options that cannot be meant end in a usage error."""
        process = self.twistd("destination", "--listen", "tcp:0", "--store", self.store)
        self.assertEqual(await process.ended(), 1)
        self.assertIn("--insecure", process.output.rstrip().splitlines()[-1])
        self.assertNotIn("Traceback", process.output)


class PluginTests(TestCase):
    """What loading the plugin costs."""

    def test_no_reactor(self) -> None:
        """Neither the plugin nor its options install a reactor."""
        script = (
            "import sys\n"
            "from twisted.plugin import getPlugins\n"
            "from twisted.application.service import IServiceMaker\n"
            "maker, = [p for p in getPlugins(IServiceMaker) if p.tapname == 'rpcstream']\n"
            "listed = sorted(m for m in sys.modules if m.startswith('rpcstream.'))\n"
            "maker.options()\n"
            "print(listed, 'twisted.internet.reactor' in sys.modules)\n"
        )
        environment = {**os.environ, "PYTHONPATH": str(Path(rpcstream.__file__).parent.parent)}
        found = subprocess.run(
            [sys.executable, "-c", script], env=environment, capture_output=True, text=True, check=True
        )
        self.assertEqual(found.stdout, "[] False\n")
