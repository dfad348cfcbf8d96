"""The demonstration, and the processes that it makes."""

from __future__ import annotations

import os
import signal
import subprocess
import tempfile
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase, TestCase

from rpcstream.cli.children import Child, ChildFailed
from rpcstream.cli.demo_result import DemoFailed, DemoResult, drawn
from rpcstream.programs.parameters import Parameter, TextValue, UHyperValue
from tests.cli.support import RealCase

MIB = 1024 * 1024


class DemoTests(RealCase):
    """C{rpcstream demo} as a person runs it."""

    def setUp(self) -> None:
        super().setUp()
        self.directory = Path(tempfile.mkdtemp(prefix="demo-"))
        self.addCleanup(os.rmdir, self.directory)

    def demo(self, *arguments: str) -> subprocess.Popen[bytes]:
        return self.start("demo", *arguments, environment={"TMPDIR": str(self.directory)})

    def assert_clean(self) -> None:
        """No directory and no process is left."""
        self.assertEqual(list(self.directory.iterdir()), [])
        mine = str(self.directory).encode()
        for process in Path("/proc").glob("[0-9]*/cmdline"):
            try:
                self.assertNotIn(mine, process.read_bytes())
            except OSError:
                continue

    def test_file(self) -> None:
        """A file: a table with everything in it, equal at both ends, nothing left."""
        source = self.file("demonstrated", 9 * MIB + 1)
        digest = self.done("digest", str(source)).stdout.decode()
        finished = self.finish(self.demo("--file", str(source)))
        self.assertEqual((finished.status, finished.stderr), (0, ""))
        text = finished.stdout.decode()
        for word in ("9437185", "TLSv1.3", "TLS_", "28 x", "counted by the transport", digest[:32], "MiB/s"):
            self.assertIn(word, text)
        self.assert_clean()

    def test_json(self) -> None:
        """Random bytes, as JSON: every byte written is accounted for."""
        finished = self.finish(self.demo("--size", "5M", "--json"))
        self.assertEqual((finished.status, finished.stderr), (0, ""))
        done = finished.objects[-1]
        self.assertEqual((done["event"], done["bytes"], done["resumed_from"]), ("done", 5 * MIB, 0))
        self.assertEqual(done["source_digest"], done["destination_digest"])
        self.assertEqual(done["header_bytes"], 28 * (done["packets"] - done["holes"]) + 40 * done["holes"])
        self.assertEqual(done["written_bytes"], done["bytes"] + done["header_bytes"] + done["call_bytes"])
        self.assert_clean()

    def test_interrupted(self) -> None:
        """Ctrl-C ends both services and removes everything."""
        process = self.demo("--size", "200M", "--json")
        assert process.stdout is not None
        while b'"progress"' not in (line := process.stdout.readline()):
            self.assertTrue(line)
        process.send_signal(signal.SIGINT)
        self.assert_error(self.finish(process), 130, "interrupted by SIGINT")
        self.assert_clean()

    def test_nothing_to_show(self) -> None:
        """A file that is not there, and one that would not fit: one line."""
        self.assert_error(self.finish(self.demo("--file", "/nonexistent")), 1, "/nonexistent: no such file")
        self.assert_error(self.finish(self.demo("--size", "4096T")), 1, "--size")
        self.assert_clean()


class ChildTests(TestCase):
    """A service as a child process."""

    async def test_does_not_start(self) -> None:
        """A service that ends at once: what it logged last is told."""
        child = Child(reactor, "destination", Path(self._folder()), "--listen", "rpctls:0")
        try:
            await child.listening("rpctls")
        except ChildFailed as error:
            self.assertIn("the destination service ended with status", str(error))
            self.assertIn("--store is missing", error.lines[-1])
        else:
            self.fail("it listens")
        await child.stop()

    def test_stop(self) -> Deferred[None]:
        """Stopping one that was not listening yet."""
        child = Child(reactor, "source", Path(self._folder()))
        return Deferred.fromCoroutine(child.stop())

    def _folder(self) -> str:
        os.makedirs(path := self.mktemp())
        return os.path.abspath(path)


def result(**changes: Any) -> DemoResult:
    """A result in which all is well, but for the changes."""
    digests = changes.pop("digests", (b"d" * 32,) * 3)
    measures = {
        "size": 1000,
        "sent_bytes": 600,
        "hole_bytes": 400,
        "hole_count": 1,
        "packet_count": 3,
        "written_bytes": 600 + 2 * 28 + 40 + 216,
        "seconds": 0,
        **changes,
    }
    told = [Parameter(name, UHyperValue(value)) for name, value in measures.items() if value is not None]
    told += [Parameter(name, TextValue("x")) for name in ("lane", "tls", "cipher")]
    return DemoResult.of("name", digests, told, (1, 2))


class ResultTests(SynchronousTestCase):
    """The demonstration does not claim what it has not checked."""

    def test_good(self) -> None:
        """Headers are explained, and the rest is calls."""
        good = result()
        good.check()
        self.assertEqual(good.overhead, (312, 96, 216))
        self.assertIn("28 x 2 + 40 x 1 = 96, and 216 of calls", drawn(good, 100))
        self.assertEqual(result(sent_bytes=0, size=400, packet_count=1).percent, 0.0)

    def test_bad(self) -> None:
        """Bytes that are not accounted for, content that differs, measures that are missing."""
        for changes in (
            {"written_bytes": 600 + 96},
            {"written_bytes": 100_000},
            {"hole_bytes": 0},
            {"digests": (b"d" * 32, b"e" * 32, b"d" * 32)},
        ):
            self.assertRaises(DemoFailed, result(**changes).check)
        self.assertRaises(DemoFailed, result, size=None)
