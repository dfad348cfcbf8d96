"""
What can be asked of a host, whether by one connection or by a service that reconnects.

Everything returns a Deferred.  L{Domain}, L{Pool} and L{Volume} are values bound
to the host that gave them.
"""

from __future__ import annotations

import uuid
from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple, TypeVar, overload

from twisted.internet.defer import Deferred

from rpcstream.libvirt.domain import Domain
from rpcstream.libvirt.events import DomainEvents, Gap, LifecycleEvent, Subscription
from rpcstream.libvirt.pool import Pool
from rpcstream.libvirt.volume import Volume
from rpcstream.limits import Limits
from rpcstream.net.client import CONNECTION_DEFAULT
from rpcstream.net.duplex import DuplexStream
from rpcstream.net.incoming import IncomingStream
from rpcstream.net.opening import Opening
from rpcstream.net.outgoing import OutgoingStream
from rpcstream.net.threads import Runner
from rpcstream.programs import remote
from rpcstream.programs.base import Download, Duplex, Procedure, Upload
from rpcstream.programs.remote import DomainFilter, DomainHandle, PoolFilter, PoolHandle, VolumeHandle

__all__ = ["Host", "NodeInfo", "Version"]

R = TypeVar("R")


class Version(NamedTuple):
    """A version as libvirt counts them."""

    major: int
    minor: int
    release: int

    def __str__(self) -> str:
        return f"{self.major}.{self.minor}.{self.release}"


class NodeInfo(NamedTuple):
    """
    The host's hardware.

    @ivar model: of its processors.
    @ivar memory_kib: in units of 1024 bytes.
    """

    model: str
    memory_kib: int
    cpu_count: int
    mhz: int
    node_count: int
    socket_count: int
    core_count: int
    thread_count: int


