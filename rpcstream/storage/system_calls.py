"""
The Linux calls that Python 3.11's C{os} module lacks: fallocate, fstatfs, renameat2, sync_file_range.

Only thin wrappers that raise C{OSError}; what they are used for is decided
elsewhere.  Where the C library has not got them they fail with C{ENOSYS}, which
every caller treats like a file system that does not support the operation.
"""

from __future__ import annotations

import ctypes
import errno
import os
from typing import Any

__all__ = [
    "KEEP_SIZE",
    "PUNCH_HOLE",
    "RENAME_EXCHANGE",
    "TMPFS",
    "UNSUPPORTED",
    "WRITEBACK",
    "fallocate",
    "file_system_type",
    "rename_exchange",
    "sync_file_range",
]

KEEP_SIZE = 0x01
"""FALLOC_FL_KEEP_SIZE: the size of the file stays."""
PUNCH_HOLE = 0x02
"""FALLOC_FL_PUNCH_HOLE: the range reads as zeros and gives its blocks back."""
WRITEBACK = 0x02
"""SYNC_FILE_RANGE_WRITE: begin to write dirty pages, wait for nothing."""
RENAME_EXCHANGE = 0x02
"""RENAME_EXCHANGE: the two names change places, atomically."""

TMPFS = 0x01021994
"""TMPFS_MAGIC: the type of a file system in memory."""

UNSUPPORTED = frozenset(
    {errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.ENODEV, errno.ENOTTY, errno.EPERM}
)
"""What a kernel, C library or file system answers that cannot do one of these."""


def _function(name: str, *argument_types: Any) -> Any:
    """Look up C{name} in the C library; C{None} where it is missing."""
    function = getattr(ctypes.CDLL(None, use_errno=True), name, None)
    if function is not None:
        function.argtypes = argument_types
        function.restype = ctypes.c_int
    return function


# The 64-bit form exists in glibc under this name on every architecture; musl's plain one is 64-bit.
_fallocate = _function(
    "fallocate64", ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64
) or _function("fallocate", ctypes.c_int, ctypes.c_int, ctypes.c_int64, ctypes.c_int64)
_fstatfs = _function("fstatfs", ctypes.c_int, ctypes.c_void_p)
_renameat2 = _function(
    "renameat2", ctypes.c_int, ctypes.c_char_p, ctypes.c_int, ctypes.c_char_p, ctypes.c_uint
)
_sync_file_range = _function("sync_file_range", ctypes.c_int, ctypes.c_int64, ctypes.c_int64, ctypes.c_uint)


def _check(function: Any, *arguments: Any) -> None:
    """Call it, again after a signal, and turn its errno into C{OSError}."""
    if function is None:
        raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))
    while function(*arguments) != 0:
        number = ctypes.get_errno()
        if number != errno.EINTR:
            raise OSError(number, os.strerror(number))


def fallocate(fd: int, mode: int, offset: int, length: int) -> None:
    """
    fallocate(2): reserve blocks (mode 0 or L{KEEP_SIZE}) or punch a hole.

    Unlike C{os.posix_fallocate} it never falls back to writing zeros, which
    would write a large file twice.

    @raise OSError: as the system says; C{ENOSPC} when there is no room.
    """
    _check(_fallocate, fd, mode, offset, length)


def file_system_type(fd: int) -> int:
    """
    fstatfs(2): the magic number of the file system that C{fd} is on.

    @raise OSError: as the system says.
    """
    # It begins with the type, a word on most architectures; 512 bytes are more than any has.
    found = (ctypes.c_ulong * 64)()
    _check(_fstatfs, fd, ctypes.byref(found))
    return int(found[0]) & 0xFFFFFFFF


def rename_exchange(old: str, new: str, old_directory: int, new_directory: int) -> None:
    """
    renameat2(2) with C{RENAME_EXCHANGE}: both names must exist.

    @raise OSError: one of L{UNSUPPORTED} where the file system cannot.
    """
    _check(_renameat2, old_directory, os.fsencode(old), new_directory, os.fsencode(new), RENAME_EXCHANGE)


def sync_file_range(fd: int, offset: int, length: int, flags: int) -> None:
    """
    sync_file_range(2).  Makes nothing durable by itself.

    @raise OSError: a page could not be written, or one of L{UNSUPPORTED}.
    """
    _check(_sync_file_range, fd, offset, length, flags)
