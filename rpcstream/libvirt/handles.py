"""
What domains, pools and volumes have in common: a name on the wire, and a host.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

if TYPE_CHECKING:
    from rpcstream.libvirt.host import Host

__all__ = ["Bound"]

W = TypeVar("W")


class Bound(Generic[W]):
    """
    A value bound to its host.  Two are equal when they name the same on the same host.

    @ivar host: the connection or service that it came from.
    @ivar wire: how calls name it.
    """

    __slots__ = ("host", "wire")

    def __init__(self, host: Host, wire: W) -> None:
        self.host = host
        self.wire = wire

    @property
    def name(self) -> str:
        """Its name; bytes that are not UTF-8 are surrogates (PEP 383)."""
        wire: Any = self.wire
        return str(wire.name)

    def _identity(self) -> object:
        return self.wire

    def __eq__(self, other: object) -> bool:
        return (
            isinstance(other, Bound)
            and type(other) is type(self)
            and other.host is self.host
            and other._identity() == self._identity()
        )

    def __hash__(self) -> int:
        return hash((type(self), id(self.host), self._identity()))

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {self.name!r}>"
