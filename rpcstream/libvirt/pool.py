"""
A storage pool: a directory, volume group or the like that holds volumes.
"""

from __future__ import annotations

import uuid
from typing import NamedTuple
from xml.sax.saxutils import escape, quoteattr

from twisted.internet.defer import Deferred, fail

from rpcstream.errors import BadValue
from rpcstream.libvirt.handles import Bound
from rpcstream.libvirt.volume import Volume
from rpcstream.programs import remote
from rpcstream.programs.remote import PoolHandle, PoolState

__all__ = ["Pool", "PoolInfo", "volume_xml"]


class PoolInfo(NamedTuple):
    """
    @ivar state: a number if it is newer than this library.
    @ivar allocation_bytes: what is used of the capacity; C{available_bytes} is free.
    """

    state: PoolState | int
    capacity_bytes: int
    allocation_bytes: int
    available_bytes: int


def volume_xml(
    name: str, capacity_bytes: int, *, allocation_bytes: int | None = None, format: str | None = None
) -> str:
    """
    The description of a volume to be made.

    @param allocation_bytes: taken at once; C{None} leaves it to the pool (mostly all of it).
    @param format: C{raw}, C{qcow2}; C{None} is the pool's own.
    @raise BadValue: a size is negative.
    """
    if capacity_bytes < 0 or (allocation_bytes or 0) < 0:
        raise BadValue("capacity_bytes", "less than nothing")
    allocation = "" if allocation_bytes is None else f"<allocation>{allocation_bytes}</allocation>"
    target = "" if format is None else f"<target><format type={quoteattr(format)}/></target>"
    return (
        f"<volume><name>{escape(name)}</name><capacity>{capacity_bytes}</capacity>"
        f"{allocation}{target}</volume>"
    )


class Pool(Bound[PoolHandle]):
    """A storage pool."""

    __slots__ = ()

    @property
    def uuid(self) -> uuid.UUID:
        """What names it everywhere."""
        return uuid.UUID(bytes=self.wire.uuid)

    def _identity(self) -> object:
        return self.wire.uuid

    def info(self) -> Deferred[PoolInfo]:
        """State and space."""

        def plain(info: remote.PoolInfo) -> PoolInfo:
            state = PoolState(info.state) if info.state in PoolState._value2member_map_ else info.state
            return PoolInfo(state, info.capacity_bytes, info.allocation_bytes, info.available_bytes)

        return self.host.call(remote.StoragePoolGetInfo(self.wire)).addCallback(plain)

    def is_active(self) -> Deferred[bool]:
        """Whether its volumes can be used."""
        return self.host.call(remote.StoragePoolIsActive(self.wire))

    def xml(self, flags: int = 0) -> Deferred[str]:
        """Its description."""
        return self.host.call(remote.StoragePoolGetXMLDesc(self.wire, flags))

    # --- its life --------------------------------------------------------------------------

    def build(self, flags: int = 0) -> Deferred[None]:
        """Make what it lies on: a directory, a file system."""
        return self.host.call(remote.StoragePoolBuild(self.wire, flags), timeout_seconds=None)

    def start(self, flags: int = 0) -> Deferred[None]:
        """Make its volumes usable."""
        return self.host.call(remote.StoragePoolCreate(self.wire, flags), timeout_seconds=None)

    def refresh(self) -> Deferred[None]:
        """Read its list of volumes again; not while a volume is being uploaded."""
        return self.host.call(remote.StoragePoolRefresh(self.wire), timeout_seconds=None)

    def destroy(self) -> Deferred[None]:
        """Stop it; its volumes stay."""
        return self.host.call(remote.StoragePoolDestroy(self.wire), timeout_seconds=None)

    def delete(self, flags: int = 0) -> Deferred[None]:
        """Remove what it lies on; it must be empty."""
        return self.host.call(remote.StoragePoolDelete(self.wire, flags), timeout_seconds=None)

    def undefine(self) -> Deferred[None]:
        """Forget its definition."""
        return self.host.call(remote.StoragePoolUndefine(self.wire))

    # --- volumes ---------------------------------------------------------------------------

    def volumes(self) -> Deferred[list[Volume]]:
        """Its volumes."""
        called = self.host.call(remote.StoragePoolListAllVolumes(self.wire))
        return called.addCallback(lambda found: [self.host.bind_volume(each) for each in found.volumes])

    def volume(self, name: str) -> Deferred[Volume]:
        """
        Find a volume.

        @raise NoVolume: there is none of this name.
        """
        called = self.host.call(remote.StorageVolLookupByName(self.wire, name))
        return called.addCallback(self.host.bind_volume)

    def create_volume(
        self,
        name: str,
        *,
        capacity_bytes: int,
        allocation_bytes: int | None = None,
        format: str | None = None,
    ) -> Deferred[Volume]:
        """
        Make a volume.

        @param allocation_bytes: taken at once: 0 for a sparse file; C{None} leaves it to the pool.
        @param format: C{raw}, C{qcow2}; C{None} is the pool's own.
        @raise VolumeExists: the name is taken.
        """
        try:
            xml = volume_xml(name, capacity_bytes, allocation_bytes=allocation_bytes, format=format)
        except BadValue as error:
            return fail(error)
        return self.create_volume_xml(xml)

    def create_volume_xml(self, xml: str, flags: int = 0) -> Deferred[Volume]:
        """Make a volume from a description of one's own."""
        called = self.host.call(remote.StorageVolCreateXML(self.wire, xml, flags), timeout_seconds=None)
        return called.addCallback(self.host.bind_volume)