def _version(number: int) -> Version:
    return Version(number // 1_000_000, number // 1000 % 1000, number % 1000)


class Host(ABC):
    """
    A host with its domains and storage pools.

    @ivar limits: C{call_seconds} is the deadline of calls that are not known to take long.
    """

    limits: Limits

    # --- what connections and services do in their own way ----------------------------------

    @property
    @abstractmethod
    def runner(self) -> Runner:
        """Where blocking work runs."""

    @property
    @abstractmethod
    def clock(self) -> Any:
        """The reactor, for its time."""

    @abstractmethod
    def call(
        self, request: Procedure[R], *, timeout_seconds: float | None = CONNECTION_DEFAULT
    ) -> Deferred[R]:
        """
        Call any procedure.

        @param timeout_seconds: C{None} = no limit.
        @raise RemoteError: the daemon's error (as errback, as all).
        @raise DeadlineExceeded: no answer in time.
        @raise ConnectionClosed: the connection ended first; C{may_have_run} tells the rest.
        """

    @abstractmethod
    def start_stream(self, request: Any, shared: bool, options: dict[str, Any]) -> Deferred[Any]:
        """Open a stream; see L{open}."""

    @abstractmethod
    def subscribe(self, subscription: Subscription) -> Deferred[None]:
        """Ask the daemon for events; see L{Subscription}."""

    @abstractmethod
    def unsubscribe(self, subscription: Subscription) -> Deferred[None]:
        """Take it back."""

    # --- streams ------------------------------------------------------------------------------

    @overload
    def open(
        self, request: Download[R], *, shared: bool = ..., sparse: bool = ...
    ) -> Opening[IncomingStream[R]]: ...

    @overload
    def open(
        self,
        request: Upload[R],
        *,
        shared: bool = ...,
        sparse: bool = ...,
        total_bytes: int | None = ...,
    ) -> Opening[OutgoingStream[R]]: ...

    @overload
    def open(
        self, request: Duplex[R], *, shared: bool = ..., sparse: bool = ...
    ) -> Opening[DuplexStream[R]]: ...

    def open(
        self, request: Any, *, shared: bool = False, sparse: bool = False, **options: Any
    ) -> Opening[Any]:
        """
        Ask for a stream; fires with it when the daemon has decided for it.  Never tried again.

        @param shared: use this host's own connection instead of one made for the stream.  libvirt
            has no flow control: a reader that stops then stops everything on it, and its
            stream is aborted after 30 s.
        @param sparse: whether it carries holes; the request must have asked for them.
        @keyword total_bytes: how much will be sent, for progress only.
        """
        return Opening.of(self.start_stream(request, shared, {"sparse": sparse, **options}))

    # --- the host ------------------------------------------------------------------------------

    def version(self) -> Deferred[Version]:
        """Version of the hypervisor."""
        return self.call(remote.ConnectGetVersion()).addCallback(_version)

    def libvirt_version(self) -> Deferred[Version]:
        """Version of the daemon."""
        return self.call(remote.ConnectGetLibVersion()).addCallback(_version)

    def type(self) -> Deferred[str]:
        """Name of the driver: C{QEMU}, C{TEST}."""
        return self.call(remote.ConnectGetType())

    def uri(self) -> Deferred[str]:
        """The URI of the driver, as the daemon sees it."""
        return self.call(remote.ConnectGetURI())

    def hostname(self) -> Deferred[str]:
        """The host's name, as it sees itself."""
        return self.call(remote.ConnectGetHostname())

    def capabilities(self) -> Deferred[str]:
        """What host and driver can do, as XML."""
        return self.call(remote.ConnectGetCapabilities())

    def node_info(self) -> Deferred[NodeInfo]:
        """The host's hardware."""

        def plain(info: remote.NodeInfo) -> NodeInfo:
            model = info.model.partition(b"\0")[0].decode("utf-8", "surrogateescape")
            return NodeInfo(
                model,
                info.memory_kib,
                info.cpu_count,
                info.mhz,
                info.node_count,
                info.socket_count,
                info.core_count,
                info.thread_count,
            )

        return self.call(remote.NodeGetInfo()).addCallback(plain)

    def free_memory(self) -> Deferred[int]:
        """Free bytes."""
        return self.call(remote.NodeGetFreeMemory())

    # --- domains -------------------------------------------------------------------------------

    def domains(self, which: DomainFilter = DomainFilter.ALL) -> Deferred[list[Domain]]:
        """The domains, of every state by default."""
        request = remote.ConnectListAllDomains(flags=which)
        return self.call(request).addCallback(
            lambda found: [self.bind_domain(each) for each in found.domains]
        )

    def domain(self, name: str) -> Deferred[Domain]:
        """
        Find a domain.

        @raise NoDomain: there is none of this name.
        """
        return self.call(remote.DomainLookupByName(name)).addCallback(self.bind_domain)

    def domain_by_uuid(self, identity: uuid.UUID | str) -> Deferred[Domain]:
        """As L{domain}."""
        return self.call(remote.DomainLookupByUUID(_uuid(identity).bytes)).addCallback(self.bind_domain)

    def domain_by_id(self, number: int) -> Deferred[Domain]:
        """As L{domain}, for one that runs."""
        return self.call(remote.DomainLookupByID(number)).addCallback(self.bind_domain)

    def create_domain(self, xml: str, flags: int = 0) -> Deferred[Domain]:
        """
        Start a domain without defining it.

        @param flags: of L{remote.DomainCreateXML}.
        """
        request = remote.DomainCreateXML(xml, flags)
        return self.call(request, timeout_seconds=None).addCallback(self.bind_domain)

    def define_domain(self, xml: str, *, validate: bool = False) -> Deferred[Domain]:
        """Define a domain, or change its definition."""
        request: Procedure[DomainHandle]
        request = remote.DomainDefineXMLFlags(xml, 1) if validate else remote.DomainDefineXML(xml)
        return self.call(request).addCallback(self.bind_domain)

    def bind_domain(self, wire: DomainHandle) -> Domain:
        """The L{Domain} for what the wire names."""
        return Domain(self, wire)

    # --- events --------------------------------------------------------------------------------

    def domain_events(self, domain: Domain | None = None, *, gaps: bool = False) -> DomainEvents:
        """
        Lifecycle events; use it with C{async with}.

        @param domain: of this one only.
        @param gaps: give a L{Gap} where events may be missing, instead of raising.
        """
        return DomainEvents(self, None if domain is None else domain.wire, gaps, self.limits.event_queue)

    def on_domain_event(
        self,
        callback: Callable[[LifecycleEvent], object],
        domain: Domain | None = None,
        *,
        gap: Callable[[Gap], object] = lambda gap: None,
        ended: Callable[[Exception], object] = lambda error: None,
    ) -> Subscription:
        """
        Call C{callback} with each lifecycle event, once C{confirmed} of the result has fired.

        @param gap: called when events may be missing.
        @param ended: called when no more will come.
        """
        wire = None if domain is None else domain.wire
        return Subscription(self, callback, domain=wire, gap=gap, ended=ended)

    # --- storage -------------------------------------------------------------------------------

    def pools(self, which: PoolFilter = PoolFilter.ALL) -> Deferred[list[Pool]]:
        """The storage pools, running or not by default."""
        request = remote.ConnectListAllStoragePools(flags=which)
        return self.call(request).addCallback(lambda found: [self.bind_pool(each) for each in found.pools])

    def pool(self, name: str) -> Deferred[Pool]:
        """
        Find a storage pool.

        @raise NoStoragePool: there is none of this name.
        """
        return self.call(remote.StoragePoolLookupByName(name)).addCallback(self.bind_pool)

    def pool_by_uuid(self, identity: uuid.UUID | str) -> Deferred[Pool]:
        """As L{pool}."""
        return self.call(remote.StoragePoolLookupByUUID(_uuid(identity).bytes)).addCallback(self.bind_pool)

    def define_pool(self, xml: str) -> Deferred[Pool]:
        """Define a storage pool; it does not run yet."""
        return self.call(remote.StoragePoolDefineXML(xml)).addCallback(self.bind_pool)

    def create_pool(self, xml: str, flags: int = 0) -> Deferred[Pool]:
        """Start a storage pool without defining it."""
        request = remote.StoragePoolCreateXML(xml, flags)
        return self.call(request, timeout_seconds=None).addCallback(self.bind_pool)

    def bind_pool(self, wire: PoolHandle) -> Pool:
        """The L{Pool} for what the wire names."""
        return Pool(self, wire)

    def volume_by_path(self, path: str) -> Deferred[Volume]:
        """
        Find a volume of any pool.

        @raise NoVolume: there is none.
        """
        return self.call(remote.StorageVolLookupByPath(path)).addCallback(self.bind_volume)

    def volume_by_key(self, key: str) -> Deferred[Volume]:
        """As L{volume_by_path}."""
        return self.call(remote.StorageVolLookupByKey(key)).addCallback(self.bind_volume)

    def bind_volume(self, wire: VolumeHandle) -> Volume:
        """The L{Volume} for what the wire names."""
        return Volume(self, wire)


def _uuid(identity: uuid.UUID | str) -> uuid.UUID:
    return identity if isinstance(identity, uuid.UUID) else uuid.UUID(identity)
