"""
A volume of a storage pool: a disk image, a block device, ...
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from twisted.internet.defer import Deferred

from rpcstream.libvirt.handles import Bound
from rpcstream.libvirt.transfers import download, upload
from rpcstream.net.incoming import IncomingStream
from rpcstream.net.opening import Opening
from rpcstream.net.outgoing import OutgoingStream
from rpcstream.net.progress import Progress
from rpcstream.programs import remote
from rpcstream.programs.remote import SPARSE, VolumeHandle, VolumeResize, VolumeType

if TYPE_CHECKING:
    from rpcstream.libvirt.pool import Pool
    from rpcstream.net.sources import Sendable
    from rpcstream.storage.sources import Source

__all__ = ["Volume", "VolumeInfo"]


class VolumeInfo(NamedTuple):
    """
    @ivar type: a number if it is newer than this library.
    @ivar capacity_bytes: as its user sees it.
    @ivar allocation_bytes: what it takes.
    """

    type: VolumeType | int
    capacity_bytes: int
    allocation_bytes: int


class Volume(Bound[VolumeHandle]):
    """
    A volume.

    Nothing tells an upload's reader how far it came, and nothing but TLS protects what is on
    the way: libvirt has no checksum and no resume.  What is uploaded is in place at once.
    """

    __slots__ = ()

    @property
    def key(self) -> str:
        """What names it everywhere; mostly its path."""
        return self.wire.key

    @property
    def pool_name(self) -> str:
        """Name of its pool."""
        return self.wire.pool

    def pool(self) -> Deferred[Pool]:
        """Its pool."""
        called = self.host.call(remote.StoragePoolLookupByVolume(self.wire))
        return called.addCallback(self.host.bind_pool)

    def info(self) -> Deferred[VolumeInfo]:
        """Type and sizes."""

        def plain(info: remote.VolumeInfo) -> VolumeInfo:
            kind = VolumeType(info.type) if info.type in VolumeType._value2member_map_ else info.type
            return VolumeInfo(kind, info.capacity_bytes, info.allocation_bytes)

        return self.host.call(remote.StorageVolGetInfo(self.wire)).addCallback(plain)

    def path(self) -> Deferred[str]:
        """Where it is on its host."""
        return self.host.call(remote.StorageVolGetPath(self.wire))

    def xml(self, flags: int = 0) -> Deferred[str]:
        """Its description."""
        return self.host.call(remote.StorageVolGetXMLDesc(self.wire, flags))

    def resize(
        self, capacity_bytes: int, *, allocate: bool = False, delta: bool = False, shrink: bool = False
    ) -> Deferred[None]:
        """
        Change its capacity.

        @param allocate: take the new space at once.
        @param delta: C{capacity_bytes} is to be added; with C{shrink}, taken away.
        @param shrink: permit to make it smaller.
        """
        flags = allocate * VolumeResize.ALLOCATE | delta * VolumeResize.DELTA | shrink * VolumeResize.SHRINK
        return self.host.call(remote.StorageVolResize(self.wire, capacity_bytes, flags), timeout_seconds=None)

    def wipe(self) -> Deferred[None]:
        """Overwrite it with zeros."""
        return self.host.call(remote.StorageVolWipe(self.wire), timeout_seconds=None)

    def delete(self, flags: int = 0) -> Deferred[None]:
        """Delete it and its content."""
        return self.host.call(remote.StorageVolDelete(self.wire, flags), timeout_seconds=None)

    # --- content ---------------------------------------------------------------------------

    def open_upload(
        self,
        *,
        offset: int = 0,
        length: int = 0,
        sparse: bool = False,
        shared: bool = False,
        total_bytes: int | None = None,
    ) -> Opening[OutgoingStream[None]]:
        """
        Write into it; leaving C{async with} waits until the daemon has confirmed.

        @param length: the daemon takes no more than so many bytes, 0 for no limit.
        @param sparse: permit C{send_hole}; not every pool can do it.
        @param shared: see L{Host.open<rpcstream.libvirt.host.Host.open>}.
        """
        request = remote.StorageVolUpload(self.wire, offset, length, SPARSE if sparse else 0)
        return self.host.open(request, shared=shared, sparse=sparse, total_bytes=total_bytes)

    def open_download(
        self, *, offset: int = 0, length: int = 0, sparse: bool = False, shared: bool = False
    ) -> Opening[IncomingStream[None]]:
        """
        Read it.

        @param length: 0 for all to the end.  A volume that ends before is no error.
        @param sparse: get holes as holes.
        """
        request = remote.StorageVolDownload(self.wire, offset, length, SPARSE if sparse else 0)
        return self.host.open(request, shared=shared, sparse=sparse)

    def upload(
        self,
        source: Sendable | Source,
        *,
        offset: int = 0,
        length: int = 0,
        sparse: bool = False,
        shared: bool = False,
        bytes_per_second: float | None = None,
        opened: Callable[[OutgoingStream[Any]], object] = lambda stream: None,
    ) -> Deferred[Progress]:
        """
        Write a file, bytes, an iterable or a producer into it.

        It is not made shorter: what lay behind stays, unless the last thing sent is a hole.

        @param source: of a C{Path} at most C{length} bytes are sent, and its holes as such.  A
            L{Source} of the storage layer is closed in any case.
        @param opened: called with the stream.
        @return: fires when the daemon has confirmed that it took all.
        @raise SourceChanged: the file was written to meanwhile.
        @raise RemoteError: the daemon refuses, or its disk fails.
        """

        def opening() -> Opening[OutgoingStream[None]]:
            return self.open_upload(offset=offset, length=length, sparse=sparse, shared=shared)

        return Deferred.fromCoroutine(
            upload(self.host.runner, opening, source, length, sparse, bytes_per_second, opened)
        )

    def download(
        self,
        target: Path,
        *,
        offset: int = 0,
        length: int = 0,
        sparse: bool = False,
        shared: bool = False,
        replace: bool = False,
        mode: int | None = None,
        bytes_per_second: float | None = None,
        opened: Callable[[IncomingStream[Any]], object] = lambda stream: None,
    ) -> Deferred[Progress]:
        """
        Read it into a file, which appears when it is complete.

        @param length: 0 for all to the end; otherwise just so many bytes must come.
        @param mode: permission bits of the file, C{None} for 0600.
        @raise SizeMismatch: fewer or more bytes than C{length} came.
        @raise NameExists: the file exists and C{replace} is false.
        """
        opening = self.open_download(offset=offset, length=length, sparse=sparse, shared=shared)
        return Deferred.fromCoroutine(
            download(self.host.clock, opening, target, length, replace, mode, bytes_per_second, opened)
        )
