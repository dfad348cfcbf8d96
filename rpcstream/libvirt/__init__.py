"""
A client of libvirt for Twisted: nothing blocks, everything returns a Deferred.

    >>> async with libvirt.connect("qemu+tls://host/system?pkipath=DIR") as host:
    ...     print(await host.version(), [domain.name for domain in await host.domains()])

What lives here: libvirt's objects, and getting to its daemon.  What must not:
layouts (L{rpcstream.programs.remote}), and serving libvirt's clients.
"""

from rpcstream.libvirt.connect import connect
from rpcstream.libvirt.connection import Connection
from rpcstream.libvirt.domain import Domain, DomainInfo, Screenshot, StateReason
from rpcstream.libvirt.events import DomainEvents, EventsInterrupted, Gap, LifecycleEvent, Subscription
from rpcstream.libvirt.host import Host, NodeInfo, Version
from rpcstream.libvirt.pool import Pool, PoolInfo
from rpcstream.libvirt.service import ConnectionService
from rpcstream.libvirt.uri import LibvirtURI, parse_uri
from rpcstream.libvirt.volume import Volume, VolumeInfo
from rpcstream.programs.remote import (
    AuthenticationFailed,
    DomainFilter,
    DomainState,
    Lifecycle,
    NoConnect,
    NoDomain,
    NoStoragePool,
    NoVolume,
    OperationDenied,
    OperationInvalid,
    PoolFilter,
    PoolState,
    VolumeExists,
    VolumeType,
)

__all__ = [
    "AuthenticationFailed",
    "Connection",
    "ConnectionService",
    "Domain",
    "DomainEvents",
    "DomainFilter",
    "DomainInfo",
    "DomainState",
    "EventsInterrupted",
    "Gap",
    "Host",
    "LibvirtURI",
    "Lifecycle",
    "LifecycleEvent",
    "NoConnect",
    "NoDomain",
    "NoStoragePool",
    "NoVolume",
    "NodeInfo",
    "OperationDenied",
    "OperationInvalid",
    "Pool",
    "PoolFilter",
    "PoolInfo",
    "PoolState",
    "Screenshot",
    "StateReason",
    "Subscription",
    "Version",
    "Volume",
    "VolumeExists",
    "VolumeInfo",
    "VolumeType",
    "connect",
    "parse_uri",
]
