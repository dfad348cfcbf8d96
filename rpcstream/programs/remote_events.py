"""
libvirt's remote program: registering for events, and the events.
"""

from __future__ import annotations

from enum import IntEnum

from rpcstream.programs.base import Event, Procedure
from rpcstream.programs.remote_types import REMOTE, DomainHandle, PoolHandle
from rpcstream.wire import Int

__all__ = [
    "ConnectDomainEventCallbackDeregisterAny",
    "ConnectDomainEventCallbackRegisterAny",
    "ConnectDomainEventDeregisterAny",
    "ConnectDomainEventRegisterAny",
    "ConnectStoragePoolEventDeregisterAny",
    "ConnectStoragePoolEventRegisterAny",
    "DomainEventCallbackLifecycle",
    "DomainEventCallbackReboot",
    "DomainEventID",
    "DomainEventLifecycle",
    "Lifecycle",
    "StoragePoolEventLifecycle",
    "StoragePoolEventRefresh",
]


class DomainEventID(IntEnum):
    """Kinds of domain events that can be registered for; those used here."""

    LIFECYCLE = 0
    REBOOT = 1


class Lifecycle(IntEnum):
    """What has happened to a domain."""

    DEFINED = 0
    UNDEFINED = 1
    STARTED = 2
    SUSPENDED = 3
    RESUMED = 4
    STOPPED = 5
    SHUTDOWN = 6
    PM_SUSPENDED = 7
    CRASHED = 8


class ConnectDomainEventCallbackRegisterAny(
    Procedure[Int], program=REMOTE, number=316, permission="domain.read"
):
    """
    Want events; the reply is the C{callback_id} that they will carry.

    @ivar event_id: a L{DomainEventID}.
    @ivar domain: of this domain only, C{None} for all.
    """

    event_id: Int
    domain: DomainHandle | None = None


class ConnectDomainEventCallbackDeregisterAny(
    Procedure[None], program=REMOTE, number=317, permission="domain.read"
):
    """Want no more."""

    callback_id: Int


class DomainEventCallbackLifecycle(Event, program=REMOTE, number=318, permission="domain.read"):
    """
    A domain was started, stopped, ...

    @ivar event: a L{Lifecycle}; newer daemons may have further ones.
    @ivar detail: why; what it means depends on C{event}.
    """

    callback_id: Int
    domain: DomainHandle
    event: Int
    detail: Int


class DomainEventCallbackReboot(Event, program=REMOTE, number=319, permission="domain.read"):
    """The guest has started again."""

    callback_id: Int
    domain: DomainHandle


class ConnectDomainEventRegisterAny(Procedure[None], program=REMOTE, number=167, permission="domain.read"):
    """What daemons without L{Feature.EVENT_CALLBACKS} have: once a connection, for all domains."""

    event_id: Int


class ConnectDomainEventDeregisterAny(Procedure[None], program=REMOTE, number=168, permission="domain.read"):
    """Take L{ConnectDomainEventRegisterAny} back."""

    event_id: Int


class DomainEventLifecycle(Event, program=REMOTE, number=107, permission="domain.read"):
    """As L{DomainEventCallbackLifecycle}, of such daemons."""

    domain: DomainHandle
    event: Int
    detail: Int


class ConnectStoragePoolEventRegisterAny(
    Procedure[Int], program=REMOTE, number=368, permission="storage.read"
):
    """Want events of storage pools: 0 lifecycle, 1 refresh."""

    event_id: Int
    pool: PoolHandle | None = None


class ConnectStoragePoolEventDeregisterAny(
    Procedure[None], program=REMOTE, number=369, permission="storage.read"
):
    """Want no more."""

    callback_id: Int


class StoragePoolEventLifecycle(Event, program=REMOTE, number=370, permission="storage.read"):
    """A pool was 0 defined, 1 undefined, 2 started, 3 stopped, 4 created, 5 deleted."""

    callback_id: Int
    pool: PoolHandle
    event: Int
    detail: Int


class StoragePoolEventRefresh(Event, program=REMOTE, number=373, permission="storage.read"):
    """The list of a pool's volumes was read again."""

    callback_id: Int
    pool: PoolHandle
