"""The options of twistd rpcstream: right ones make services, wrong ones usage errors."""

from __future__ import annotations

import gc
import os
import sys
from io import StringIO
from pathlib import Path
from typing import Any

from twisted.internet.defer import maybeDeferred
from twisted.python.usage import UsageError
from twisted.trial.unittest import TestCase

from rpcstream.errors import ConfigurationError
from rpcstream.net.pki import initialise
from rpcstream.services.destination import DestinationService
from rpcstream.services.source import SourceService
from rpcstream.tap import Options, default_pki, makeService


class TapCase(TestCase):
    """Options that could be typed here."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        (self.folder / "store").mkdir(parents=True)
        self.pki = self.folder / "pki"
        initialise(self.pki, ["localhost"], ["alice"])
        self.patch(os, "environ", {**os.environ, "RPCSTREAM_PKI": str(self.pki), "HOME": str(self.folder)})
        self.destination = ("destination", "--listen", "rpctls:0", "--store", f"{self.folder}/store")
        self.source = (
            *("source", "--listen", "unix:s.sock", "--to", "rpcstream+tls://localhost/"),
            *("--root", f"{self.folder}/store"),
        )

    def options(self, *arguments: str) -> Options:
        """Parsed options."""
        options = Options()
        options.parseOptions(arguments)
        return options

    def service(self, *arguments: str) -> Any:
        """The service they make."""
        (service,) = list(makeService(self.options(*arguments)))
        return service

    def refusal(self, *arguments: str) -> str:
        """The one line of the usage error."""
        text = str(self.assertRaises(UsageError, self.options, *arguments))
        self.assertNotIn("\n", text)
        return text


class OptionTests(TapCase):
    """What is typed."""

    def test_destination(self) -> None:
        """With the certificates of RPCSTREAM_PKI; --listen may be repeated."""
        service = self.service(*self.destination, "--listen", "unix:d.sock")
        self.assertIsInstance(service, DestinationService)
        self.assertEqual(len(list(service.rpc)), 2)

    def test_configuration(self) -> None:
        """--config is read at once."""
        path = self.folder / "config.toml"
        path.write_text("[limits]\nconnections = 7\n")
        path.chmod(0o600)
        service = self.service(*self.destination, "--config", str(path))
        self.assertEqual(service.rpc.serving.limits.connections, 7)
        self.assertIn("no such", self.refusal(*self.destination, "--config", "/none.toml").lower())

    def test_source(self) -> None:
        """With the state below the home directory."""
        self.assertIsInstance(self.service(*self.source), SourceService)
        self.service(*self.source, "--concurrent", "4", "--bwlimit", "10M", "--state", "elsewhere")

    def test_usage_errors(self) -> None:
        """Each is one line with its remedy."""
        for arguments, text in (
            ((), "destination or source"),
            (("destination",), "--listen is missing: add --listen"),
            (("destination", "--listen", "rpctls:0"), "--store is missing"),
            ((*self.destination, "more"), "'more' is no option"),
            ((*self.destination, "--listen", "tcp:0"), "--insecure"),
            ((*self.destination, "--listen", "rpctls:x"), "port 'x'"),
            ((*self.destination, "--pki", "/none"), "pki init"),
            (("source",), "--listen is missing"),
            (self.source[:3], "--to is missing"),
            (self.source[:5], "--root is missing"),
            ((*self.source, "--listen", "rpctls:1"), "UNIX socket"),
            ((*self.source, "--to", "http://x/"), "rpcstream+tls://"),
            ((*self.source, "--concurrent", "0"), "'0' is not a number from 1"),
            ((*self.source, "--concurrent", "many"), "'many' is not a number from 1"),
            ((*self.source, "--bwlimit", "fast"), "--bwlimit"),
            ((*self.source, "--root", "/none"), "no such directory"),
        ):
            self.assertIn(text, self.refusal(*arguments))

    def test_insecure(self) -> None:
        """Plaintext needs the word."""
        self.service(*self.destination, "--listen", "tcp:0", "--insecure")
        self.service(*self.source, "--to", "rpcstream+tcp://192.0.2.1/", "--insecure")

    def test_default_pki(self) -> None:
        """RPCSTREAM_PKI, or below the home directory."""
        self.assertEqual(default_pki(), self.pki)
        del os.environ["RPCSTREAM_PKI"]
        self.assertEqual(default_pki(), self.folder / ".config/rpcstream/pki")


class StartTests(TapCase):
    """A start that fails."""

    def test_one_line(self) -> None:
        """It is told in one line and ends the process with status 1; no process id is left."""
        pid_file = self.folder / "twistd.pid"
        pid_file.write_text("1")
        options = self.options(*self.destination)
        options.parent = {"pidfile": str(pid_file)}  # type: ignore[assignment]
        service: Any = makeService(options)
        said = StringIO()
        self.patch(sys, "__stderr__", said)

        def fail() -> None:
            raise ConfigurationError("make it: mkdir X")

        (destination,) = list(service)
        self.patch(destination, "startService", fail)
        stopped = self.assertRaises(SystemExit, service.startService)
        self.assertEqual(stopped.code, 1)
        self.assertEqual(said.getvalue(), "rpcstream: cannot start: make it: mkdir X\n")
        self.assertFalse(pid_file.exists())

    def test_daemon(self) -> None:
        """A daemon tells the process that was typed, which waits for it."""
        reading, writing = os.pipe()
        self.addCleanup(os.close, reading)
        options = self.options(*self.destination)
        options.parent = {"pidfile": "", "statusPipe": writing}  # type: ignore[assignment]
        service: Any = makeService(options)
        (destination,) = list(service)

        def fail() -> None:
            raise OSError(28, "No space left on device")

        self.patch(destination, "startService", fail)
        self.assertRaises(SystemExit, service.startService)
        self.assertEqual(os.read(reading, 100), b"1 cannot start: [Errno 28] No space left on device")
        self.assertEqual(os.read(reading, 100), b"")

    def test_started(self) -> None:
        """What can start does."""
        service: Any = makeService(self.options(*self.destination))
        self.addCleanup(gc.unfreeze)
        frozen_count = gc.get_freeze_count()
        service.privilegedStartService()
        # What is loaded is not looked at again by the garbage collector, which would hold the reactor.
        self.assertGreater(gc.get_freeze_count(), frozen_count + 1000)
        service.startService()
        (destination,) = list(service)
        self.assertEqual(len(destination.rpc.ports), 1)
        return maybeDeferred(service.stopService)  # type: ignore[return-value]
