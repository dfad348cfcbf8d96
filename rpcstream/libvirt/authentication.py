"""
Getting past the daemon's door: no authentication, SASL or polkit (wire-protocol.md section 5.3).
"""

from __future__ import annotations

from rpcstream.errors import ConfigurationError, ConnectRefused, RemoteError, Unsupported
from rpcstream.libvirt.credentials import Credentials
from rpcstream.libvirt.scram import MECHANISM, authenticate_by_scram
from rpcstream.libvirt.uri import LibvirtURI
from rpcstream.net.client import ClientConnection
from rpcstream.net.threads import Runner
from rpcstream.programs import remote
from rpcstream.programs.remote import AuthType

__all__ = ["authenticate"]

POLKIT_SECONDS = 120.0
"""How long somebody may take to type a password into polkit's dialog."""

_NAMES = {AuthType.NONE: "none", AuthType.SASL: "sasl", AuthType.POLKIT: "polkit"}
_POLKIT_REMEDY = (
    "polkit does not let this user in; run as root, join the group that may (often libvirt), or start an "
    "agent in this session: pkttyagent"
)


async def authenticate(
    connection: ClientConnection, uri: LibvirtURI, credentials: Credentials | None, runner: Runner
) -> AuthType:
    """
    Do what the daemon asks for, or what C{uri.auth} allows of it.

    @return: what was done.
    @raise ConnectRefused: there is no way that both sides know.
    @raise ConfigurationError: a password is needed; or it would need SASL's own encryption.
    @raise AuthenticationFailed: the daemon refuses this user.
    """
    chosen = _choose(uri.auth, await _offered(connection))
    if chosen is AuthType.SASL:
        if uri.transport == "tcp":
            raise ConfigurationError(
                "the daemon wants SASL, which is safe inside TLS or on a UNIX socket only: use +tls"
            )
        if credentials is None:
            raise ConfigurationError(
                "the daemon wants a user and a password; give username= and password=, or ?authfile=FILE"
            )
        await authenticate_by_scram(connection, credentials, runner)
    elif chosen is AuthType.POLKIT:
        await _ask_polkit(connection)
    return chosen


async def _offered(connection: ClientConnection) -> tuple[int, ...]:
    try:
        return await connection.call(remote.AuthList(), timeout_seconds=connection.limits.handshake_seconds)
    except Unsupported:
        # A daemon from before there was authentication.
        return ()


def _choose(wanted: str, offered: tuple[int, ...]) -> AuthType:
    """
    @param wanted: what the URI allows, C{""} for anything.
    """
    kind, _, mechanism = wanted.lower().partition(".")
    if kind and kind not in _NAMES.values():
        raise ConfigurationError(f"auth={wanted!r} is not none, sasl, sasl.{MECHANISM} or polkit")
    if mechanism and (kind != "sasl" or mechanism != MECHANISM.lower()):
        raise ConfigurationError(f"auth={wanted!r}: rpcstream speaks sasl.{MECHANISM} only")
    known = [kind_ for kind_ in map(_auth_type, offered) if kind_ is not None]
    if not offered:
        known = [AuthType.NONE]
    for each in known:
        if not kind or _NAMES[each] == kind:
            return each
    names = ", ".join(_name(_auth_type(each)) for each in offered) or "none"
    raise ConnectRefused(
        f"the daemon offers authentication by {names}, and the URI allows only {wanted}"
        if kind
        else f"the daemon offers ways to authenticate that rpcstream does not know: {offered}"
    )


def _name(kind: AuthType | None) -> str:
    return "?" if kind is None else _NAMES[kind]


def _auth_type(number: int) -> AuthType | None:
    return AuthType(number) if number in AuthType._value2member_map_ else None


async def _ask_polkit(connection: ClientConnection) -> None:
    try:
        let_in = await connection.call(remote.AuthPolkit(), timeout_seconds=POLKIT_SECONDS)
    except RemoteError as error:
        raise remote.AuthenticationFailed(
            f"{error.message}: {_POLKIT_REMEDY}", code=error.code, domain=error.domain, level=error.level
        ) from None
    if not let_in:
        raise remote.AuthenticationFailed(_POLKIT_REMEDY)
