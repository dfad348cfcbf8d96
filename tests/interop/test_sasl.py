"""
Passwords: our client and the real virsh, our destination and the real libvirtd, as processes.
"""

from __future__ import annotations

import json
import os
import socket
import subprocess
from typing import Any
from unittest import mock

from twisted.internet.threads import deferToThread

from rpcstream import libvirt
from rpcstream.errors import ConfigurationError, ConnectRefused
from rpcstream.programs import remote
from rpcstream.programs.remote import AuthType
from rpcstream.wire import (
    HEADER_BYTES,
    ErrorInfo,
    Header,
    MessageType,
    Status,
    codec_of,
    decode_header,
    encode_header,
)
from tests.interop.harness import COMMAND, ENVIRONMENT, random_file
from tests.interop.libvirt_case import LibvirtCase, asynchronous
from tests.interop.libvirtd import PASSWORD, USERNAME, Libvirtd, require_libvirtd
from tests.interop.virsh_case import VirshCase

SCRAM = "&auth=sasl.SCRAM-SHA-256"
"""virsh compares its case."""
BYTE_COUNT = 3_000_000


def run(*command: str, given: str = "") -> tuple[int, str, str]:
    """Status, standard output and standard error of C{rpcstream COMMAND}."""
    done = subprocess.run(
        [*COMMAND, *command], input=given, capture_output=True, text=True, env=ENVIRONMENT, timeout=120,
        check=False,
    )  # fmt: skip
    return done.returncode, done.stdout, done.stderr


class PasswordCase(VirshCase):
    """A destination that wants a password, and files with some."""

    config = '[sasl]\nfile = "FOLDER/passwd"\n'

    def prepare(self) -> None:
        """A user, as an administrator adds it."""
        status, _, errors = run("passwd", str(self.folder / "passwd"), USERNAME, given=f"{PASSWORD}\n")
        self.assertEqual((0, ""), (status, errors))
        for name, username, password in (
            ("right", USERNAME, PASSWORD), ("wrong", USERNAME, "incorrect"), ("unknown", "nobody", PASSWORD),
        ):  # fmt: skip
            (self.folder / name).write_text(
                f"[credentials-c]\nauthname={username}\npassword={password}\n"
                "[auth-libvirt-default]\ncredentials=c\n"
            )

    def place(self, name: str, kind: str, more: str = "") -> str:
        """The URI with the credentials of a file."""
        return self.uri(kind, f"&authfile={self.folder}/{name}{more}")


class VirshTests(PasswordCase):
    """virsh on our destination."""

    def virsh_with(self, name: str, kind: str, more: str = "") -> subprocess.CompletedProcess[str]:
        """A command with the credentials of a file."""
        return subprocess.run(
            ["virsh", "-q", "-c", self.place(name, kind, more), "pool-list"],
            stdin=subprocess.DEVNULL, capture_output=True, text=True, timeout=60, check=False,
        )  # fmt: skip

    def test_right(self) -> None:
        """The password lets in, by TLS and by the socket."""
        for kind in ("tls", "unix"):
            for more in ("", SCRAM):
                done = self.virsh_with("right", kind, more)
                self.assertEqual(done.returncode, 0, done.stderr)
                self.assertIn("default", done.stdout)
        self.assertIn(f"is {USERNAME}", self.destination.log.read_text())

    def test_wrong(self) -> None:
        """Another one does not; nor does another user."""
        for kind in ("tls", "unix"):
            for name in ("wrong", "unknown"):
                done = self.virsh_with(name, kind)
                self.assertEqual(done.returncode, 1)
                self.assertIn("authentication failed", done.stderr)

    def test_other_mechanism(self) -> None:
        """virsh set to another one finds out that it is not offered."""
        for kind in ("tls", "unix"):
            done = self.virsh_with("right", kind, "&auth=sasl.digest-md5")
            self.assertEqual(done.returncode, 1)
            self.assertIn("SASL mechanism digest-md5 not supported by server", done.stderr)

    def test_plain(self) -> None:
        """No password is taken in the clear."""
        done = self.virsh_with("right", "tcp")
        self.assertEqual(done.returncode, 1)
        self.assertIn("inside TLS or on a UNIX socket only", done.stderr)


