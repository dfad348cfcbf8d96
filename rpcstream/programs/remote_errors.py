"""
libvirt's errors that deserve a class of their own.

The numbers are the same in every program of libvirt (wire-protocol.md section
3).  A code that is not here gives a plain
L{RemoteError<rpcstream.errors.RemoteError>}, or one of
L{COMMON_ERRORS<rpcstream.errors.COMMON_ERRORS>}; all carry code, domain, level,
message and the extra texts and numbers.
"""

from __future__ import annotations

from rpcstream.errors import RemoteError

__all__ = [
    "LIBVIRT_ERRORS",
    "AgentUnresponsive",
    "ArgumentUnsupported",
    "AuthenticationCancelled",
    "AuthenticationFailed",
    "AuthenticationUnavailable",
    "BadXML",
    "DomainExists",
    "InvalidConnection",
    "InvalidDomain",
    "InvalidStream",
    "MultipleDomains",
    "NoConnect",
    "NoDomain",
    "NoMemory",
    "NoNetwork",
    "NoNodeDevice",
    "NoSecret",
    "NoStoragePool",
    "NoVolume",
    "OperationDenied",
    "OperationInvalid",
    "OperationTimedOut",
    "OperationUnsupported",
    "VolumeExists",
]


class NoMemory(RemoteError, code=2):
    """The daemon is out of memory."""


class NoConnect(RemoteError, code=5):
    """No driver of the daemon takes this URI."""


class InvalidConnection(RemoteError, code=6):
    """The connection to the hypervisor is not usable."""


class InvalidDomain(RemoteError, code=7):
    """The domain object is not usable."""


class BadXML(RemoteError, code=27):
    """The XML does not describe what it should."""


class DomainExists(RemoteError, code=28):
    """A domain of this name or UUID exists."""


class OperationDenied(RemoteError, code=29):
    """The connection is read-only."""


class NoDomain(RemoteError, code=42):
    """There is no such domain."""


class NoNetwork(RemoteError, code=43):
    """There is no such network."""


class AuthenticationFailed(RemoteError, code=45):
    """Wrong user or password, or the daemon's rules refuse this user."""


class NoStoragePool(RemoteError, code=49):
    """There is no such storage pool."""


class NoVolume(RemoteError, code=50):
    """There is no such volume in the pool."""


class NoNodeDevice(RemoteError, code=53):
    """There is no such device of the host."""


class OperationInvalid(RemoteError, code=55):
    """Not possible in the present state, for example of a domain that does not run."""


class NoSecret(RemoteError, code=66):
    """There is no such secret."""


class OperationTimedOut(RemoteError, code=68):
    """The daemon waited too long for something, mostly a lock."""


class InvalidStream(RemoteError, code=73):
    """The stream is not usable."""


class ArgumentUnsupported(RemoteError, code=74):
    """The driver does not know this argument."""


class AuthenticationCancelled(RemoteError, code=79):
    """The dialog was closed."""


class OperationUnsupported(RemoteError, code=84):
    """The driver or the guest cannot do it."""


class AgentUnresponsive(RemoteError, code=86):
    """The agent in the guest does not answer."""


class VolumeExists(RemoteError, code=90):
    """A volume of this name exists."""


class AuthenticationUnavailable(RemoteError, code=94):
    """There is no agent that could ask for a password."""


class MultipleDomains(RemoteError, code=110):
    """More than one domain matches."""


LIBVIRT_ERRORS: dict[int, type[RemoteError]] = {
    error.default_code: error
    for error in (
        NoMemory, NoConnect, InvalidConnection, InvalidDomain, BadXML, DomainExists, OperationDenied,
        NoDomain, NoNetwork, AuthenticationFailed, NoStoragePool, NoVolume, NoNodeDevice, OperationInvalid,
        NoSecret, OperationTimedOut, InvalidStream, ArgumentUnsupported, AuthenticationCancelled,
        OperationUnsupported, AgentUnresponsive, VolumeExists, AuthenticationUnavailable, MultipleDomains,
    )
}  # fmt: skip
"""By code, for the C{errors} of libvirt's programs."""
