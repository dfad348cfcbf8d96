"""
A file that is written aside and gets its name when it is complete: for user code.

No journal, no resume: what is not committed is removed.
"""

from __future__ import annotations

import os
import secrets
from contextlib import suppress
from pathlib import Path

from rpcstream.errors import BadState, NameExists
from rpcstream.storage.files import DIRECTORY_FLAGS, FileOperations, write_all

__all__ = ["AsideFile"]


class AsideFile:
    """
    A new file, mode 0600, in the directory of its later name.

    Use it as a context manager: what is not committed at the end is removed.
    Its methods block on the disk; one thread at a time.

    @ivar path: the later name.
    @ivar size_bytes: written so far, holes included.
    """

    def __init__(
        self,
        path: str | Path,
        *,
        replace: bool = True,
        mode: int = 0o600,
        files: FileOperations | None = None,
    ) -> None:
        """
        @param replace: whether an existing file gives way at L{commit}.
        @param mode: permission bits, set at L{commit}.
        @raise OSError: it cannot be made.
        """
        self.path = Path(path)
        self.size_bytes = 0
        self._replace = replace
        self._mode = mode
        self._files = files or FileOperations()
        self._name = f".rpcstream-{secrets.token_hex(8)}"
        self._fd = -1
        self._directory_fd = self._files.open(os.fspath(self.path.parent), DIRECTORY_FLAGS & ~os.O_NOFOLLOW)
        try:
            self._fd = self._files.open(
                self._name, os.O_RDWR | os.O_CREAT | os.O_EXCL, 0o600, dir_fd=self._directory_fd
            )
        except BaseException:
            self._close()
            raise

    def fileno(self) -> int:
        """The descriptor; what is written to it directly is not in C{size_bytes}."""
        return self._fd

    def write(self, data: bytes | bytearray | memoryview) -> None:
        """Append bytes."""
        self._check_open()
        write_all(self._files, self._fd, data, self.size_bytes)
        self.size_bytes += len(data)

    def write_hole(self, length: int) -> None:
        """Append zeros that take no blocks."""
        self._check_open()
        self._files.ftruncate(self._fd, self.size_bytes + length)
        self.size_bytes += length

    def commit(self) -> None:
        """
        Make it durable under its name.

        @raise NameExists: there is such a name and C{replace} is not set.
        @raise OSError: it is removed.  (An old file that it replaced is gone if only the last
            step, the directory's fsync, failed.)
        """
        self._check_open()
        try:
            self._files.fchmod(self._fd, self._mode)
            self._files.fsync(self._fd)
            arguments = {"old_dir_fd": self._directory_fd, "new_dir_fd": self._directory_fd}
            if self._replace:
                self._files.rename(self._name, self.path.name, **arguments)
                self._files.fsync(self._directory_fd)
            else:
                self._files.link(self._name, self.path.name, **arguments)
                self._sync_new_name()
        except FileExistsError:
            self.remove()
            raise NameExists(f"{self.path} exists already", self.path.name) from None
        except OSError:
            self.remove()
            raise
        self._close()

    def _sync_new_name(self) -> None:
        try:
            self._files.fsync(self._directory_fd)
        except OSError:
            with suppress(OSError):
                self._files.unlink(self.path.name, dir_fd=self._directory_fd)
            raise
        with suppress(OSError):
            self._files.unlink(self._name, dir_fd=self._directory_fd)

    def remove(self) -> None:
        """Delete it; nothing happens once it is committed.  Idempotent."""
        if self._fd >= 0:
            with suppress(FileNotFoundError):
                self._files.unlink(self._name, dir_fd=self._directory_fd)
            self._close()

    def __enter__(self) -> AsideFile:
        return self

    def __exit__(self, *exception: object) -> None:
        self.remove()

    def _check_open(self) -> None:
        if self._fd < 0:
            raise BadState("the file is committed or removed")

    def _close(self) -> None:
        for fd in (self._fd, self._directory_fd):
            if fd >= 0:
                self._files.close(fd)
        self._fd = self._directory_fd = -1
