"""
How a libvirt client proves who it is: not at all beyond TLS or the socket, or by SASL.

SASL is SCRAM-SHA-256, without an encryption layer of its own and therefore inside
TLS or on a UNIX socket only (wire-protocol.md section 5.4).  The user is the
principal from then on.
"""

from __future__ import annotations

from typing import Any, Final
from weakref import WeakKeyDictionary

import scramp
from twisted.logger import Logger

from rpcstream.errors import ConfigurationError
from rpcstream.libvirt.server_keys import MECHANISM, KeyFile, Keys
from rpcstream.libvirt.server_session import Session, Sessions
from rpcstream.net.calls import Call
from rpcstream.net.identity import printable
from rpcstream.net.threads import Runner
from rpcstream.programs import remote
from rpcstream.programs.remote import AuthType, SaslReply

__all__ = ["AUTHENTICATION_SECONDS", "AuthResponders"]

AUTHENTICATION_SECONDS: Final = 60.0
"""People type passwords (libvirtd: no limit)."""
FAILURES: Final = 3
"""Wrong passwords, then the connection is closed."""


class _Exchange:
    """
    One attempt.

    @ivar user: who it says it is, once it has begun.
    """

    def __init__(self, keys: KeyFile) -> None:
        self.user = ""
        self._keys = keys
        self._server = scramp.ScramMechanism(MECHANISM).make_server(self._keys_of)

    def _keys_of(self, user: str) -> Keys:
        self.user = user
        return self._keys.keys_of(user)

    def first(self, data: bytes) -> bytes:
        """
        The client's name and nonce; the salt comes back.

        @raise ValueError: it is none; ScramException likewise.
        """
        # scramp refuses whoever wants to act for somebody else.
        self._server.set_client_first(data.decode())
        return str(self._server.get_server_first()).encode()

    def final(self, data: bytes) -> bytes:
        """The client's proof; ours comes back.  Errors as L{first}."""
        if not self.user:
            raise ValueError("a step before the start")
        self._server.set_client_final(data.decode())
        return str(self._server.get_server_final()).encode()


class AuthResponders:
    """
    @param keys: whose passwords count; C{None}: nobody is asked for one.
    """

    log = Logger()

    def __init__(self, sessions: Sessions, keys: KeyFile | None, runner: Runner) -> None:
        self._sessions = sessions
        self._keys = keys
        self._runner = runner
        self._exchanges: WeakKeyDictionary[Any, _Exchange] = WeakKeyDictionary()
        sessions.began = self._began

    def _began(self, connection: Any, session: Session) -> None:
        """A client's first call: until it has proved who it is, it can send little, and not for long."""
        if self._keys is None:
            return
        session.must_authenticate = True
        link = connection.link
        usual_bytes = link.core.max_message_bytes
        link.core.max_message_bytes = connection.limits.anonymous_message_bytes
        late = link.clock.callLater(
            AUTHENTICATION_SECONDS, link.fail, "authentication", f"none within {AUTHENTICATION_SECONDS:g} s"
        )

        def end() -> None:
            link.core.max_message_bytes = usual_bytes
            if late.active():
                late.cancel()

        session.authenticated = end
        connection.when_lost(session, end)

    @remote.AuthList.responder
    def list(self, call: Call, request: remote.AuthList) -> tuple[int, ...]:
        """The one way there is."""
        if self._keys is None:
            return (AuthType.NONE,)
        if call.principal.kind == "anonymous":
            raise _failed("passwords are taken inside TLS or on a UNIX socket only")
        return (AuthType.SASL,)

    @remote.AuthSaslInit.responder
    async def init(self, call: Call, request: remote.AuthSaslInit) -> str:
        """Begin; what went before is forgotten."""
        session = self._sessions.of(call.connection)
        if self._keys is None or not session.must_authenticate or call.principal.kind == "anonymous":
            raise _failed()
        try:
            await self._runner.run(self._keys.load)
        except ConfigurationError as error:
            # The keys read before stay in force.
            self.log.warn("{error}", error=error)
        self._exchanges[call.connection] = _Exchange(self._keys)
        return MECHANISM

    @remote.AuthSaslStart.responder
    def start(self, call: Call, request: remote.AuthSaslStart) -> SaslReply:
        """The client's name and nonce; the salt comes back."""
        exchange = self._exchanges.get(call.connection)
        if exchange is None or request.mechanism != MECHANISM:
            raise self._fail(call, "no such mechanism, or not begun")
        try:
            return SaslReply(False, False, exchange.first(request.data))
        except (scramp.ScramException, ValueError) as error:
            raise self._fail(call, str(error)) from None

    @remote.AuthSaslStep.responder
    def step(self, call: Call, request: remote.AuthSaslStep) -> SaslReply:
        """The client's proof; ours comes back."""
        exchange = self._exchanges.pop(call.connection, None)
        if exchange is None:
            raise self._fail(call, "not begun")
        try:
            final = exchange.final(request.data)
        except (scramp.ScramException, ValueError) as error:
            raise self._fail(call, str(error)) from None
        user = exchange.user
        session = self._sessions.of(call.connection)
        session.must_authenticate = False
        session.authenticated()
        call.connection.forget_lost(session)
        before = call.principal
        call.connection.serving.renamed(call.connection, before._replace(name=user, names=(user,)))
        self.log.info("{before} is {user}", before=before.name, user=user)
        return SaslReply(True, False, final)

    def _fail(self, call: Call, reason: str) -> remote.AuthenticationFailed:
        """One text for whatever was wrong; the log has more."""
        self._exchanges.pop(call.connection, None)
        session = self._sessions.of(call.connection)
        session.failure_count += 1
        self.log.info(
            "{principal} failed to authenticate: {reason}",
            principal=call.principal.name,
            reason=printable(reason),
        )
        if session.failure_count >= FAILURES:
            link = call.connection.link
            link.clock.callLater(0, link.fail, "authentication", f"{FAILURES} failures")
        return _failed()


def _failed(detail: str = "authentication failed") -> remote.AuthenticationFailed:
    template = "authentication failed: %s"
    return remote.AuthenticationFailed(template.replace("%s", detail), domain=7, str1=template, str2=detail)
