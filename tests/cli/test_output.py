"""What a command prints, and where."""

from __future__ import annotations

import io
import json
import os
import threading
from typing import Any, NamedTuple
from unittest import mock

from rich.console import Console
from twisted.trial.unittest import TestCase

from rpcstream.cli.output import JsonOutput, Output, TerminalOutput, make_output
from rpcstream.cli.progress_bar import RateWindow, status_text
from rpcstream.cli.tables import JOBS, NAMES, PARTIALS, SUMMARY
from rpcstream.errors import ConnectionClosed, ResourceBusy
from rpcstream.programs.jobs import Job, JobState
from rpcstream.programs.transfer import Entry, PartialEntry, SourceKind

ESCAPES = "\x1b[31mred"


class Moved(NamedTuple):
    """Progress of a stream."""

    byte_count: int
    hole_bytes: int = 0
    seconds: float = 1.0
    total_bytes: int | None = None
    stalled_by: str | None = None
    lane: str = "shared"


def entry(
    name: str, *, digest: bytes | None = b"\xab" * 32, incomplete: bool = False, mtime_ns: int = 0
) -> Entry:
    """An entry of a pool."""
    return Entry(name, SourceKind.FILE, 3 << 20, 0, mtime_ns, digest, incomplete)


class Terminal(io.StringIO):
    """A file that says it is a terminal."""

    def isatty(self) -> bool:
        """It is one."""
        return True


class OutputCase(TestCase):
    """Two files to print to."""

    def setUp(self) -> None:
        self.stdout: io.StringIO = io.StringIO()
        self.stderr: io.StringIO = io.StringIO()

    def make(self, **options: bool) -> Output:
        """The output for these files."""
        return make_output(self.stdout, self.stderr, **options)

    def objects(self) -> list[dict[str, Any]]:
        """What came out as JSON lines."""
        return [json.loads(line) for line in self.stdout.getvalue().splitlines()]


class PipeTests(OutputCase):
    """On a pipe: results only."""

    def test_transfer(self) -> None:
        """The result on stdout; neither progress nor anything else."""
        output = self.make()
        self.assertIs(type(output), Output)
        output.started("disk", 10)
        output.progress(Moved(5))
        output.done("disk: 10 B", bytes=10)
        self.assertEqual((self.stdout.getvalue(), self.stderr.getvalue()), ("disk: 10 B\n", ""))

    def test_silent_result(self) -> None:
        """A command whose result is something else prints no line."""
        self.make().done(bytes=10)
        self.assertEqual(self.stdout.getvalue(), "")

    def test_failed(self) -> None:
        """One line on stderr, and the exit status."""
        self.assertEqual(self.make().failed(ResourceBusy(ESCAPES)), 1)
        self.assertEqual(
            self.stderr.getvalue(), "error: \\x1b[31mred (code 87); try again later, or use --retry N\n"
        )
        self.assertEqual(self.stdout.getvalue(), "")

    def test_note(self) -> None:
        """Not a result."""
        self.make().note("one\ntwo")
        self.assertEqual((self.stdout.getvalue(), self.stderr.getvalue()), ("", "one\\x0atwo\n"))

    def test_table(self) -> None:
        """Exact values with tabs; a name cannot forge a column or a line."""
        self.make().table(NAMES, [entry("a\tb\n"), entry("c", digest=None, incomplete=True)])
        self.assertEqual(
            self.stdout.getvalue(),
            f"a\\x09b\\x0a\tfile\t3145728\t0\t0\t{'ab' * 32}\tfalse\nc\tfile\t3145728\t0\t0\t-\ttrue\n",
        )

    def test_ascii_only(self) -> None:
        """Where only ASCII can be written, the rest is escaped."""
        raw = io.BytesIO()
        stdout = io.TextIOWrapper(raw, encoding="ascii")
        make_output(stdout, self.stderr).done("Größe")
        self.assertEqual(raw.getvalue(), b"Gr\\xf6\\xdfe\n")


