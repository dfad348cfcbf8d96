"""
C{connect}: from a libvirt URI to a usable connection.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IStreamClientEndpoint

from rpcstream.libvirt.connection import Connection
from rpcstream.libvirt.dialing import Dialer
from rpcstream.limits import DEFAULT_LIMITS, Limits
from rpcstream.net.opening import Opening
from rpcstream.net.threads import Runner, ThreadRunner

__all__ = ["connect"]


def connect(
    uri: str,
    *,
    username: str | None = None,
    password: str | None = None,
    pki: str | Path | None = None,
    insecure: bool = False,
    read_only: bool = False,
    limits: Limits = DEFAULT_LIMITS,
    endpoint: IStreamClientEndpoint | None = None,
    runner: Runner | None = None,
    reactor: Any = None,
) -> Opening[Connection]:
    """
    Connect to a libvirt daemon.

    @param uri: as virsh takes it: C{qemu+tls://HOST/system?pkipath=DIR}, C{qemu+tcp://...},
        C{qemu+unix:///system?socket=PATH}, C{qemu:///system}, C{test:///default}; not by ssh.
    @param username: for SASL; so is C{password}.  Otherwise C{?authfile=} and libvirt's own places count.
    @param pki: directory of certificates, if the URI names none; then C{~/.pki/libvirt}.
    @param insecure: permit plain TCP to another host.
    @param endpoint: where to connect, in place of what the URI names: a tunnel, say.
    @param read_only: ask for a connection that cannot change anything.
    @return: fires when the connection is usable; C{async with connect(...) as host:} works.
    @raise ConnectRefused: it cannot be had; the text names cause and remedy (as errback, as all).
    @raise ConfigurationError: the URI, the certificates or the password cannot be used.
    @raise AuthenticationFailed: the daemon refuses this user.
    @raise RemoteError: it refuses to open the driver.
    """
    if reactor is None:
        from twisted.internet import reactor
    own_runner = ThreadRunner(reactor, thread_count=4) if runner is None else None

    async def run() -> Connection:
        dialer = Dialer.of(
            uri,
            username=username,
            password=password,
            pki=pki,
            insecure=insecure,
            read_only=read_only,
            limits=limits,
            runner=own_runner or runner,
            reactor=reactor,
            endpoint=endpoint,
        )
        try:
            connection = await dialer.dial()
        except BaseException:
            if own_runner is not None:
                own_runner.stop()
            raise
        if own_runner is not None:
            connection.when_closed().addCallback(lambda _: own_runner.stop())
        return connection

    return Opening.of(Deferred.fromCoroutine(run()))
