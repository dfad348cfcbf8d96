"""
What a process uses: processor time, context switches, memory, time in file calls.

Everything comes from the kernel, but for the time in file calls, which is
measured where storage meets the operating system.
"""

from __future__ import annotations

import os
import resource
import time
from collections.abc import Callable
from typing import ParamSpec, TypeVar

from rpcstream.bench.program import Usage
from rpcstream.storage.files import FileOperations

__all__ = ["TimedFiles", "difference", "own_usage", "resident_bytes"]

P = ParamSpec("P")
T = TypeVar("T")

_PAGE_BYTES = resource.getpagesize()


class TimedFiles(FileOperations):
    """
    Adds up the wall time of the calls that move or sync content.

    @ivar ns: of all threads; a race between two may lose a call's time, not more.
    """

    def __init__(self) -> None:
        self.ns = 0

    def _timed(self, function: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        started = time.perf_counter_ns()
        try:
            return function(*args, **kwargs)
        finally:
            self.ns += time.perf_counter_ns() - started

    def read(self, fd: int, byte_count: int) -> bytes:
        return self._timed(super().read, fd, byte_count)

    def pread(self, fd: int, byte_count: int, offset: int) -> bytes:
        return self._timed(super().pread, fd, byte_count, offset)

    def pwrite(self, fd: int, data: bytes | memoryview, offset: int) -> int:
        return self._timed(super().pwrite, fd, data, offset)

    def start_writeback(self, fd: int, offset: int, length: int) -> None:
        self._timed(super().start_writeback, fd, offset, length)

    def fdatasync(self, fd: int) -> None:
        self._timed(super().fdatasync, fd)

    def fsync(self, fd: int) -> None:
        self._timed(super().fsync, fd)


def resident_bytes(pid: int) -> int:
    """
    Memory of a process that is in RAM.

    @raise OSError: there is no such process.
    """
    with open(f"/proc/{pid}/statm", encoding="ascii") as file:
        return int(file.read().split()[1]) * _PAGE_BYTES


def own_usage(files: TimedFiles | None = None) -> Usage:
    """What this process, all its threads, has used so far."""
    used = resource.getrusage(resource.RUSAGE_SELF)
    return Usage(
        user_ns=int(used.ru_utime * 1e9),
        system_ns=int(used.ru_stime * 1e9),
        voluntary_switches=used.ru_nvcsw,
        involuntary_switches=used.ru_nivcsw,
        resident_bytes=resident_bytes(os.getpid()),
        file_ns=0 if files is None else files.ns,
    )


def difference(before: Usage, after: Usage) -> Usage:
    """What was used between two moments; the memory is its growth."""
    return Usage(
        after.user_ns - before.user_ns,
        after.system_ns - before.system_ns,
        after.voluntary_switches - before.voluntary_switches,
        after.involuntary_switches - before.involuntary_switches,
        after.resident_bytes - before.resident_bytes,
        after.file_ns - before.file_ns,
    )
