"""
Certificates that are refused, at either end: rows T05 to T12 and T21.
"""

from __future__ import annotations

import contextlib
import socket
import ssl
from typing import Any
from unittest import mock

from cryptography import x509
from twisted.internet.threads import deferToThread

from rpcstream.errors import ConnectRefused
from rpcstream.net.pki import Pki
from rpcstream.net.tls import Verdict
from tests.net.certificates import CLIENT, SERVER, authority, issue, minutes, revocation_list
from tests.net.loopback import QUICK, LoopbackTestCase
from tests.net.odd_peers import stdlib_client


class ClientCertificateTests(LoopbackTestCase):
    """The server verifies the client: rows T05 to T09, T12, T21."""

    async def check(self, client: Pki, code: str, words: str, server_code: str, server_words: str) -> None:
        port = await self.listen()
        await self.assert_refused(self.connect(port, client), code, words, server_code, server_words)

    async def test_no_certificate(self) -> None:
        await self.check(
            self.pki(has_client=False),
            "tls-nocert",
            "has no clientcert.pem",
            "tls-nocert",
            "sent no certificate",
        )

    async def test_other_authority(self) -> None:
        client = issue(signer=authority("B"), purposes=[CLIENT])
        await self.check(
            self.pki(client=client),
            "tls-alert",
            "clientcert.pem was not issued by this directory's cacert.pem",
            "tls-cert",
            "issued by CN=authority B, which is not in cacert.pem",
        )

    async def test_expired(self) -> None:
        client = issue(purposes=[CLIENT], end=minutes(-5))
        await self.check(
            self.pki(client=client),
            "tls-alert",
            "clientcert.pem expired on 20",
            "tls-cert",
            "CN=alice expired on 20",
        )

    async def test_not_yet_valid(self) -> None:
        client = issue(purposes=[CLIENT], start=minutes(5))
        await self.check(
            self.pki(client=client),
            "tls-alert",
            "clientcert.pem is not valid before 20",
            "tls-cert",
            "is not valid before 20",
        )

    async def test_a_servers_certificate_shown_by_a_client(self) -> None:
        client = issue(purposes=[SERVER])
        await self.check(
            self.pki(client=client),
            "tls-alert",
            "may not be used by a client",
            "tls-eku",
            "issue one for a client",
        )

    async def test_self_signed(self) -> None:
        client = issue(purposes=[CLIENT], self_signed=True)
        await self.check(
            self.pki(client=client), "tls-alert", "was not issued by", "tls-cert", "is self-signed"
        )

    async def test_an_authority_as_a_client(self) -> None:
        client = issue(purposes=[CLIENT], is_authority=True)
        await self.check(
            self.pki(client=client), "tls-alert", "is itself a certificate authority", "tls-cert", "(CA:TRUE)"
        )

    async def test_path_length(self) -> None:
        short = authority("short", 0)
        between = issue(common_name="between", is_authority=True, key="between", signer=short)
        client = issue(purposes=[CLIENT], signer=between)
        server = issue(names=["127.0.0.1"], purposes=[SERVER], signer=short)
        port = await self.listen(self.pki(trust=short, server=server))
        await self.assert_refused(
            self.connect(port, self.pki(trust=short, client=client, chain=[between])),
            "tls-alert",
            "",
            "tls-cert",
            "longer than its authority allows",
        )

    async def test_revoked(self) -> None:
        client = issue(purposes=[CLIENT])
        port = await self.listen(self.pki(revocations=revocation_list([client])))
        await self.assert_refused(
            self.connect(port, self.pki(client=client)), "tls-alert", "is revoked", "tls-cert", "is revoked"
        )

    async def test_revocation_list_that_expired(self) -> None:
        port = await self.listen(self.pki(revocations=revocation_list([], end=-5)))
        await self.assert_refused(self.connect(port), "tls-alert", "", "tls-cert", "renew it")

    async def test_revocation_list_of_another_authority(self) -> None:
        port = await self.listen(self.pki(revocations=revocation_list([], authority("B"))))
        await self.assert_refused(self.connect(port), "tls-alert", "", "tls-cert", "no list of its issuer")

    async def test_not_admitted(self) -> None:
        port = await self.listen(admit=lambda principal: "is not on the list")
        await self.assert_refused(
            self.connect(port),
            "tls-closed",
            "so it refuses this client: the server's log says why",
            "not-allowed",
            "alice: is not on the list",
        )

    async def test_not_wanted_by_the_service(self) -> None:
        self.server.make = lambda: None
        port = await self.listen()
        await self.assert_refused(self.connect(port), "tls-closed", "refuses this client", "not-allowed")

    async def test_the_service_fails(self) -> None:
        def fails() -> Any:
            raise ZeroDivisionError

        self.server.make = fails
        port = await self.listen()
        await self.assert_refused(self.connect(port), "tls-closed", "refuses this client", "internal")
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    async def test_refused_peer_that_does_not_close(self) -> None:
        """loseConnection() waits for the peer's close_notify: not for ever."""
        pki = self.pki()
        port = await self.listen(pki, limits=QUICK, admit=lambda principal: "no")

        def stubborn() -> bytes:
            with socket.create_connection(("127.0.0.1", port), 5) as plain:
                context = stdlib_client(pki)
                incoming, outgoing = ssl.MemoryBIO(), ssl.MemoryBIO()
                tls = context.wrap_bio(incoming, outgoing, server_hostname="localhost")
                while True:
                    try:
                        tls.do_handshake()
                    except ssl.SSLWantReadError:
                        plain.sendall(outgoing.read())
                        incoming.write(plain.recv(65536))
                    else:
                        break
                plain.sendall(outgoing.read())
                received = b""
                with contextlib.suppress(ConnectionResetError):
                    while data := plain.recv(65536):
                        received += data
                return received

        self.assertNotEqual(await deferToThread(stubborn), b"")
        await self.until(lambda: self.refused)
        self.assertEqual(self.refused[0].code, "not-allowed")


