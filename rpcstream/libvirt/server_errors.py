"""
Errors in libvirt's own words, so that virsh prints the sentence that people know.

A code, the part of libvirt that would have raised it, and the text in the way
libvirt puts it together: a fixed beginning (C{str1}) with a detail (C{str2}).
"""

from __future__ import annotations

import errno
import os

from rpcstream import errors
from rpcstream.errors import (
    InternalError,
    InvalidArgument,
    OperationFailed,
    RemoteError,
    StorageError,
    SystemCallFailed,
    Unsupported,
)
from rpcstream.programs import remote
from rpcstream.programs.remote_names import function_name

__all__ = [
    "STORAGE",
    "STREAMS",
    "as_libvirt_error",
    "bad_xml",
    "invalid_argument",
    "no_pool",
    "no_volume",
    "not_open",
    "not_supported",
    "operation_invalid",
    "read_only",
    "refuse_flags",
    "system_error",
    "unsupported_configuration",
]

_DOMAINS = 20
STORAGE = 18
STREAMS = 38
"""Parts of libvirt (C{virErrorDomain})."""

_CONFIGURATION_UNSUPPORTED = 67


def _error(
    kind: type[RemoteError], template: str, detail: str, domain: int = STORAGE, code: int | None = None
) -> RemoteError:
    return kind(template.replace("%s", detail), code=code, domain=domain, str1=template, str2=detail)


def not_open() -> RemoteError:
    """A call came before CONNECT_OPEN."""
    return _error(InternalError, "internal error: %s", "hypervisor connection not open", 7)


def not_supported(number: int) -> RemoteError:
    """A procedure that libvirt has and this server has not."""
    name = function_name(number)
    domain = STORAGE if name.startswith("virStorage") else _DOMAINS
    return _error(Unsupported, "this function is not supported by the connection driver: %s", name, domain)


def read_only(number: int) -> RemoteError:
    """The connection was opened for reading only."""
    text = f"read only access prevents {function_name(number)}"
    return _error(remote.OperationDenied, "operation forbidden: %s", text)


def no_pool(detail: str) -> RemoteError:
    """@param detail: what was looked for: C{name 'x'}, C{uuid '...'}."""
    return _error(
        remote.NoStoragePool, "Storage pool not found: %s", f"no storage pool with matching {detail}"
    )


def no_volume(detail: str) -> RemoteError:
    """@param detail: what was looked for: C{name 'x'}, C{path '/x'}, C{key x}."""
    return _error(remote.NoVolume, "Storage volume not found: %s", f"no storage vol with matching {detail}")


def operation_invalid(detail: str) -> RemoteError:
    """Not possible in the present state."""
    return _error(remote.OperationInvalid, "Requested operation is not valid: %s", detail)


def invalid_argument(detail: str) -> RemoteError:
    """Not possible at all."""
    return _error(InvalidArgument, "invalid argument: %s", detail)


def bad_xml(detail: str) -> RemoteError:
    """The XML does not describe a volume."""
    return _error(remote.BadXML, "XML error: %s", detail)


def unsupported_configuration(detail: str) -> RemoteError:
    """The XML describes a volume that cannot be made here."""
    template = "unsupported configuration: %s"
    return _error(RemoteError, template, detail, code=_CONFIGURATION_UNSUPPORTED)


def refuse_flags(flags: int, known: int, function: str) -> None:
    """
    @param known: flags that are understood.
    @param function: of libvirt, as it names itself in the error.
    @raise InvalidArgument: there are others.
    """
    unknown = flags & ~known
    if unknown:
        raise InvalidArgument(
            f"unsupported flags (0x{unknown:x}) in function {function}",
            domain=STORAGE, str1=function, str2="flags", int1=0, int2=0,
        )  # fmt: skip


def system_error(what: str, error: OSError, domain: int = STORAGE) -> RemoteError:
    """@param what: could not be done: C{cannot write to stream}."""
    number = error.errno or errno.EIO
    text = f"{what}: {os.strerror(number)}"
    return SystemCallFailed(text, domain=domain, str1="%s", str2=text, int1=number)


def as_libvirt_error(
    error: StorageError | OSError, name: str, what: str, domain: int = STORAGE
) -> RemoteError:
    """
    What a volume's storage error is to libvirt.

    @param what: could not be done, for errors of the system.
    """
    match error:
        case OSError():
            return system_error(what, error, domain)
        case errors.QuotaExceeded():
            return system_error(what, OSError(errno.EDQUOT, ""), domain)
        case errors.NameNotFound() | errors.NotRegular():
            return no_volume(f"name '{name}'")
        case errors.NameExists():
            return _error(remote.VolumeExists, "storage volume %s exists already", f"'{name}'")
        case errors.NameBusy():
            return operation_invalid(str(error))
        case errors.NameRefused():
            return invalid_argument(str(error))
    return OperationFailed(f"operation failed: {error}", domain=domain)
