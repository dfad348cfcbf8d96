"""What must be refused, as a user sees it: one line, the right exit status, nothing created."""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from unittest import SkipTest

from twisted.trial.unittest import SynchronousTestCase

from tests.interop.harness import COMMAND, ENVIRONMENT, Destination, random_file, rpcstream_run
from tests.net.certificates import CLIENT, SERVER, authority, issue, minutes, pki_directory
from tests.peers import REQUIRE_PEERS

SYNCED_BYTES = 20 << 20
"""More than is received between two syncs: some of it is durable."""


class Refusals(SynchronousTestCase):
    server_names = ("localhost", "127.0.0.1")

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        server = issue(common_name="host", names=self.server_names, purposes=[SERVER])
        self.pki = pki_directory(str(self.folder / "pki"), server=server).directory
        self.source = random_file(self.folder / "source", 3_000_000)

    def serve(self, *options: str) -> Destination:
        destination = Destination(self.folder, self.pki, *options)
        self.addCleanup(destination.stop)
        return destination

    def other_pki(self, **changes: object) -> Path:
        return pki_directory(str(self.folder / "other"), **changes).directory  # type: ignore[arg-type]

    def names(self, destination: Destination) -> list[str]:
        return [path.name for path in destination.store.iterdir() if path.name != ".rpcstream"]

    def assert_refused(
        self, destination: Destination, *words: str, pki: Path | None = None, name: str = "x", url: str = ""
    ) -> None:
        """A send fails within 10 s with one line that has these words, and creates nothing."""
        started = time.monotonic()
        status, lines, errors = rpcstream_run(
            "send", str(self.source), url or destination.url(name), pki_folder=pki or self.pki
        )
        self.assertLess(time.monotonic() - started, 11)
        self.assertEqual(status, 1, errors)
        self.assertEqual(errors.count("\n"), 1, errors)
        self.assertTrue(errors.startswith("error: "), errors)
        for word in words:
            self.assertIn(word, errors)
        self.assertEqual(lines[-1]["event"], "error")
        self.assertEqual(self.names(destination), [])
        kept = destination.store / ".rpcstream"
        self.assertEqual([p.name for p in kept.rglob("*") if p.is_file() and p.stat().st_size > 4096], [])

    def assert_logged(self, destination: Destination, code: str) -> None:
        lines = [line for line in destination.log.read_text().splitlines() if code in line]
        self.assertEqual(len(lines), 1, destination.log.read_text()[-2000:])


class CertificateTests(Refusals):
    def test_no_client_certificate(self) -> None:
        destination = self.serve()
        self.assert_refused(destination, "certificate", pki=self.other_pki(has_client=False))
        self.assert_logged(destination, "tls-nocert")

    def test_other_authority(self) -> None:
        destination = self.serve()
        stranger = issue(purposes=[CLIENT], signer=authority("B"))
        self.assert_refused(destination, pki=self.other_pki(client=stranger))
        self.assert_logged(destination, "tls-cert")

    def test_expired(self) -> None:
        destination = self.serve()
        old = issue(purposes=[CLIENT], start=minutes(-120), end=minutes(-60))
        self.assert_refused(destination, "expired", pki=self.other_pki(client=old))
        self.assert_logged(destination, "tls-cert")

    def test_plain_tcp_client(self) -> None:
        """Plain TCP to the TLS port."""
        destination = self.serve()
        url = f"rpcstream+tcp://127.0.0.1:{destination.port}/x"
        self.assert_refused(destination, url=url)
        self.assert_logged(destination, "not TLS")


class HostNameTests(Refusals):
    server_names = ("elsewhere.example",)

    def test_wrong_host_name(self) -> None:
        destination = self.serve()
        self.assert_refused(destination, "elsewhere.example")


