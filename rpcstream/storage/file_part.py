"""
A stretch of a file that goes to a socket without passing through this process.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Self

from rpcstream.errors import SourceChanged
from rpcstream.storage.files import FileOperations, read_exactly

__all__ = ["FilePart"]


class FilePart:
    """
    Slices like a C{memoryview}, and is as little a copy.

    Its bytes are those that the file has when it is sent, not when this was made.
    """

    __slots__ = ("_files", "_length", "_name", "_offset", "_reading")

    def __init__(
        self,
        files: FileOperations,
        reading: Callable[[], AbstractContextManager[int]],
        offset: int,
        length: int,
        name: str = "",
    ) -> None:
        """
        @param reading: gives the descriptor, which stays open as long as it is used.
        @param offset: in the file.
        @param name: for error texts.
        """
        self._files = files
        self._reading = reading
        self._offset = offset
        self._length = length
        self._name = name

    def __len__(self) -> int:
        return self._length

    def __getitem__(self, part: slice) -> Self:
        start, stop, _ = part.indices(self._length)
        return type(self)(self._files, self._reading, self._offset + start, max(0, stop - start), self._name)

    def send_to(self, fd: int) -> int:
        """
        Send as much of it as the non-blocking socket C{fd} takes.

        @return: how many bytes; 0: the file has become shorter.
        @raise BlockingIOError: the socket takes nothing now.
        @raise OSError: the socket or the file fails.
        @raise BadState: the source was closed.
        """
        with self._reading() as file:
            return self._files.send_to(fd, file, self._offset, self._length)

    def read(self) -> bytes:
        """
        All of it, which is at most 1 MiB.

        @raise SourceChanged: the file has become shorter.
        @raise OSError: the file fails.
        @raise BadState: the source was closed.
        """
        with self._reading() as file:
            data = read_exactly(self._files, file, self._length, self._offset)
        if len(data) != self._length:
            raise SourceChanged(f"{self._name!r} became shorter while it was read", self._name)
        return data
