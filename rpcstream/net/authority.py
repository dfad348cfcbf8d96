"""
Makes a certificate authority and the certificates it signs.

What lives here: keys, names, lifetimes, extensions, and writing the files of a
pki directory.  What must not: reading them for a connection (L{rpcstream.net.pki}).

Keys are ECDSA P-256, not RSA 3072: a signature takes 15 microseconds in place
of 1.5 ms, which is most of a mutual handshake, and a key is made in no time.
libvirt's peers check the I{key usage} of a certificate and want digitalSignature
B{and} keyEncipherment; the extension therefore names both, and is not critical
(RFC 5480 section 3 does not foresee the second for an elliptic curve key, so a
strict reader may ignore it).
"""

from __future__ import annotations

import datetime
import ipaddress
import os
import re
import socket
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import idna
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import ExtendedKeyUsageOID, NameOID

from rpcstream.errors import ConfigurationError

__all__ = ["AUTHORITY_DAYS", "LEAF_DAYS", "add", "initialise"]

AUTHORITY_DAYS = 3650
"""Life of a certificate authority: ten years."""
LEAF_DAYS = 825
"""Life of a certificate: what browsers once agreed to call the longest sane one."""
BACKDATED_SECONDS = 3600
"""How far a certificate starts in the past: clocks differ by minutes."""
COMMON_NAME_CHARACTERS = 64
"""RFC 5280, ub-common-name."""
DNS_NAME_CHARACTERS = 253
"""RFC 1035."""

_DNS_NAME = re.compile(r"(\*\.)?[A-Za-z0-9_]([A-Za-z0-9_-]{0,62})(\.[A-Za-z0-9_][A-Za-z0-9_-]{0,62})*")


class _Authority(NamedTuple):
    certificate: x509.Certificate
    key: ec.EllipticCurvePrivateKey


def initialise(
    directory: str | os.PathLike[str],
    servers: Sequence[str] = (),
    clients: Sequence[str] = (),
    *,
    now: datetime.datetime | None = None,
) -> list[Path]:
    """
    Make an authority, one server certificate and client certificates.

    @param directory: created with mode 0700 if absent.
    @param servers: DNS names and IP addresses of B{one} server, all in one
        certificate; by default this host's name, C{localhost} and its addresses.
    @param clients: names of clients, by default C{client}.  The first gets
        C{clientcert.pem}, further ones a directory C{clients/NAME/} each.
    @param now: the time to count from, by default the clock's.
    @return: the files written.
    @raise ConfigurationError: a name cannot be used, a file exists already (nothing
        is ever overwritten) or cannot be written.
    """
    root = Path(directory)
    when = now or datetime.datetime.now(datetime.UTC)
    if (root / "cacert.pem").exists() or (root / "cakey.pem").exists():
        raise ConfigurationError(
            f"{root} already holds a certificate authority; use `rpcstream pki add`, or another directory"
        )
    names = list(servers) or _own_names()
    authority = _make_authority(when)
    files = [
        _File(root / "cacert.pem", _pem(authority.certificate), 0o644),
        _File(root / "cakey.pem", _key_pem(authority.key), 0o600),
        *_server_files(authority, root, names, when),
        *_client_files(authority, root, list(clients) or ["client"], when),
    ]
    return _write_all(files)


def add(
    directory: str | os.PathLike[str],
    servers: Sequence[str] = (),
    clients: Sequence[str] = (),
    *,
    now: datetime.datetime | None = None,
) -> list[Path]:
    """
    Make further certificates of an authority that L{initialise} made.

    @param servers: names of B{one} more server.  Its files go into
        C{servers/FIRST NAME/}, or into C{directory} itself if that has none yet.
    @param clients: names of clients; a directory C{clients/NAME/} each, the first
        into C{directory} itself if that has none yet.
    @return: the files written.
    @raise ConfigurationError: as for L{initialise}, or there is no authority.
    """
    root = Path(directory)
    when = now or datetime.datetime.now(datetime.UTC)
    if not servers and not clients:
        raise ConfigurationError("name what to add: --server NAME or --client NAME")
    authority = _load_authority(root)
    files: list[_File] = []
    if servers:
        taken = (root / "servercert.pem").exists()
        place = root / "servers" / _directory_name(servers[0]) if taken else root
        files += _server_files(authority, place, list(servers), when)
        if taken:
            files.append(_File(place / "cacert.pem", _pem(authority.certificate), 0o644))
    if clients:
        taken = (root / "clientcert.pem").exists()
        files += _client_files(authority, root, list(clients), when, first_apart=taken)
    return _write_all(files)


