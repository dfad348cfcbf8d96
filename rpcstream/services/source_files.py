"""
Which files a source service may send: those under its roots, and how they are opened.

Whoever submits a job names a path, and whoever can write below a root can put
links there.  So the real path is taken first and must be under a root; then it
is opened component by component from the root, following no link any more: a
directory that is exchanged for a link meanwhile leads nowhere.
"""

from __future__ import annotations

import errno
import os
import stat
from collections.abc import Iterable
from functools import partial

from rpcstream.programs.jobs import SourceRefused
from rpcstream.storage.sources import FileSource

__all__ = ["SourceRoots"]

_DIRECTORY_FLAGS = os.O_PATH | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
# Without O_NONBLOCK a FIFO that takes the file's place would hold the thread.
_FILE_FLAGS = os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC

_ANSWERS = {
    errno.ENOENT: "there is no such file",
    errno.EACCES: "the service may not read it",
    errno.EPERM: "the service may not read it",
    errno.ENOTDIR: "there is no such file",
    errno.ELOOP: "it leads through a link that was just exchanged, or in a circle",
    errno.ENAMETOOLONG: "the path is too long",
    errno.ENXIO: "it is not a regular file",
    errno.EINVAL: "it is not a path",
}
"""Of failed system calls: what stays so.  Others (no descriptors left) are raised as they are."""


class SourceRoots:
    """
    The directories from which files may be sent.  Its methods block.

    @param roots: their paths; links in them are the operator's, and followed.
    """

    def __init__(self, roots: Iterable[str | os.PathLike[str]]) -> None:
        self._roots = tuple(os.fspath(root) for root in roots)

    def check(self, path: str) -> None:
        """
        Whether C{path} could be opened now.

        @raise SourceRefused: as for L{open}.
        """
        self.open(path).close()

    def open(self, path: str) -> FileSource:
        """
        Open a file for sending.

        @param path: absolute.
        @raise SourceRefused: not absolute, not under a root once all links are
            resolved, no regular file, not there, or not readable.
        @raise OSError: something that may pass.
        """
        if not path.startswith("/") or "\0" in path:
            raise SourceRefused("the source must be an absolute path")
        try:
            real = os.path.realpath(path, strict=True)
            descriptor = self._open_real(path, real)
        except OSError as error:
            answer = _ANSWERS.get(error.errno or 0)
            if answer is None:
                raise
            raise SourceRefused(f"{path}: {answer}") from None
        return FileSource(descriptor, name=path, find=partial(_look, real))

    def _open_real(self, path: str, real: str) -> int:
        for root in self._roots:
            real_root = os.path.realpath(root)
            parts = _below(real_root, real)
            if parts:
                return _open_below(path, real_root, parts)
        raise SourceRefused(f"{path}: it is not under a --root of the source service")


def _below(root: str, real: str) -> list[str]:
    """The components of C{real} below C{root}; none if it is not there."""
    prefix = root if root.endswith("/") else root + "/"
    return real[len(prefix) :].split("/") if real.startswith(prefix) else []


def _open_below(path: str, root: str, parts: list[str]) -> int:
    directory = os.open(root, _DIRECTORY_FLAGS)
    try:
        for part in parts[:-1]:
            inner = os.open(part, _DIRECTORY_FLAGS, dir_fd=directory)
            os.close(directory)
            directory = inner
        # Looked at before it is opened: opening a device may have effects.
        _check_regular(path, os.stat(parts[-1], dir_fd=directory, follow_symlinks=False))
        descriptor = os.open(parts[-1], _FILE_FLAGS, dir_fd=directory)
    finally:
        os.close(directory)
    try:
        _check_regular(path, os.fstat(descriptor))
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def _check_regular(path: str, found: os.stat_result) -> None:
    if not stat.S_ISREG(found.st_mode):
        raise SourceRefused(f"{path}: it is not a regular file")


def _look(real: str) -> os.stat_result | None:
    try:
        return os.stat(real, follow_symlinks=False)
    except OSError:
        return None
