"""C{submit}, C{jobs} and C{cancel} against a real source service."""

from __future__ import annotations

import shutil
import tempfile
import time
from pathlib import Path

from tests.cli.support import COMMAND_SECONDS, Daemon, RealCase

MIB = 1024 * 1024


class JobTests(RealCase):
    """Jobs by the UNIX socket of a source service."""

    def setUp(self) -> None:
        super().setUp()
        self.own = Path(tempfile.mkdtemp(prefix="jobs-"))
        self.addCleanup(shutil.rmtree, self.own)
        (self.own / "root").mkdir()
        self.via = f"unix:{self.own / 'socket'}"
        service = Daemon(
            self.own / "source.log",
            *("source", "--listen", self.via, "--to", self.tls, "--pki", str(self.pki), "--bwlimit", "2M"),
            *("--root", str(self.own / "root"), "--state", str(self.own / "state")),
        )
        self.addCleanup(service.stop)
        service.listening(1)

    def job(self, number: str, *states: str) -> list[str]:
        """The line of a job, once it is in one of these states."""
        deadline = time.monotonic() + COMMAND_SECONDS
        while time.monotonic() < deadline:
            for line in self.done("jobs", "--via", self.via).lines:
                if line[0] == number and line[1] in states:
                    return line
            time.sleep(0.1)
        raise AssertionError(f"job {number} is not {states}")

    def test_jobs(self) -> None:
        """A job is submitted, listed and done; another is cancelled; a third is refused."""
        # At the rate of the service the large one takes half a minute: commands are slow to start under load.
        small, large = self.own / "root" / "small", self.own / "root" / "large"
        small.write_bytes(b"x" * MIB)
        large.write_bytes(b"y" * 60 * MIB)
        number = self.done("submit", "root/small", "job-small", "--via", self.via, cwd=self.own).lines[0][0]
        line = self.job(number, "done")
        self.assertEqual(line[2:4], [str(small), "job-small"])
        self.assertEqual((self.store / "job-small").read_bytes(), small.read_bytes())
        submitted = self.done("submit", str(large), "job-large", "--via", self.via, "--json").objects[-1]
        number = str(submitted["job_id"])
        self.job(number, "running")
        cancelled = self.done("cancel", number, "--via", self.via, "--json").objects[-1]
        self.assertEqual((cancelled["event"], cancelled["state"]), ("done", "cancelled"))
        self.assertFalse((self.store / "job-large").exists())
        self.assert_error(self.command("cancel", number, "--via", self.via), 1, "error: ")
        self.assert_error(self.command("cancel", "999", "--via", self.via), 1, "999")
        outside = self.file("outside", 1)
        self.assert_error(self.command("submit", str(outside), "n", "--via", self.via), 1, "--root")

    def test_no_service(self) -> None:
        """Nobody there: one line."""
        self.assert_error(self.command("jobs", "--via", "unix:/nonexistent"), 1, "is the service running?")
