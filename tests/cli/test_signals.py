"""Commands that are interrupted by real signals, and then go on."""

from __future__ import annotations

import json
import os
import signal
import socket
import subprocess
import time
from pathlib import Path
from typing import Any

from tests.cli.support import Daemon, RealCase, environment, words

MIB = 1024 * 1024


class SignalTests(RealCase):
    """SIGINT is 130, SIGTERM 143; what is durable is kept, nothing is published."""

    def interrupt(
        self, process: subprocess.Popen[bytes], number: int, after_bytes: int, status: int
    ) -> list[dict[str, Any]]:
        """Send a signal once so many bytes have moved; returns the objects printed."""
        assert process.stdout is not None
        objects = []
        while True:
            line = process.stdout.readline()
            self.assertTrue(line, "it ended before it was interrupted")
            objects.append(json.loads(line))
            if objects[-1]["event"] == "progress" and objects[-1]["bytes"] >= after_bytes:
                break
        process.send_signal(number)
        began = time.monotonic()
        finished = self.finish(process)
        self.assertLess(time.monotonic() - began, 5)
        self.assert_error(finished, status, f"interrupted by {signal.Signals(number).name}; ")
        return objects + finished.objects

    def wait_until_stopped(self, pid: int) -> None:
        """SIGSTOP takes effect in its own time, and for each thread by itself."""
        for _ in range(500):
            stats = [path.read_text() for path in Path(f"/proc/{pid}/task").glob("*/stat")]
            if stats and all(text.rpartition(")")[2].split()[0] == "T" for text in stats):
                return
            time.sleep(0.01)
        raise AssertionError(f"still running: {stats}")

    def idle_partials(self) -> list[list[str]]:
        """Partials of the destination, once nobody writes them any more."""
        for _ in range(50):
            lines = self.done("partials", self.tls).lines
            if all(line[4] == "false" for line in lines):
                return lines
            time.sleep(0.1)
        raise AssertionError(f"still active: {lines}")

    def check_send(self, number: int, status: int) -> None:
        source = self.file(f"source-{number}", 40 * MIB)
        name = source.name
        arguments = ("send", str(source), self.tls + name, "--json")
        objects = self.interrupt(self.start(*arguments, "--bwlimit", "20M"), number, 18 * MIB, status)
        self.assertEqual(objects[-1]["event"], "error")
        self.assertEqual(objects[-1]["code"], "interrupted")
        self.assertIn("run the same command again", objects[-1]["message"])
        self.assertFalse((self.store / name).exists())
        (partial,) = self.idle_partials()
        self.assertEqual(partial[0], name)
        held = int(partial[2])
        self.assertGreaterEqual(held, 8 * MIB)
        done = self.done(*arguments).objects[-1]
        self.assertEqual(done["event"], "done")
        self.assertEqual(done["resumed_from"], held)
        self.assertEqual(done["sent_bytes"], 40 * MIB - held)
        self.assertEqual((self.store / name).read_bytes(), source.read_bytes())
        self.assertEqual(self.idle_partials(), [])

    def test_send_interrupt(self) -> None:
        """Ctrl-C during send: 130, resumable, and the same command resumes."""
        self.check_send(signal.SIGINT, 130)

    def test_send_terminate(self) -> None:
        """SIGTERM during send: 143."""
        self.check_send(signal.SIGTERM, 143)

    def test_receive_interrupt(self) -> None:
        """Ctrl-C during receive: nothing at the target, and the same command resumes."""
        source = self.file("remote", 40 * MIB)
        self.done("send", str(source), self.tls + "remote")
        target = self.folder / "local" / "target"
        target.parent.mkdir()
        arguments = ("receive", self.tls + "remote", str(target), "--json")
        self.interrupt(self.start(*arguments, "--bwlimit", "20M"), signal.SIGINT, 18 * MIB, 130)
        self.assertFalse(target.exists())
        done = self.done(*arguments).objects[-1]
        self.assertGreaterEqual(done["resumed_from"], 4 * MIB)
        self.assertLess(done["sent_bytes"], 40 * MIB)
        self.assertEqual(target.read_bytes(), source.read_bytes())

    def test_hanging_pipe(self) -> None:
        """A command whose thread is held by a pipe that says nothing ends all the same."""
        reading, writing = os.pipe()
        self.addCleanup(os.close, writing)
        process = self.start("send", "-", self.tls + "silent", "--json", stdin=reading)
        os.close(reading)
        os.write(writing, b"some")
        assert process.stdout is not None
        while b'"started"' not in (line := process.stdout.readline()):
            self.assertTrue(line, "it ended before it had begun")
        process.send_signal(signal.SIGTERM)
        began = time.monotonic()
        finished = self.finish(process)
        self.assert_error(finished, 143, "a pipe cannot be read again")
        self.assertLess(time.monotonic() - began, 8)
        self.assertFalse((self.store / "silent").exists())
        self.done("partials", self.tls + "silent", "--remove")

    def test_second_signal(self) -> None:
        """Who does not want to wait for a destination that says nothing sends the signal again."""
        folder = self.folder / "stopped"
        (folder / "store").mkdir(parents=True)
        destination = Daemon(
            folder / "destination.log",
            *("destination", "--listen", "rpctls:0:interface=127.0.0.1", "--store", str(folder / "store")),
            *("--pki", str(self.pki)),
        )
        self.addCleanup(destination.stop)
        url = f"rpcstream+tls://{destination.listening(1)['rpctls']}/patient"
        source = self.file("patient", 20 * MIB)
        process = self.start("send", str(source), url, "--bwlimit", "5M", "--json")
        assert process.stdout is not None
        while b'"progress"' not in (line := process.stdout.readline()):
            self.assertTrue(line)
        destination.process.send_signal(signal.SIGSTOP)
        self.addCleanup(destination.process.send_signal, signal.SIGCONT)
        self.wait_until_stopped(destination.process.pid)
        process.send_signal(signal.SIGINT)
        time.sleep(0.5)
        self.assertIs(process.poll(), None)
        began = time.monotonic()
        process.send_signal(signal.SIGINT)
        self.assert_error(self.finish(process), 130, "interrupted by SIGINT; run the same command again")
        self.assertLess(time.monotonic() - began, 2)

    def test_destination_killed(self) -> None:
        """With --retry a destination that is killed and comes back costs only what was not durable."""
        folder = self.folder / "killed"
        (folder / "store").mkdir(parents=True)
        arguments = (
            *("destination", "--listen", f"unix:{folder / 'socket'}", "--store", str(folder / "store")),
            *("--pki", str(self.pki)),
        )
        first = Daemon(folder / "first.log", *arguments)
        self.addCleanup(first.stop)
        first.listening(1)
        source = self.file("surviving", 30 * MIB)
        url = f"rpcstream+unix:///surviving?socket={folder / 'socket'}"
        process = self.start("send", str(source), url, "--bwlimit", "20M", "--retry", "5", "--json")
        assert process.stdout is not None
        while True:
            moved = json.loads(process.stdout.readline())
            if moved["event"] == "progress" and moved["bytes"] > 16 * MIB:
                break
        first.process.kill()
        first.process.wait()
        second = Daemon(folder / "second.log", *arguments)
        self.addCleanup(second.stop)
        finished = self.finish(process)
        self.assertEqual((finished.status, finished.stderr), (0, ""), finished.stdout)
        done = finished.objects[-1]
        self.assertGreaterEqual(done["resumed_from"], 8 * MIB)
        self.assertEqual(done["resumed_from"] + done["sent_bytes"], 30 * MIB)
        self.assertIn("note", [each["event"] for each in finished.objects])
        self.assertEqual((folder / "store" / "surviving").read_bytes(), source.read_bytes())

    def test_before_anything(self) -> None:
        """A signal while it connects to a silent server ends it at once."""
        with socket.create_server(("127.0.0.1", 0)) as server:
            port = server.getsockname()[1]
            process = self.start("list", f"rpcstream+tls://127.0.0.1:{port}/")
            accepted, _ = server.accept()
            with accepted:
                process.send_signal(signal.SIGINT)
                finished = self.finish(process)
        self.assert_error(finished, 130, "interrupted by SIGINT")

    def test_ignored(self) -> None:
        """A signal that is ignored from the start, as in the background of a shell script, stays so."""
        source = Path(self.file("ignoring", 2 * MIB))
        process = subprocess.Popen(
            ["sh", "-c", 'trap "" INT; exec "$@"', "sh", *words("send", str(source), self.tls + "ignoring")],
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            env=environment(RPCSTREAM_PKI=str(self.pki)),
        )
        self.addCleanup(self._end, process)
        time.sleep(0.7)
        process.send_signal(signal.SIGINT)
        self.assertEqual(self.finish(process).status, 0)
