"""
TLS as rpcstream uses it: contexts, and the verification of the peer.

What lives here: versions, ciphers, options, trust; which certificate is good.
What must not: Twisted's side of a connection (L{rpcstream.net.confirmation}) and
files (L{rpcstream.net.pki}).

Certificates are checked B{inside} OpenSSL's verification, the server's name
included.  A refusal then is a TLS alert, so that the other end learns of it too,
and no handshake ever completes with a peer that is refused a moment later.
"""

from __future__ import annotations

import ipaddress
from typing import TYPE_CHECKING, Any, NamedTuple

import idna
import service_identity
from cryptography import x509
from OpenSSL import SSL, crypto
from service_identity.cryptography import (
    verify_certificate_hostname,
    verify_certificate_ip_address,
)
from twisted.logger import Logger

from rpcstream.errors import ConfigurationError
from rpcstream.net.client_hello import TLS_1_2, TLS_1_3, ClientHello
from rpcstream.net.identity import printable
from rpcstream.net.refusal import Refusal, explain_certificate

if TYPE_CHECKING:
    from rpcstream.net.pki import Pki, Role

__all__ = [
    "CIPHERS",
    "PROTOCOL",
    "ServerContexts",
    "Verdict",
    "client_connection",
    "client_context",
    "indication_of",
    "server_contexts",
]

PROTOCOL = b"rpcstream/1"
"""The ALPN name our clients offer; libvirt's peers have none."""

CIPHERS = b"TLS_AES_128_GCM_SHA256:TLS_AES_256_GCM_SHA384:TLS_CHACHA20_POLY1305_SHA256"
"""Of TLS 1.3, in our order: the fastest first, which all must know (RFC 8446, section 9.1)."""
_TLS_1_2_CIPHERS = b"ECDHE+AESGCM:ECDHE+CHACHA20:@SECLEVEL=2"
# @SECLEVEL=2 refuses RSA below 2048 bits and SHA-1 signatures in either version.

_OPTIONS = (
    SSL.OP_NO_COMPRESSION | SSL.OP_NO_TICKET | SSL.OP_NO_RENEGOTIATION | SSL.OP_CIPHER_SERVER_PREFERENCE
)

_log = Logger()


class Verdict:
    """
    What verification found about one connection; the object that L{SSL.Connection}
    carries as its application data must have one as C{verdict}.

    @ivar role: what the peer is.
    @ivar name: what a server's certificate must be valid for, C{None} for a client.
    @ivar refusal: the first fault.
    @ivar is_good: the peer's own certificate was seen and passed every check.
    """

    __slots__ = ("is_good", "name", "refusal", "role")

    def __init__(self, role: Role, name: str | None = None) -> None:
        self.role = role
        self.name = name
        self.refusal: Refusal | None = None
        self.is_good = False

    def judge(self, certificate: x509.Certificate, error: int, depth: int, is_fine: bool) -> bool:
        """
        Called by OpenSSL for each certificate of the chain, from the root to the leaf.

        @return: whether verification may go on.
        """
        if not is_fine:
            self._refuse(explain_certificate(error, certificate, self.role, depth))
            return False
        if depth == 0:
            fault = _leaf_fault(certificate, self.role) or (
                None if self.name is None else _name_fault(certificate, self.name)
            )
            if fault is not None:
                self._refuse(fault)
                return False
            self.is_good = True
        return True

    def _refuse(self, refusal: Refusal) -> None:
        if self.refusal is None:
            self.refusal = refusal


def _verify(connection: SSL.Connection, raw: crypto.X509, error: int, depth: int, is_fine: int) -> bool:
    verdict: Verdict = connection.get_app_data().wrappedProtocol.verdict
    try:
        return verdict.judge(raw.to_cryptography(), error, depth, bool(is_fine))
    except Exception:
        # Whatever is in a certificate that Python cannot read, it is not accepted.
        _log.failure("verifying a certificate")
        verdict.refusal = Refusal("tls-cert", f"the {verdict.role}'s certificate cannot be read")
        return False


def _leaf_fault(certificate: x509.Certificate, role: Role) -> Refusal | None:
    try:
        constraints = certificate.extensions.get_extension_for_class(x509.BasicConstraints).value
    except x509.ExtensionNotFound:
        return None
    if not constraints.ca:
        return None
    subject = printable(certificate.subject.rfc4514_string())
    return Refusal(
        "tls-cert", f"the {role}'s certificate {subject} is an authority's (CA:TRUE); issue one for a {role}"
    )


def _name_fault(certificate: x509.Certificate, name: str) -> Refusal | None:
    """
    @param name: DNS name or IP address that was asked for.
    @return: C{None} if a subjectAltName matches it (RFC 6125; the common name never does).
    """
    # The zone of a link-local address ("%eth0") means something on this host only.
    bare = name.partition("%")[0]
    check = verify_certificate_ip_address if _is_address(bare) else verify_certificate_hostname
    try:
        check(certificate, bare)
    except (service_identity.VerificationError, service_identity.CertificateError, ValueError) as error:
        if isinstance(error, service_identity.CertificateError) and extract_names(certificate):
            return Refusal(
                "tls-name",
                f"the server's certificate has a name that cannot be used: {printable(str(error))} "
                "Issue one without it",
            )
        names = ", ".join(extract_names(certificate)) or "no host at all (its common name does not count)"
        return Refusal(
            "tls-name",
            f"the server's certificate is for {names}, not for {name}; connect to one of its names, "
            f"or issue one with subjectAltName {name}",
        )
    return None


