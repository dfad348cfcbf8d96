"""
What a destination does with the kernel's help, and in what order: promise I1, seen by strace.
"""

from __future__ import annotations

import re
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import NamedTuple

from twisted.trial.unittest import SynchronousTestCase

from rpcstream.programs.transfer import TRANSFER, Commit
from tests.interop.harness import Destination, make_pki, random_file, rpcstream_run
from tests.peers import require_program

SIZE = 9 << 20
CALLS = (
    "pwrite64,pwritev,pwritev2,write,writev,fdatasync,fsync,link,linkat,rename,renameat,renameat2,"
    "sendto,sendmsg"
)


class SystemCall(NamedTuple):
    """One system call: lines of the trace where it began and ended, and its text."""

    begin: int
    end: int
    text: str

    @property
    def name(self) -> str:
        return self.text.partition("(")[0]

    def is_on(self, path: Path) -> bool:
        """Whether its first argument is a descriptor of this file."""
        return re.match(rf"\w+\(\d+<{re.escape(str(path))}>", self.text) is not None


def calls_of(trace: str) -> list[SystemCall]:
    """The trace of several threads, with interrupted lines put together."""
    found: list[SystemCall] = []
    begun: dict[str, tuple[int, str]] = {}
    for number, line in enumerate(trace.splitlines()):
        thread, _, text = line.partition(" ")
        text = text.strip()
        if text.endswith("<unfinished ...>"):
            begun[thread] = (number, text.removesuffix("<unfinished ...>"))
        elif text.startswith("<... "):
            begin, first = begun.pop(thread, (number, ""))
            found.append(SystemCall(begin, number, first + text.partition("resumed>")[2]))
        else:
            found.append(SystemCall(number, number, text))
    return sorted(found)


class OrderTests(SynchronousTestCase):
    """One transfer into a traced destination."""

    def setUp(self) -> None:
        self.strace = require_program("strace")
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        self.pki = make_pki(self.folder)

    def traced_transfer(self, *options: str) -> list[SystemCall]:
        """Send a file, in plain TCP so that the reply can be recognised."""
        destination = Destination(self.folder, self.pki, "--insecure", endpoint="tcp")
        self.addCleanup(destination.stop)
        self.store = destination.store
        if "--replace" in options:
            (self.store / "name").write_bytes(b"old")
        process = destination.process
        self.assertIsNotNone(process)
        trace, messages = self.folder / "trace", self.folder / "strace.log"
        with messages.open("wb") as log:
            tracer = subprocess.Popen(
                [self.strace, "-f", "-y", "-x", "-s", "32", "-e", f"trace={CALLS}", "-o", str(trace),
                 "-p", str(process.pid if process else 0)],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log,
            )  # fmt: skip
        try:
            deadline = time.monotonic() + 20
            while "attached" not in messages.read_text():
                self.assertTrue(tracer.poll() is None and time.monotonic() < deadline, messages.read_text())
                time.sleep(0.05)
            source = random_file(self.folder / "source", SIZE)
            url = f"rpcstream+tcp://127.0.0.1:{destination.port}/name"
            status, _, errors = rpcstream_run("send", str(source), url, *options, pki_folder=self.pki)
            self.assertEqual(0, status, errors)
        finally:
            tracer.send_signal(signal.SIGINT)
            tracer.wait(20)
        self.assertEqual(source.read_bytes(), (self.store / "name").read_bytes())
        return calls_of(trace.read_text())

    def last(self, calls: list[SystemCall], what: str, wanted: Callable[[SystemCall], bool]) -> SystemCall:
        matching = [call for call in calls if wanted(call)]
        self.assertTrue(matching, f"{what}: not in the trace")
        return matching[-1]

    def check(self, calls: list[SystemCall]) -> None:
        """Each step begins only after the one before it has ended."""
        state = self.store / ".rpcstream"
        # Number of the program, version, procedure, REPLY: as strace prints them.
        numbers = (TRANSFER.number, TRANSFER.version, Commit.__procedure__.number, 1)
        reply = "".join(f"\\x{byte:02x}" for number in numbers for byte in number.to_bytes(4, "big"))
        steps = {
            "data written": lambda call: "write" in call.name and call.is_on(state / "partials" / "name"),
            "data synced": lambda call: call.name == "fdatasync" and call.is_on(state / "partials" / "name"),
            "journal written": lambda call: "write" in call.name and call.is_on(state / "journals" / "name"),
            "journal synced": lambda call: (
                call.name == "fdatasync" and call.is_on(state / "journals" / "name")
            ),
            "published": lambda call: (
                call.name in ("link", "linkat", "rename", "renameat", "renameat2")
                and re.search(rf"<{re.escape(str(self.store))}>, \"name\"", call.text) is not None
            ),
            "directory synced": lambda call: call.name == "fsync" and call.is_on(self.store),
            "replied": lambda call: (
                call.name in ("sendto", "sendmsg", "writev", "write") and reply in call.text
            ),
        }
        before, found = "", None
        for what, wanted in steps.items():
            step = self.last(calls, what, wanted)
            if found is not None:
                self.assertLess(found.end, step.begin, f"{before} only ended after {what} began")
            before, found = what, step
        replies = [call for call in calls if steps["replied"](call)]
        self.assertEqual(1, len(replies), replies)

    def test_new_name(self) -> None:
        """Data, sync, journal, sync, link, sync of the directory, and only then the reply."""
        calls = self.traced_transfer()
        self.check(calls)
        renamed = [
            call for call in calls if call.name.startswith("rename") and f"<{self.store}>" in call.text
        ]
        self.assertEqual([], renamed)

    def test_replaced_name(self) -> None:
        """The same where an old file gives way: no moment without the name."""
        self.check(self.traced_transfer("--replace"))