class JsonTests(OutputCase):
    """One object a line, the last of which says how it ended."""

    def test_transfer(self) -> None:
        """Started, progress, done."""
        output = self.make(as_json=True)
        output.started("disk", 1000, 100)
        output.progress(Moved(200, 50, 0.5))
        output.progress(Moved(200, 50, 1.0, stalled_by="peer socket"))
        output.note("slow")
        output.done("ignored", bytes=1000, digest=b"\x01", lane="shared")
        output.progress(Moved(3))
        self.assertEqual(
            self.objects(),
            [
                {"event": "started", "name": "disk", "total_bytes": 1000, "resumed_from": 100},
                {"event": "progress", "bytes": 350, "seconds": 0.5, "bytes_per_second": 500,
                 "stalled_by": None, "lane": "shared"},
                {"event": "progress", "bytes": 350, "seconds": 1.0, "bytes_per_second": 0,
                 "stalled_by": "peer socket", "lane": "shared"},
                {"event": "note", "message": "slow"},
                {"event": "done", "bytes": 1000, "digest": "01", "lane": "shared"},
            ],
        )  # fmt: skip
        self.assertEqual(self.stderr.getvalue(), "")

    def test_no_progress(self) -> None:
        """--no-progress holds here too."""
        output = self.make(as_json=True, shows_progress=False)
        output.progress(Moved(1))
        output.done(path=io)
        self.assertEqual([each["event"] for each in self.objects()], ["done"])

    def test_failed(self) -> None:
        """A code, a message, the number of the peer's error; the line for people is on stderr."""
        self.assertEqual(self.make(as_json=True).failed(ResourceBusy("x")), 1)
        self.assertEqual(
            self.objects(),
            [
                {
                    "event": "error",
                    "code": "resource-busy",
                    "message": "x (code 87); try again later, or use --retry N",
                    "number": 87,
                }
            ],
        )
        self.assertTrue(self.stderr.getvalue().startswith("error: x"))

    def test_last_word(self) -> None:
        """What fails after the end does not become the last line of stdout."""
        output = self.make(as_json=True)
        output.done(bytes=1)
        output.failed(ConnectionClosed("late"))
        self.assertEqual(self.objects(), [{"event": "done", "bytes": 1}])
        self.assertIn("late", self.stderr.getvalue())

    def test_table(self) -> None:
        """A record is an object; terminal escapes are those of JSON."""
        output = JsonOutput(self.stdout, self.stderr)
        output.table(NAMES, [entry(ESCAPES)])
        self.assertNotIn("\x1b", self.stdout.getvalue())
        self.assertEqual(
            self.objects()[0],
            {"event": "entry", "name": ESCAPES, "kind": "file", "size": 3 << 20, "allocated": 0,
             "mtime_ns": 0, "digest": "ab" * 32, "incomplete": False},
        )  # fmt: skip


