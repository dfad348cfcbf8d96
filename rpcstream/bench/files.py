"""
Sending files to the far end as every transfer is sent: digest, journal, fsync, publish.
"""

from __future__ import annotations

import os
from pathlib import Path

from rpcstream.bench.ends import Bench, FarEnd
from rpcstream.bench.processes import BenchFailed
from rpcstream.bench.usage import TimedFiles
from rpcstream.limits import MIB, Limits
from rpcstream.net.client import ClientConnection
from rpcstream.services.sending import SendOptions, Sent, send
from rpcstream.storage.reading import digest_file
from rpcstream.storage.sources import open_path

__all__ = ["SHARED_ONLY", "make_file", "send_file", "stored_digest"]

SHARED_ONLY = Limits(exclusive_lanes=0)
"""Limits of a client that never asks for an exclusive lane."""


def make_file(path: Path, data_bytes: int, size: int | None = None) -> Path:
    """
    A file of random bytes, on disk.

    @param size: of the whole: what is behind the data is a hole.
    """
    with path.open("wb") as file:
        for start in range(0, data_bytes, MIB):
            file.write(os.urandom(min(MIB, data_bytes - start)))
        if size is not None:
            file.truncate(size)
        file.flush()
        os.fsync(file.fileno())
    return path


async def send_file(bench: Bench, connection: ClientConnection, path: Path, files: TimedFiles) -> Sent:
    """
    Send one file; the name at the far end is the file's.

    @param files: what this end reads it with.
    """
    with open_path(path, files=files) as source:
        return await send(
            connection, source, SendOptions(path.name, os.urandom(16), replace=True), bench.runner
        )


async def stored_digest(bench: Bench, far_end: FarEnd, path: Path, sent: Sent) -> bytes:
    """
    Read what the far end has stored, compare, and remove it.

    @raise BenchFailed: it is not what was sent.
    """
    stored = far_end.folder / "store" / path.name
    digests = [await bench.runner.run(digest_file, each) for each in (path, stored)]
    stored.unlink()
    if digests != [sent.digest, sent.digest]:
        raise BenchFailed(f"{path.name}: the digests of both ends differ")
    return sent.digest