# --- certificates ------------------------------------------------------------------


def _make_authority(when: datetime.datetime) -> _Authority:
    key = ec.generate_private_key(ec.SECP256R1())
    serial = x509.random_serial_number()
    # The serial number keeps two authorities apart that were made on one host:
    # with equal names, a wrong one is reported as a bad signature.
    name = x509.Name(
        [
            x509.NameAttribute(NameOID.ORGANIZATION_NAME, "rpcstream"),
            x509.NameAttribute(NameOID.COMMON_NAME, f"rpcstream authority {serial >> 128:08x}"),
        ]
    )
    builder = _builder(name, name, key.public_key(), when, AUTHORITY_DAYS, serial).add_extension(
        x509.BasicConstraints(ca=True, path_length=0), critical=True
    )
    builder = builder.add_extension(_key_usage(authority=True), critical=True)
    return _Authority(builder.sign(key, hashes.SHA256()), key)


def _sign(
    authority: _Authority,
    common_name: str,
    alternatives: list[x509.GeneralName],
    purpose: x509.ObjectIdentifier,
    when: datetime.datetime,
) -> tuple[x509.Certificate, ec.EllipticCurvePrivateKey]:
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, common_name)])
    issuer = authority.certificate
    builder = _builder(
        subject, issuer.subject, key.public_key(), when, LEAF_DAYS, x509.random_serial_number(), issuer
    )
    builder = (
        builder.add_extension(x509.BasicConstraints(ca=False, path_length=None), critical=True)
        .add_extension(_key_usage(authority=False), critical=False)
        .add_extension(x509.ExtendedKeyUsage([purpose]), critical=False)
        .add_extension(
            x509.AuthorityKeyIdentifier.from_issuer_public_key(authority.key.public_key()), critical=False
        )
    )
    if alternatives:
        builder = builder.add_extension(x509.SubjectAlternativeName(alternatives), critical=False)
    return builder.sign(authority.key, hashes.SHA256()), key


def _builder(
    subject: x509.Name,
    issuer: x509.Name,
    public_key: ec.EllipticCurvePublicKey,
    when: datetime.datetime,
    days: int,
    serial: int,
    signed_by: x509.Certificate | None = None,
) -> x509.CertificateBuilder:
    end = when + datetime.timedelta(days=days)
    if signed_by is not None:
        end = min(end, signed_by.not_valid_after_utc)
    return (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(issuer)
        .public_key(public_key)
        .serial_number(serial)
        .not_valid_before(when - datetime.timedelta(seconds=BACKDATED_SECONDS))
        .not_valid_after(end)
        .add_extension(x509.SubjectKeyIdentifier.from_public_key(public_key), critical=False)
    )


def _key_usage(*, authority: bool) -> x509.KeyUsage:
    return x509.KeyUsage(
        digital_signature=not authority,
        content_commitment=False,
        key_encipherment=not authority,
        data_encipherment=False,
        key_agreement=False,
        key_cert_sign=authority,
        crl_sign=authority,
        encipher_only=False,
        decipher_only=False,
    )


# --- names -------------------------------------------------------------------------


def _own_names() -> list[str]:
    host = socket.gethostname()
    return [*([host] if host and host != "localhost" else []), "localhost", "127.0.0.1", "::1"]


def _alternative(name: str) -> x509.GeneralName:
    """
    @return: C{name} as it stands in a server's certificate.
    @raise ConfigurationError: it is neither an IP address nor a DNS name.
    """
    try:
        return x509.IPAddress(ipaddress.ip_address(name))
    except ValueError:
        pass
    text = name.removesuffix(".")
    try:
        if not text.isascii():
            # idna refuses underscores, which hosts in private networks do have.
            text = idna.encode(text, uts46=True).decode("ascii")
    except idna.IDNAError as error:
        raise ConfigurationError(f"server name {name!r}: {error}; give a DNS name or an IP address") from None
    if _DNS_NAME.fullmatch(text) is None or len(text) > DNS_NAME_CHARACTERS:
        raise ConfigurationError(f"server name {name!r}: give a DNS name or an IP address")
    return x509.DNSName(text)