class OurClientTests(PasswordCase):
    """Our client on our destination."""

    def refused(self, uri: str) -> str:
        """The one line of a call that is not let in."""
        status, stdout, stderr = run("call", uri, "ConnectGetURI")
        self.assertEqual((1, "", 1), (status, stdout, stderr.count("\n")), stderr)
        return stderr

    def test_right(self) -> None:
        """It calls, and sends and receives: each stream's own connection gives the password, too."""
        source = random_file(self.folder / "source", BYTE_COUNT)
        for kind in ("tls", "unix"):
            for more in ("", SCRAM):
                status, stdout, stderr = run("call", self.place("right", kind, more), "ConnectGetURI")
                self.assertEqual((0, ""), (status, stderr))
                self.assertEqual("storage:///system", json.loads(stdout))
            volume = f"{self.place('right', kind, SCRAM)}#default/{kind}"
            back = self.folder / f"{kind}.back"
            for command in (("send", str(source), volume), ("receive", volume, str(back))):
                status, _, stderr = run(*command)
                self.assertEqual((0, ""), (status, stderr))
            for path in (self.store / kind, back):
                self.assertEqual(source.read_bytes(), path.read_bytes())

    def test_wrong(self) -> None:
        """Another password, another user, and nothing at all."""
        for kind in ("tls", "unix"):
            for name in ("wrong", "unknown"):
                self.assertIn("authentication failed", self.refused(self.place(name, kind)))
            with mock.patch.dict(ENVIRONMENT, {"HOME": str(self.folder), "XDG_CONFIG_HOME": ""}):
                self.assertIn("authfile=", self.refused(self.uri(kind)))

    def test_other_mechanism(self) -> None:
        """It knows no other; nor does the destination, whatever a client tries."""
        self.assertIn("SCRAM-SHA-256 only", self.refused(self.place("right", "tls", "&auth=sasl.digest-md5")))
        with socket.socket(socket.AF_UNIX) as peer:
            peer.settimeout(60)
            peer.connect(str(self.folder / "s"))
            self.assertEqual("SCRAM-SHA-256", self.asked(peer, remote.AuthSaslInit()))
            plain = remote.AuthSaslStart("PLAIN", False, f"\0{USERNAME}\0{PASSWORD}".encode())
            self.assertEqual(45, self.asked(peer, plain).code)
            self.assertEqual("authentication required", self.asked(peer, remote.ConnectOpen(None)).message)

    def asked(self, peer: socket.socket, request: Any) -> Any:
        """What a destination answers to whom nothing holds back: a result or an error."""
        info = request.__procedure__
        payload = info.arguments.encode(request)
        number = info.program.number
        length = HEADER_BYTES + len(payload)
        header = Header(length, number, 1, info.number, MessageType.CALL, 0, Status.OK)
        peer.sendall(encode_header(header) + payload)
        answer = decode_header(peer.recv(HEADER_BYTES, socket.MSG_WAITALL))
        body = peer.recv(answer.length - HEADER_BYTES, socket.MSG_WAITALL)
        codec = info.result if answer.status == Status.OK else codec_of(ErrorInfo)
        return codec.decode(body)

    def test_insecure(self) -> None:
        """It gives no password away in plain TCP."""
        self.assertIn("inside TLS or on a UNIX socket only", self.refused(self.place("right", "tcp")))


class UnaskedTests(VirshCase):
    """A destination that wants no password."""

    def test_client_set_to_scram(self) -> None:
        """It takes nothing less."""
        status, stdout, stderr = run("call", self.uri("tls", SCRAM), "ConnectGetURI")
        self.assertEqual((1, ""), (status, stdout))
        self.assertIn("offers authentication by none, and the URI allows only sasl.SCRAM-SHA-256", stderr)


class LibvirtdTests(LibvirtCase):
    """Our client on the real libvirtd, inside TLS."""

    async def started(self, mechanisms: str) -> Libvirtd:
        """A daemon that asks for passwords."""
        require_libvirtd()
        daemon = Libvirtd(sasl=mechanisms)
        self.addCleanup(daemon.close)
        await deferToThread(daemon.start)
        return daemon

    @asynchronous
    async def test_scram(self) -> None:
        """The right password opens, also each stream's own connection; anything else is refused."""
        daemon = await self.started("scram-sha-256")
        uri = daemon.uri(kind="tls", more=SCRAM)
        host = await self.connected(uri, username=USERNAME, password=PASSWORD)
        self.assertIs(AuthType.SASL, host.authentication)
        self.assertEqual("image/png", (await (await host.domain("test")).screenshot()).mime)
        for username, password in ((USERNAME, "wrong"), ("nobody", PASSWORD)):
            opening = libvirt.connect(uri, username=username, password=password)
            error = await self.failure_of(opening, libvirt.AuthenticationFailed)
            self.assertEqual(45, error.code)
        with mock.patch.dict(os.environ, {"HOME": str(self.folder), "XDG_CONFIG_HOME": ""}):
            error = await self.failure_of(libvirt.connect(uri), ConfigurationError)
        self.assertIn("password", str(error))
        authfile = self.folder / "auth.conf"
        authfile.write_text(
            f"[credentials-mine]\nauthname={USERNAME}\npassword={PASSWORD}\n"
            "[auth-libvirt-127.0.0.1]\ncredentials=mine\n"
        )
        await self.connected(f"{uri}&authfile={authfile.absolute()}")

    @asynchronous
    async def test_other_mechanism(self) -> None:
        """Where SCRAM is not offered nothing is tried, and no password leaves."""
        daemon = await self.started("digest-md5 plain")
        for more in ("", "&auth=sasl", SCRAM):
            opening = libvirt.connect(daemon.uri(kind="tls", more=more), username=USERNAME, password=PASSWORD)
            error = await self.failure_of(opening, ConnectRefused)
            self.assertIn("rpcstream speaks SCRAM-SHA-256", str(error))
            self.assertIn("DIGEST-MD5", str(error))
