"""
Transfers that are cut, resumed, fenced, wrong or late.
"""

from __future__ import annotations

import contextlib
import errno
import os
import random
import subprocess
import sys
import threading
import time
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from rpcstream.errors import BadState, DigestMismatch, NameBusy, SizeMismatch, TransferFenced
from rpcstream.limits import Limits
from rpcstream.storage import CommitOutcome, Finished, Hole, Pool, Receiving, bitmap_of, indexes_of, open_path
from tests.storage.faults import FaultyFiles, fail_nth
from tests.storage.support import EXTENT, StorageTestCase, feed, transfer, transfer_id

LIMITS = Limits(sync_bytes=2 * EXTENT)
MIB4 = 4 << 20


def make_sparse(path: Path, parts: list[tuple[int, int]]) -> int:
    """Write a file of extents: seeds of random bytes, 0 for a hole; each with a length."""
    with path.open("wb") as file:
        offset = 0
        for seed, length in parts:
            if seed:
                file.seek(offset)
                file.write(random.Random(seed).randbytes(length))
            offset += length
        file.truncate(offset)
    return offset


class ResumeTests(StorageTestCase):
    """Interruptions of every kind end in equal content."""

    @settings(max_examples=40, derandomize=True, deadline=None, database=None)
    @given(
        st.lists(st.tuples(st.integers(0, 3), st.integers(0, 3 * EXTENT)), max_size=8),
        st.lists(st.integers(0, 12 * EXTENT), max_size=4),
        st.booleans(),
        st.integers(1, 3 * EXTENT),
    )
    def test_random_interruptions(
        self, parts: list[tuple[int, int]], cuts: list[int], sparse: bool, packet_bytes: int
    ) -> None:
        """Cut at random places, resumed each time: content, digest and blocks are right."""
        path = self.directory / "source"
        size = make_sparse(path, parts)
        pool = Pool(self.store, extent_bytes=EXTENT, limits=LIMITS, files=FaultyFiles())
        durable = 0
        for cut in cuts:
            receiving = self.begin(pool, size_bytes=size, sparse=sparse, replace=True)
            self.assertGreaterEqual(receiving.durable_bytes, durable)
            source = open_path(path, extent_bytes=EXTENT)
            pieces = source.pieces(receiving.held.bitmap, packet_bytes, sparse=sparse)
            for piece in pieces:
                if receiving.received_bytes >= cut:
                    break
                feed(receiving, [piece])
            pieces.close()
            source.close()
            durable = receiving.durable_bytes
            receiving.abandon()
        receiving = self.begin(pool, size_bytes=size, sparse=sparse, replace=True)
        source = open_path(path, extent_bytes=EXTENT)
        held_bytes = receiving.durable_bytes
        transfer(source, receiving, packet_bytes=packet_bytes, sparse=sparse)
        self.assertEqual(source.sent_bytes, size - held_bytes)
        self.assertEqual(source.verify(receiving.held), b"")
        outcome = receiving.commit(size, source.content_digest())
        source.close()
        self.assertTrue(outcome.published)
        target = self.store / "disk"
        self.assertEqual(target.read_bytes(), path.read_bytes())
        if sparse:
            self.assertLessEqual(target.stat().st_blocks, path.stat().st_blocks)
        pool.remove("disk")
        pool.close()

    def test_sizes_with_real_extents(self) -> None:
        """0, 1 and around one extent of 4 MiB, known and unknown, cut once in the middle."""
        pool = self.make_pool(extent_bytes=MIB4, limits=LIMITS)
        content = random.Random(1).randbytes(MIB4 + 1)
        for size in (0, 1, MIB4 - 1, MIB4, MIB4 + 1):
            path = self.make_file("source", content[:size])
            for known in (True, False):
                name = f"disk-{size}-{known}"
                declared = size if known else None
                receiving = self.begin(pool, name, size_bytes=declared)
                feed(receiving, [content[: size // 2]])
                receiving.abandon()
                receiving = self.begin(pool, name, size_bytes=declared)
                self.assertTrue(self.send(self.open_file(path, extent_bytes=MIB4), receiving).published)
                self.assertEqual((self.store / name).read_bytes(), content[:size])

    def test_writeback(self) -> None:
        """Writing begins before the sync; where it cannot be asked for, the sync does it all."""
        content = os.urandom(3 << 20)
        path = self.make_file("source", content)
        for code in (None, errno.EINVAL, errno.EIO):
            files = FaultyFiles() if code is None else FaultyFiles(fail_nth({"start_writeback"}, 0, code))
            pool = self.make_pool(files=files)
            receiving = self.begin(pool, f"disk{code}", size_bytes=len(content))
            if code == errno.EIO:
                with self.assertRaises(OSError):
                    self.send(self.open_file(path), receiving)
            else:
                self.assertTrue(self.send(self.open_file(path), receiving).published)
                self.assertEqual(files.calls.count("start_writeback"), 3)

    def test_adopted_by_another_transfer(self) -> None:
        """A partial of the same owner serves another transfer, as claims; what differs comes again."""
        content = os.urandom(6 * EXTENT)
        pool = self.make_pool(limits=LIMITS)
        receiving = self.begin(pool, size_bytes=len(content))
        receiving.write(content[: 4 * EXTENT])
        receiving.abandon()
        # The second content is shorter and differs in extent 1.
        other = content[:EXTENT] + os.urandom(EXTENT) + content[2 * EXTENT : 5 * EXTENT + 9]
        source = self.open_file(self.make_file("source", other))
        receiving = self.begin(pool, size_bytes=len(other), transfer_id=transfer_id(2))
        self.assertEqual(indexes_of(receiving.held.bitmap), [0, 1, 2, 3])
        transfer(source, receiving)
        different = source.verify(receiving.held)
        self.assertEqual(indexes_of(different), [1])
        with self.assertRaises(DigestMismatch):
            receiving.commit(len(other), source.content_digest())
        receiving = self.begin(pool, size_bytes=len(other), transfer_id=transfer_id(2), discard=different)
        self.assertEqual(indexes_of(receiving.held.bitmap), [0, 2, 3, 4, 5])
        self.assertTrue(self.send(source, receiving).published)
        self.assertEqual((self.store / "disk").read_bytes(), other)

    def test_other_owner(self) -> None:
        """Nobody is shown, or given, the partial of another owner."""
        pool = self.make_pool(limits=LIMITS)
        receiving = self.begin(pool, size_bytes=4 * EXTENT)
        receiving.write(bytes([1]) * 2 * EXTENT)
        receiving.abandon()
        with self.assertRaises(NameBusy):
            self.begin(pool, size_bytes=4 * EXTENT, owner="mallory")
        pool.discard("disk")
        self.assertEqual(self.begin(pool, size_bytes=4 * EXTENT, owner="mallory").held.bitmap, b"")

    def test_rotten_partial(self) -> None:
        """D08: what rotted on the disk is noticed, reported as missing, and comes again."""
        content = os.urandom(6 * EXTENT)
        source = self.open_file(self.make_file("source", content))
        pool = self.make_pool(limits=LIMITS)
        receiving = self.begin(pool, size_bytes=len(content))
        receiving.write(content[: 4 * EXTENT])
        receiving.abandon()
        with (self.store / ".rpcstream" / "partials" / "disk").open("r+b") as file:
            file.seek(2 * EXTENT + 5)
            file.write(b"rot")
        receiving = self.begin(pool, size_bytes=len(content))
        outcome = self.send(source, receiving)
        self.assertEqual(outcome, CommitOutcome(False, None, bitmap_of([2])))
        self.assertEqual(receiving.durable_bytes, 5 * EXTENT)
        receiving = self.begin(pool, size_bytes=len(content), discard=outcome.missing)
        self.assertEqual(indexes_of(receiving.held.bitmap), [0, 1, 3, 4, 5])
        self.assertTrue(self.send(source, receiving).published)
        self.assertEqual((self.store / "disk").read_bytes(), content)

    def test_stale_bytes_become_holes(self) -> None:
        """A hole over what an earlier stream wrote reads as zeros."""
        pool = self.make_pool(limits=LIMITS)
        receiving = self.begin(pool, size_bytes=4 * EXTENT)
        receiving.write(os.urandom(3 * EXTENT + 100))
        receiving.abandon()
        path = self.directory / "source"
        make_sparse(path, [(0, 4 * EXTENT)])
        source = self.open_file(path)
        receiving = self.begin(pool, size_bytes=4 * EXTENT, discard=b"\xff")
        self.assertEqual(receiving.held.bitmap, b"")
        self.assertTrue(self.send(source, receiving).published)
        self.assertEqual((self.store / "disk").read_bytes(), bytes(4 * EXTENT))
        self.assertEqual((self.store / "disk").stat().st_blocks, 0)

    def test_download_learns_its_size(self) -> None:
        """A size that comes with the offer: held extents that do not fit come again."""
        content = os.urandom(5 * EXTENT)
        pool = self.make_pool(limits=LIMITS)
        receiving = self.begin(pool)
        receiving.write(content)
        receiving.abandon()
        receiving = self.begin(pool)
        self.assertEqual(indexes_of(receiving.held.bitmap), [0, 1, 2, 3, 4])
        shorter = content[: 3 * EXTENT + 10]
        source = self.open_file(self.make_file("source", shorter))
        receiving.declare(len(shorter), sparse=False)
        with self.assertRaises(BadState):
            receiving.declare(len(shorter), sparse=False)
        self.assertEqual(indexes_of(source.verify(receiving.held)), [3, 4])
        outcome = self.send(source, receiving)
        self.assertEqual(outcome.missing, bitmap_of([3]))
        receiving = self.begin(pool, size_bytes=len(shorter), discard=outcome.missing)
        self.assertTrue(self.send(source, receiving).published)
        self.assertEqual((self.store / "disk").read_bytes(), shorter)

    def test_unknown_size_that_shrinks(self) -> None:
        """With no size known, what was held past the end does not count."""
        content = os.urandom(5 * EXTENT)
        pool = self.make_pool(limits=LIMITS)
        receiving = self.begin(pool)
        receiving.write(content)
        receiving.abandon()
        shorter = content[: 2 * EXTENT]
        source = self.open_file(self.make_file("source", shorter))
        receiving = self.begin(pool)
        self.assertTrue(self.send(source, receiving).published)
        self.assertEqual((self.store / "disk").read_bytes(), shorter)

    def test_verify_can_be_cancelled(self) -> None:
        """What verify_held did not get to, commit does."""
        content = os.urandom(4 * EXTENT)
        pool = self.make_pool(limits=LIMITS)
        receiving = self.begin(pool, size_bytes=len(content))
        receiving.write(content)
        receiving.abandon()
        receiving = self.begin(pool, size_bytes=len(content))
        with (self.store / ".rpcstream" / "partials" / "disk").open("r+b") as file:
            file.write(b"rot")
        self.assertEqual(receiving.verify_held(lambda: True), b"")
        outcome = self.send(self.open_file(self.make_file("source", content)), receiving)
        self.assertEqual(outcome.missing, bitmap_of([0]))


class RefusalTests(StorageTestCase):
    """Peers that send too much, too little, or the wrong thing."""

    def test_too_much(self) -> None:
        """S10, S12: one byte or one hole more than declared ends the transfer, unpublished."""
        pool = self.make_pool()
        for surplus in (b"x", Hole(1), Hole(1 << 40)):
            receiving = self.begin(pool, size_bytes=EXTENT)
            receiving.write(bytes([1]) * EXTENT)
            with self.assertRaises(SizeMismatch):
                feed(receiving, [surplus])
            with self.assertRaises(SizeMismatch):
                receiving.commit(EXTENT, bytes(32))
            self.assertFalse((self.store / "disk").exists())
            receiving.remove()
        receiving = self.begin(pool, size_bytes=EXTENT)
        with self.assertRaises(SizeMismatch):
            receiving.write(bytes(EXTENT + 1))
        receiving.remove()

    def test_too_little(self) -> None:
        """S25: short by one byte."""
        pool = self.make_pool()
        receiving = self.begin(pool, size_bytes=EXTENT)
        receiving.write(bytes(EXTENT - 1))
        with self.assertRaises(SizeMismatch):
            receiving.commit(EXTENT, bytes(32))
        receiving.remove()
        receiving = self.begin(pool)
        receiving.write(bytes(EXTENT - 1))
        for size in (EXTENT, EXTENT - 2, 0):
            with self.assertRaises(SizeMismatch):
                receiving.commit(size, bytes(32))

    def test_data_after_finish(self) -> None:
        """What comes after the end is refused."""
        receiving = self.begin(self.make_pool())
        receiving.write(b"x")
        receiving.finish()
        receiving.finish()
        with self.assertRaises(SizeMismatch):
            receiving.write(b"y")

    def test_sizes_differ(self) -> None:
        """The size in COMMIT is not the one declared."""
        receiving = self.begin(self.make_pool(), size_bytes=1)
        receiving.write(b"x")
        with self.assertRaises(SizeMismatch):
            receiving.commit(2, bytes(32))

    def test_digest_differs(self) -> None:
        """S24: unpublished; and then right, published."""
        pool = self.make_pool()
        content = os.urandom(2 * EXTENT)
        source = self.open_file(self.make_file("source", content))
        receiving = self.begin(pool, size_bytes=len(content))
        transfer(source, receiving)
        with self.assertRaises(DigestMismatch):
            receiving.commit(len(content), bytes(32))
        self.assertFalse((self.store / "disk").exists())
        outcome = receiving.commit(len(content), source.content_digest())
        self.assertTrue(outcome.published)
        # COMMIT again, on the same object: the same answer, but only for the same content.
        self.assertEqual(receiving.commit(len(content), source.content_digest()), outcome)
        with self.assertRaises(DigestMismatch):
            receiving.commit(len(content), bytes(32))


class WriterTests(StorageTestCase):
    """One writer for each name (I4, P08)."""

    def test_second_writer(self) -> None:
        """Another transfer of the name is refused, in this pool object and in another."""
        pool, other = self.make_pool(), self.make_pool()
        self.begin(pool)
        with self.assertRaises(NameBusy):
            self.begin(pool, transfer_id=transfer_id(2))
        with self.assertRaises(NameBusy):
            self.begin(pool, owner="bob")
        with self.assertRaises(NameBusy):
            self.begin(other)
        with self.assertRaises(NameBusy):
            other.discard("disk")
        self.assertEqual([entry.active for entry in other.partials()], [True])

    def test_same_moment(self) -> None:
        """P08: of many at the same moment exactly one wins."""
        pools = [self.make_pool(), self.make_pool()]
        for round_number in range(10):
            barrier = threading.Barrier(6)
            won: list[Receiving] = []

            def compete(number: int, name: str, barrier: threading.Barrier, won: list[Receiving]) -> None:
                barrier.wait()
                with contextlib.suppress(NameBusy):
                    won.append(self.begin(pools[number % 2], name, transfer_id=transfer_id(number)))

            threads = [
                threading.Thread(target=compete, args=(number, f"disk{round_number}", barrier, won))
                for number in range(6)
            ]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
            self.assertEqual(len(won), 1)
            won[0].remove()

    def test_other_process(self) -> None:
        """A writer in another process counts, until it dies."""
        script = (
            "import sys; from rpcstream.storage import Pool\n"
            "pool = Pool(sys.argv[1], extent_bytes=4096)\n"
            "r = pool.begin('disk', size_bytes=8192, sparse=True, replace=False, mode=None,"
            " owner='alice', transfer_id=bytes(16))\n"
            "r.write(b'x' * 4096); r._intake.sync(); print('ready', flush=True); sys.stdin.read()"
        )
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
        with subprocess.Popen(
            [sys.executable, "-c", script, os.fspath(self.store)],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            env=environment,
        ) as process:
            assert process.stdout is not None
            self.assertEqual(process.stdout.readline(), b"ready\n")
            pool = self.make_pool()
            with self.assertRaises(NameBusy):
                self.begin(pool, size_bytes=2 * EXTENT)
            process.kill()
        self.assertEqual(self.begin(pool, size_bytes=2 * EXTENT).held.bitmap, b"\x01")

    def test_fenced(self) -> None:
        """The same transfer begun again takes over; the old stream is told so."""
        pool = self.make_pool(limits=LIMITS)
        old = self.begin(pool, size_bytes=4 * EXTENT)
        old.write(bytes([1]) * 2 * EXTENT + b"x")
        new = self.begin(pool, size_bytes=4 * EXTENT)
        self.assertEqual(new.held.bitmap, b"\x03")
        for call in (
            lambda: old.write(b"x"), lambda: old.write_hole(1), old.finish, old.verify_held,
            lambda: old.commit(4 * EXTENT, bytes(32)),
        ):  # fmt: skip
            with self.assertRaises(TransferFenced):
                call()
        old.abandon()
        self.assertFalse(old.remove())
        new.write(bytes([1]) * 2 * EXTENT)

    def test_fenced_while_verifying(self) -> None:
        """A verification that runs in another thread gives way."""
        pool = self.make_pool(limits=LIMITS)
        receiving = self.begin(pool, size_bytes=4 * EXTENT)
        receiving.write(bytes([1]) * 4 * EXTENT)
        receiving.abandon()
        old = self.begin(pool, size_bytes=4 * EXTENT)
        entered, go = threading.Event(), threading.Event()
        caught: list[Exception] = []

        def cancelled() -> bool:
            entered.set()
            go.wait(10)
            return False

        def verify() -> None:
            try:
                old.verify_held(cancelled)
            except TransferFenced as error:
                caught.append(error)

        thread = threading.Thread(target=verify)
        thread.start()
        entered.wait(10)
        starting = threading.Thread(target=lambda: self.begin(pool, size_bytes=4 * EXTENT))
        starting.start()
        while old._end is None:
            pass
        go.set()
        thread.join()
        starting.join()
        self.assertEqual(len(caught), 1)

    def test_ended(self) -> None:
        """Nothing can be done with a transfer that was abandoned, committed or removed."""
        pool = self.make_pool()
        for end in (Receiving.abandon, Receiving.remove):
            receiving = self.begin(pool, size_bytes=1)
            end(receiving)
            with self.assertRaises(BadState):
                receiving.write(b"x")
            self.assertEqual(self.state_names(), [])

    def test_cancel_during_commit(self) -> None:
        """S26: published and OK, or unpublished and an error, never both."""
        content = os.urandom(EXTENT)
        path = self.make_file("source", content)
        pool = self.make_pool()
        began = time.monotonic()
        self.send(self.open_file(path), self.begin(pool, "undisturbed", size_bytes=EXTENT))
        seconds = time.monotonic() - began
        outcomes = set()
        for number in range(30):
            source = self.open_file(path)
            name = f"disk{number}"
            # From at once to about when it ends; the last one surely after that.
            delay = number * seconds / 25 if number < 29 else 20 * seconds
            receiving = self.begin(pool, name, size_bytes=EXTENT)
            transfer(source, receiving)
            digest = source.content_digest()
            removed: list[bool] = []
            timer = threading.Timer(delay, lambda r=receiving, d=removed: d.append(r.remove()))
            timer.start()
            try:
                published = receiving.commit(EXTENT, digest).published
            except BadState:
                published = False
            timer.join()
            self.assertEqual(removed, [not published])
            self.assertEqual((self.store / name).exists(), published)
            outcomes.add(published)
        self.assertIn(True, outcomes)
        self.assertEqual(self.state_names(), [])

    def test_repeated(self) -> None:
        """A transfer that is complete says so, for its owner, while the file is unchanged, for 7 days."""
        now = [1e9]
        pool = self.make_pool(clock=lambda: now[0])
        source = self.open_file(self.make_file("source", b"x" * EXTENT))
        digest = self.send(source, self.begin(pool, size_bytes=EXTENT)).digest
        assert digest is not None
        expected = Finished("disk", digest, EXTENT, "alice")
        for each in (pool, self.make_pool(clock=lambda: now[0])):
            self.assertEqual(self.begin_any(each, size_bytes=EXTENT), expected)
            self.assertEqual(each.finished(transfer_id()), expected)
            self.assertIsNone(each.finished(transfer_id(2)))
            self.assertIsNone(each.finished(transfer_id(2)))
        for options in ({"owner": "bob"}, {"transfer_id": transfer_id(2)}):
            self.begin(pool, size_bytes=EXTENT, replace=True, **options).remove()
        now[0] += 8 * 86400
        self.assertIsNone(pool.finished(transfer_id()))
        self.begin(pool, size_bytes=EXTENT, replace=True).remove()
        now[0] -= 8 * 86400
        self.assertEqual(pool.finished(transfer_id()), expected)
        with (self.store / "disk").open("r+b") as file:
            file.write(b"y")
        self.assertIsNone(pool.finished(transfer_id()))
        self.assertIsNone(pool.stat("disk").digest)
        self.begin(pool, size_bytes=EXTENT, replace=True)