def _client_name(name: str) -> str:
    if not name.strip() or len(name) > COMMON_NAME_CHARACTERS or not name.isprintable():
        raise ConfigurationError(
            f"client name {name!r}: give 1 to {COMMON_NAME_CHARACTERS} printable characters"
        )
    return name


def _directory_name(name: str) -> str:
    if name.startswith(".") or "/" in name:
        raise ConfigurationError(f"name {name!r}: it also names a directory; leave out '/' and a leading '.'")
    return name


# --- files -------------------------------------------------------------------------


class _File(NamedTuple):
    path: Path
    content: bytes
    mode: int


def _pem(certificate: x509.Certificate) -> bytes:
    return certificate.public_bytes(serialization.Encoding.PEM)


def _key_pem(key: ec.EllipticCurvePrivateKey) -> bytes:
    return key.private_bytes(
        serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption()
    )


def _server_files(
    authority: _Authority, place: Path, names: list[str], when: datetime.datetime
) -> list[_File]:
    alternatives = [_alternative(name) for name in dict.fromkeys(names)]
    common_name = names[0] if len(names[0]) <= COMMON_NAME_CHARACTERS else "rpcstream server"
    certificate, key = _sign(authority, common_name, alternatives, ExtendedKeyUsageOID.SERVER_AUTH, when)
    return [
        _File(place / "servercert.pem", _pem(certificate), 0o644),
        _File(place / "serverkey.pem", _key_pem(key), 0o600),
    ]


def _client_files(
    authority: _Authority,
    root: Path,
    names: list[str],
    when: datetime.datetime,
    *,
    first_apart: bool = False,
) -> list[_File]:
    files = []
    for index, name in enumerate(names):
        apart = index > 0 or first_apart
        place = root / "clients" / _directory_name(name) if apart else root
        certificate, key = _sign(authority, _client_name(name), [], ExtendedKeyUsageOID.CLIENT_AUTH, when)
        if apart:
            files.append(_File(place / "cacert.pem", _pem(authority.certificate), 0o644))
        files.append(_File(place / "clientcert.pem", _pem(certificate), 0o644))
        files.append(_File(place / "clientkey.pem", _key_pem(key), 0o600))
    return files


def _load_authority(root: Path) -> _Authority:
    try:
        certificate = x509.load_pem_x509_certificate((root / "cacert.pem").read_bytes())
        key = serialization.load_pem_private_key((root / "cakey.pem").read_bytes(), password=None)
    except OSError as error:
        raise ConfigurationError(
            f"{error.filename}: {error.strerror}; `rpcstream pki init {root}` makes an authority"
        ) from None
    except (ValueError, TypeError) as error:
        raise ConfigurationError(f"{root}: cacert.pem or cakey.pem cannot be read: {error}") from None
    if not isinstance(key, ec.EllipticCurvePrivateKey) or key.public_key() != certificate.public_key():
        raise ConfigurationError(
            f"{root}: cakey.pem is not the elliptic curve key of cacert.pem; `pki add` only "
            "extends an authority that `rpcstream pki init` made"
        )
    return _Authority(certificate, key)


def _write_all(files: list[_File]) -> list[Path]:
    """Write all files or none; an existing one is never touched."""
    for file in files:
        if os.path.lexists(file.path):
            raise ConfigurationError(
                f"{file.path} exists and is not overwritten; remove it or choose another name"
            )
    written: list[Path] = []
    try:
        for file in files:
            _make_directories(file.path.parent)
            flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
            descriptor = os.open(file.path, flags, file.mode)
            written.append(file.path)
            with os.fdopen(descriptor, "wb") as stream:
                # The mode given to open() is cut by the umask.
                os.fchmod(stream.fileno(), file.mode)
                stream.write(file.content)
                stream.flush()
                os.fsync(stream.fileno())
    except OSError as error:
        for path in written:
            path.unlink(missing_ok=True)
        raise ConfigurationError(f"{error.filename}: {error.strerror}") from None
    return written


def _make_directories(directory: Path) -> None:
    missing = [path for path in (directory, *directory.parents) if not path.exists()]
    for path in reversed(missing):
        path.mkdir(mode=0o700)
