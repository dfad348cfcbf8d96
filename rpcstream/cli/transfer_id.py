"""
What makes two runs of a command the same transfer.

The same command with the same, unchanged source has the same id: it goes on
where the last one stopped, and a COMMIT whose reply was lost is recognised.
The destination looks for it under the sender's identity only.
"""

from __future__ import annotations

import os
import stat
from hashlib import blake2b
from pathlib import Path

from rpcstream.net.urls import Url
from rpcstream.programs.transfer import Entry

__all__ = ["random_id", "receive_id", "send_id"]

ID_BYTES = 16


def random_id() -> bytes:
    """For what is never the same again, as the content of a pipe."""
    return os.urandom(ID_BYTES)


def send_id(url: Url, source: Path) -> bytes:
    """
    @param source: the file as it is now: device, inode, size and time of change count.
    @return: 16 bytes; random for a block device, which does not tell when it is written to.
    @raise OSError: there is no such file.
    """
    found = source.stat()
    if not stat.S_ISREG(found.st_mode):
        return random_id()
    return _digest(
        "send", *_place(url), *map(str, (found.st_dev, found.st_ino, found.st_size, found.st_mtime_ns))
    )


def receive_id(url: Url, target: Path, entry: Entry) -> bytes:
    """
    @param target: where to; need not exist.
    @param entry: what the server has under the name now.
    @return: 16 bytes.
    """
    digest = "" if entry.digest is None else entry.digest.hex()
    return _digest(
        "receive", *_place(url), os.path.abspath(target), str(entry.size), str(entry.mtime_ns), digest
    )


def _place(url: Url) -> tuple[str, str, str]:
    # Without the port: the same server may come back at another one.
    return url.host.lower() or url.socket or "", url.pool, url.name


def _digest(*fields: str) -> bytes:
    hasher = blake2b(digest_size=ID_BYTES, person=b"rpcstream xfer")
    for field in fields:
        data = field.encode("utf-8", "surrogateescape")
        hasher.update(len(data).to_bytes(4, "big") + data)
    return hasher.digest()
