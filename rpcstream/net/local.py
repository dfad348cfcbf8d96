"""
UNIX sockets: private ones, and who is at the other end.

What lives here: binding with mode 0600 under umask 077, removing a stale socket,
SO_PEERCRED.  What must not: TLS; what the peer may do.
"""

from __future__ import annotations

import errno
import os
import socket
import stat
from collections.abc import Callable
from typing import Any, cast

from twisted.internet.defer import Deferred, fail
from twisted.internet.endpoints import UNIXServerEndpoint
from twisted.internet.error import CannotListenError
from twisted.internet.interfaces import (
    IAddress,
    IListeningPort,
    IProtocol,
    IProtocolFactory,
    IStreamServerEndpoint,
)
from twisted.internet.protocol import Factory, Protocol
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from rpcstream.errors import ConfigurationError, ConnectRefused
from rpcstream.net.identity import Principal, peer_credentials, principal_of
from rpcstream.net.refusal import Refusal
from rpcstream.net.sockets import socket_of

__all__ = ["LocalServerEndpoint", "LocalServerFactory", "cannot_listen", "remove_stale_socket"]

_log = Logger()


@implementer(IStreamServerEndpoint)
class LocalServerEndpoint:
    """Listens on a UNIX socket that only this user, and root, may use."""

    def __init__(
        self,
        reactor: Any,
        path: str,
        *,
        mode: int = 0o600,
        backlog: int = 50,
        admit: Callable[[Principal], str | None] | None = None,
        refused: Callable[[Refusal, IAddress], None] | None = None,
    ) -> None:
        """
        @param mode: of the socket: C{0o600}, or C{0o660} for a group, whose members
            then still have to be this user or root.
        @param admit: as for L{rpcstream.net.endpoints.server_endpoint}.
        """
        self._reactor = reactor
        self._path = path
        self._mode = mode
        self._backlog = backlog
        self._admit = admit
        self._refused = refused

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        """
        @return: fires with the port; fails with L{ConfigurationError} when another
            server listens there or the path cannot be used.
        """
        factory = LocalServerFactory(protocolFactory, self._admit, self._refused)
        # The socket must not be open to others for the moment between bind and chmod.
        former = os.umask(0o077)
        try:
            remove_stale_socket(self._path)
            endpoint = UNIXServerEndpoint(self._reactor, self._path, self._backlog, self._mode)
            listening: Deferred[IListeningPort] = endpoint.listen(factory)
            return listening.addErrback(cannot_listen, self._path, "choose another path")
        except ConfigurationError:
            return fail(Failure())
        finally:
            os.umask(former)


def cannot_listen(failure: Failure, where: str, remedy: str) -> Failure:
    """
    @return: Twisted's failure to listen as L{ConfigurationError}, another as it is.
    """
    if not isinstance(failure.value, CannotListenError):
        return failure
    error = failure.value.socketError
    return Failure(ConfigurationError(f"cannot listen on {where}: {error.strerror or error}; {remedy}"))


def remove_stale_socket(path: str) -> None:
    """
    Remove the socket that a server left behind which is gone.

    @raise ConfigurationError: a server answers there, or C{path} is something else.
    """
    try:
        mode = os.lstat(path).st_mode
    except FileNotFoundError:
        return
    except OSError as error:
        raise ConfigurationError(f"{path}: {error.strerror}") from None
    if not stat.S_ISSOCK(mode):
        raise ConfigurationError(f"{path} exists and is no socket; remove it or choose another path")
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as probe:
        # A full backlog means that somebody listens; waiting for it would hold the reactor.
        probe.setblocking(False)
        outcome = probe.connect_ex(path)
    if outcome != errno.ECONNREFUSED:
        raise ConfigurationError(f"{path}: another server listens there; stop it or choose another path")
    os.unlink(path)


class LocalServerFactory(Factory):
    """Lets only this user and root in; the wrapped factory hears of nobody else."""

    noisy = False

    def __init__(
        self,
        factory: IProtocolFactory,
        admit: Callable[[Principal], str | None] | None = None,
        refused: Callable[[Refusal, IAddress], None] | None = None,
        user: Callable[[], int] = os.geteuid,
    ) -> None:
        """
        @param user: gives the user that is let in, besides root.
        """
        self._factory = factory
        self._admit = admit
        self._refused = refused
        self._user = user

    def startFactory(self) -> None:
        self._factory.doStart()

    def stopFactory(self) -> None:
        self._factory.doStop()

    def buildProtocol(self, addr: IAddress | None) -> Protocol | None:
        return _Arrival(self)

    def welcome(self, transport: Any) -> IProtocol | Refusal:
        """
        @return: the protocol to connect, or why not.
        """
        try:
            handle = socket_of(transport)
            if handle is None:
                return Refusal("not-allowed", "the transport is no UNIX socket")
            uid = peer_credentials(handle).uid
            if uid not in (0, self._user()):
                return Refusal(
                    "not-allowed", f"user {uid} may not use this socket; only its owner and root may"
                )
            principal = principal_of(transport)
            objection = self._admit(principal) if self._admit is not None else None
            if objection is not None:
                return Refusal("not-allowed", f"{principal.name}: {objection}")
            protocol = self._factory.buildProtocol(transport.getPeer())
        except ConnectRefused as error:
            return Refusal("not-allowed", error.reason)
        except Exception:
            _log.failure("accepting a connection on a UNIX socket")
            return Refusal("internal", "the server failed to set the connection up")
        return protocol or Refusal("not-allowed", f"{principal.name}: the service takes no connection now")

    def report(self, refusal: Refusal, address: IAddress) -> None:
        _log.info(
            "refused {peer}: {code}: {detail}", peer="a UNIX peer", code=refusal.code, detail=refusal.detail
        )
        if self._refused is not None:
            self._refused(refusal, address)


class _Arrival(Protocol):
    """Makes way for the real protocol as soon as the peer is known."""

    def __init__(self, factory: LocalServerFactory) -> None:
        self._server = factory

    def connectionMade(self) -> None:
        transport = cast(Any, self.transport)
        outcome = self._server.welcome(transport)
        if isinstance(outcome, Refusal):
            self._server.report(outcome, transport.getPeer())
            transport.abortConnection()
            return
        transport.protocol = outcome
        outcome.makeConnection(transport)