class VerificationFailsTests(LoopbackTestCase):
    """Row T17: an exception inside OpenSSL's callback is a refusal."""

    async def test_at_either_end(self) -> None:
        port = await self.listen()
        for role, code, server_code in (
            ("client", "tls-alert", "tls-cert"),
            ("server", "tls-cert", "tls-alert"),
        ):
            del self.refused[:], self.lines[:]

            def fails(verdict: Verdict, *arguments: Any, role: str = role) -> bool:
                if verdict.role == role:
                    raise ZeroDivisionError
                verdict.is_good = True
                return True

            with mock.patch.object(Verdict, "judge", fails):
                await self.assert_refused(self.connect(port), code, "", server_code)
            self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    async def test_unverified_after_all(self) -> None:
        """Should OpenSSL ever not ask us, nobody is let in."""
        port = await self.listen()

        def forgets(verdict: Verdict, *arguments: Any) -> bool:
            verdict.is_good = verdict.role == "server"
            return True

        with mock.patch.object(Verdict, "judge", forgets):
            await self.assert_refused(self.connect(port), "tls-closed", "", "tls-nocert", "was not verified")

    async def test_unverified_server_after_all(self) -> None:
        """The same at the client."""
        port = await self.listen()

        def forgets(verdict: Verdict, *arguments: Any) -> bool:
            verdict.is_good = verdict.role == "client"
            return True

        with mock.patch.object(Verdict, "judge", forgets):
            error = await self.assertFailure(self.connect(port), ConnectRefused)
        self.assertIn("the server's certificate was not verified", str(error))
        await self.close_all()


class WeakKeyTests(LoopbackTestCase):
    async def test_weak_key(self) -> None:
        """RSA 1024 is refused, whatever signed it."""
        pki = self.pki()
        weak = issue(purposes=[CLIENT], key="weak")
        port = await self.listen(pki)

        def attempt() -> None:
            context = ssl.create_default_context(cafile=str(pki.directory / "cacert.pem"))
            context.set_ciphers("DEFAULT:@SECLEVEL=0")
            directory = self.pki(client=weak).directory
            context.load_cert_chain(directory / "clientcert.pem", directory / "clientkey.pem")
            context.set_alpn_protocols(["rpcstream/1"])
            with (
                socket.create_connection(("127.0.0.1", port), 5) as plain,
                context.wrap_socket(plain, server_hostname="localhost") as tls,
            ):
                tls.recv(1)

        await self.assertFailure(deferToThread(attempt), ssl.SSLError)
        await self.until(lambda: self.refused)
        self.assertEqual(self.refused[0].code, "tls-cert")
        self.assertIn("too weak", self.refused[0].detail)


class ServerCertificateTests(LoopbackTestCase):
    """The client verifies the server: rows T06 to T11."""

    async def check(
        self, server: Any, code: str, words: str, server_words: str = "", host: str = "127.0.0.1"
    ) -> None:
        port = await self.listen(self.pki(server=server))
        await self.assert_refused(self.connect(port, host=host), code, words, "tls-alert", server_words)

    async def test_other_authority(self) -> None:
        server = issue(signer=authority("B"), purposes=[SERVER], names=["127.0.0.1"])
        await self.check(server, "tls-cert", "issued by CN=authority B", "does not trust the authority")

    async def test_expired(self) -> None:
        server = issue(purposes=[SERVER], names=["127.0.0.1"], end=minutes(-5))
        await self.check(server, "tls-cert", "expired on 20", "has expired")

    async def test_not_yet_valid(self) -> None:
        server = issue(purposes=[SERVER], names=["127.0.0.1"], start=minutes(5))
        await self.check(server, "tls-cert", "is not valid before 20", "not yet valid")

    async def test_a_clients_certificate_shown_by_a_server(self) -> None:
        server = issue(purposes=[CLIENT], names=["127.0.0.1"])
        await self.check(server, "tls-eku", "issue one for a server", "not for this")

    async def test_other_name(self) -> None:
        server = issue(purposes=[SERVER], names=["host.example", "10.0.0.1"])
        await self.check(
            server,
            "tls-name",
            "is for host.example, 10.0.0.1, not for localhost",
            "refuses our certificate, perhaps for its name",
            host="localhost",
        )

    async def test_address_not_in_the_certificate(self) -> None:
        server = issue(purposes=[SERVER], names=["localhost"])
        await self.check(server, "tls-name", "is for localhost, not for 127.0.0.1")

    async def test_common_name_does_not_count(self) -> None:
        server = issue(common_name="localhost", purposes=[SERVER])
        await self.check(
            server, "tls-name", "no host at all (its common name does not count)", host="localhost"
        )

    async def test_address_as_a_dns_name_does_not_count(self) -> None:
        server = issue(purposes=[SERVER], alternatives=[x509.DNSName("127.0.0.1")])
        await self.check(server, "tls-name", "Invalid DNS pattern b'127.0.0.1'")

    async def test_wildcard_too_wide(self) -> None:
        server = issue(purposes=[SERVER], names=["*.localhost"])
        await self.check(server, "tls-name", "has a name that cannot be used", host="localhost")

    async def test_name_with_control_characters(self) -> None:
        server = issue(purposes=[SERVER], names=["local\0host.example", "\x1b[2Jx.example"])
        await self.check(server, "tls-name", "\\x00", host="localhost")

    async def test_an_authority_as_a_server(self) -> None:
        server = issue(purposes=[SERVER], names=["127.0.0.1"], is_authority=True)
        await self.check(server, "tls-cert", "(CA:TRUE)")
