"""Several parts of one transfer, written by several threads at once."""

from __future__ import annotations

import errno
import os
import random
import struct
import threading
import time
from collections.abc import Callable
from contextlib import closing
from typing import Any

from rpcstream.errors import BadState, BadValue, SizeMismatch, TransferFenced
from rpcstream.limits import Limits
from rpcstream.storage import FileOperations, Receiving
from rpcstream.storage.part import Part
from rpcstream.storage.pipes import PipeSource
from tests.storage.support import EXTENT, StorageTestCase, feed, transfer_id

EXTENT_RECORD = struct.Struct(">cHIII32sI")
COUNT = 256


class WatchedFiles(FileOperations):
    """
    Checks of every journal record of an extent that the extent was written, and
    then made durable, before: whatever other threads were doing.

    @ivar record_count: how many were checked.
    @ivar fails: the fdatasync of data of this number fails.
    @ivar hooks: called in the fdatasync of this number.
    @ivar size: of the content.
    """

    def __init__(self) -> None:
        self.watching = threading.Lock()
        self.written: set[int] = set()
        self.durable: set[int] = set()
        self.wrong: list[int] = []
        self.record_count = self.sync_count = 0
        self.fails = 0
        self.size = 0
        self.hooks: dict[int, Callable[[], object]] = {}

    def _is_data(self, fd: int) -> bool:
        return "/partials/" in os.readlink(f"/proc/self/fd/{fd}")

    def pwrite(self, fd: int, data: Any, offset: int) -> int:
        if not self._is_data(fd):
            self._check(bytes(data))
            return super().pwrite(fd, data, offset)
        count = super().pwrite(fd, data, offset)
        with self.watching:
            # Pieces come in order: an extent is written with its last one.
            stop = offset + count
            last = -(-stop // EXTENT) if stop == self.size else stop // EXTENT
            self.written.update(range(offset // EXTENT, last))
        return count

    def fdatasync(self, fd: int) -> None:
        if self._is_data(fd):
            with self.watching:
                self.sync_count += 1
                before = set(self.written)
                number = self.sync_count
            self.hooks.get(number, lambda: None)()
            if number == self.fails:
                raise OSError(errno.EIO, os.strerror(errno.EIO))
            with self.watching:
                self.durable |= before

    def _check(self, records: bytes) -> None:
        for position in range(0, len(records) - EXTENT_RECORD.size + 1, EXTENT_RECORD.size):
            kind, _, index, count, *_ = EXTENT_RECORD.unpack_from(records, position)
            if kind == b"E":
                with self.watching:
                    self.record_count += 1
                    self.wrong += [i for i in range(index, index + count) if i not in self.durable]


class PartTests(StorageTestCase):
    """What threads may do to one L{Receiving}."""

    def setUp(self) -> None:
        super().setUp()
        self.content = random.Random(5).randbytes(COUNT * EXTENT - 100)
        self.source = self.open_file(self.make_file("source", self.content))
        self.files = WatchedFiles()
        self.files.size = len(self.content)
        self.pool = self.make_pool(files=self.files, limits=Limits(sync_bytes=4 * EXTENT))

    def begin_whole(self, **options: Any) -> Receiving:
        return self.begin(self.pool, **{"size_bytes": len(self.content), **options})

    def fill(self, receiving: Receiving, part: Part, first: int, count: int) -> None:
        """All of one part, as its connection would bring it."""
        within = (first, first + count)
        with closing(self.source.pieces(receiving.held.bitmap, 1000, within=within)) as pieces:
            feed(part, pieces)  # type: ignore[arg-type]
        part.finish()

    def fill_all(self, receiving: Receiving, thread_count: int = 4, size: int = 7) -> list[BaseException]:
        """Parts of C{size} extents, by threads that take one after the other."""
        waiting = list(range(0, COUNT, size))
        random.Random(1).shuffle(waiting)
        errors: list[BaseException] = []

        def work() -> None:
            try:
                while waiting:
                    first = waiting.pop()
                    self.fill(receiving, receiving.part(first, size), first, size)
            except IndexError:
                pass
            except BaseException as error:
                errors.append(error)

        threads = [threading.Thread(target=work) for _ in range(thread_count)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(30)
            self.assertFalse(thread.is_alive())
        return errors

    def publish(self, receiving: Receiving) -> None:
        self.source.verify(receiving.held)
        outcome = receiving.commit(len(self.content), self.source.content_digest())
        self.assertTrue(outcome.published)
        self.assertEqual((self.store / "disk").read_bytes(), self.content)

    def test_threads(self) -> None:
        """Parts in any order make the content; no journal record comes before its data is durable."""
        receiving = self.begin_whole()
        self.assertEqual(self.fill_all(receiving), [])
        self.assertEqual(receiving.received_bytes, len(self.content))
        self.publish(receiving)
        self.assertEqual(self.files.wrong, [])
        self.assertGreater(self.files.record_count, COUNT // 2)

    def test_resume(self) -> None:
        """What parts left is held, whoever goes on: as one stream or as other parts."""
        for number, thread_count in enumerate((0, 3)):
            receiving = self.begin_whole(replace=True, transfer_id=transfer_id(number))
            for first in (200, 3, 90):
                self.fill(receiving, receiving.part(first, 20), first, 20)
            open_part = receiving.part(120, 20)
            open_part.write(self.content[120 * EXTENT : 125 * EXTENT + 17])
            receiving.abandon()
            with self.assertRaises(BadState):
                open_part.write(b"x")
            again = self.begin_whole(replace=True, transfer_id=transfer_id(number))
            self.assertEqual(again.held.extent_count, 65)
            if thread_count:
                self.assertEqual(self.fill_all(again, thread_count, 11), [])
            else:
                with closing(self.source.pieces(again.held.bitmap)) as pieces:
                    feed(again, pieces)
            self.publish(again)

    def test_overlap(self) -> None:
        """No extent is in two parts, for its digest would not speak of what is on disk."""
        receiving = self.begin_whole()
        receiving.part(10, 10)
        for first, count in ((19, 1), (0, 11), (5, 100), (0, COUNT), (10, 10)):
            with self.assertRaises(BadValue):
                receiving.part(first, count)
        for first, count in ((-1, 2), (0, 0), (COUNT, 1), (COUNT + 5, 7)):
            with self.assertRaises(BadValue):
                receiving.part(first, count)
        with self.assertRaises(BadValue):
            receiving.write(b"the whole as one stream")
        receiving.part(20, 10**15)
        receiving.part(0, 10)
        receiving.abandon()

    def test_bounds(self) -> None:
        """A part takes what is its own and no more, and does not end too soon."""
        for length in (EXTENT - 1, EXTENT + 1):
            receiving = self.begin_whole()
            part = receiving.part(3, 1)
            with self.assertRaises(SizeMismatch):
                part.write(bytes(length))
                part.finish()
            with self.assertRaises(SizeMismatch):
                receiving.part(4, 1)
            receiving.abandon()

    def test_commit_too_early(self) -> None:
        """COMMIT while a part has not ended, or with extents that no part has brought, is refused."""
        digest = self.source.content_digest()
        receiving = self.begin_whole()
        part = receiving.part(0, 2)
        part.write(self.content[: 2 * EXTENT])
        with self.assertRaises(SizeMismatch):
            receiving.commit(len(self.content), digest)
        receiving.abandon()
        receiving = self.begin_whole()
        self.fill(receiving, receiving.part(0, COUNT - 1), 0, COUNT - 1)
        with self.assertRaises(SizeMismatch):
            receiving.commit(len(self.content), digest)
        receiving.abandon()
        self.assertFalse((self.store / "disk").exists())

    def test_failed_sync(self) -> None:
        """
        An fdatasync that fails ends the transfer for all threads: none of them takes a
        later success for its own, and nothing of what it was for is journaled.
        """
        self.files.fails = 5
        receiving = self.begin_whole()
        other = receiving.part(200, 40)
        other.write(self.content[200 * EXTENT : 202 * EXTENT])
        others: list[BaseException] = []

        def write_meanwhile() -> None:
            """Due for a sync, which waits for the one that fails."""
            try:
                other.write(self.content[202 * EXTENT : 212 * EXTENT])
            except OSError as error:
                others.append(error)

        meanwhile = threading.Thread(target=write_meanwhile)

        def start() -> None:
            meanwhile.start()
            while 211 not in self.files.written:
                pass

        self.files.hooks[5] = start
        errors: list[BaseException] = []
        try:
            self.fill(receiving, receiving.part(0, 199), 0, 199)
        except OSError as error:
            errors.append(error)
        meanwhile.join(10)
        self.assertEqual(len(errors), 1)
        self.assertEqual(len(others), 1)
        with self.assertRaises(OSError):
            receiving.part(240, 1)
        receiving.abandon()
        durable = self.files.durable
        self.assertNotIn(211, durable)
        self.assertEqual(self.files.wrong, [])
        again = self.begin_whole()
        self.assertLessEqual(again.held.extent_count, len(durable))
        again.abandon()

    def test_ended_meanwhile(self) -> None:
        """Abandoned, fenced or removed in the midst of it: all threads are told, no descriptor is used."""
        for number, (end, expected) in enumerate(
            ((Receiving.abandon, BadState), (Receiving.fence, TransferFenced), (Receiving.remove, BadState))
        ):
            receiving = self.begin_whole(transfer_id=transfer_id(number))
            ending = threading.Thread(target=end, args=(receiving,))

            def start(ending: threading.Thread = ending, receiving: Receiving = receiving) -> None:
                ending.start()
                while receiving._end is None:
                    time.sleep(0)

            self.files.hooks[self.files.sync_count + 3] = start
            errors = self.fill_all(receiving, 4, 3)
            ending.join(10)
            self.assertEqual([type(error) for error in errors], [expected] * 4)
            with self.assertRaises(expected):
                receiving.commit(len(self.content), self.source.content_digest())
            self.assertEqual(len(self.pool.partials()), 0 if end is Receiving.remove else 1)
        self.assertEqual(self.files.wrong, [])

    def test_size_unknown(self) -> None:
        """As long as the size is not known one part follows the other, and a short one is the last."""
        receiving = self.begin(self.pool)
        receiving.part(0, 5)
        for first in (5, 6):
            with self.assertRaises(BadValue):
                receiving.part(first, 5)
        receiving.abandon()

    def test_pipe_in_parts(self) -> None:
        """A pipe goes on in the next part where the last one ended."""
        receiving = self.begin(self.pool)
        read_fd, write_fd = os.pipe()
        threading.Thread(target=_write_all, args=(write_fd, self.content)).start()
        with closing(PipeSource(read_fd, extent_bytes=EXTENT)) as source:
            first = 0
            while not source.is_at_end:
                part = receiving.part(first, 33)
                feed(part, source.pieces(within=(first, first + 33)))  # type: ignore[arg-type]
                part.finish()
                first += 33
            with self.assertRaises(BadValue):
                receiving.part(first, 1)
            outcome = receiving.commit(source.size_bytes or 0, source.content_digest())
        self.assertTrue(outcome.published)
        self.assertEqual((self.store / "disk").read_bytes(), self.content)

    def test_sparse(self) -> None:
        """Holes in parts are holes, and cost nothing."""
        path = self.directory / "sparse"
        with path.open("wb") as file:
            file.truncate(COUNT * EXTENT)
            file.seek(100 * EXTENT)
            file.write(b"x" * EXTENT)
        self.source = self.open_file(path)
        self.content = path.read_bytes()
        receiving = self.begin_whole()
        self.assertEqual(self.fill_all(receiving, 3, 50), [])
        self.publish(receiving)
        self.assertLessEqual((self.store / "disk").stat().st_blocks * 512, 4 * EXTENT)


def _write_all(fd: int, content: bytes) -> None:
    with open(fd, "wb") as pipe:
        pipe.write(content)
