"""
Files that fail on command.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import suppress
from typing import Any

from rpcstream.storage import FileOperations

OPERATIONS = frozenset(name for name in vars(FileOperations) if not name.startswith("_"))

Rule = Callable[[int, str], "BaseException | None"]


class Killed(BaseException):
    """The process is gone: nothing may catch this."""


class FaultyFiles(FileOperations):
    """
    Counts the operations and asks a rule before each whether it fails.

    @ivar calls: names of the operations so far.
    @ivar rule: gets the number and the name of an operation.
    """

    def __init__(self, rule: Rule = lambda number, name: None) -> None:
        self.calls: list[str] = []
        self.rule = rule
        self.is_dead = False
        self.open_fds: set[int] = set()

    def __getattribute__(self, name: str) -> Any:
        method = super().__getattribute__(name)
        if name not in OPERATIONS:
            return method

        def operation(*arguments: Any, **keywords: Any) -> Any:
            if self.is_dead:
                raise Killed
            error = self.rule(len(self.calls), name)
            self.calls.append(name)
            if isinstance(error, Killed):
                self.is_dead = True
                if name == "pwrite":
                    # A write that had begun.
                    fd, data, offset = arguments
                    os.pwrite(fd, bytes(data)[: len(data) // 2], offset)
            if error is not None and not (name == "close" and isinstance(error, OSError)):
                raise error
            if name in ("fsync", "fdatasync"):
                # No power is lost here, and a sweep syncs a few thousand times.
                return None
            result = method(*arguments, **keywords)
            if name == "open":
                self.open_fds.add(result)
            elif name == "close":
                self.open_fds.discard(arguments[0])
            return result

        return operation

    def reap(self) -> None:
        """What the kernel does for a process that was killed."""
        self.is_dead = True
        for fd in self.open_fds:
            with suppress(OSError):
                os.close(fd)
        self.open_fds.clear()


def kill_at(number: int) -> Rule:
    """Die at the operation of this number."""
    return lambda at, name: Killed() if at == number else None


def fail_at(number: int, code: int = errno.EIO) -> Rule:
    """Fail the operation of this number, once."""
    return lambda at, name: OSError(code, os.strerror(code)) if at == number else None


def fail_nth(operations: set[str], number: int, code: int = errno.EIO, *, for_good: bool = False) -> Rule:
    """Fail the n-th of these operations, once or from then on."""
    count = 0

    def rule(at: int, name: str) -> BaseException | None:
        nonlocal count
        if name not in operations:
            return None
        count += 1
        if count - 1 == number or (for_good and count > number):
            return OSError(code, os.strerror(code))
        return None

    return rule
