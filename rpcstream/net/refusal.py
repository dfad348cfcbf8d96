"""
Why a TLS connection did not come about, in one line.

What lives here: the reason codes; OpenSSL's errors turned into a cause and, where
one is known, a remedy.  What must not: closing, logging, raising.

Both ends must tell their story.  What an end saw itself is exact (a certificate
that expired, a name that does not match); what it learns from the peer is one TLS
alert (RFC 8446 section 6.2), or only that the connection was closed.
"""

from __future__ import annotations

from typing import Literal, NamedTuple

from cryptography import x509
from OpenSSL.SSL import Error as TLSError
from OpenSSL.SSL import X509VerificationCodes as Codes
from twisted.internet.error import ConnectionClosed, ConnectionDone
from twisted.python.failure import Failure

from rpcstream.net.identity import printable

__all__ = ["Refusal", "explain_certificate", "explain_end", "explain_tls"]


class Refusal(NamedTuple):
    """
    @ivar code: C{tls} (not TLS, or broken), C{tls-version}, C{tls-nocert}, C{tls-cert}
        (not valid here), C{tls-eku} (not for this purpose), C{tls-name} (another host),
        C{tls-alert} (the peer refused us), C{tls-closed} (closed before the
        confirmation), C{tls-timeout}, C{tls-busy} (too many handshakes),
        C{not-allowed} (verified, but not let in), C{internal}.
    @ivar detail: a sentence without a full stop.
    """

    code: str
    detail: str

    def __str__(self) -> str:
        return f"{self.detail} ({self.code})"


_OTHER_AUTHORITY = frozenset(
    (
        Codes.ERR_UNABLE_TO_GET_ISSUER_CERT_LOCALLY,
        Codes.ERR_UNABLE_TO_GET_ISSUER_CERT,
        Codes.ERR_SELF_SIGNED_CERT_IN_CHAIN,
        Codes.ERR_UNABLE_TO_VERIFY_LEAF_SIGNATURE,
        Codes.ERR_CERT_SIGNATURE_FAILURE,
    )
)

_CERTIFICATE_FAULTS: dict[int, tuple[str, str]] = {
    Codes.ERR_CERT_HAS_EXPIRED: ("tls-cert", "expired on {end}; renew it (or correct this clock)"),
    Codes.ERR_CERT_NOT_YET_VALID: ("tls-cert", "is not valid before {start}; wait, or correct the clocks"),
    Codes.ERR_INVALID_PURPOSE: (
        "tls-eku",
        "may not be used for this (extended key usage); issue one for a {role}",
    ),
    Codes.ERR_DEPTH_ZERO_SELF_SIGNED_CERT: ("tls-cert", "is self-signed; have it signed by the authority"),
    Codes.ERR_CERT_REVOKED: ("tls-cert", "is revoked; issue a new one"),
    Codes.ERR_UNABLE_TO_GET_CRL: (
        "tls-cert",
        "cannot be checked: cacrl.pem has no list of its issuer; add it",
    ),
    Codes.ERR_CRL_HAS_EXPIRED: ("tls-cert", "cannot be checked: the list in cacrl.pem has expired; renew it"),
    Codes.ERR_PATH_LENGTH_EXCEEDED: ("tls-cert", "has a chain longer than its authority allows"),
    Codes.ERR_INVALID_CA: ("tls-cert", "was issued by a certificate that is no authority"),
    # OpenSSL's number, which pyOpenSSL does not name.
    66: ("tls-cert", "has a key that is too weak; use ECDSA P-256 or RSA 3072"),
    67: ("tls-cert", "has an authority whose key is too weak; use ECDSA P-256 or RSA 3072"),
    68: ("tls-cert", "is signed with a digest that is too weak; use SHA-256"),
}


