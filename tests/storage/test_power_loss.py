"""
D04: the power fails at any step of a transfer, and what was not synced is gone, torn or out of order.

RPCSTREAM_POWER_STATES says after how many crashes (600).
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from functools import partial
from itertools import count, islice
from random import Random
from typing import NamedTuple

from twisted.trial.unittest import SynchronousTestCase

from rpcstream.limits import Limits
from rpcstream.storage import FileSource, Finished, Pool
from rpcstream.storage.extents import indexes_of
from tests.storage.power import PowerFiles
from tests.storage.support import EXTENT, OWNER, transfer, transfer_id

STATE_COUNT = int(os.environ.get("RPCSTREAM_POWER_STATES", "600"))
LIMITS = Limits(sync_bytes=2 * EXTENT)
OLD = b"old content" * 500
CONTENT = Random("content").randbytes(EXTENT) + bytes(2 * EXTENT) + Random("more").randbytes(2 * EXTENT + 700)
CRASHES_OF_A_RUN = 25


class Crash(NamedTuple):
    """
    What is there when it is over.

    @ivar succeeded: whether the caller had been told that all is well.
    @ivar durable_bytes: what it had been told would not have to be sent again.
    """

    files: PowerFiles
    succeeded: bool
    durable_bytes: int


class Watch:
    """
    Takes crashes of one run, at steps chosen evenly, while the run itself goes on.

    @ivar succeeded: to be set by the run, as C{durable_bytes}, the function that tells them.
    """

    def __init__(self, files: PowerFiles, random: Random, wanted: int) -> None:
        self.crashes: list[Crash] = []
        self.succeeded = False
        self.durable_bytes: Callable[[], int] = lambda: 0
        self._files, self._random, self._wanted = files, random, wanted
        self._step_count = 0
        files.on_step = self.step

    def step(self) -> None:
        """Perhaps now."""
        self._step_count += 1
        place = len(self.crashes)
        if place == self._wanted:
            place = self._random.randrange(self._step_count)
        if place < self._wanted:
            self.crashes[place : place + 1] = [Crash(self._crashed(), self.succeeded, self.durable_bytes())]

    def _crashed(self) -> PowerFiles:
        return self._files.crashed(self._random) if self._random.random() < 0.6 else self._files.killed()


def opened(files: PowerFiles) -> Pool:
    """The pool that is the whole disk."""
    return Pool("/", extent_bytes=EXTENT, limits=LIMITS, files=files)


def put(files: PowerFiles, name: str, content: bytes) -> int:
    """
    A durable file beside the pool's own.

    @return: its descriptor.
    """
    root = files.open("/", os.O_RDONLY)
    fd = files.open(name, os.O_RDWR | os.O_CREAT | os.O_EXCL, dir_fd=root)
    for offset in range(0, len(content), EXTENT):
        if any(content[offset : offset + EXTENT]):
            files.pwrite(fd, content[offset : offset + EXTENT], offset)
    files.fsync(fd)
    files.fsync(root)
    files.close(root)
    return fd


def known(shown: bytes | None) -> str:
    """What a name shows, in a word."""
    return {CONTENT: "whole", OLD: "old", None: "nothing"}.get(shown, "a part")


def source_of(content: bytes) -> FileSource:
    """Content to send, from another disk, which nothing happens to."""
    files = PowerFiles()
    return FileSource(put(files, "source", content), extent_bytes=EXTENT, files=files)


def states(seeds: Iterator[int], crashes: Callable[[int], Iterator[None]]) -> int:
    """Crashes of one seed after the other, until there were enough; how many."""
    every = (None for seed in seeds for _ in crashes(seed))
    return sum(1 for _ in islice(every, STATE_COUNT))


class PowerLossTests(SynchronousTestCase):
    """I1: what was reported as committed is there, whole.  I2: a name never shows a part."""

    def send(self, pool: Pool, crash: Crash, watch: Watch, *, sparse: bool, replace: bool) -> bool:
        """One stream and its COMMIT, after a crash; whether it is published."""
        begun = pool.begin(
            "disk", size_bytes=len(CONTENT), sparse=sparse, replace=replace,
            mode=0o640, owner=OWNER, transfer_id=transfer_id(),
        )  # fmt: skip
        if isinstance(begun, Finished):
            return True
        self.assertFalse(crash.succeeded, "committed, and now unknown")
        self.assertGreaterEqual(begun.durable_bytes, crash.durable_bytes)
        watch.durable_bytes = lambda: begun.durable_bytes
        # What a journal says is durable is, whatever else was lost.
        self.assertEqual(begun.held.extent_count, len(indexes_of(begun.held.bitmap)))
        missing = set(indexes_of(begun.verify_held()))
        self.assertEqual(missing & set(indexes_of(begun.held.bitmap)), set())
        with source_of(CONTENT) as source:
            transfer(source, begun)
            begun.finish()
            self.assertEqual(source.verify(begun.held), b"")
            return begun.commit(len(CONTENT), source.content_digest()).published

    def run_once(
        self, crash: Crash, random: Random, wanted: int, *, sparse: bool, replace: bool
    ) -> list[Crash]:
        """A whole transfer, after one crash and with others."""
        watch = Watch(crash.files, random, wanted)
        pool = opened(crash.files)
        self.assertTrue(self.send(pool, crash, watch, sparse=sparse, replace=replace))
        watch.succeeded = True
        # Most of all just after success.
        for _ in range(5):
            watch.step()
        pool.close()
        watch.step()
        self.assertEqual(crash.files.open_count, 0)
        self.assertEqual(known(crash.files.tree()["disk"]), "whole")
        return watch.crashes

    def check(self, crash: Crash, old: bytes | None) -> None:
        """What the name shows as it is, and after the pool was opened."""
        for moment in ("at once", "after recovery"):
            shown = known(crash.files.tree().get("disk"))
            self.assertIn(shown, ("whole",) if crash.succeeded else ("whole", known(old)), moment)
            crash.files.on_step = lambda: None
            opened(crash.files).close()

    def crashes_of_transfer(self, seed: int) -> Iterator[None]:
        """Yields after each crash that was survived."""
        random = Random(f"transfer {seed}")
        sparse, replace = bool(seed & 1), bool(seed & 2)
        run = partial(self.run_once, sparse=sparse, replace=replace)
        files = PowerFiles(can_exchange=not seed & 4)
        old = OLD if replace else None
        if replace:
            files.close(put(files, "disk", OLD))
        for first in run(Crash(files, False, 0), random, CRASHES_OF_A_RUN):
            self.check(first, old)
            yield
            for second in run(first, random, 1):
                self.check(second, CONTENT if first.succeeded else old)
                run(second, random, 0)
                yield

    def test_transfer(self) -> None:
        """New or replacing, sparse or dense; and another crash while it is resumed."""
        self.assertEqual(states(count(), self.crashes_of_transfer), STATE_COUNT)

    def crashes_of_upload(self, seed: int) -> Iterator[None]:
        """The like for content that is written in place."""
        random = Random(f"upload {seed}")
        files = PowerFiles()
        files.close(put(files, "disk", OLD))
        watch = Watch(files, random, CRASHES_OF_A_RUN)
        pool = opened(files)
        upload = pool.volumes.open_in_place("disk", 0, None)
        for offset in range(0, len(CONTENT), 3000):
            piece = CONTENT[offset : offset + 3000]
            if any(piece) or seed & 1:
                upload.write(piece)
            else:
                upload.write_hole(len(piece))
        upload.finish()
        watch.succeeded = True
        watch.step()
        pool.close()
        watch.step()
        for crash in watch.crashes:
            again = opened(crash.files)
            is_incomplete = again.stat("disk").incomplete
            again.close()
            shown = known(crash.files.tree().get("disk"))
            if crash.succeeded:
                self.assertEqual((shown, is_incomplete), ("whole", False))
            elif not is_incomplete:
                self.assertIn(shown, ("whole", "old"))
            yield

    def test_upload_in_place(self) -> None:
        """What virsh uploads is whole, or marked as incomplete."""
        self.assertEqual(states(count(), self.crashes_of_upload), STATE_COUNT)
