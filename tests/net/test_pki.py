"""
Making and reading pki directories.
"""

from __future__ import annotations

import datetime
import os
import socket
import stat
from pathlib import Path
from unittest import mock

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import x25519
from twisted.trial.unittest import SynchronousTestCase

from rpcstream.errors import ConfigurationError
from rpcstream.net.authority import BACKDATED_SECONDS
from rpcstream.net.pki import Pki, add, initialise, pki_of
from rpcstream.net.tls import client_context, server_contexts
from tests.net.certificates import CLIENT, SERVER, authority, issue, minutes, pki_directory, revocation_list


class PkiTestCase(SynchronousTestCase):
    def setUp(self) -> None:
        self.directory = Path(self.mktemp())

    def refused(self, call: object, *arguments: object, **keywords: object) -> str:
        error = self.assertRaises(ConfigurationError, call, *arguments, **keywords)
        self.assertNotIn("\n", str(error))
        return str(error)

    def certificate(self, name: str) -> x509.Certificate:
        return x509.load_pem_x509_certificate((self.directory / name).read_bytes())


class InitialiseTests(PkiTestCase):
    def test_files_and_modes(self) -> None:
        """The names libvirt expects; keys are private, whatever the umask."""
        former = os.umask(0)
        self.addCleanup(os.umask, former)
        written = initialise(self.directory, ["host.example"], ["alice", "bob"])
        modes = {
            str(path.relative_to(self.directory)): stat.S_IMODE(path.stat().st_mode)
            for path in self.directory.rglob("*")
        }
        self.assertEqual(
            modes,
            {
                "cacert.pem": 0o644,
                "cakey.pem": 0o600,
                "servercert.pem": 0o644,
                "serverkey.pem": 0o600,
                "clientcert.pem": 0o644,
                "clientkey.pem": 0o600,
                "clients": 0o700,
                "clients/bob": 0o700,
                "clients/bob/cacert.pem": 0o644,
                "clients/bob/clientcert.pem": 0o644,
                "clients/bob/clientkey.pem": 0o600,
            },
        )
        self.assertEqual(stat.S_IMODE(self.directory.stat().st_mode), 0o700)
        self.assertEqual(len(written), 9)

    def test_contents(self) -> None:
        """Purposes, names, lifetimes, and the key usage that GnuTLS asks for."""
        now = datetime.datetime.now(datetime.UTC).replace(microsecond=0)
        names = ["host.example", "*.host.example", "10.0.0.1", "::1", "bücher.example", "host.example"]
        initialise(self.directory, names, ["alice"], now=now)
        root, server, client = (
            self.certificate(f"{name}.pem") for name in ("cacert", "servercert", "clientcert")
        )
        alternatives = server.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
        self.assertEqual(
            alternatives.get_values_for_type(x509.DNSName),
            ["host.example", "*.host.example", "xn--bcher-kva.example"],
        )
        self.assertEqual(
            [str(ip) for ip in alternatives.get_values_for_type(x509.IPAddress)], ["10.0.0.1", "::1"]
        )
        self.assertEqual(client.subject.rfc4514_string(), "CN=alice")
        for leaf, purpose in ((server, SERVER), (client, CLIENT)):
            leaf.verify_directly_issued_by(root)
            usage = leaf.extensions.get_extension_for_class(x509.KeyUsage)
            self.assertFalse(usage.critical)
            self.assertTrue(usage.value.digital_signature and usage.value.key_encipherment)
            self.assertEqual(
                list(leaf.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value), [purpose]
            )
            self.assertFalse(leaf.extensions.get_extension_for_class(x509.BasicConstraints).value.ca)
            self.assertEqual(leaf.not_valid_after_utc - now, datetime.timedelta(days=825))
            self.assertEqual((now - leaf.not_valid_before_utc).total_seconds(), BACKDATED_SECONDS)
        self.assertTrue(root.extensions.get_extension_for_class(x509.BasicConstraints).value.ca)
        self.assertEqual(root.not_valid_after_utc - now, datetime.timedelta(days=3650))

    def test_a_leaf_never_outlives_its_authority(self) -> None:
        """... made nine years later."""
        then = datetime.datetime.now(datetime.UTC) - datetime.timedelta(days=3600)
        initialise(self.directory, now=then)
        add(self.directory, clients=["late"])
        late = self.certificate("clients/late/clientcert.pem")
        self.assertEqual(late.not_valid_after_utc, self.certificate("cacert.pem").not_valid_after_utc)

    def test_defaults(self) -> None:
        """This host, and one client called client."""
        initialise(self.directory)
        self.assertEqual(self.certificate("clientcert.pem").subject.rfc4514_string(), "CN=client")
        names = self.certificate("servercert.pem").extensions.get_extension_for_class(
            x509.SubjectAlternativeName
        )
        dns = names.value.get_values_for_type(x509.DNSName)
        self.assertEqual(set(dns), {"localhost", socket.gethostname()})

    def test_openssl_takes_them(self) -> None:
        """Both contexts can be made of the result."""
        initialise(self.directory)
        server_contexts(Pki(self.directory))
        client_context(Pki(self.directory))
        self.assertEqual(
            (Pki(self.directory).faults("server"), Pki(self.directory).faults("client")), ([], [])
        )

    def test_nothing_is_overwritten(self) -> None:
        """A second init, and a file in the way, are refused before anything is written."""
        initialise(self.directory)
        before = {path: path.read_bytes() for path in self.directory.iterdir() if path.is_file()}
        self.assertIn("already holds a certificate authority", self.refused(initialise, self.directory))
        other = Path(self.mktemp())
        other.mkdir()
        (other / "clientkey.pem").write_text("mine")
        self.assertIn("exists and is not overwritten", self.refused(initialise, other))
        self.assertEqual([path.name for path in other.iterdir()], ["clientkey.pem"])
        self.assertEqual({path: path.read_bytes() for path in before}, before)

    def test_a_failure_leaves_nothing(self) -> None:
        """Files written before a failure are removed."""
        with mock.patch("os.fsync", side_effect=OSError(28, "No space left on device", "cacert.pem")):
            self.assertIn("No space left", self.refused(initialise, self.directory))
        self.assertEqual(list(self.directory.iterdir()), [])

    def test_bad_names(self) -> None:
        """Each is refused with what to give."""
        for server in ("", "a b", "-x", "a..b", "a.*.b", "x" * 254, "ho\0st", "a/b", "\u2488.example"):
            self.assertIn("DNS name", self.refused(initialise, self.directory, [server]), server)
        for client in ("", " ", "x" * 65, "a\nb", "a\x7fb"):
            self.assertIn("printable characters", self.refused(initialise, self.directory, [], [client]))
        for client in ("../x", ".x", "a/b"):
            self.assertIn(
                "names a directory", self.refused(initialise, self.directory, [], ["first", client])
            )
        self.assertFalse(self.directory.exists())

    def test_a_long_server_name(self) -> None:
        """It does not fit the common name, which is of no use anyway."""
        name = ".".join(["x" * 60] * 4)
        initialise(self.directory, [name])
        self.assertEqual(self.certificate("servercert.pem").subject.rfc4514_string(), "CN=rpcstream server")


