"""
Who the peer is.

What lives here: L{Principal}, made from a verified certificate or from a UNIX
socket's credentials.  What must not: what the principal may do (policy).
"""

from __future__ import annotations

import pwd
import socket
import struct
from typing import Any, Literal, NamedTuple, TypeAlias

from cryptography import x509
from cryptography.x509.oid import NameOID
from OpenSSL.SSL import Connection
from twisted.internet.interfaces import IAddress

from rpcstream.errors import BadState, ConnectRefused
from rpcstream.net.sockets import socket_of

__all__ = [
    "ANONYMOUS",
    "PeerCredentials",
    "Principal",
    "PrincipalKind",
    "certificate_names",
    "peer_credentials",
    "principal_of",
    "principal_of_certificate",
    "printable",
]

PrincipalKind: TypeAlias = Literal["tls", "unix", "anonymous"]

ANONYMOUS = "anonymous"
"""Name of a peer that proved nothing."""
NAMELESS = "(no name)"
"""Name of a peer whose certificate holds no printable name."""


class Principal(NamedTuple):
    """
    A peer's identity.

    @ivar name: from a certificate the first SAN URI, else DNS name, else e-mail
        address, else the subject's common name, else the whole subject (RFC 4514);
        from a UNIX socket the user's name; else C{anonymous}.
    @ivar kind: what proves it.
    @ivar certificate: the verified certificate, C{None} without TLS.
    @ivar address: where the peer is.
    @ivar uid: user of a UNIX peer, else C{None}.
    @ivar names: all names a policy may match: every SAN URI, DNS name and e-mail
        address, the common name and the whole subject (RFC 4514); for others the name.
    """

    name: str
    kind: PrincipalKind
    certificate: x509.Certificate | None
    address: IAddress
    uid: int | None = None
    names: tuple[str, ...] = ()


class PeerCredentials(NamedTuple):
    """Who connected to a UNIX socket (SO_PEERCRED, taken by the kernel at C{connect})."""

    pid: int
    uid: int
    gid: int


def principal_of(transport: Any) -> Principal:
    """
    @param transport: of a connected protocol.  TLS: its certificate must have been
        verified, which the endpoints of L{rpcstream.net.endpoints} do first.
    @raise BadState: the connection is lost already.
    """
    address = transport.getPeer()
    get_handle = getattr(transport, "getHandle", None)
    handle = get_handle() if get_handle is not None else None
    if isinstance(handle, Connection):
        certificate = handle.get_peer_certificate(as_cryptography=True)
        if certificate is None:
            # A TLS endpoint of another kind that asks for no certificate.
            return Principal(ANONYMOUS, "anonymous", None, address, names=(ANONYMOUS,))
        return principal_of_certificate(certificate, address)
    if handle is None and hasattr(transport, "negotiatedProtocol"):
        raise BadState("the connection is lost; ask for its principal when it is made")
    bottom = socket_of(transport)
    if bottom is not None and bottom.family == socket.AF_UNIX:
        credentials = peer_credentials(bottom)
        name = _user_name(credentials.uid)
        return Principal(name, "unix", None, address, credentials.uid, (name,))
    return Principal(ANONYMOUS, "anonymous", None, address, names=(ANONYMOUS,))


def principal_of_certificate(certificate: x509.Certificate, address: IAddress) -> Principal:
    """
    @param certificate: one that was verified.
    """
    names = certificate_names(certificate)
    return Principal(names[0], "tls", certificate, address, names=names)


def certificate_names(certificate: x509.Certificate) -> tuple[str, ...]:
    """
    @return: the names of a certificate, the best first, never none: URIs, DNS names
        and e-mail addresses of its subjectAltName, its common name if it has exactly
        one, its subject (RFC 4514).  A name with invisible characters is left out.
    """
    found: list[str] = []
    try:
        alternatives = certificate.extensions.get_extension_for_class(x509.SubjectAlternativeName).value
    except (x509.ExtensionNotFound, ValueError):
        # ValueError: an extension that cryptography cannot read.  It names nobody.
        pass
    else:
        found += alternatives.get_values_for_type(x509.UniformResourceIdentifier)
        found += alternatives.get_values_for_type(x509.DNSName)
        found += alternatives.get_values_for_type(x509.RFC822Name)
    common_names = certificate.subject.get_attributes_for_oid(NameOID.COMMON_NAME)
    if len(common_names) == 1:
        found.append(str(common_names[0].value))
    found.append(certificate.subject.rfc4514_string())
    # Two principals must not look alike in a policy or a log: nothing invisible counts.
    return tuple(dict.fromkeys(name for name in found if name and name.isprintable())) or (NAMELESS,)


def peer_credentials(handle: socket.socket) -> PeerCredentials:
    """
    @param handle: a connected UNIX socket.
    @raise ConnectRefused: the kernel does not tell (code C{unix}).
    """
    layout = struct.Struct("iII")
    try:
        content = handle.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, layout.size)
    except OSError as error:
        raise ConnectRefused(f"the kernel does not name the peer: {error.strerror}") from None
    return PeerCredentials(*layout.unpack(content))


def printable(text: str, limit: int = 200) -> str:
    """
    @return: a peer's text as it may stand in a log line or on a terminal: control
        and other invisible characters as backslash escapes, cut to C{limit} characters.
    """
    cut = text[:limit]
    shown = "".join(character if character.isprintable() else ascii(character)[1:-1] for character in cut)
    return shown if len(text) <= limit else shown + "..."


def _user_name(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)
