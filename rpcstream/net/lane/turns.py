"""
Threads that only compute take turns: no more of them at once than there are processors.

More would not be faster.  Each also needs the interpreter now and then, and while
the kernel lets others run instead of the one that has it, the reactor waits as
well.  With four lanes on two processors the reactor was held for more than 20 ms
three to five times as often without this.
"""

from __future__ import annotations

import os
from queue import SimpleQueue

__all__ = ["Turns"]


class Turns:
    """A context manager, for any number of threads; nothing inside may wait for a peer or a disk."""

    def __init__(self, count: int | None = None) -> None:
        """@param count: how many at once; as many as this process may use processors if not given."""
        self._free: SimpleQueue[None] = SimpleQueue()
        for _ in range(count or len(os.sched_getaffinity(0))):
            self._free.put(None)

    def __enter__(self) -> None:
        self._free.get()

    def __exit__(self, *exception: object) -> None:
        self._free.put(None)