class AddTests(PkiTestCase):
    def test_clients_and_servers(self) -> None:
        """Each gets a directory that is complete in itself."""
        initialise(self.directory)
        add(self.directory, ["two.example", "10.0.0.2"], ["carol", "dave"])
        for name in ("clients/carol", "clients/dave"):
            client_context(Pki(self.directory / name))
        server_contexts(Pki(self.directory / "servers" / "two.example"))
        self.assertIn("exists and is not overwritten", self.refused(add, self.directory, [], ["carol"]))

    def test_where_there_is_none_yet(self) -> None:
        """The first of each kind goes to the top."""
        initialise(self.directory)
        for name in ("servercert", "serverkey", "clientcert", "clientkey"):
            (self.directory / f"{name}.pem").unlink()
        add(self.directory, ["two.example"], ["carol"])
        self.assertEqual(self.certificate("clientcert.pem").subject.rfc4514_string(), "CN=carol")
        self.assertEqual(self.certificate("servercert.pem").subject.rfc4514_string(), "CN=two.example")

    def test_refusals(self) -> None:
        """No authority, another's key, a broken file, nothing to add."""
        self.assertIn("pki init", self.refused(add, self.directory, [], ["x"]))
        initialise(self.directory)
        self.assertIn("name what to add", self.refused(add, self.directory))
        (self.directory / "cakey.pem").write_bytes(authority().key_pem)
        self.assertIn("cakey.pem is not", self.refused(add, self.directory, [], ["x"]))
        (self.directory / "cakey.pem").write_text("rubbish")
        self.assertIn("cannot be read", self.refused(add, self.directory, [], ["x"]))


