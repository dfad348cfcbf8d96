"""
The command line with a real libvirtd: volumes, events, screenshots, calls.
"""

from __future__ import annotations

import json
import os
import subprocess
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from rpcstream.limits import MIB
from tests.interop.harness import COMMAND, ENVIRONMENT, random_file
from tests.interop.libvirtd import shared_libvirtd

SECONDS = 120


class CommandCase(SynchronousTestCase):
    """Commands, as processes."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        self.daemon = shared_libvirtd()
        self.pool = self.daemon.folder / "pools/p"
        self.test = self.daemon.uri(kind="tls")
        self.storage = self.daemon.uri("storage", "/session", "tls")

    def start(self, *arguments: str, **options: Any) -> subprocess.Popen[str]:
        """Begin a command."""
        process = subprocess.Popen(
            [*COMMAND, *arguments],
            stdin=options.pop("stdin", subprocess.DEVNULL),
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**ENVIRONMENT, "HOME": str(self.folder)},
        )
        self.addCleanup(self._end, process)
        return process

    @staticmethod
    def _end(process: subprocess.Popen[str]) -> None:
        if process.poll() is None:
            process.kill()
        process.communicate()

    def command(self, *arguments: str, given: bytes | None = None) -> tuple[int, str, str]:
        """Run a command to its end: status, stdout, stderr."""
        options: dict[str, Any] = {}
        if given is not None:
            path = self.folder / "given"
            path.write_bytes(given)
            # Through a pipe, which cannot be looked into.
            feeder = subprocess.Popen(["cat", str(path)], stdout=subprocess.PIPE)
            options["stdin"] = feeder.stdout
            self.addCleanup(feeder.communicate)
        process = self.start(*arguments, **options)
        stdout, stderr = process.communicate(timeout=SECONDS)
        return process.returncode, stdout, stderr

    def done(self, *arguments: str, given: bytes | None = None) -> str:
        """A command that must succeed without a word on stderr; its stdout."""
        status, stdout, stderr = self.command(*arguments, given=given)
        self.assertEqual((0, ""), (status, stderr))
        return stdout

    def refused(self, status: int, *arguments: str, given: bytes | None = None) -> str:
        """A command that must fail with one line; the line."""
        ended = self.command(*arguments, given=given)
        self.assertEqual((status, ""), ended[:2], ended)
        lines = ended[2].splitlines()
        self.assertEqual(1, len(lines), ended[2])
        return lines[0]


class TransferTests(CommandCase):
    """C{send} and C{receive} with C{URI#POOL/VOLUME}."""

    def test_there_and_back(self) -> None:
        """A file becomes a new volume, and a file again; what exists is replaced only if asked for."""
        source = random_file(self.folder / "source", 3 * MIB + 1)
        place = f"{self.storage}#p/there%20and%20back"
        volume = self.pool / "there and back"
        self.assertIn("confirmed by the daemon", self.done("send", str(source), place))
        self.assertEqual(source.read_bytes(), volume.read_bytes())
        self.assertIn("--replace", self.refused(1, "send", str(source), place))
        shorter = random_file(self.folder / "shorter", MIB, seed=1)
        answer = json.loads(self.done("send", "--json", "--replace", str(shorter), place).splitlines()[-1])
        self.assertEqual((MIB, MIB, False), (answer["bytes"], answer["sent_bytes"], answer["verified"]))
        self.assertEqual(shorter.read_bytes(), volume.read_bytes())
        self.assertIn("not compared", self.done("receive", "--mode", "640", place, str(self.folder)))
        copy = self.folder / "there and back"
        self.assertEqual((shorter.read_bytes(), 0o640), (copy.read_bytes(), copy.stat().st_mode & 0o777))
        self.assertIn("exists", self.refused(1, "receive", place, str(copy)))
        self.done("receive", "--replace", "--bwlimit", "1G", place, str(copy))

    def test_several_connections(self) -> None:
        """Ranges over connections of their own make the same volume, byte for byte; holes go over one."""
        source = random_file(self.folder / "source", 67 * MIB + 4321)
        place = f"{self.storage}#p/striped"
        for count in ("4", "3"):
            printed = self.done("send", "--connections", count, "--json", "--replace", str(source), place)
            answer = json.loads(printed.splitlines()[-1])
            self.assertEqual((67 * MIB + 4321, 0), (answer["sent_bytes"], answer["hole_bytes"]))
            subprocess.run(["cmp", str(source), str(self.pool / "striped")], check=True, timeout=SECONDS)
        with source.open("r+b") as file:
            # A hole where a range would end, and one at the end of everything.
            file.truncate(16 * MIB)
            file.seek(40 * MIB)
            file.write(b"x" * 4096)
            file.truncate(70 * MIB)
        printed = self.done("send", "--connections", "4", "--json", "--replace", str(source), place)
        answer = json.loads(printed.splitlines()[-1])
        self.assertGreater(answer["hole_bytes"], 50 * MIB)
        subprocess.run(["cmp", str(source), str(self.pool / "striped")], check=True, timeout=SECONDS)
        line = self.refused(2, "receive", "--connections", "2", place, str(self.folder / "back"))
        self.assertIn("one connection", line)

    def test_sparse(self) -> None:
        """Holes take no space on either side, and do not cross the wire."""
        source = self.folder / "sparse"
        with source.open("wb") as file:
            file.truncate(1 << 30)
            file.seek(1 << 29)
            file.write(b"x" * 4096)
        place = f"{self.storage}#p/sparse-by-command"
        answer = json.loads(self.done("send", "--json", str(source), place).splitlines()[-1])
        self.assertEqual((1 << 30, 4096), (answer["bytes"], answer["sent_bytes"]))
        self.done("receive", place, str(self.folder / "copy"))
        for path in (self.pool / "sparse-by-command", self.folder / "copy"):
            self.assertEqual(1 << 30, path.stat().st_size)
            self.assertLess(path.stat().st_blocks * 512, MIB)

    def test_standard_input(self) -> None:
        """With its size; otherwise no volume is left behind."""
        data = os.urandom(100_000)
        place = f"{self.storage}#p/piped"
        self.done("send", "--size", "100000", "-", place, given=data)
        self.assertEqual(data, (self.pool / "piped").read_bytes())
        for size in ("99999", "100001"):
            self.assertIn("declared", self.refused(1, "send", "--size", size, "-", f"{place}2", given=data))
            self.assertFalse((self.pool / "piped2").exists())

    def test_refusals(self) -> None:
        """One line each."""
        here = str(self.folder)
        for status, line, arguments in (
            (1, "no storage vol", ("receive", f"{self.storage}#p/nosuch", here)),
            (1, "no storage pool", ("receive", f"{self.storage}#nosuch/v", here)),
            (1, "neither a file nor", ("send", "/dev/null", f"{self.storage}#p/v")),
        ):
            self.assertIn(line, self.refused(status, *arguments))


class DomainCommandTests(CommandCase):
    """C{events}, C{screenshot}, C{call}."""

    def test_events(self) -> None:
        """JSON lines, in order, of all domains or of one; it ends after as many as asked for."""
        for more in ((), ("--domain", "test")):
            process = self.start("events", self.test, "--count", "4", *more)
            assert process.stdout is not None
            self.assertEqual("listening", json.loads(process.stdout.readline())["message"])
            self.daemon.virsh("suspend test; resume test; suspend test; resume test")
            stdout, stderr = process.communicate(timeout=SECONDS)
            events = [json.loads(line) for line in stdout.splitlines()]
            self.assertEqual((0, ""), (process.returncode, stderr))
            self.assertEqual(["suspended", "resumed"] * 2, [event["what"] for event in events[:4]])
            self.assertEqual({"event": "done", "count": 4}, events[4])

    def test_events_refused(self) -> None:
        """The first connection must succeed, and the domain be there."""
        ended = self.command("events", f"{self.test}&socket=x".replace("test+tls", "nosuch+tls"))
        self.assertEqual(1, ended[0])
        self.assertIn("no connection driver", ended[2])
        ended = self.command("events", self.test, "--domain", "nosuch")
        self.assertEqual(1, ended[0])
        self.assertIn("Domain not found", ended[2])

    def test_screenshot(self) -> None:
        """A PNG that appears when it is complete."""
        path = self.folder / "picture.png"
        self.assertIn("image/png", self.done("screenshot", self.test, "test", str(path)))
        self.assertTrue(path.read_bytes().startswith(b"\x89PNG"))
        self.assertIn("exists", self.refused(1, "screenshot", self.test, "test", str(path)))
        self.done("screenshot", "--replace", self.test, "test", str(path))
        self.assertIn("not found", self.refused(1, "screenshot", self.test, "nosuch", str(path)))

    def test_call(self) -> None:
        """By any name, with JSON in and out."""
        domain = json.loads(self.done("call", self.test, "DOMAIN_LOOKUP_BY_NAME", '{"name": "test"}'))
        self.assertEqual("6695eb01f6a4830479aa97f2502e193f", domain["uuid"])
        info = json.loads(self.done("call", self.test, "DomainGetInfo", json.dumps({"domain": domain})))
        self.assertEqual(1, info["state"])
        answer = json.loads(self.done("call", "--json", "--timeout", "5", self.test, "3"))
        self.assertEqual(("done", "TEST"), (answer["event"], answer["result"]))

    def test_call_with_an_interface(self) -> None:
        """A .x file declares what rpcstream does not."""
        path = self.folder / "mine_protocol.x"
        path.write_text(
            "const REMOTE_PROGRAM = 0x20008086; const REMOTE_PROTOCOL_VERSION = 1;\n"
            "typedef string remote_nonnull_string<4194304>;\n"
            "struct remote_connect_get_hostname_ret { remote_nonnull_string hostname; };\n"
            "enum remote_procedure { REMOTE_PROC_CONNECT_GET_HOSTNAME = 59 };\n"
        )
        result = self.done("call", "--interface", str(path), self.test, "connect_get_hostname")
        self.assertIn(self.daemon.virsh("hostname").stdout.strip(), result)

    def test_call_refused(self) -> None:
        """By the daemon; or there is none."""
        arguments = ("call", self.test, "DomainLookupByName", '{"name": "x"}')
        self.assertIn("Domain not found", self.refused(1, *arguments))
        url = "rpcstream+unix:///?socket=/nowhere"
        self.assertIn("no such socket", self.refused(1, "call", url, "ListNames"))
