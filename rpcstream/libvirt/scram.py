"""
SASL with SCRAM-SHA-256, where nothing but the password is secret (RFC 5802, RFC 7677).

The two ends prove to each other that they know the password; it never crosses
the wire.  Only inside TLS or on a UNIX socket: there is no SASL encryption layer
here (wire-protocol.md section 5.4).
"""

from __future__ import annotations

import scramp

from rpcstream.errors import ConnectRefused, DecodeError
from rpcstream.libvirt.credentials import Credentials
from rpcstream.net.client import ClientConnection
from rpcstream.net.identity import printable
from rpcstream.net.threads import Runner
from rpcstream.programs import remote

__all__ = ["MECHANISM", "authenticate_by_scram"]

MECHANISM = "SCRAM-SHA-256"
_FURTHER_STEPS = 2
"""How often a server may answer an empty step before it says that it is content."""


async def authenticate_by_scram(
    connection: ClientConnection, credentials: Credentials, runner: Runner, *, nonce: str | None = None
) -> None:
    """
    @param runner: where the password is hashed, thousands of times.
    @param nonce: for tests.
    @raise AuthenticationFailed: the server does not accept user or password.
    @raise ConnectRefused: it offers no SCRAM-SHA-256, or does not know the password itself.
    """
    seconds = connection.limits.handshake_seconds
    offered = await connection.call(remote.AuthSaslInit(), timeout_seconds=seconds)
    if MECHANISM not in offered.split(","):
        raise ConnectRefused(
            f"the server offers SASL only as {printable(offered) or 'nothing'}; rpcstream speaks "
            f"{MECHANISM}: add it to mech_list in /etc/sasl2/libvirt.conf of the server"
        )
    try:
        client = scramp.ScramClient([MECHANISM], credentials.username, credentials.password, c_nonce=nonce)
        first = client.get_client_first().encode()
        request = remote.AuthSaslStart(MECHANISM, False, first)
        reply = await connection.call(request, timeout_seconds=seconds)
        final = await runner.run(_prove, client, _text(reply))
        reply = await connection.call(remote.AuthSaslStep(False, final), timeout_seconds=seconds)
        client.set_server_final(_text(reply))
    except scramp.ScramException as error:
        raise ConnectRefused(f"{MECHANISM} with the server failed: {printable(str(error))}") from None
    for _ in range(_FURTHER_STEPS):
        if reply.complete:
            return
        reply = await connection.call(remote.AuthSaslStep(True, b""), timeout_seconds=seconds)
    if not reply.complete:
        raise ConnectRefused(f"{MECHANISM} with the server does not come to an end")


def _prove(client: scramp.ScramClient, server_first: str) -> bytes:
    client.set_server_first(server_first)
    return str(client.get_client_final()).encode()


def _text(reply: remote.SaslReply) -> str:
    try:
        return reply.data.decode("utf-8")
    except UnicodeDecodeError:
        raise DecodeError("data", "a SCRAM message that is not UTF-8") from None
