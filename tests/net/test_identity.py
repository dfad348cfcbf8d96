"""
Names of peers.
"""

from __future__ import annotations

import os
import pwd
import socket
from typing import Any
from unittest import mock

from cryptography import x509
from twisted.internet.address import IPv4Address, UNIXAddress
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from rpcstream.errors import BadState, ConnectRefused
from rpcstream.net.identity import (
    NAMELESS,
    certificate_names,
    peer_credentials,
    principal_of,
    principal_of_certificate,
    printable,
)
from rpcstream.net.sockets import socket_of, tune_socket
from tests.net.certificates import issue


class Wrapper:
    """A transport around another."""

    def __init__(self, transport: Any) -> None:
        self.transport = transport

    def getPeer(self) -> Any:
        return self.transport.getPeer()

    def getHandle(self) -> Any:
        return self.transport.getHandle()


class SocketTransport:
    def __init__(self, handle: Any) -> None:
        self.handle = handle

    def getPeer(self) -> UNIXAddress:
        return UNIXAddress("/s")

    def getHandle(self) -> Any:
        return self.handle


class CertificateTests(SynchronousTestCase):
    def names(self, **what: Any) -> tuple[str, ...]:
        return certificate_names(issue(**what).certificate)

    def test_order(self) -> None:
        """URI, DNS, e-mail, common name, subject."""
        alternatives = [
            x509.RFC822Name("alice@example.org"),
            x509.DNSName("host.example"),
            x509.UniformResourceIdentifier("spiffe://example/alice"),
        ]
        self.assertEqual(
            self.names(alternatives=alternatives),
            ("spiffe://example/alice", "host.example", "alice@example.org", "alice", "CN=alice"),
        )
        self.assertEqual(self.names(alternatives=alternatives[:1])[0], "alice@example.org")
        self.assertEqual(self.names(), ("alice", "CN=alice"))

    def test_invisible_names_do_not_count(self) -> None:
        """Or two principals could look alike."""
        self.assertEqual(self.names(common_name="al\u202eice"), (NAMELESS,))
        self.assertEqual(self.names(common_name="a\0b", names=["host"]), ("host", "CN=a\\00b"))

    def test_two_common_names_are_none(self) -> None:
        """Which of them would it be?"""
        certificate = mock.Mock(wraps=issue().certificate)
        twice = [x509.NameAttribute(x509.NameOID.COMMON_NAME, name) for name in ("a", "b")]
        certificate.subject = x509.Name(twice)
        self.assertEqual(certificate_names(certificate), ("CN=b,CN=a",))

    def test_unreadable_extensions(self) -> None:
        """They name nobody."""
        certificate = mock.Mock(wraps=issue(names=["host"]).certificate)
        certificate.extensions.get_extension_for_class.side_effect = ValueError
        certificate.subject = issue().certificate.subject
        self.assertEqual(certificate_names(certificate), ("alice", "CN=alice"))

    def test_principal(self) -> None:
        """All fields."""
        certificate = issue().certificate
        address = IPv4Address("TCP", "10.0.0.1", 5)
        principal = principal_of_certificate(certificate, address)
        self.assertEqual(principal[:4], ("alice", "tls", certificate, address))
        self.assertEqual((principal.uid, principal.names), (None, ("alice", "CN=alice")))


class TransportTests(SynchronousTestCase):
    def pair(self) -> tuple[socket.socket, socket.socket]:
        ends = socket.socketpair()
        for end in ends:
            self.addCleanup(end.close)
        return ends

    def test_unix(self) -> None:
        """The kernel says who it is; wrappers do not matter."""
        name = pwd.getpwuid(os.getuid()).pw_name
        principal = principal_of(Wrapper(SocketTransport(self.pair()[0])))
        self.assertEqual((principal.name, principal.kind, principal.uid), (name, "unix", os.getuid()))

    def test_unix_user_without_a_name(self) -> None:
        """Then it is the number."""
        with mock.patch("pwd.getpwuid", side_effect=KeyError):
            self.assertEqual(principal_of(SocketTransport(self.pair()[0])).name, str(os.getuid()))

    def test_credentials(self) -> None:
        """Of a process, and of something that is no UNIX socket."""
        self.assertEqual(peer_credentials(self.pair()[0]), (os.getpid(), os.getuid(), os.getgid()))
        closed = socket.socket(socket.AF_UNIX)
        closed.close()
        self.assertRaises(ConnectRefused, peer_credentials, closed)

    def test_anonymous(self) -> None:
        """Plain TCP, and a TLS peer without certificate, prove nothing."""
        self.assertEqual(principal_of(StringTransport()).kind, "anonymous")
        transport = mock.Mock()
        transport.getHandle.return_value = mock.Mock(spec=__import__("OpenSSL.SSL").SSL.Connection)
        transport.getHandle.return_value.get_peer_certificate.return_value = None
        self.assertEqual(principal_of(transport)[:3], ("anonymous", "anonymous", None))

    def test_lost(self) -> None:
        """Too late: the certificate is gone with the connection."""
        transport = mock.Mock(negotiatedProtocol=None)
        transport.getHandle.return_value = None
        self.assertRaises(BadState, principal_of, transport)


class SocketTests(SynchronousTestCase):
    def test_tune(self) -> None:
        """TCP gets all options; nothing else is touched."""
        with socket.socket() as tcp:
            self.assertTrue(tune_socket(Wrapper(Wrapper(SocketTransport(tcp)))))
            self.assertEqual(tcp.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY), 1)
            self.assertEqual(tcp.getsockopt(socket.IPPROTO_TCP, 25), 128 * 1024)
            self.assertEqual(tcp.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT), 30_000)
        with socket.socket(socket.AF_UNIX) as local:
            self.assertFalse(tune_socket(SocketTransport(local)))
        self.assertFalse(tune_socket(StringTransport()))
        self.assertFalse(tune_socket(object()))

    def test_tune_a_closed_socket(self) -> None:
        """A peer that is gone already is no reason to fail."""
        tcp = socket.socket()
        tcp.close()
        self.assertFalse(tune_socket(SocketTransport(tcp)))

    def test_socket_of(self) -> None:
        """The one at the bottom."""
        with socket.socket() as tcp:
            self.assertIs(socket_of(Wrapper(SocketTransport(tcp))), tcp)
        self.assertIsNone(socket_of(StringTransport()))


class PrintableTests(SynchronousTestCase):
    def test_escapes_and_cuts(self) -> None:
        """A peer's text cannot move the cursor or fill the log."""
        self.assertEqual(printable("a\x1b[2J\n\u202eä€\udc80"), "a\\x1b[2J\\n\\u202eä€\\udc80")
        self.assertEqual(printable("x" * 6, limit=5), "xxxxx...")
        self.assertEqual(printable("x" * 5, limit=5), "xxxxx")
