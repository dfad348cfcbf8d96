"""
The directories of one pool, opened once, and how names in them are opened.

::

    POOL/NAME                         published content
    POOL/.rpcstream/        0700
        partials/NAME       0600      content being received
        journals/NAME                 its journal; locked by the one writer
        records/NAME                  digest and transfer id of published content
        marks/NAME                    says that published content is incomplete

Everything happens relative to these descriptors, so that nobody can lead us
out of the pool by exchanging a directory for a link.
"""

from __future__ import annotations

import errno
import os
import secrets
import stat
from contextlib import suppress
from pathlib import Path

from rpcstream.errors import ConfigurationError, NameNotFound, NotRegular
from rpcstream.storage.files import DIRECTORY_FLAGS, FileOperations

__all__ = ["STATE_NAME", "Layout"]

STATE_NAME = ".rpcstream"


class Layout:
    """
    @ivar files: what every operation goes through.
    @ivar directory: the pool, for texts and for L{Path}s handed to users.
    @ivar pool_fd: descriptor of the pool; C{partials_fd}, C{journals_fd},
        C{records_fd} and C{marks_fd} likewise.
    @ivar device: the pool's device number; nothing on another one is served.
    """

    def __init__(self, directory: Path, state_directory: Path | None, files: FileOperations) -> None:
        """
        @param state_directory: where journals, records and marks lie, C{.rpcstream}
            in the pool by default; of one pool only.
        @raise ConfigurationError: the pool cannot be used; the text says why.
        """
        self.files = files
        self.directory = directory
        self._open: list[int] = []
        try:
            self.pool_fd = self._keep(files.open(os.fspath(directory), os.O_RDONLY | os.O_DIRECTORY))
            self.device = files.fstat(self.pool_fd).st_dev
            own_fd = self._private(STATE_NAME, self.pool_fd)
            self.partials_fd = self._private("partials", own_fd)
            if files.fstat(self.partials_fd).st_dev != self.device:
                raise ConfigurationError(f"{directory}/{STATE_NAME} is on another file system than the pool")
            state_fd = own_fd if state_directory is None else self._private(os.fspath(state_directory), None)
            self.journals_fd = self._private("journals", state_fd)
            self.records_fd = self._private("records", state_fd)
            self.marks_fd = self._private("marks", state_fd)
            self._probe_links()
        except OSError as error:
            self.close()
            raise ConfigurationError(f"the pool {directory} cannot be used: {error}") from error
        except ConfigurationError:
            self.close()
            raise

    def close(self) -> None:
        """Close all descriptors."""
        while self._open:
            self.files.close(self._open.pop())

    def _keep(self, fd: int) -> int:
        self._open.append(fd)
        return fd

    def _private(self, name: str, dir_fd: int | None) -> int:
        """Make, open and check a directory that is ours alone."""
        with suppress(FileExistsError):
            self.files.mkdir(name, 0o700, dir_fd=dir_fd)
        if dir_fd is not None:
            # Even if it was there: whoever made it may have been killed before this.
            self.files.fsync(dir_fd)
        fd = self._keep(self.files.open(name, DIRECTORY_FLAGS, dir_fd=dir_fd))
        found = self.files.fstat(fd)
        if found.st_uid != os.geteuid():
            raise ConfigurationError(f"{name} in {self.directory} belongs to user {found.st_uid}, not to us")
        if stat.S_IMODE(found.st_mode) & 0o077:
            self.files.fchmod(fd, 0o700)
        return fd

    def _probe_links(self) -> None:
        """Refuse a file system without hard links now, not at the first COMMIT."""
        name = f".probe-{secrets.token_hex(8)}"
        fd = self.files.open(name, os.O_WRONLY | os.O_CREAT | os.O_EXCL, dir_fd=self.partials_fd)
        try:
            self.files.link(name, name + "-2", old_dir_fd=self.partials_fd, new_dir_fd=self.partials_fd)
            self.files.unlink(name + "-2", dir_fd=self.partials_fd)
        except OSError as error:
            raise ConfigurationError(
                f"the file system of {self.directory} has no hard links, which publishing needs: {error}"
            ) from error
        finally:
            self.files.close(fd)
            self.files.unlink(name, dir_fd=self.partials_fd)

    # --- published names -------------------------------------------------------------

    def stat_in(self, dir_fd: int, name: str) -> os.stat_result | None:
        """Of the name itself; C{None} if it is not there."""
        try:
            return self.files.stat(name, dir_fd=dir_fd)
        except FileNotFoundError:
            return None

    def unlink_in(self, dir_fd: int, name: str) -> None:
        """Unlink a name if it is there."""
        with suppress(FileNotFoundError):
            self.files.unlink(name, dir_fd=dir_fd)

    def find(self, name: str) -> os.stat_result | None:
        """
        Look at a published name; C{None} if there is none.

        @raise NotRegular: it is a link, directory or the like, lies on another
            file system, or has links that are not ours.
        """
        found = self.stat_in(self.pool_fd, name)
        if found is not None:
            self._check(name, found)
        return found

    def open_published(self, name: str, access: int = os.O_RDONLY) -> int:
        """
        Open a published name, for reading if C{access} does not say more.

        @raise NameNotFound: there is none.
        @raise NotRegular: as L{find}.
        """
        # Looked at before it is opened: opening a FIFO or a device may have effects.
        before = self.find(name)
        if before is None:
            raise NameNotFound(f"there is no {name!r} in the pool", name)
        try:
            fd = self.files.open(name, access | os.O_NOFOLLOW | os.O_NONBLOCK, dir_fd=self.pool_fd)
        except FileNotFoundError:
            raise NameNotFound(f"there is no {name!r} in the pool", name) from None
        except OSError as error:
            if error.errno in (errno.ELOOP, errno.ENXIO):
                raise NotRegular(f"{name!r} is not a regular file", name) from None
            raise
        try:
            self._check(name, self.files.fstat(fd))
        except BaseException:
            self.files.close(fd)
            raise
        return fd

    def _check(self, name: str, found: os.stat_result) -> None:
        if not stat.S_ISREG(found.st_mode):
            raise NotRegular(f"{name!r} is not a regular file", name)
        if found.st_dev != self.device:
            raise NotRegular(f"{name!r} is on another file system than its pool", name)
        # Between the link that publishes and the unlink of the partial there are two, after a crash for long.
        if found.st_nlink > 2 or (found.st_nlink == 2 and not self._is_own_link(name, found)):
            raise NotRegular(f"{name!r} has other hard links", name)

    def _is_own_link(self, name: str, found: os.stat_result) -> bool:
        partial = self.stat_in(self.partials_fd, name)
        if partial is not None:
            return partial.st_ino == found.st_ino and partial.st_dev == found.st_dev
        # It was unlinked since we looked: then there is only one link now.
        now = self.stat_in(self.pool_fd, name)
        return now is not None and now.st_ino == found.st_ino and now.st_nlink == 1
