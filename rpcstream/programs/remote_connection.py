"""
libvirt's remote program: authentication, the connection and the host itself.
"""

from __future__ import annotations

from enum import IntEnum
from typing import Annotated

from rpcstream.programs.base import Event, Procedure
from rpcstream.programs.remote_types import REMOTE
from rpcstream.wire import Int, Max, Struct, Text, UHyper, UInt
from rpcstream.wire.xdr import Chars, FixedChars

__all__ = [
    "AuthList",
    "AuthPolkit",
    "AuthSaslInit",
    "AuthSaslStart",
    "AuthSaslStep",
    "AuthType",
    "ConnectClose",
    "ConnectEventConnectionClosed",
    "ConnectGetCapabilities",
    "ConnectGetHostname",
    "ConnectGetLibVersion",
    "ConnectGetMaxVcpus",
    "ConnectGetSysinfo",
    "ConnectGetType",
    "ConnectGetURI",
    "ConnectGetVersion",
    "ConnectIsSecure",
    "ConnectOpen",
    "ConnectRegisterCloseCallback",
    "ConnectSupportsFeature",
    "ConnectUnregisterCloseCallback",
    "Feature",
    "NodeGetFreeMemory",
    "NodeGetInfo",
    "NodeInfo",
    "SaslReply",
]

SASL_CHARACTERS = 65536
"""Longest data of one SASL message; each byte takes four on the wire."""

SaslData = Annotated[bytes, Chars(SASL_CHARACTERS)]


class AuthType(IntEnum):
    """What AUTH_LIST offers."""

    NONE = 0
    SASL = 1
    POLKIT = 2


class Feature(IntEnum):
    """What SUPPORTS_FEATURE can be asked (wire-protocol.md section 6)."""

    FD_PASSING = 8
    TYPED_PARAMETER_STRINGS = 9
    KEEPALIVE = 10
    EVENT_CALLBACKS = 14
    CLOSE_CALLBACK = 15


# --- before the connection is open --------------------------------------------------------


class AuthList(
    Procedure[Annotated[tuple[Int, ...], Max(20)]],
    program=REMOTE,
    number=66,
    permission="libvirt.connect",
    idempotent=True,
):
    """Which ways to authenticate there are, see L{AuthType}; libvirtd names exactly one."""


class AuthSaslInit(Procedure[Text], program=REMOTE, number=67, permission="libvirt.connect"):
    """Begin SASL; the reply has the mechanisms, separated by commas."""


class SaslReply(Struct):
    """
    The server's turn.

    @ivar complete: it is content.
    @ivar nil: there is no data, which is not the same as empty data.
    """

    complete: bool
    nil: bool
    data: SaslData


class AuthSaslStart(Procedure[SaslReply], program=REMOTE, number=68, permission="libvirt.connect"):
    """Choose a mechanism and send its first message."""

    mechanism: Text
    nil: bool
    data: SaslData


class AuthSaslStep(Procedure[SaslReply], program=REMOTE, number=69, permission="libvirt.connect"):
    """Send a further message."""

    nil: bool
    data: SaslData


class AuthPolkit(Procedure[bool], program=REMOTE, number=70, permission="libvirt.connect"):
    """Let polkit decide, by a dialog perhaps; true when it let us in."""


class ConnectOpen(Procedure[None], program=REMOTE, number=1, permission="libvirt.connect"):
    """
    Open a driver.

    @ivar name: its URI without transport and host, C{None} for what the daemon finds.
    @ivar flags: 1 = read-only.
    """

    name: Text | None
    flags: UInt = 0


class ConnectClose(Procedure[None], program=REMOTE, number=2, permission="libvirt.connect"):
    """The last call: the server closes the transport after its reply."""


class ConnectSupportsFeature(
    Procedure[bool], program=REMOTE, number=60, permission="libvirt.connect", idempotent=True
):
    """Ask for one L{Feature}; asking for keepalive also starts the server's own."""

    feature: Int


class ConnectRegisterCloseCallback(Procedure[None], program=REMOTE, number=360, permission="libvirt.connect"):
    """Be told by L{ConnectEventConnectionClosed}."""


class ConnectUnregisterCloseCallback(
    Procedure[None], program=REMOTE, number=361, permission="libvirt.connect"
):
    """Take it back."""


class ConnectEventConnectionClosed(Event, program=REMOTE, number=362, permission="libvirt.connect"):
    """
    The daemon has lost its hypervisor.

    @ivar reason: 0 error, 1 end of file, 2 keepalive, 3 client.
    """

    reason: Int


# --- the host ------------------------------------------------------------------------------


class ConnectGetType(
    Procedure[Text], program=REMOTE, number=3, permission="libvirt.connect", idempotent=True
):
    """Name of the driver: C{QEMU}, C{TEST}."""


class ConnectGetVersion(
    Procedure[UHyper], program=REMOTE, number=4, permission="libvirt.connect", idempotent=True
):
    """Version of the hypervisor: 1000000 * major + 1000 * minor + release."""


class ConnectGetMaxVcpus(
    Procedure[Int], program=REMOTE, number=5, permission="libvirt.connect", idempotent=True
):
    """Most virtual processors of a domain of this type."""

    type: Text | None = None


class NodeInfo(Struct):
    """
    The host's hardware.

    @ivar model: of its processors, padded with NUL.
    @ivar memory_kib: in units of 1024 bytes.
    @ivar mhz: frequency.
    """

    model: Annotated[bytes, FixedChars(32)]
    memory_kib: UHyper
    cpu_count: Int
    mhz: Int
    node_count: Int
    socket_count: Int
    core_count: Int
    thread_count: Int


class NodeGetInfo(
    Procedure[NodeInfo], program=REMOTE, number=6, permission="libvirt.connect", idempotent=True
):
    """The host's hardware."""


class ConnectGetCapabilities(
    Procedure[Text], program=REMOTE, number=7, permission="libvirt.connect", idempotent=True
):
    """What host and driver can do, as XML."""


class ConnectGetHostname(
    Procedure[Text], program=REMOTE, number=59, permission="libvirt.connect", idempotent=True
):
    """The host's name, as it sees itself."""


class NodeGetFreeMemory(
    Procedure[UHyper], program=REMOTE, number=102, permission="libvirt.connect", idempotent=True
):
    """Free bytes."""


class ConnectGetURI(
    Procedure[Text], program=REMOTE, number=110, permission="libvirt.connect", idempotent=True
):
    """The URI of the driver, as the daemon sees it."""


class ConnectIsSecure(
    Procedure[bool], program=REMOTE, number=149, permission="libvirt.connect", idempotent=True
):
    """Whether the daemon's own connection to the hypervisor is encrypted, or local."""


class ConnectGetLibVersion(
    Procedure[UHyper], program=REMOTE, number=157, permission="libvirt.connect", idempotent=True
):
    """Version of libvirt, as L{ConnectGetVersion}."""


class ConnectGetSysinfo(
    Procedure[Text], program=REMOTE, number=203, permission="libvirt.connect", idempotent=True
):
    """What the firmware tells of the host, as XML."""

    flags: UInt = 0
