"""
libvirt's remote program: what changes domains, and their streams.
"""

from __future__ import annotations

from rpcstream.programs.base import Download, Duplex, Procedure
from rpcstream.programs.remote_types import REMOTE, DomainHandle
from rpcstream.wire import Text, UInt

__all__ = [
    "DomainCreate",
    "DomainCreateWithFlags",
    "DomainCreateXML",
    "DomainDefineXML",
    "DomainDefineXMLFlags",
    "DomainDestroy",
    "DomainDestroyFlags",
    "DomainOpenChannel",
    "DomainOpenConsole",
    "DomainReboot",
    "DomainReset",
    "DomainResume",
    "DomainScreenshot",
    "DomainSetAutostart",
    "DomainShutdown",
    "DomainShutdownFlags",
    "DomainSuspend",
    "DomainUndefine",
    "DomainUndefineFlags",
]


class DomainCreate(Procedure[None], program=REMOTE, number=9, permission="domain.write"):
    """Start a defined domain."""

    domain: DomainHandle


class DomainCreateWithFlags(Procedure[DomainHandle], program=REMOTE, number=196, permission="domain.write"):
    """
    Start a defined domain; the reply has its new id.

    @ivar flags: 1 paused, 2 ends with this connection, 4 bypassing caches, 8 forced boot.
    """

    domain: DomainHandle
    flags: UInt = 0


class DomainCreateXML(Procedure[DomainHandle], program=REMOTE, number=10, permission="domain.write"):
    """Start a domain that is not defined; flags as L{DomainCreateWithFlags}."""

    xml: Text
    flags: UInt = 0


class DomainDefineXML(Procedure[DomainHandle], program=REMOTE, number=11, permission="domain.write"):
    """Define a domain, or change its definition."""

    xml: Text


class DomainDefineXMLFlags(Procedure[DomainHandle], program=REMOTE, number=350, permission="domain.write"):
    """The same; flag 1 validates the XML."""

    xml: Text
    flags: UInt = 0


class DomainUndefine(Procedure[None], program=REMOTE, number=35, permission="domain.write"):
    """Forget the definition."""

    domain: DomainHandle


class DomainUndefineFlags(Procedure[None], program=REMOTE, number=231, permission="domain.write"):
    """The same; 1 with its saved state, 2 with metadata of snapshots, 4 with its NVRAM."""

    domain: DomainHandle
    flags: UInt = 0


class DomainDestroy(Procedure[None], program=REMOTE, number=12, permission="domain.write"):
    """Pull the plug."""

    domain: DomainHandle


class DomainDestroyFlags(Procedure[None], program=REMOTE, number=234, permission="domain.write"):
    """The same; 1 gives the hypervisor time to flush."""

    domain: DomainHandle
    flags: UInt = 0


class DomainShutdown(Procedure[None], program=REMOTE, number=33, permission="domain.write"):
    """Press the power button; the guest may take its time, or not react."""

    domain: DomainHandle


class DomainShutdownFlags(Procedure[None], program=REMOTE, number=258, permission="domain.write"):
    """The same; 1 by ACPI, 2 by the guest's agent."""

    domain: DomainHandle
    flags: UInt = 0


class DomainReboot(Procedure[None], program=REMOTE, number=27, permission="domain.write"):
    """Ask the guest to start again."""

    domain: DomainHandle
    flags: UInt = 0


class DomainReset(Procedure[None], program=REMOTE, number=245, permission="domain.write"):
    """Press the reset button."""

    domain: DomainHandle
    flags: UInt = 0


class DomainSuspend(Procedure[None], program=REMOTE, number=34, permission="domain.write"):
    """Stop its processors."""

    domain: DomainHandle


class DomainResume(Procedure[None], program=REMOTE, number=28, permission="domain.write"):
    """Let them go on."""

    domain: DomainHandle


class DomainSetAutostart(Procedure[None], program=REMOTE, number=29, permission="domain.write"):
    """Whether it starts with the host."""

    domain: DomainHandle
    autostart: bool


# --- streams -----------------------------------------------------------------------------


class DomainScreenshot(Download[Text | None], program=REMOTE, number=211, permission="domain.read"):
    """What a screen of the domain shows; the reply has the MIME type."""

    domain: DomainHandle
    screen: UInt = 0
    flags: UInt = 0


class DomainOpenConsole(Duplex[None], program=REMOTE, number=201, permission="domain.console"):
    """
    A serial console.

    @ivar device: its alias, C{None} for the first.
    @ivar flags: 1 throws others out, 2 refuses while it cannot be safe.
    """

    domain: DomainHandle
    device: Text | None = None
    flags: UInt = 0


class DomainOpenChannel(Duplex[None], program=REMOTE, number=296, permission="domain.console"):
    """A virtio channel; C{name} is C{None} for the first."""

    domain: DomainHandle
    name: Text | None = None
    flags: UInt = 0
