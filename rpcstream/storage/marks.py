"""
Marks of published content that is incomplete: an upload writes it in place, or did not finish.

A transfer never shows partial content; what is written where it is (libvirt's
uploads) cannot help it, and says so instead.  The mark is durable before the
first byte and goes when all is, so that it also tells of an upload that a
crash cut short.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
from contextlib import suppress
from typing import NamedTuple

from rpcstream.storage.files import read_exactly, write_all
from rpcstream.storage.layout import Layout

__all__ = ["Mark", "Marks"]

_LARGEST_BYTES = 4096


class Mark(NamedTuple):
    """
    What may hold anything, of one file.

    @ivar inode: of the file; a mark of another one, that was replaced since, says nothing.
    @ivar start: first byte that may have been written.
    @ivar stop: end of what may have been written, C{None} if not known.
    """

    inode: int
    start: int
    stop: int | None = None

    def joined(self, start: int, stop: int | None) -> Mark:
        """The mark that covers this one and another stretch."""
        end = None if stop is None or self.stop is None else max(stop, self.stop)
        return Mark(self.inode, min(start, self.start), end)


class Marks:
    """The marks of one pool.  Thread-safe; one writer for each name, which is the holder of its lock."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._files = layout.files

    def read(self, name: str, inode: int) -> Mark | None:
        """
        The mark of a name.

        @param inode: of the file that has the name now.
        @return: C{None} if that file is complete.
        """
        try:
            fd = self._files.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=self._layout.marks_fd)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ELOOP):
                return None
            raise
        try:
            data = read_exactly(self._files, fd, _LARGEST_BYTES, 0)
        finally:
            self._files.close(fd)
        try:
            mark = Mark(**json.loads(data))
        except (ValueError, TypeError):
            # Not one of ours: then nothing is known of the content.
            return Mark(inode, 0)
        return mark if mark.inode == inode else None

    def write(self, name: str, mark: Mark) -> None:
        """Set the mark of a name; durable on return."""
        directory = self._layout.marks_fd
        aside = f".new-{secrets.token_hex(8)}"
        fd = self._files.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, dir_fd=directory)
        try:
            write_all(self._files, fd, json.dumps(mark._asdict()).encode(), 0)
            self._files.fsync(fd)
            self._files.rename(aside, name, old_dir_fd=directory, new_dir_fd=directory)
        except BaseException:
            with suppress(Exception):
                self._layout.unlink_in(directory, aside)
            raise
        finally:
            self._files.close(fd)
        self._files.fsync(directory)

    def remove(self, name: str) -> None:
        """The content is complete, or gone; durable on return.  Nothing happens if there is no mark."""
        try:
            self._files.unlink(name, dir_fd=self._layout.marks_fd)
        except FileNotFoundError:
            return
        self._files.fsync(self._layout.marks_fd)
