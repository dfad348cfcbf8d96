"""
From a URI to an open connection: transport, authentication, CONNECT_OPEN.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import attrs
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IStreamClientEndpoint

from rpcstream.errors import ConfigurationError, ConnectRefused, RPCStreamError
from rpcstream.libvirt.connection import Connection
from rpcstream.libvirt.credentials import Credentials, find_credentials
from rpcstream.libvirt.opening import open_driver
from rpcstream.libvirt.registrations import Registrations
from rpcstream.libvirt.uri import LibvirtURI, parse_uri
from rpcstream.limits import Limits
from rpcstream.net.client import ClientConnection
from rpcstream.net.connect import ClientFactory
from rpcstream.net.endpoints import client_endpoint, is_loopback
from rpcstream.net.responders import Responders
from rpcstream.net.threads import Runner

__all__ = ["Dialer"]

USER_PKI = "~/.pki/libvirt"
"""Where libvirt's own clients look for a user's certificates."""


@attrs.frozen
class Dialer:
    """
    All that is needed to connect, once or again.

    @ivar uri: where to.
    @ivar pki: directory of certificates, if the URI names none.
    @ivar insecure: whether plain TCP may leave this host.
    @ivar endpoint: takes the place of what the URI names; still the URI says whether it is TLS.
    """

    uri: LibvirtURI
    credentials: Credentials | None
    pki: str | Path | None
    insecure: bool
    read_only: bool
    limits: Limits
    runner: Runner
    reactor: Any
    endpoint: IStreamClientEndpoint | None = None

    @classmethod
    def of(
        cls, uri: str, *, username: str | None = None, password: str | None = None, **settings: Any
    ) -> Dialer:
        """
        @raise ConfigurationError: the URI or the file with the password cannot be used.
        """
        parsed = parse_uri(uri)
        return cls(uri=parsed, credentials=find_credentials(parsed, username, password), **settings)

    def dial(self, *, is_main: bool = True) -> Deferred[Connection]:
        """
        Connect and open.

        @param is_main: not for one stream only.
        @return: fires with the connection; fails as L{rpcstream.libvirt.connect} does.
        """
        return Deferred.fromCoroutine(self._dial(is_main))

    async def _dial(self, is_main: bool) -> Connection:
        endpoint: Any = self.endpoint or self._endpoint()
        registrations = Registrations(self.limits.event_queue)
        client = ClientConnection(
            self.reactor, self.runner, self.limits, Responders(registrations, partial=True)
        )
        try:
            await endpoint.connect(ClientFactory(client))
        except RPCStreamError:
            raise
        except Exception as error:
            raise ConnectRefused(f"cannot connect: {error}") from error
        try:
            opened = await open_driver(
                client,
                self.uri,
                credentials=self.credentials,
                read_only=self.read_only,
                is_main=is_main,
            )
        except BaseException:
            client.close()
            raise
        return Connection(client, registrations, opened, lambda: self.dial(is_main=False))

    def _endpoint(self) -> Any:
        uri = self.uri
        if uri.transport == "tcp" and not (self.insecure or is_loopback(uri.host)):
            raise ConfigurationError(
                f"{uri.text}: {uri.host} would be reached in plain text; use {uri.driver}+tls://, "
                "or permit it (insecure)"
            )
        pki = self.pki
        if uri.transport == "tls" and not uri.pkipath and pki is None:
            pki = _user_pki(uri)
        return client_endpoint(
            self.reactor,
            uri.address(read_only=self.read_only),
            pki=pki,
            insecure=self.insecure,
            limits=self.limits,
            legacy_servers=True,
        )


def _user_pki(uri: LibvirtURI) -> Path:
    path = Path(os.path.expanduser(USER_PKI))
    if not (path / "cacert.pem").exists():
        raise ConfigurationError(
            f"{uri.text}: no certificates: there is no {path}/cacert.pem; add ?pkipath=DIR to the URI, for a "
            "directory with cacert.pem, clientcert.pem and clientkey.pem"
        )
    return path