def explain_certificate(
    error: int, certificate: x509.Certificate, role: Literal["server", "client"], depth: int
) -> Refusal:
    """
    @param error: OpenSSL's verification result, not 0.
    @param certificate: the one it is about, C{depth} steps above the peer's own.
    @param role: what the peer is.
    """
    if error in _OTHER_AUTHORITY:
        # A self-signed one in the chain is the other authority; else it was not sent along.
        authority = printable((certificate.issuer if depth == 0 else certificate.subject).rfc4514_string())
        return Refusal(
            "tls-cert",
            f"the {role}'s certificate was issued by {authority}, which is not in cacert.pem; "
            "both ends need the same authority",
        )
    code, text = _CERTIFICATE_FAULTS.get(error, ("tls-cert", f"fails verification (OpenSSL code {error})"))
    what = f"the {role}'s certificate" if depth == 0 else f"the certificate above the {role}'s,"
    subject = printable(certificate.subject.rfc4514_string()) or "(no subject)"
    detail = text.format(
        role=role,
        start=certificate.not_valid_before_utc.strftime("%Y-%m-%d %H:%M UTC"),
        end=certificate.not_valid_after_utc.strftime("%Y-%m-%d %H:%M UTC"),
    )
    return Refusal(code, f"{what} {subject} {detail}")


_NO_VERSION = "the {peer} offers no TLS version accepted here"

# Text of OpenSSL's error queue (lower case, a part of it) -> code, cause.  In this order.
_QUEUE: tuple[tuple[str, str, str], ...] = (
    ("did not return a certificate", "tls-nocert", "the client sent no certificate"),
    ("alert certificate required", "tls-nocert", "the {peer} requires a certificate and got none"),
    ("alert unknown ca", "tls-alert", "the {peer} does not trust the authority of our certificate"),
    ("alert certificate expired", "tls-alert", "the {peer} says that our certificate has expired"),
    ("alert certificate revoked", "tls-alert", "the {peer} says that our certificate is revoked"),
    ("alert unsupported certificate", "tls-alert", "the {peer} says that our certificate is not for this"),
    ("alert bad certificate", "tls-alert", "the {peer} says that our certificate is weak or not yet valid"),
    ("alert certificate unknown", "tls-alert", "the {peer} refuses our certificate, perhaps for its name"),
    # What OpenSSL sends when its own checks passed and ours did not: the name, or CA:TRUE.
    ("alert internal error", "tls-alert", "the {peer} refuses our certificate, perhaps for its name"),
    ("alert access denied", "tls-alert", "the {peer} denies access to our certificate"),
    ("alert decrypt error", "tls-alert", "the {peer} could not verify our signature"),
    ("alert protocol version", "tls-version", "the {peer} accepts none of the TLS versions offered"),
    ("unsupported protocol", "tls-version", _NO_VERSION),
    ("version too low", "tls-version", _NO_VERSION),
    ("version too high", "tls-version", _NO_VERSION),
    ("wrong ssl version", "tls-version", _NO_VERSION),
    ("inappropriate fallback", "tls-version", "the {peer} fell back to an older TLS version"),
    ("no shared cipher", "tls", "the {peer} offers no cipher accepted here (ECDHE with AES-GCM or ChaCha20)"),
    ("alert handshake failure", "tls-alert", "the {peer} found no common cipher, or wants a certificate"),
    ("alert", "tls-alert", "the {peer} ended the handshake: {text}"),
    ("wrong version number", "tls", "the {peer} does not speak TLS on this port"),
    ("packet length too long", "tls", "the {peer} does not speak TLS on this port"),
    ("http request", "tls", "the {peer} speaks HTTP, not TLS"),
)  # fmt: skip


def explain_tls(error: TLSError, peer: Literal["server", "client"]) -> Refusal:
    """
    @param error: what OpenSSL raised while shaking hands, or reading the confirmation.
    """
    queue = error.args[0] if error.args and isinstance(error.args[0], list) else []
    text = "; ".join(str(entry[-1]) for entry in queue) or "the connection ended"
    lowered = text.lower()
    for part, code, detail in _QUEUE:
        if part in lowered:
            return Refusal(code, detail.format(peer=peer, text=printable(text)))
    return Refusal("tls", f"TLS failed: {printable(text)}")


def explain_end(reason: Failure, peer: Literal["server", "client"], stage: str) -> Refusal:
    """
    @param reason: of C{connectionLost}, when nothing better is known.
    @param stage: what was not reached, as C{"the end of the TLS handshake"}.
    """
    if isinstance(reason.value, TLSError):
        return explain_tls(reason.value, peer)
    how = "closed" if isinstance(reason.value, ConnectionDone) else "cut"
    if not isinstance(reason.value, ConnectionClosed):
        how = f"ended ({printable(reason.getErrorMessage())})"
    return Refusal("tls-closed", f"the {peer} {how} the connection before {stage}")