def extract_names(certificate: x509.Certificate) -> list[str]:
    """
    @return: the DNS names and IP addresses of a certificate's subjectAltName, for
        people to read: escaped, at most ten.
    """
    try:
        alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        return []
    names = [*alternatives.get_values_for_type(x509.DNSName)]
    names += [str(address) for address in alternatives.get_values_for_type(x509.IPAddress)]
    shown = [printable(name) for name in names[:10]]
    return shown + (["..."] if len(names) > 10 else [])


def _is_address(name: str) -> bool:
    try:
        ipaddress.ip_address(name)
    except ValueError:
        return False
    return True


# --- contexts ----------------------------------------------------------------------


def _context(pki: Pki, role: Role, lowest: int, highest: int) -> SSL.Context:
    context = SSL.Context(SSL.TLS_METHOD)
    context.set_min_proto_version(lowest)
    context.set_max_proto_version(highest)
    context.set_options(_OPTIONS)
    # 34 KiB less for each idle connection.
    context.set_mode(SSL.MODE_RELEASE_BUFFERS)
    context.set_session_cache_mode(SSL.SESS_CACHE_OFF)
    context.set_cipher_list(_TLS_1_2_CIPHERS)
    context.set_tls13_ciphersuites(CIPHERS)
    store = context.get_cert_store()
    if store is None:
        raise ConfigurationError("OpenSSL gives no certificate store")
    authorities = pki.authorities()
    try:
        for authority in authorities:
            store.add_cert(crypto.X509.from_cryptography(authority))
        revocations = pki.revocations()
        for revocation in revocations:
            store.add_crl(revocation)
        if revocations:
            store.set_flags(crypto.X509StoreFlags.CRL_CHECK | crypto.X509StoreFlags.CRL_CHECK_ALL)
        if role == "server" or pki.has_credentials(role):
            credentials = pki.credentials(role)
            context.use_certificate(credentials.chain[0])
            for certificate in credentials.chain[1:]:
                context.add_extra_chain_cert(certificate)
            context.use_privatekey(credentials.key)
        if role == "server":
            # Some clients choose their certificate by this list.
            for authority in authorities:
                context.add_client_ca(authority)
    except (SSL.Error, crypto.Error) as error:
        raise ConfigurationError(
            f"{pki.directory}: OpenSSL refuses its files: {_first_text(error)}"
        ) from None
    context.set_verify(SSL.VERIFY_PEER | SSL.VERIFY_FAIL_IF_NO_PEER_CERT, _verify)
    return context


def _first_text(error: Exception) -> str:
    queue = error.args[0] if error.args else []
    return str(queue[0][-1]) if isinstance(queue, list) and queue else "unknown error"


class ServerContexts(NamedTuple):
    """
    A server's TLS settings.

    @ivar modern: TLS 1.3 only.
    @ivar legacy: TLS 1.2 only, ECDHE and AEAD, for libvirt's clients; C{None} where
        they are not served.
    """

    modern: SSL.Context
    legacy: SSL.Context | None

    def choose(self, hello: ClientHello) -> SSL.Context:
        """
        An OpenSSL server sends session tickets at the end of a TLS 1.3 handshake, which
        libvirt's clients take for a missing confirmation (wire-protocol.md, section 0,
        fact 11).  They offer no ALPN; everybody else with TLS 1.3 and without ALPN
        may as well be served with 1.2.

        @return: the context for a client that said C{hello}.
        """
        if self.legacy is None or PROTOCOL in hello.protocols:
            return self.modern
        if TLS_1_3 in hello.versions and TLS_1_2 not in hello.versions:
            return self.modern
        return self.legacy


def server_contexts(pki: Pki, *, legacy_clients: bool = True) -> ServerContexts:
    """
    @param legacy_clients: whether clients without ALPN (libvirt's) are served, with TLS 1.2.
    @raise ConfigurationError: a file of C{pki} cannot be used.
    """
    modern = _context(pki, "server", SSL.TLS1_3_VERSION, SSL.TLS1_3_VERSION)
    modern.set_alpn_select_callback(_select_protocol)
    legacy = _context(pki, "server", SSL.TLS1_2_VERSION, SSL.TLS1_2_VERSION) if legacy_clients else None
    return ServerContexts(modern, legacy)


def _select_protocol(connection: SSL.Connection, offered: list[bytes]) -> Any:
    return PROTOCOL if PROTOCOL in offered else SSL.NO_OVERLAPPING_PROTOCOLS


def client_context(pki: Pki, *, legacy_servers: bool = False) -> SSL.Context:
    """
    @param legacy_servers: whether a server that has only TLS 1.2 is accepted.
    @raise ConfigurationError: a file of C{pki} cannot be used.
    """
    lowest = SSL.TLS1_2_VERSION if legacy_servers else SSL.TLS1_3_VERSION
    context = _context(pki, "client", lowest, SSL.TLS1_3_VERSION)
    context.set_alpn_protos([PROTOCOL])
    return context


def indication_of(name: str) -> bytes | None:
    """
    @param name: DNS name or IP address of a server.
    @return: what a client sends as the server's name (SNI), C{None} for an address.
    @raise ConfigurationError: it cannot be the name of a host.
    """
    if _is_address(name.partition("%")[0]):
        return None
    # RFC 6066 section 3: without a trailing dot.
    text = name.removesuffix(".")
    try:
        text = text if text.isascii() else idna.encode(text, uts46=True).decode("ascii")
    except idna.IDNAError as error:
        raise ConfigurationError(f"host {name!r}: {error}") from None
    if not all(0 < len(label) < 64 for label in text.split(".")):
        raise ConfigurationError(f"host {name!r} is not a host name")
    return text.encode("ascii")


def client_connection(context: SSL.Context, indication: bytes | None) -> SSL.Connection:
    """
    @param indication: as L{indication_of} gives it.
    """
    connection = SSL.Connection(context, None)
    if indication is not None:
        connection.set_tlsext_host_name(indication)
    return connection
