"""
The libvirt server's answers about the connection itself: opening, features, host.
"""

from __future__ import annotations

import socket
from typing import Final

from rpcstream.errors import InternalError
from rpcstream.libvirt.server_errors import not_open
from rpcstream.libvirt.server_session import Sessions
from rpcstream.libvirt.server_xml import CAPABILITIES
from rpcstream.net.calls import Call
from rpcstream.programs import remote
from rpcstream.programs.remote import Feature

__all__ = ["LIBRARY_VERSION", "ConnectionResponders"]

LIBRARY_VERSION: Final = 9_000_000
"""The libvirt whose protocol this is: 9.0.0."""

DRIVER: Final = "storage"
_READ_ONLY = 1


class ConnectionResponders:
    """What every client asks, whatever it wants to do."""

    def __init__(self, sessions: Sessions) -> None:
        self._sessions = sessions

    def admit_call(self, connection: object, number: int) -> object:
        """See L{Sessions.admit_call}: asked before each call."""
        return self._sessions.admit_call(connection, number)

    @remote.ConnectOpen.responder
    def open(self, call: Call, request: remote.ConnectOpen) -> None:
        """
        C{storage:///system}, or C{storage:///session}, which is the same here.

        Unknown flags are ignored: clients leave some of their own in (wire-protocol.md section 7.1).
        """
        session = self._sessions.of(call.connection)
        if session.uri is not None:
            raise InternalError("internal error: connection already open")
        uri = request.name or f"{DRIVER}:///system"
        scheme, _, rest = uri.partition("://")
        if scheme != DRIVER:
            template = "no connection driver available for %s"
            raise remote.NoConnect(template.replace("%s", uri), domain=0, str1=template, str2=uri)
        path = rest.partition("?")[0]
        if path not in ("/system", "/session"):
            raise InternalError(
                f"internal error: unexpected storage URI path '{path}', try storage:///system", domain=0
            )
        session.uri = uri
        session.is_read_only = bool(request.flags & _READ_ONLY)

    @remote.ConnectClose.responder
    def close(self, call: Call, request: remote.ConnectClose) -> None:
        """The reply is the last thing that the client gets."""
        link = call.connection.link
        link.clock.callLater(0, link.close, "the client has closed the connection")

    @remote.ConnectSupportsFeature.responder
    def supports(self, call: Call, request: remote.ConnectSupportsFeature) -> bool:
        """Asking for keepalive starts our own; only that may be asked before CONNECT_OPEN."""
        if request.feature == Feature.KEEPALIVE:
            call.connection.link.keepalive.start()
            return True
        if self._sessions.of(call.connection).uri is None:
            raise not_open()
        return request.feature in (Feature.EVENT_CALLBACKS, Feature.CLOSE_CALLBACK)

    @remote.ConnectRegisterCloseCallback.responder
    def register_close(self, call: Call, request: remote.ConnectRegisterCloseCallback) -> None:
        """There is no hypervisor behind this server that could go away: the event never comes."""

    @remote.ConnectUnregisterCloseCallback.responder
    def unregister_close(self, call: Call, request: remote.ConnectUnregisterCloseCallback) -> None:
        """As L{register_close}."""

    # --- the host ------------------------------------------------------------------------

    @remote.ConnectGetType.responder
    def type(self, call: Call, request: remote.ConnectGetType) -> str:
        """The driver's name."""
        return DRIVER

    @remote.ConnectGetVersion.responder
    def version(self, call: Call, request: remote.ConnectGetVersion) -> int:
        """Of the "hypervisor": the driver that this stands for is part of libvirt itself."""
        return LIBRARY_VERSION

    @remote.ConnectGetLibVersion.responder
    def library_version(self, call: Call, request: remote.ConnectGetLibVersion) -> int:
        """Of libvirt."""
        return LIBRARY_VERSION

    @remote.ConnectGetHostname.responder
    def hostname(self, call: Call, request: remote.ConnectGetHostname) -> str:
        """The host's own name."""
        return socket.gethostname()

    @remote.ConnectGetURI.responder
    def uri(self, call: Call, request: remote.ConnectGetURI) -> str:
        """What was opened."""
        uri = self._sessions.of(call.connection).uri
        if uri is None:
            raise not_open()
        return uri

    @remote.ConnectIsSecure.responder
    def is_secure(self, call: Call, request: remote.ConnectIsSecure) -> bool:
        """The way from this server to its disk is."""
        return True

    @remote.ConnectGetCapabilities.responder
    def capabilities(self, call: Call, request: remote.ConnectGetCapabilities) -> str:
        """Pools are directories."""
        return CAPABILITIES
