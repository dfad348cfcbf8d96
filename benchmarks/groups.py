"""
The groups: work that several contestants do.
"""

from __future__ import annotations

from typing import NamedTuple

__all__ = ["GROUPS", "Group"]


class Group(NamedTuple):
    """
    @ivar name: for C{--only}.
    @ivar title: in the table.
    @ivar unit: of the rate: C{bytes} or C{calls}.
    """

    name: str
    title: str
    unit: str = "bytes"


GROUPS = (
    Group("memory-worker", "memory to memory, TLS, exclusive lane"),
    Group("memory-shared", "memory to memory, TLS, shared lane"),
    Group("files-tls", "file to file, encrypted"),
    Group("files-narrow", "file to file, TLS, each connection limited to 100 MB/s"),
    Group("file-sink", "file to a discarding reader, plain TCP"),
    Group("file-sink-unix", "file to a discarding reader, UNIX socket"),
    Group("files-tcp", "file to file, plain TCP"),
    Group("calls-one", "calls, one at a time, plain TCP", "calls"),
    Group("calls-many", "calls, 200 in flight, plain TCP", "calls"),
)
