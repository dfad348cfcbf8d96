"""
From a complete, durable partial to a published name; and the same after a crash.

The steps, each only after the one before it: the data was fdatasynced, the
journal written and the digests compared (L{rpcstream.storage.receiving}); then
here: mode set and fsynced, record written and fsynced, the name made, the
pool's directory fsynced.  Only the last makes it a success.  The partial's own
name and the journal go last; a crash before that leaves them to L{recover}.
"""

from __future__ import annotations

import errno
import os
from collections.abc import Callable
from contextlib import suppress
from functools import partial

from rpcstream.errors import NameExists
from rpcstream.storage.journal import Journal
from rpcstream.storage.layout import Layout
from rpcstream.storage.system_calls import UNSUPPORTED

__all__ = ["make_name", "recover", "remove_leftovers"]


def make_name(layout: Layout, name: str, *, replace: bool) -> None:
    """
    Give the partial C{name} its published name; durable on return.

    If the directory cannot be fsynced the old state is put back, so that an
    error and a published name do not come together.

    @param replace: whether an existing regular file gives way.
    @raise NameExists: there is one, and it does not.
    @raise NotRegular: what is there is not a regular file.
    @raise OSError: as the system says; nothing is published.
    """
    files, partials, pool = layout.files, layout.partials_fd, layout.pool_fd
    try:
        files.link(name, name, old_dir_fd=partials, new_dir_fd=pool)
        undo: Callable[[], None] = partial(files.unlink, name, dir_fd=pool)
    except FileExistsError:
        if not replace:
            raise NameExists(f"{name!r} exists already", name) from None
        layout.find(name)
        undo = _exchange(layout, name)
    try:
        files.fsync(pool)
    except OSError:
        with suppress(OSError):
            undo()
        raise


def _exchange(layout: Layout, name: str) -> Callable[[], None]:
    """
    Put the partial in the old file's place.

    @return: what puts the old file back; it does nothing where the file system
        cannot exchange two names, for then the old file is gone.
    """
    files, partials, pool = layout.files, layout.partials_fd, layout.pool_fd
    exchange = partial(files.exchange, name, name, old_dir_fd=partials, new_dir_fd=pool)
    try:
        exchange()
    except OSError as error:
        if error.errno not in UNSUPPORTED and error.errno != errno.ENOENT:
            raise
        files.rename(name, name, old_dir_fd=partials, new_dir_fd=pool)
        return lambda: None
    return exchange


def remove_leftovers(layout: Layout, name: str, journal: Journal) -> None:
    """
    Remove what is left of a partial that is published: its name and its journal.

    The partial's name goes first: as long as the journal is there L{recover}
    knows what happened.

    @raise OSError: something could not be removed; L{recover} will.
    """
    layout.unlink_in(layout.partials_fd, name)
    journal.remove()


def recover(layout: Layout, name: str, journal: Journal) -> bool:
    """
    Finish what a crash interrupted between publishing and cleaning up.

    @param journal: of C{name}, locked; closed if this returns C{True}.
    @return: whether C{name} had been published from this partial.
    @raise OSError: it could not be finished; nothing is lost.
    """
    if journal.header is None:
        return False
    published = layout.stat_in(layout.pool_fd, name)
    if published is None or not _is_same(published, journal.header.inode, layout.device):
        return False
    # The crash may have come before the directory was durable.
    layout.files.fsync(layout.pool_fd)
    remove_leftovers(layout, name, journal)
    return True


def _is_same(found: os.stat_result, inode: int, device: int) -> bool:
    return found.st_ino == inode and found.st_dev == device
