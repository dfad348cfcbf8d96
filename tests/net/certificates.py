"""
Certificates for tests, good and bad, made with cryptography.

Keys and authorities are made once a process: RSA keys take long.
"""

from __future__ import annotations

import datetime
import functools
import ipaddress
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from rpcstream.net.pki import Pki

__all__ = ["CLIENT", "SERVER", "Issued", "authority", "issue", "minutes", "pki_directory", "revocation_list"]

SERVER = ExtendedKeyUsageOID.SERVER_AUTH
CLIENT = ExtendedKeyUsageOID.CLIENT_AUTH


class Issued(NamedTuple):
    certificate: x509.Certificate
    key: Any

    @property
    def pem(self) -> bytes:
        return self.certificate.public_bytes(serialization.Encoding.PEM)

    @property
    def key_pem(self) -> bytes:
        return self.key.private_bytes(
            serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
        )


def minutes(count: float) -> datetime.datetime:
    """A time C{count} minutes from now."""
    return datetime.datetime.now(datetime.UTC) + datetime.timedelta(minutes=count)


@functools.cache
def key_of(kind: str) -> Any:
    if kind == "weak":
        return rsa.generate_private_key(65537, 1024)
    return ec.generate_private_key(ec.SECP256R1())


@functools.cache
def authority(label: str = "A", path_length: int | None = 1) -> Issued:
    key = key_of(f"authority {label}")
    name = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, f"authority {label}")])
    builder = _start(name, name, key.public_key(), minutes(-60), minutes(60 * 24))
    builder = builder.add_extension(x509.BasicConstraints(True, path_length), critical=True)
    return Issued(builder.sign(key, hashes.SHA256()), key)


def issue(
    *,
    common_name: str = "alice",
    names: Sequence[str] = (),
    purposes: Sequence[x509.ObjectIdentifier] = (),
    start: datetime.datetime | None = None,
    end: datetime.datetime | None = None,
    signer: Issued | None = None,
    self_signed: bool = False,
    is_authority: bool = False,
    key: str = "leaf",
    alternatives: Sequence[x509.GeneralName] = (),
) -> Issued:
    """
    @param names: DNS names and IP addresses of the subjectAltName.
    @param purposes: extended key usage, none leaves the extension out.
    """
    private_key = key_of(key)
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    signer = Issued(None, private_key) if self_signed else signer or authority()  # type: ignore[arg-type]
    issuer = subject if self_signed else signer.certificate.subject
    builder = _start(subject, issuer, private_key.public_key(), start or minutes(-60), end or minutes(60))
    builder = builder.add_extension(x509.BasicConstraints(is_authority, None), critical=True)
    general = [*(_general(name) for name in names), *alternatives]
    if general:
        builder = builder.add_extension(x509.SubjectAlternativeName(general), critical=False)
    if purposes:
        builder = builder.add_extension(x509.ExtendedKeyUsage(purposes), critical=False)
    return Issued(builder.sign(signer.key, hashes.SHA256()), private_key)


def revocation_list(revoked: Sequence[Issued], signer: Issued | None = None, end: float = 60) -> bytes:
    """
    @param end: minutes until it expires.
    """
    signer = signer or authority()
    builder = (
        x509.CertificateRevocationListBuilder()
        .issuer_name(signer.certificate.subject)
        .last_update(minutes(-60))
        .next_update(minutes(end))
    )
    for issued in revoked:
        entry = x509.RevokedCertificateBuilder().serial_number(issued.certificate.serial_number)
        builder = builder.add_revoked_certificate(entry.revocation_date(minutes(-30)).build())
    return builder.sign(signer.key, hashes.SHA256()).public_bytes(serialization.Encoding.PEM)


@functools.cache
def good(role: str) -> Issued:
    if role == "server":
        return issue(common_name="host", names=["localhost", "127.0.0.1"], purposes=[SERVER])
    return issue(common_name="alice", purposes=[CLIENT])


def pki_directory(
    path: str,
    *,
    trust: Issued | None = None,
    server: Issued | None = None,
    client: Issued | None = None,
    has_client: bool = True,
    chain: Sequence[Issued] = (),
    revocations: bytes | None = None,
) -> Pki:
    """
    @param path: is made.
    @param chain: certificates between the leaf and the authority, for either role.
    """
    directory = Path(path)
    directory.mkdir()
    (directory / "cacert.pem").write_bytes((trust or authority()).pem)
    tail = b"".join(issued.pem for issued in chain)
    pairs = [("server", server or good("server"))]
    if has_client:
        pairs.append(("client", client or good("client")))
    for role, issued in pairs:
        (directory / f"{role}cert.pem").write_bytes(issued.pem + tail)
        (directory / f"{role}key.pem").write_bytes(issued.key_pem)
        (directory / f"{role}key.pem").chmod(0o600)
    if revocations is not None:
        (directory / "cacrl.pem").write_bytes(revocations)
    return Pki(directory)


def _start(
    subject: x509.Name, issuer: x509.Name, key: Any, start: datetime.datetime, end: datetime.datetime
) -> x509.CertificateBuilder:
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(key)
        .serial_number(x509.random_serial_number())
        .not_valid_before(start)
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(key), critical=False)
    )


def _general(name: str) -> x509.GeneralName:
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        return x509.DNSName(name)
