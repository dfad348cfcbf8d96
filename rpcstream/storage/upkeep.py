"""
Keeping a pool tidy: recovery after a crash, discarding and expiry of partials.
"""

from __future__ import annotations

from collections.abc import Container
from contextlib import suppress

from rpcstream.errors import NameBusy, NameNotFound
from rpcstream.storage import publish
from rpcstream.storage.journal import Journal
from rpcstream.storage.layout import Layout
from rpcstream.storage.listing import Listing
from rpcstream.storage.records import Records

__all__ = ["Upkeep"]


class Upkeep:
    """What needs the lock of a name, but no transfer.  Thread-safe."""

    def __init__(self, layout: Layout, records: Records, listing: Listing, devices: Container[str]) -> None:
        self._layout = layout
        self._records = records
        self._listing = listing
        self._devices = devices

    def lock(self, name: str) -> Journal:
        """
        Become the one writer of a name, after finishing what a crash left.

        @raise NameBusy: there is one.
        """
        journal = Journal.lock(self._layout, name)
        try:
            while name not in self._devices and publish.recover(self._layout, name, journal):
                journal = Journal.lock(self._layout, name)
        except BaseException:
            journal.close()
            raise
        return journal

    def give_back(self, journal: Journal) -> None:
        """Give up a name at which nothing was begun."""
        if journal.header is None:
            journal.remove()
        else:
            journal.close()

    def discard(self, name: str) -> None:
        """
        Delete the partial of C{name}; a device stays incomplete.

        @raise NameNotFound: there is none.
        @raise NameBusy: a transfer is writing it.
        """
        if self._layout.stat_in(self._layout.journals_fd, name) is None:
            raise NameNotFound(f"there is no partial of {name!r}", name)
        self._delete(name, self.lock(name))

    def expire(self, not_before: float) -> list[str]:
        """
        Delete partials whose journal is older, and records of files that are gone.

        @return: the names of the partials deleted.
        """
        expired = []
        for name in self._listing.partial_names():
            journal = self._layout.stat_in(self._layout.journals_fd, name)
            if name in self._devices or journal is None or journal.st_mtime >= not_before:
                continue
            with suppress(NameBusy, NameNotFound):
                self.discard(name)
                expired.append(name)
        for name in self._records.names():
            if not name.startswith(".") and name not in self._devices and not self._is_published(name):
                # A transfer that is just being published has a record but no name yet; and it has the lock.
                with suppress(NameBusy):
                    locked = self.lock(name)
                    if not self._is_published(name):
                        self._records.remove(name)
                    self.give_back(locked)
        for dir_fd in (self._layout.partials_fd, self._layout.records_fd):
            self._expire_strays(dir_fd, not_before)
        return expired

    def _expire_strays(self, dir_fd: int, not_before: float) -> None:
        """Delete what a crash left under names of our own making, which begin with a dot."""
        for name in self._layout.files.listdir(dir_fd):
            stray = self._layout.stat_in(dir_fd, name) if name.startswith(".") else None
            if stray is not None and stray.st_mtime < not_before:
                self._layout.unlink_in(dir_fd, name)

    def recover(self) -> None:
        """Finish what was published; drop journals of nothing and partials without a journal."""
        journals = set(self._listing.partial_names())
        for name in journals:
            with suppress(NameBusy):
                self.give_back(self.lock(name))
        for name in self._layout.files.listdir(self._layout.partials_fd):
            # Names with a dot are somebody's probe of the file system, see Layout.
            if name not in journals and not name.startswith("."):
                with suppress(NameBusy):
                    journal = self.lock(name)
                    if journal.header is None:
                        self._delete(name, journal)
                    journal.close()

    def _is_published(self, name: str) -> bool:
        return self._layout.stat_in(self._layout.pool_fd, name) is not None

    def _delete(self, name: str, journal: Journal) -> None:
        try:
            if name in self._devices and journal.header is not None:
                journal.start(journal.header)
            else:
                self._layout.unlink_in(self._layout.partials_fd, name)
                journal.remove()
        finally:
            journal.close()