class TerminalTests(OutputCase):
    """A bar on stderr, when that is a terminal."""

    def setUp(self) -> None:
        super().setUp()
        self.patch(threading.Thread, "start", self.no_thread)
        environment = mock.patch.dict(os.environ, {"TERM": "xterm", "COLUMNS": "160"})
        environment.start()
        self.addCleanup(environment.stop)
        self.stderr = Terminal()

    def no_thread(self, *_: object) -> None:
        """Nothing here may start a thread."""
        self.fail("a thread was started")

    def test_bar(self) -> None:
        """Bytes, rate and time left; then the stall's cause; it is gone at the end."""
        output = self.make()
        self.assertIsInstance(output, TerminalOutput)
        output.progress(Moved(0))
        output.started("[b]disk" + ESCAPES, 100 << 20, 20 << 20)
        output.progress(Moved(20 << 20, 20 << 20, 2.0))
        output.progress(Moved(20 << 20, 20 << 20, 12.0, stalled_by="peer socket"))
        output.note("a [b]note[/b]")
        output.done("sent", bytes=1)
        drawn = self.stderr.getvalue()
        self.assertIn("60 MiB of 100 MiB, 20 MiB/s, 2.00 s left", drawn)
        self.assertIn("0 B/s, waiting for peer socket", drawn)
        self.assertIn("[b]disk\\x1b[31mred", drawn)
        self.assertIn("a [b]note[/b]\n", drawn)
        self.assertEqual(self.stdout.getvalue(), "sent\n")
        length = len(drawn)
        output.close()
        output.progress(Moved(1))
        self.assertEqual(len(self.stderr.getvalue()), length)

    def test_unknown_size(self) -> None:
        """Without a size: no time left; the stream may make it known."""
        output = self.make()
        output.started("pipe", None, 1 << 20)
        output.progress(Moved(1 << 20, seconds=1.0))
        output.progress(Moved(2 << 20, seconds=2.0, total_bytes=3 << 20))
        self.assertIn("2 MiB, 1 MiB/s", self.stderr.getvalue())
        self.assertIn("3 MiB of 4 MiB, 1 MiB/s, 1.00 s left", self.stderr.getvalue())
        self.assertEqual(output.failed(ConnectionClosed("cut")), 1)
        self.assertTrue(self.stderr.getvalue().splitlines()[-1].endswith("it goes on where it stopped"))

    def test_note_without_bar(self) -> None:
        """A plain line."""
        self.make().note("hello")
        self.assertEqual(self.stderr.getvalue(), "hello\n")

    def test_no_progress(self) -> None:
        """--no-progress, or a pipe for stderr: no bar."""
        self.assertIs(type(self.make(shows_progress=False)), Output)

    def test_table(self) -> None:
        """Aligned columns; names are neither markup nor escapes."""
        self.stdout = Terminal()
        output = self.make()
        output.started("x", 1)
        output.table(NAMES, [entry("[red]" + ESCAPES), entry("other", digest=None, mtime_ns=2**63 - 1)])
        drawn = self.stdout.getvalue()
        self.assertIn("[red]\\x1b[31mred", drawn)
        self.assertIn("3 MiB", drawn)
        self.assertIn("NAME", drawn)
        self.assertTrue(drawn.endswith("\n") and not drawn.endswith("\n\n\n"))


class TableTests(TestCase):
    """The tables themselves."""

    def test_records(self) -> None:
        """Mappings and objects; each table can be drawn."""
        job = Job(7, "/a", "a", JobState.QUEUED, 1, None, 0, "", None, 0, 2**62)
        partial = PartialEntry("a", None, 1, "alice", b"\x01" * 16, 0, True)
        for table, record, expected in (
            (JOBS, job, "queued"),
            (PARTIALS, partial, "yes"),
            (SUMMARY, {"what": "rate", "value": "1 MiB/s"}, "1 MiB/s"),
        ):
            console = Console(file=io.StringIO(), width=200)
            with console.capture() as drawn:
                console.print(table.rich([table.row(record)]))
            self.assertIn(expected, drawn.get())
        self.assertEqual(JOBS.line(JOBS.row(job)), f"7\tqueued\t/a\ta\t1\t-\t0\t{2**62}\t-\t")


class RateTests(TestCase):
    """How fast it goes now."""

    def test_window(self) -> None:
        """The last seconds count, not the whole time."""
        rates = RateWindow(5.0)
        self.assertEqual(rates.add(0.0, 0), 0)
        self.assertEqual(rates.add(1.0, 100), 100)
        for second in range(2, 20):
            rate = rates.add(float(second), 100)
        self.assertEqual(rate, 0)
        self.assertEqual(rates.add(20.0, 600), 100)

    def test_new_stream(self) -> None:
        """A clock that begins anew begins a new window."""
        rates = RateWindow()
        rates.add(10.0, 1000)
        self.assertEqual(rates.add(1.0, 50), 50)

    def test_status(self) -> None:
        """No time left is shown while nothing moves."""
        self.assertEqual(status_text(0, 1024, 0.0, None), "0 B of 1 KiB, 0 B/s")
        self.assertEqual(status_text(2048, 1024, 1.0, None), "2 KiB of 1 KiB, 1 B/s, 0.0 ms left")
