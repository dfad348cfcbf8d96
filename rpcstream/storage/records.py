"""
Records: what is remembered of published content, namely digest and transfer id.

One file for each name, in C{records/}: a crc32 in hexadecimal, a space, JSON.  A
record counts only while the file is the one that it describes, unchanged; a
torn record is no record.  For the first days it also answers a COMMIT or an
INCOMING that is repeated because its reply was lost.
"""

from __future__ import annotations

import errno
import json
import os
import secrets
import threading
import time
import zlib
from contextlib import suppress
from typing import NamedTuple

from rpcstream.storage.files import FileOperations, read_exactly, write_all
from rpcstream.storage.layout import Layout

__all__ = ["Record", "Records"]

_LARGEST_BYTES = 64 * 1024
_KNOWN_COUNT = 10_000
"""Transfers kept in memory before they are looked up anew."""
_SETTLED_NS = 100_000_000


class Record(NamedTuple):
    """
    @ivar digest: of the content, 32 bytes.
    @ivar transfer_id: 16 bytes, of the transfer that brought it.
    @ivar owner: identity of who sent it.
    @ivar size_bytes: of the content; C{inode} and C{mtime_ns} of its file.
    @ivar finished_seconds: when, since the epoch.
    """

    digest: bytes
    transfer_id: bytes
    owner: str
    size_bytes: int
    inode: int
    mtime_ns: int
    finished_seconds: float

    def encode(self) -> bytes:
        """The content of its file."""
        fields = {**self._asdict(), "digest": self.digest.hex(), "transfer_id": self.transfer_id.hex()}
        body = json.dumps(fields).encode()
        return b"%08x %s\n" % (zlib.crc32(body), body)

    @classmethod
    def decode(cls, data: bytes) -> Record | None:
        """C{None} for anything but a whole record."""
        checksum, _, body = data.rstrip(b"\n").partition(b" ")
        if checksum != b"%08x" % zlib.crc32(body):
            return None
        try:
            fields = json.loads(body)
            fields["digest"] = bytes.fromhex(fields["digest"])
            fields["transfer_id"] = bytes.fromhex(fields["transfer_id"])
            return cls(**fields)
        except (ValueError, TypeError, KeyError):
            return None

    def describes(self, found: os.stat_result) -> bool:
        """Whether a regular file still is the one that was published."""
        return (self.size_bytes, self.inode, self.mtime_ns) == (
            found.st_size,
            found.st_ino,
            found.st_mtime_ns,
        )


class Records:
    """The records of one pool.  Thread-safe."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._files: FileOperations = layout.files
        self._lock = threading.Lock()
        self._names: dict[bytes, str] = {}
        self._scanned_ns = -1

    def write(self, name: str, record: Record) -> None:
        """Write a record; durable on return, its file's name too."""
        directory = self._layout.records_fd
        aside = f".new-{secrets.token_hex(8)}"
        fd = self._files.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW, dir_fd=directory)
        try:
            write_all(self._files, fd, record.encode(), 0)
            self._files.fsync(fd)
            # By rename, so that the directory's time tells other processes to look again.
            self._files.rename(aside, name, old_dir_fd=directory, new_dir_fd=directory)
        except BaseException:
            with suppress(Exception):
                self._layout.unlink_in(directory, aside)
            raise
        finally:
            self._files.close(fd)
        self._files.fsync(directory)
        with self._lock:
            if len(self._names) >= _KNOWN_COUNT:
                self._names.clear()
                self._scanned_ns = -1
            self._names[record.transfer_id] = name

    def read(self, name: str) -> Record | None:
        """The record of a name, whether its file still is the same or not."""
        try:
            fd = self._files.open(name, os.O_RDONLY | os.O_NOFOLLOW, dir_fd=self._layout.records_fd)
        except OSError as error:
            if error.errno in (errno.ENOENT, errno.ELOOP):
                return None
            raise
        try:
            return Record.decode(read_exactly(self._files, fd, _LARGEST_BYTES, 0))
        finally:
            self._files.close(fd)

    def remove(self, name: str, *, durably: bool = False) -> None:
        """Forget a name; nothing happens if there is no record."""
        try:
            self._files.unlink(name, dir_fd=self._layout.records_fd)
        except FileNotFoundError:
            return
        if durably:
            self._files.fsync(self._layout.records_fd)

    def names(self) -> list[str]:
        """Every name there is a record of, and those with a dot that a crash has left."""
        return self._files.listdir(self._layout.records_fd)

    def find(self, transfer_id: bytes, not_before: float) -> tuple[str, Record] | None:
        """
        The record of a transfer that finished at C{not_before} or later.

        Known ones cost one read; the directory is gone through only when it
        changed since the last time that an unknown one was asked for.
        """
        with self._lock:
            name = self._names.get(transfer_id)
            if name is None:
                self._scan(not_before)
                name = self._names.get(transfer_id)
        if name is None:
            return None
        record = self.read(name)
        if record is None or record.transfer_id != transfer_id or record.finished_seconds < not_before:
            return None
        return name, record

    def _scan(self, not_before: float) -> None:
        changed_ns = self._files.fstat(self._layout.records_fd).st_mtime_ns
        if changed_ns == self._scanned_ns:
            return
        # What changes just after a look may not change the time any more.
        is_settled = time.time_ns() - changed_ns > _SETTLED_NS
        self._scanned_ns = changed_ns if is_settled else -1
        self._names.clear()
        for name in self.names():
            record = None if name.startswith(".") else self.read(name)
            if record is not None and record.finished_seconds >= not_before:
                self._names[record.transfer_id] = name
