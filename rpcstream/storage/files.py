"""
The seam between storage and the operating system.

Everything that storage does to files goes through one L{FileOperations}, so
that tests can fill the disk at the n-th write, fail the n-th fsync or stop the
world after the n-th step.  Names are always relative to a directory descriptor.
The functions below it build on the seam and are not replaced by tests.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from typing import Final

from rpcstream.limits import MIB
from rpcstream.storage import system_calls

__all__ = [
    "DIRECTORY_FLAGS",
    "PIECE_BYTES",
    "ZEROS",
    "FileOperations",
    "find_room",
    "read_exactly",
    "reserve_ranges",
    "write_all",
    "zero_range",
]

PIECE_BYTES: Final = 1 * MIB
"""The largest single read or write: what bounds memory."""
ZEROS: Final = bytes(PIECE_BYTES)
DIRECTORY_FLAGS: Final = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


class FileOperations:
    """
    The system calls storage uses, one method each; all may raise C{OSError}.

    Stateless and free-threaded: one instance may serve many pools.
    """

    def open(self, name: str, flags: int, mode: int = 0o600, *, dir_fd: int | None = None) -> int:
        """Open C{name}; C{O_CLOEXEC} is added."""
        return os.open(name, flags | os.O_CLOEXEC, mode, dir_fd=dir_fd)

    def close(self, fd: int) -> None:
        os.close(fd)

    def read(self, fd: int, byte_count: int) -> bytes:
        """Sequential read, for pipes; C{b""} at the end."""
        return os.read(fd, byte_count)

    def pread(self, fd: int, byte_count: int, offset: int) -> bytes:
        return os.pread(fd, byte_count, offset)

    def send_to(self, socket: int, fd: int, offset: int, byte_count: int) -> int:
        """sendfile(2): from C{fd} to a socket; fewer bytes if it takes no more, 0 at the end of the file."""
        return os.sendfile(socket, fd, offset, byte_count)

    def pwrite(self, fd: int, data: bytes | memoryview, offset: int) -> int:
        """@return: how many bytes were written, perhaps fewer than given."""
        return os.pwrite(fd, data, offset)

    def start_writeback(self, fd: int, offset: int, length: int) -> None:
        """Have the kernel begin to write a range now, so that the next fdatasync has less to wait for."""
        system_calls.sync_file_range(fd, offset, length, system_calls.WRITEBACK)

    def fdatasync(self, fd: int) -> None:
        os.fdatasync(fd)

    def fsync(self, fd: int) -> None:
        os.fsync(fd)

    def ftruncate(self, fd: int, size_bytes: int) -> None:
        os.ftruncate(fd, size_bytes)

    def reserve(self, fd: int, offset: int, length: int) -> None:
        """Allocate blocks for a range, which keeps its content."""
        system_calls.fallocate(fd, 0, offset, length)

    def is_in_memory(self, fd: int) -> bool:
        """Whether the file is on a tmpfs, which reserves a range by filling it with zeros."""
        try:
            return system_calls.file_system_type(fd) == system_calls.TMPFS
        except OSError:
            return False

    def free_bytes(self, fd: int) -> int:
        """What is left on the file system for such as us."""
        found = os.fstatvfs(fd)
        return found.f_bavail * found.f_frsize

    def file_system(self, fd: int) -> os.statvfs_result:
        """Sizes of the file system that C{fd} is on."""
        return os.fstatvfs(fd)

    def punch(self, fd: int, offset: int, length: int) -> None:
        """Make a range a hole, of zeros and without blocks."""
        system_calls.fallocate(fd, system_calls.PUNCH_HOLE | system_calls.KEEP_SIZE, offset, length)

    def seek(self, fd: int, offset: int, whence: int) -> int:
        """lseek(2), for C{SEEK_DATA}, C{SEEK_HOLE} and C{SEEK_END}."""
        return os.lseek(fd, offset, whence)

    def drop_cache(self, fd: int, offset: int, length: int) -> None:
        """Ask that the next read of a range come from the disk, not from clean cached pages."""
        os.posix_fadvise(fd, offset, length, os.POSIX_FADV_DONTNEED)

    def fstat(self, fd: int) -> os.stat_result:
        return os.fstat(fd)

    def stat(self, name: str, *, dir_fd: int | None = None) -> os.stat_result:
        """Of the name itself: links are not followed."""
        return os.stat(name, dir_fd=dir_fd, follow_symlinks=False)

    def fchmod(self, fd: int, mode: int) -> None:
        os.fchmod(fd, mode)

    def link(self, old: str, new: str, *, old_dir_fd: int, new_dir_fd: int) -> None:
        os.link(old, new, src_dir_fd=old_dir_fd, dst_dir_fd=new_dir_fd, follow_symlinks=False)

    def rename(self, old: str, new: str, *, old_dir_fd: int, new_dir_fd: int) -> None:
        os.rename(old, new, src_dir_fd=old_dir_fd, dst_dir_fd=new_dir_fd)

    def exchange(self, old: str, new: str, *, old_dir_fd: int, new_dir_fd: int) -> None:
        """Both names must exist; they change places atomically."""
        system_calls.rename_exchange(old, new, old_dir_fd, new_dir_fd)

    def unlink(self, name: str, *, dir_fd: int) -> None:
        os.unlink(name, dir_fd=dir_fd)

    def mkdir(self, name: str, mode: int, *, dir_fd: int | None = None) -> None:
        os.mkdir(name, mode, dir_fd=dir_fd)

    def listdir(self, fd: int) -> list[str]:
        return os.listdir(fd)

    def lock(self, fd: int) -> bool:
        """
        Take the exclusive flock of an open file, which ends with its descriptor.

        @return: whether it was free.
        """
        try:
            fcntl.flock(fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True


def write_all(files: FileOperations, fd: int, data: bytes | bytearray | memoryview, offset: int) -> None:
    """
    Write all of C{data} at C{offset}, however short the single writes are.

    @raise OSError: as pwrite; C{EIO} when it makes no progress.
    """
    view = memoryview(data)
    while view:
        written = files.pwrite(fd, view, offset)
        if written <= 0:
            raise OSError(errno.EIO, "a write made no progress")
        view = view[written:]
        offset += written


def reserve_ranges(files: FileOperations, fd: int, ranges: list[tuple[int, int]]) -> None:
    """
    Make room for ranges, each from an offset to another; where nothing can be reserved, find it.

    @raise OSError: C{ENOSPC} or C{EDQUOT}: there is none.
    """
    try:
        for start, stop in ranges:
            files.reserve(fd, start, stop - start)
    except OSError as error:
        if error.errno not in system_calls.UNSUPPORTED:
            raise
        find_room(files, fd, ranges)


def find_room(files: FileOperations, fd: int, ranges: list[tuple[int, int]]) -> None:
    """
    @raise OSError: C{ENOSPC}: less is free than the ranges take.
    """
    if files.free_bytes(fd) < sum(stop - start for start, stop in ranges):
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))


def read_exactly(files: FileOperations, fd: int, byte_count: int, offset: int) -> bytes:
    """
    Read C{byte_count} bytes (at most L{PIECE_BYTES}) at C{offset}.

    @return: them, or fewer where the file ends before.
    """
    data = files.pread(fd, byte_count, offset)
    if len(data) == byte_count or not data:
        return data
    parts = [data]
    missing = byte_count - len(data)
    while missing:
        offset += len(data)
        data = files.pread(fd, missing, offset)
        if not data:
            break
        parts.append(data)
        missing -= len(data)
    return b"".join(parts)


def zero_range(files: FileOperations, fd: int, offset: int, length: int) -> None:
    """
    Make a range read as zeros, without blocks where the file system can.

    A block device wants whole blocks: the ragged ends are written, and so is
    everything where holes are not supported at all.

    @raise OSError: C{ENOSPC}, C{EIO} and the like.
    """
    first, stop = offset, offset + length
    if stat.S_ISBLK(files.fstat(fd).st_mode):
        first, stop = -(-offset // 4096) * 4096, stop // 4096 * 4096
    if stop > first:
        try:
            files.punch(fd, first, stop - first)
        except OSError as error:
            if error.errno not in system_calls.UNSUPPORTED:
                raise
            first = stop = offset
    else:
        first = stop = offset
    _write_zeros(files, fd, offset, first)
    _write_zeros(files, fd, stop, offset + length)


def _write_zeros(files: FileOperations, fd: int, offset: int, stop: int) -> None:
    while offset < stop:
        part = min(PIECE_BYTES, stop - offset)
        write_all(files, fd, memoryview(ZEROS)[:part], offset)
        offset += part
