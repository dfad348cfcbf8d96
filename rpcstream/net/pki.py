"""
Reads a pki directory, whose file names are libvirt's.

What lives here: C{cacert.pem}, C{cacrl.pem} (optional), C{servercert.pem},
C{serverkey.pem}, C{clientcert.pem}, C{clientkey.pem}, flat in one directory as
C{virsh}'s C{?pkipath=} expects them; one-line errors that name the remedy.  What
must not: TLS settings (L{rpcstream.net.tls}); how certificates are made
(L{rpcstream.net.authority}, whose two functions are offered here too).
"""

from __future__ import annotations

import datetime
import os
from pathlib import Path
from typing import Literal, NamedTuple, TypeAlias

from cryptography import x509
from cryptography.hazmat.primitives import serialization
from cryptography.hazmat.primitives.asymmetric import ec, ed448, ed25519, rsa
from cryptography.x509.oid import ExtendedKeyUsageOID

from rpcstream.errors import ConfigurationError
from rpcstream.net.authority import add, initialise

__all__ = ["Credentials", "Pki", "PrivateKey", "Role", "add", "initialise", "pki_of"]

Role: TypeAlias = Literal["server", "client"]

PrivateKey: TypeAlias = (
    rsa.RSAPrivateKey | ec.EllipticCurvePrivateKey | ed25519.Ed25519PrivateKey | ed448.Ed448PrivateKey
)

FILE_BYTES = 1024 * 1024
"""Largest file read: a directory given by mistake must not fill the memory."""

_PURPOSES = {"server": ExtendedKeyUsageOID.SERVER_AUTH, "client": ExtendedKeyUsageOID.CLIENT_AUTH}


class Credentials(NamedTuple):
    """
    What one side shows.

    @ivar chain: the certificate, then those between it and the authority.
    @ivar key: its private key.
    """

    chain: tuple[x509.Certificate, ...]
    key: PrivateKey