class LoadTests(PkiTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.pki = pki_directory(str(self.directory))

    def test_good(self) -> None:
        """All parts, and a chain."""
        self.assertEqual(len(self.pki.authorities()), 1)
        self.assertEqual(len(self.pki.credentials("client").chain), 1)
        self.assertEqual(self.pki.revocations(), ())
        self.assertIn("Pki(", repr(self.pki))

    def test_missing(self) -> None:
        """The path, and how to get one."""
        text = self.refused(Pki(self.directory / "none").authorities)
        self.assertIn("no such file; `rpcstream pki init", text)

    def test_unreadable(self) -> None:
        """A directory in its place, as root can read all files."""
        (self.directory / "cacert.pem").unlink()
        (self.directory / "cacert.pem").mkdir()
        self.assertIn("make it readable", self.refused(self.pki.authorities))

    def test_not_pem(self) -> None:
        """Each file is named."""
        for name, call in (
            ("cacert", self.pki.authorities),
            ("clientkey", lambda: self.pki.credentials("client")),
            ("clientcert", lambda: self.pki.credentials("client")),
        ):
            (self.directory / f"{name}.pem").write_text("rubbish")
            self.assertIn(f"{name}.pem: not a PEM", self.refused(call))

    def test_leaf_as_authority(self) -> None:
        """A common mistake."""
        (self.directory / "cacert.pem").write_bytes(issue().pem)
        self.assertIn("is no certificate authority", self.refused(self.pki.authorities))

    def test_keys_that_do_not_fit(self) -> None:
        """Of another certificate, encrypted, of a useless kind."""
        path = self.directory / "clientkey.pem"
        path.write_bytes(authority().key_pem)
        self.assertIn("not the key of clientcert.pem", self.refused(self.pki.credentials, "client"))
        path.write_bytes(
            authority().key.private_bytes(
                serialization.Encoding.PEM,
                serialization.PrivateFormat.PKCS8,
                serialization.BestAvailableEncryption(b"secret"),
            )
        )
        self.assertIn("encrypted", self.refused(self.pki.credentials, "client"))
        path.write_bytes(
            x25519.X25519PrivateKey.generate().private_bytes(
                serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
            )
        )
        self.assertIn("cannot be used for TLS", self.refused(self.pki.credentials, "client"))

    def test_weak_key_is_refused_by_openssl(self) -> None:
        """With one line."""
        weak = pki_directory(self.mktemp(), client=issue(key="weak", purposes=[CLIENT]))
        self.assertIn("OpenSSL refuses its files", self.refused(client_context, weak))

    def test_half_a_client(self) -> None:
        """A certificate without its key is a mistake; neither is a choice."""
        (self.directory / "clientkey.pem").unlink()
        self.assertTrue(self.pki.has_credentials("client"))
        self.assertIn("clientkey.pem: no such file", self.refused(client_context, self.pki))
        (self.directory / "clientcert.pem").unlink()
        self.assertFalse(self.pki.has_credentials("client"))
        client_context(self.pki)

    def test_revocation_lists(self) -> None:
        """Several in one file; rubbish is refused, not skipped."""
        path = self.directory / "cacrl.pem"
        path.write_bytes(revocation_list([issue()]) + revocation_list([], authority("B")))
        self.assertEqual(len(self.pki.revocations()), 2)
        path.write_text("rubbish")
        self.assertIn("holds no PEM revocation list", self.refused(self.pki.revocations))
        path.write_text("-----BEGIN X509 CRL-----\nrubbish\n-----END X509 CRL-----\n")
        self.assertIn("not a PEM revocation list", self.refused(self.pki.revocations))

    def test_stamp_changes_with_the_files(self) -> None:
        """So that a server sees a renewal."""
        before = self.pki.stamp("server")
        self.assertEqual(self.pki.stamp("server"), before)
        (self.directory / "cacrl.pem").write_bytes(revocation_list([]))
        self.assertNotEqual(self.pki.stamp("server"), before)

    def test_faults(self) -> None:
        """What a peer will say, told beforehand."""
        path = self.directory / "clientcert.pem"
        for issued, words in (
            (issue(end=minutes(-1)), "expired on"),
            (issue(start=minutes(1)), "not valid before"),
            (issue(purposes=[SERVER]), "may not be used by a client"),
            (issue(is_authority=True), "is itself a certificate authority"),
            (issue(signer=authority("B")), "was not issued by"),
        ):
            path.write_bytes(issued.pem)
            self.assertEqual([words in fault for fault in self.pki.faults("client")], [True], words)
        path.write_bytes(issue().pem)
        (self.directory / "clientkey.pem").chmod(0o644)
        self.assertIn("chmod 600", self.pki.faults("client")[0])
        path.unlink()
        self.assertIn("no such file", self.pki.faults("client")[0])

    def test_pki_of(self) -> None:
        """A directory in any form; none is an error with the remedy."""
        self.assertIs(pki_of(self.pki, ""), self.pki)
        self.assertEqual(pki_of(str(self.directory), "").directory, self.directory)
        for nothing in (None, ""):
            self.assertIn("add --pki DIR", self.refused(pki_of, nothing, "add --pki DIR"))
