"""
The journal of one partial: which extents are durable, with what digests.

Append-only records, each with its own crc32::

    u8 type   u16 body length   body   u32 crc32 of all before

    H  JSON: what is received, for whom (the last one counts)
    E  u32 index, u32 count, u32 length, 32 bytes digest: extents that are durable
    F  u32 index, u32 count: extents that are to be forgotten

Reading stops at the first record that is not whole: a torn tail is as if it had
never been written.  The flock of this file is what makes one writer per name,
in all processes; it is held exactly as long as a L{Journal} is open.
"""

from __future__ import annotations

import json
import os
import struct
import time
import zlib
from collections.abc import Iterable, Iterator
from typing import Final, NamedTuple

from rpcstream.errors import NameBusy
from rpcstream.limits import EXTENT_BYTES
from rpcstream.storage.extent_map import ExtentMap
from rpcstream.storage.extents import extent_count, extent_length
from rpcstream.storage.files import PIECE_BYTES, FileOperations, write_all
from rpcstream.storage.layout import Layout
from rpcstream.storage.recorder import Run

__all__ = ["Header", "Journal", "read_header", "replay"]

_PREFIX: Final = struct.Struct(">cH")
_CRC: Final = struct.Struct(">I")
_EXTENTS: Final = struct.Struct(">III32s")
_FORGET: Final = struct.Struct(">II")
_LOCK_TRIES: Final = 20
_LOCK_SECONDS: Final = 0.005


class Header(NamedTuple):
    """
    What a partial is.

    @ivar owner: identity of who sends it.
    @ivar transfer_id: 16 bytes.
    @ivar size_bytes: declared, C{None} if not known.
    @ivar inode: of the partial, by which a crash after publishing is recognised.
    @ivar extent_bytes: size of an extent.
    """

    owner: str
    transfer_id: bytes
    size_bytes: int | None
    inode: int
    extent_bytes: int = EXTENT_BYTES

    def encode(self) -> bytes:
        """As JSON."""
        return json.dumps({**self._asdict(), "transfer_id": self.transfer_id.hex()}).encode()

    @classmethod
    def decode(cls, body: bytes) -> Header:
        """@raise ValueError: it is not one of ours."""
        fields = json.loads(body)
        try:
            fields["transfer_id"] = bytes.fromhex(fields["transfer_id"])
            return cls(**fields)
        except (TypeError, KeyError) as error:
            raise ValueError("not a journal header") from error


def _record(kind: bytes, body: bytes) -> bytes:
    record = _PREFIX.pack(kind, len(body)) + body
    return record + _CRC.pack(zlib.crc32(record))


def read_records(files: FileOperations, fd: int) -> Iterator[tuple[bytes, bytes, int]]:
    """
    The whole records of a journal.

    @return: type, body, and the offset behind the record.
    """
    buffer, offset, position = b"", 0, 0
    while True:
        stop = position + _PREFIX.size
        if stop <= len(buffer):
            kind, length = _PREFIX.unpack_from(buffer, position)
            stop += length + _CRC.size
        if stop > len(buffer):
            more = files.pread(fd, PIECE_BYTES, offset + len(buffer))
            if not more:
                return
            buffer, offset, position = buffer[position:] + more, offset + position, 0
            continue
        if zlib.crc32(buffer[position : stop - _CRC.size]) != _CRC.unpack_from(buffer, stop - _CRC.size)[0]:
            return
        yield kind, buffer[position + _PREFIX.size : stop - _CRC.size], offset + stop
        position = stop


def read_header(files: FileOperations, fd: int) -> tuple[Header | None, int]:
    """
    The header that counts, and the size of the part that can be trusted.

    C{None} and 0 when there is no header: nothing was begun.
    """
    header: Header | None = None
    valid_bytes = 0
    for kind, body, stop in read_records(files, fd):
        if kind == b"H":
            try:
                header = Header.decode(body)
            except ValueError:
                return None, 0
        elif header is None:
            return None, 0
        valid_bytes = stop
    return header, valid_bytes