class StoreTests(Refusals):
    def test_names(self) -> None:
        """A name that escapes, and one that exists."""
        destination = self.serve()
        for name in ("..%2Fx", "%2Fetc%2Fpasswd", ".hidden", "a%0Ab"):
            self.assert_refused(destination, name=name)
        (destination.store / "taken").write_bytes(b"old")
        status, _, errors = rpcstream_run(
            "send", str(self.source), destination.url("taken"), pki_folder=self.pki
        )
        self.assertEqual(status, 1)
        self.assertIn("--replace", errors)
        self.assertEqual((destination.store / "taken").read_bytes(), b"old")

    def test_link_out_of_the_store(self) -> None:
        """A link in the store is never followed, neither for writing nor for reading."""
        destination = self.serve()
        secret = self.folder / "secret"
        secret.write_bytes(b"secret")
        (destination.store / "link").symlink_to(secret)
        status, _, _ = rpcstream_run(
            "send", str(self.source), destination.url("link"), "--replace", pki_folder=self.pki
        )
        self.assertEqual(status, 1)
        self.assertEqual(secret.read_bytes(), b"secret")
        status, _, _ = rpcstream_run(
            "receive", destination.url("link"), str(self.folder / "got"), pki_folder=self.pki
        )
        self.assertEqual(status, 1)
        self.assertFalse((self.folder / "got").exists())

    def test_denied(self) -> None:
        """A policy without a rule for this client."""
        config = self.folder / "config.toml"
        config.write_text('[[rule]]\nprincipals = ["bob"]\npermissions = ["transfer.*"]\n')
        config.chmod(0o600)
        destination = self.serve("--config", str(config))
        self.assert_refused(destination, "denied")

    def test_unreadable_source(self) -> None:
        destination = self.serve()
        self.source = self.folder / "absent"
        self.assert_refused(destination, "absent")
        self.source = self.folder
        self.assert_refused(destination)

    def test_full_disk(self) -> None:
        """A tmpfs of 1 MiB: the reason is told, nothing is published, and it never says done."""
        store = self.folder / "store"
        store.mkdir()
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "none", store], check=False)
        if mounted.returncode != 0:
            if os.environ.get(REQUIRE_PEERS) == "1":
                raise AssertionError("a tmpfs cannot be mounted")
            raise SkipTest("mounting a tmpfs needs root")
        try:
            destination = self.serve()
            self.assert_refused(destination, "space")
            # A sparse file is not reserved: it runs full in the middle.
            with self.source.open("r+b") as file:
                file.truncate(64 << 20)
            self.assert_refused(destination, "space")
            destination.stop()
        finally:
            subprocess.run(["umount", store], check=True)


class SignalTests(Refusals):
    def interrupt(self, act: Callable[[subprocess.Popen[bytes]], None]) -> tuple[Destination, int, str]:
        destination = self.serve()
        self.source = random_file(self.folder / "source", 96 << 20)
        sender = subprocess.Popen(
            [*COMMAND, "send", str(self.source), destination.url("x"),
             "--bwlimit", "16M", "--pki", str(self.pki)],
            env=ENVIRONMENT, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.PIPE,
        )  # fmt: skip
        partial = destination.store / ".rpcstream" / "partials" / "x"
        deadline = time.monotonic() + 60
        while not partial.exists() or partial.stat().st_blocks * 512 < SYNCED_BYTES:
            self.assertLess(time.monotonic(), deadline, "the transfer does not begin")
            time.sleep(0.05)
        act(sender)
        _, errors = sender.communicate(timeout=20)
        self.assertEqual(self.names(destination), [])
        return destination, sender.returncode, errors.decode()

    def assert_resumes(self, destination: Destination) -> None:
        status, lines, errors = rpcstream_run(
            "send", str(self.source), destination.url("x"), pki_folder=self.pki
        )
        self.assertEqual(status, 0, errors)
        self.assertGreater(lines[-1]["resumed_from"], 0)
        self.assertEqual((destination.store / "x").read_bytes(), self.source.read_bytes())

    def test_control_c(self) -> None:
        destination, status, errors = self.interrupt(lambda p: p.send_signal(signal.SIGINT))
        self.assertEqual(status, 130)
        self.assertEqual(errors.count("\n"), 1, errors)
        self.assert_resumes(destination)

    def test_terminate(self) -> None:
        destination, status, errors = self.interrupt(lambda p: p.terminate())
        self.assertEqual(status, 143)
        self.assertEqual(errors.count("\n"), 1, errors)
        self.assert_resumes(destination)