class Pki:
    """
    A pki directory.  Making one reads nothing; each method reads its files anew,
    so that certificates can be renewed under a running server.

    @ivar directory: where the files are.
    """

    def __init__(self, directory: str | os.PathLike[str]) -> None:
        self.directory = Path(directory)

    def __repr__(self) -> str:
        return f"Pki({str(self.directory)!r})"

    def authorities(self) -> tuple[x509.Certificate, ...]:
        """
        @return: the trust roots, C{cacert.pem}.
        @raise ConfigurationError: it is missing, unreadable or holds something else
            than certificate authorities.
        """
        path = self.directory / "cacert.pem"
        certificates = self._certificates(path)
        for certificate in certificates:
            if not _is_authority(certificate):
                raise ConfigurationError(
                    f"{path}: {certificate.subject.rfc4514_string()} is no certificate authority (CA:TRUE); "
                    "put the authority's certificate here"
                )
        return certificates

    def revocations(self) -> tuple[x509.CertificateRevocationList, ...]:
        """
        @return: the revocation lists of C{cacrl.pem}, none without that file.
        @raise ConfigurationError: it cannot be read.
        """
        path = self.directory / "cacrl.pem"
        if not path.exists():
            return ()
        marker = b"-----BEGIN X509 CRL-----"
        try:
            blocks = [marker + block for block in _read(path).split(marker)[1:]]
            lists = tuple(x509.load_pem_x509_crl(block) for block in blocks)
        except ValueError as error:
            raise ConfigurationError(f"{path}: not a PEM revocation list: {error}") from None
        if not lists:
            raise ConfigurationError(f"{path}: holds no PEM revocation list; remove it or fill it")
        return lists

    def credentials(self, role: Role) -> Credentials:
        """
        @return: the certificate and key of C{role}.
        @raise ConfigurationError: a file is missing, unreadable, or they do not fit.
        """
        certificate_path, key_path = self.paths(role)
        chain = self._certificates(certificate_path)
        key = self._key(key_path)
        if key.public_key() != chain[0].public_key():
            raise ConfigurationError(f"{key_path}: not the key of {certificate_path.name}")
        return Credentials(chain, key)

    def has_credentials(self, role: Role) -> bool:
        """
        @return: whether there is a certificate or a key of C{role}: a client may go
            without, and then learns from the server whether it is let in.
        """
        return any(path.exists() for path in self.paths(role))

    def paths(self, role: Role) -> tuple[Path, Path]:
        """
        @return: the files of C{role}: certificate and key.
        """
        return self.directory / f"{role}cert.pem", self.directory / f"{role}key.pem"

    def stamp(self, role: Role) -> tuple[tuple[int, int, int] | None, ...]:
        """
        @return: a value that changes when one of the files of C{role} does.  Costs
            four C{stat} calls.
        """
        stamps: list[tuple[int, int, int] | None] = []
        for path in (self.directory / "cacert.pem", self.directory / "cacrl.pem", *self.paths(role)):
            try:
                status = path.stat()
            except OSError:
                stamps.append(None)
            else:
                stamps.append((status.st_ino, status.st_size, status.st_mtime_ns))
        return tuple(stamps)

    def faults(self, role: Role, now: datetime.datetime | None = None) -> list[str]:
        """
        Why a peer may refuse our certificate.  This never fails: it explains a
        refusal, or warns at the start of a server.

        @return: sentences, none if nothing is found.
        """
        when = now or datetime.datetime.now(datetime.UTC)
        certificate_path, key_path = self.paths(role)
        try:
            certificate = self._certificates(certificate_path)[0]
            authorities = self.authorities()
        except ConfigurationError as error:
            return [str(error)]
        name = certificate_path.name
        faults = []
        if certificate.not_valid_after_utc <= when:
            faults.append(f"{name} expired on {_day(certificate.not_valid_after_utc)}")
        if certificate.not_valid_before_utc > when:
            faults.append(
                f"{name} is not valid before {_day(certificate.not_valid_before_utc)} "
                "(or this clock is wrong)"
            )
        if not _allows(certificate, role):
            faults.append(f"{name} may not be used by a {role} (extended key usage)")
        if _is_authority(certificate):
            faults.append(f"{name} is itself a certificate authority")
        if all(certificate.issuer != authority.subject for authority in authorities):
            faults.append(f"{name} was not issued by this directory's cacert.pem")
        if key_path.exists() and key_path.stat().st_mode & 0o007:
            faults.append(f"{key_path.name} can be read by every user; chmod 600 it")
        return faults

    def _certificates(self, path: Path) -> tuple[x509.Certificate, ...]:
        content = _read(path)
        try:
            return tuple(x509.load_pem_x509_certificates(content))
        except ValueError as error:
            raise ConfigurationError(f"{path}: not a PEM certificate: {error}") from None

    def _key(self, path: Path) -> PrivateKey:
        content = _read(path)
        try:
            key = serialization.load_pem_private_key(content, password=None)
        except TypeError:
            raise ConfigurationError(
                f"{path}: the key is encrypted; store it without a pass phrase, mode 0600"
            ) from None
        except Exception as error:
            # cryptography has its own class for keys of an unknown kind.
            raise ConfigurationError(f"{path}: not a PEM private key: {error}") from None
        if not isinstance(key, PrivateKey):
            raise ConfigurationError(f"{path}: a key of this kind cannot be used for TLS; use ECDSA or RSA")
        return key


def pki_of(pki: Pki | str | os.PathLike[str] | None, remedy: str) -> Pki:
    """
    @param pki: a directory, as a caller may give it.
    @param remedy: how to name one, for the error's text.
    @raise ConfigurationError: there is none.
    """
    if pki is None or pki == "":
        raise ConfigurationError(f"no pki directory is named: {remedy}; `rpcstream pki init DIR` makes one")
    return pki if isinstance(pki, Pki) else Pki(pki)


def _read(path: Path) -> bytes:
    try:
        with path.open("rb") as file:
            return file.read(FILE_BYTES)
    except FileNotFoundError:
        raise ConfigurationError(
            f"{path}: no such file; `rpcstream pki init {path.parent}` makes a pki directory"
        ) from None
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}; make it readable for this user") from None


def _is_authority(certificate: x509.Certificate) -> bool:
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints)
    except (x509.ExtensionNotFound, ValueError):
        # A version 1 certificate says nothing; OpenSSL decides about a root.
        return certificate.version is x509.Version.v1
    return constraints.value.ca


def _allows(certificate: x509.Certificate, role: Role) -> bool:
    try:
        usage = certificate.extensions.get_extension_for_class(x509.ExtendedKeyUsage).value
    except (x509.ExtensionNotFound, ValueError):
        return True
    return _PURPOSES[role] in usage or ExtendedKeyUsageOID.ANY_EXTENDED_KEY_USAGE in usage


def _day(when: datetime.datetime) -> str:
    return when.strftime("%Y-%m-%d %H:%M UTC")