def replay(files: FileOperations, fd: int, size_bytes: int | None, extent_bytes: int) -> ExtentMap:
    """
    The extents that a journal claims, as far as they fit content of this size.

    @param size_bytes: C{None} if not known: then only full extents.
    """
    count = 0 if size_bytes is None else extent_count(size_bytes, extent_bytes)
    extents = ExtentMap(count, extent_bytes)
    for kind, body, _ in read_records(files, fd):
        if kind == b"E" and len(body) == _EXTENTS.size:
            index, run, length, digest = _EXTENTS.unpack(body)
            if length != extent_bytes:
                run = min(run, 1)
                if size_bytes is None or length != extent_length(index, size_bytes, extent_bytes):
                    continue
            elif size_bytes is not None:
                # Those that are full extents in content of this size, too.
                run = min(run, size_bytes // extent_bytes - index)
            if run > 0:
                extents.put(index, digest, run)
        elif kind == b"F" and len(body) == _FORGET.size:
            extents.drop(*_FORGET.unpack(body))
    return extents


class Journal:
    """
    An open, locked journal.  Not thread-safe.

    @ivar header: what it says the partial is; C{None} if nothing was begun.
    """

    def __init__(self, layout: Layout, name: str, fd: int) -> None:
        self._layout = layout
        self._files = layout.files
        self._name = name
        self._fd = fd
        self._is_in_directory = False
        self.header, self._size_bytes = read_header(self._files, fd)
        if self._files.fstat(fd).st_size > self._size_bytes:
            # Whole records behind a torn one must not come to life when something is written over it.
            self._files.ftruncate(fd, self._size_bytes)

    @classmethod
    def lock(cls, layout: Layout, name: str) -> Journal:
        """
        Open the journal of C{name}, made if need be, and become its one writer.

        @raise NameBusy: another writer has it.
        """
        for _ in range(_LOCK_TRIES):
            fd = layout.files.open(
                name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW, 0o600, dir_fd=layout.journals_fd
            )
            try:
                # Whoever held it may have removed it before we got the lock: then it is nobody's.
                if layout.files.lock(fd):
                    found = layout.stat_in(layout.journals_fd, name)
                    if found is not None and found.st_ino == layout.files.fstat(fd).st_ino:
                        return cls(layout, name, fd)
                else:
                    # Perhaps only somebody's short look whether it is in use.
                    time.sleep(_LOCK_SECONDS)
            except BaseException:
                layout.files.close(fd)
                raise
            layout.files.close(fd)
        raise NameBusy(f"{name!r} is being written by another transfer", name)

    def replay(self, size_bytes: int | None, extent_bytes: int) -> ExtentMap:
        """See L{replay}."""
        return replay(self._files, self._fd, size_bytes, extent_bytes)

    def start(self, header: Header) -> None:
        """Forget everything and begin anew."""
        self._files.ftruncate(self._fd, 0)
        self._size_bytes = 0
        self.change(header)

    def change(self, header: Header) -> None:
        """Go on under another header.  Durable on return, the file's name too."""
        self._append(_record(b"H", header.encode()))
        self.header = header
        if not self._is_in_directory:
            self._files.fsync(self._layout.journals_fd)
            self._is_in_directory = True

    def add(self, runs: Iterable[Run]) -> None:
        """Note extents whose data is durable.  Durable on return."""
        self._append(b"".join(_record(b"E", _EXTENTS.pack(*run)) for run in runs))

    def forget(self, runs: Iterable[tuple[int, int]]) -> None:
        """Note that extents C{first} to C{stop} are not held.  Durable on return."""
        self._append(b"".join(_record(b"F", _FORGET.pack(first, stop - first)) for first, stop in runs))

    def _append(self, records: bytes) -> None:
        if not records:
            return
        write_all(self._files, self._fd, records, self._size_bytes)
        self._size_bytes += len(records)
        self._files.fdatasync(self._fd)

    def remove(self) -> None:
        """Unlink it, then give up the lock: nobody else can lock what is being removed.  Idempotent."""
        if self._fd < 0:
            return
        try:
            self._layout.unlink_in(self._layout.journals_fd, self._name)
        finally:
            self.close()

    def close(self) -> None:
        """Give up the lock.  Idempotent."""
        if self._fd >= 0:
            fd, self._fd = self._fd, -1
            self._files.close(fd)
