"""
What one client of the libvirt server has done so far: opened, authenticated, for reading only.

Here is also decided, on a call's header alone, whether it may be made now.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final
from weakref import WeakKeyDictionary

from rpcstream.errors import RemoteError, RPCFailed
from rpcstream.libvirt.server_errors import not_open, not_supported, read_only
from rpcstream.programs import remote
from rpcstream.programs.remote import REMOTE
from rpcstream.programs.remote_names import is_callable

__all__ = ["Session", "Sessions"]

_AUTHENTICATION: Final = frozenset(
    request.__procedure__.number
    for request in (
        remote.AuthList, remote.AuthSaslInit, remote.AuthSaslStart, remote.AuthSaslStep, remote.AuthPolkit,
    )
)  # fmt: skip
_BEFORE_OPEN: Final = _AUTHENTICATION | {
    request.__procedure__.number
    for request in (remote.ConnectOpen, remote.ConnectClose, remote.ConnectSupportsFeature)
}


@dataclass(slots=True, eq=False)
class Session:
    """
    @ivar uri: what CONNECT_OPEN named, C{None} until then.
    @ivar is_read_only: CONNECT_OPEN said so.
    @ivar must_authenticate: SASL is to be done first.
    @ivar authenticated: to be called when it is.
    @ivar failure_count: how often it went wrong.
    """

    uri: str | None = None
    is_read_only: bool = False
    must_authenticate: bool = False
    authenticated: Callable[[], None] = lambda: None
    failure_count: int = 0


class Sessions:
    """
    The sessions of all connections.

    @ivar serves: numbers of the procedures that somebody answers.
    @ivar began: called with a connection and its new session.
    """

    def __init__(self) -> None:
        self._sessions: WeakKeyDictionary[Any, Session] = WeakKeyDictionary()
        self.serves: frozenset[int] = frozenset()
        self.began: Callable[[Any, Session], None] = lambda connection, session: None

    def of(self, connection: Any) -> Session:
        """The session of a connection; made when it is first asked for."""
        session = self._sessions.get(connection)
        if session is None:
            session = self._sessions[connection] = Session()
            self.began(connection, session)
        return session

    def admit_call(self, connection: Any, number: int) -> RemoteError | None:
        """As libvirtd orders its refusals (wire-protocol.md section 1.3)."""
        if not is_callable(number):
            return RPCFailed(f"unknown procedure: {number}")
        session = self.of(connection)
        if session.must_authenticate and number not in _AUTHENTICATION:
            return RPCFailed("authentication required")
        if session.uri is None and number not in _BEFORE_OPEN:
            return not_open()
        if number not in self.serves:
            return not_supported(number)
        permission = REMOTE.procedures[number].__procedure__.permission
        if session.is_read_only and permission == "storage.write":
            return read_only(number)
        return None
