"""
Every single operation of a transfer fails, or is the last before a kill.
"""

from __future__ import annotations

import errno
import os
import shutil
from collections.abc import Callable

from rpcstream.errors import RPCStreamError
from rpcstream.limits import Limits
from rpcstream.storage import Finished, Pool, Receiving
from tests.storage.faults import FaultyFiles, Killed, Rule, fail_at, fail_nth, kill_at
from tests.storage.support import EXTENT, OWNER, StorageTestCase, transfer_id

OLD = b"old content"
CONTENT = os.urandom(EXTENT) + bytes(2 * EXTENT) + os.urandom(2 * EXTENT + 100)
LIMITS = Limits(sync_bytes=EXTENT)


class InMemoryFiles(FaultyFiles):
    """On a tmpfs, wherever the tests run."""

    def is_in_memory(self, fd: int) -> bool:
        return True


class FaultTests(StorageTestCase):
    """
    After every fault: the name shows the old or the whole new content; success
    means published; and a retry completes the transfer and leaves nothing behind.
    """

    is_poisoning = False

    def setUp(self) -> None:
        super().setUp()
        self.source_path = self.make_file("source", b"")
        with self.source_path.open("r+b") as file:
            file.write(CONTENT[:EXTENT])
            file.seek(3 * EXTENT)
            file.write(CONTENT[3 * EXTENT :])

    def reset(self, *, replace: bool, resume: bool) -> None:
        """Make the store what it is before each run."""
        shutil.rmtree(self.store)
        self.store.mkdir()
        if replace:
            (self.store / "disk").write_bytes(OLD)
        if resume:
            pool = Pool(self.store, extent_bytes=EXTENT, limits=LIMITS, files=FaultyFiles())
            receiving = self.begin(pool, size_bytes=len(CONTENT), replace=replace)
            receiving.write(CONTENT[:EXTENT])
            receiving.write_hole(EXTENT)
            receiving.write(b"torn")
            pool.close()

    def run_transfer(self, files: FaultyFiles | None, replace: bool, *, sparse: bool = True) -> bool:
        """A whole transfer; true if it was reported as published."""
        files = files or FaultyFiles()
        pool = Pool(self.store, extent_bytes=EXTENT, limits=LIMITS, files=files)
        try:
            begun = self.begin_any(pool, size_bytes=len(CONTENT), replace=replace, sparse=sparse)
            if isinstance(begun, Finished):
                return True
            source = self.open_file(self.source_path)
            try:
                return self.send(source, begun).published
            except RPCStreamError:
                raise
            except OSError as error:
                if self.is_poisoning:
                    self.check_poisoned(begun, error)
                raise
            finally:
                source.close()
        finally:
            if not files.is_dead:
                pool.close()

    def check_poisoned(self, receiving: Receiving, error: OSError) -> None:
        """A transfer that failed does not succeed by being asked again."""
        with self.assertRaises(OSError) as caught:
            receiving.commit(len(CONTENT), bytes(32))
        self.assertIs(caught.exception, error)

    def check(self, succeeded: bool, replace: bool) -> None:
        """The promises, then a retry without faults."""
        path = self.store / "disk"
        before = path.read_bytes() if path.exists() else None
        if succeeded:
            self.assertEqual(before, CONTENT)
        else:
            self.assertIn(before, (OLD if replace else None, CONTENT))
        self.assertTrue(self.run_transfer(None, replace))
        self.assertEqual(path.read_bytes(), CONTENT)
        self.assertEqual(path.stat().st_nlink, 1)
        self.assertEqual(self.state_names(), [])
        pool = Pool(self.store, extent_bytes=EXTENT, files=FaultyFiles())
        self.assertIsInstance(self.begin_any(pool, size_bytes=len(CONTENT)), Finished)
        self.assertEqual(pool.stat("disk").digest, self.digest)
        pool.close()

    def sweep(self, rule_of: Callable[[int], Rule], operations: set[str] | None, **options: bool) -> int:
        """Run with a fault at each operation in turn; the number of runs."""
        replace, sparse = options["replace"], options.get("sparse", True)
        self.reset(replace=replace, resume=options["resume"])
        counting = FaultyFiles()
        self.assertTrue(self.run_transfer(counting, replace, sparse=sparse))
        self.assertEqual(counting.open_fds, set())
        pool = Pool(self.store, extent_bytes=EXTENT, files=FaultyFiles())
        self.digest = pool.stat("disk").digest
        pool.close()
        count = len([name for name in counting.calls if operations is None or name in operations])
        for number in range(count):
            self.reset(replace=replace, resume=options["resume"])
            files = FaultyFiles(rule_of(number))
            try:
                succeeded = self.run_transfer(files, replace, sparse=sparse)
            except (OSError, RPCStreamError):
                succeeded = False
                self.assertEqual(files.open_fds, set(), f"operation {number}: {files.calls}")
                if not replace and operations is not None:
                    self.assertFalse((self.store / "disk").exists(), "an error, but published")
            except Killed:
                succeeded = False
            files.reap()
            self.check(succeeded, replace)
        return count

    def test_kill_at_every_step(self) -> None:
        """D01, D03: killed at any operation of a new transfer."""
        self.assertGreater(self.sweep(kill_at, None, replace=False, resume=False), 60)

    def test_kill_at_every_step_of_replacing(self) -> None:
        """D03: killed at any operation of a resumed transfer that replaces a file."""
        self.assertGreater(self.sweep(kill_at, None, replace=True, resume=True), 60)

    def test_error_at_every_step(self) -> None:
        """D06: each operation fails once, then works again."""
        self.sweep(fail_at, None, replace=False, resume=True)

    def test_error_at_every_step_of_replacing(self) -> None:
        """D06, with a file to replace."""
        self.sweep(fail_at, None, replace=True, resume=False)

    def test_fsync_fails(self) -> None:
        """D06: a failed fsync is a failed transfer, though the next one succeeds."""
        self.is_poisoning = True
        operations = {"fsync", "fdatasync"}
        self.sweep(lambda number: fail_nth(operations, number), operations, replace=False, resume=True)

    def test_disk_full(self) -> None:
        """D05: full at the n-th write or reservation, for all n, and from then on."""
        self.is_poisoning = True
        operations = {"pwrite", "reserve"}
        for code in (errno.ENOSPC, errno.EDQUOT):
            self.sweep(
                lambda number, code=code: fail_nth(operations, number, code, for_good=True),  # type: ignore[misc]
                operations,
                replace=False,
                resume=False,
                sparse=False,
            )

    def test_read_fails(self) -> None:
        """D06: the n-th read of what was kept fails."""
        self.sweep(lambda number: fail_nth({"pread"}, number), {"pread"}, replace=False, resume=True)

    def test_full_at_reserving_leaves_nothing(self) -> None:
        """A disk that is full is found before any data, and no partial stays."""
        files = FaultyFiles(fail_nth({"reserve"}, 0, errno.ENOSPC))
        pool = self.make_pool(files=files)
        with self.assertRaises(OSError) as caught:
            self.begin(pool, size_bytes=len(CONTENT), sparse=False)
        self.assertEqual(caught.exception.errno, errno.ENOSPC)
        self.assertEqual(self.state_names(), [])

    def test_without_fallocate(self) -> None:
        """Where nothing can be reserved the free space is looked at."""
        files = FaultyFiles(fail_nth({"reserve"}, 0, errno.EOPNOTSUPP, for_good=True))
        pool = self.make_pool(files=files)
        self.begin(pool, size_bytes=len(CONTENT), sparse=False).remove()
        with self.assertRaises(OSError) as caught:
            self.begin(pool, size_bytes=1 << 44, sparse=False)
        self.assertIn(caught.exception.errno, (errno.ENOSPC, errno.EFBIG))
        self.assertEqual(self.state_names(), [])

    def test_in_memory(self) -> None:
        """A tmpfs would fill what it reserves with zeros: nothing is, and the free space is looked at."""
        files = InMemoryFiles()
        pool = self.make_pool(files=files)
        receiving = self.begin(pool, size_bytes=len(CONTENT), sparse=False)
        self.assertNotIn("reserve", files.calls)
        receiving.remove()
        with self.assertRaises(OSError) as caught:
            self.begin(pool, size_bytes=1 << 44, sparse=False)
        self.assertIn(caught.exception.errno, (errno.ENOSPC, errno.EFBIG))
        self.assertEqual(self.state_names(), [])

    def test_without_exchange(self) -> None:
        """Where names cannot be exchanged a rename replaces the file."""
        self.reset(replace=True, resume=False)
        files = FaultyFiles(fail_nth({"exchange"}, 0, errno.EINVAL, for_good=True))
        self.assertTrue(self.run_transfer(files, True))
        self.assertIn("rename", files.calls)
        self.assertEqual((self.store / "disk").read_bytes(), CONTENT)
        self.assertEqual(self.state_names(), [])

    def test_directory_fsync_fails_without_exchange(self) -> None:
        """Then the old file is gone: an error is reported, and the next begin finishes."""
        self.reset(replace=True, resume=False)
        files = FaultyFiles()
        renamed = False

        def rule(number: int, name: str) -> OSError | None:
            nonlocal renamed
            renamed = renamed or name == "rename"
            if name == "exchange":
                return OSError(errno.EINVAL, "")
            return OSError(errno.EIO, "") if renamed and name == "fsync" else None

        files.rule = rule
        with self.assertRaises(OSError):
            self.run_transfer(files, True)
        self.assertTrue(self.run_transfer(None, True))
        self.assertEqual((self.store / "disk").read_bytes(), CONTENT)

    def test_order_of_publishing(self) -> None:
        """I1: data, journal, record, name, directory: each durable before the next."""
        files = FaultyFiles()
        pool = self.make_pool(files=files, limits=LIMITS)
        receiving = self.begin(pool, size_bytes=EXTENT)
        receiving.write(bytes([7]) * EXTENT)
        source = self.open_file(self.make_file("other", bytes([7]) * EXTENT))
        start = len(files.calls)
        receiving.commit(EXTENT, source.content_digest())
        steps = [name for name in files.calls[start:] if name not in ("fstat", "stat", "open", "close")]
        expected = "ftruncate fchmod fsync pwrite fsync rename fsync link fsync unlink unlink"
        self.assertEqual(steps, expected.split())
        data = [name for name in files.calls[:start] if name in ("pwrite", "fdatasync")]
        self.assertEqual(data[-4:], ["pwrite", "fdatasync", "pwrite", "fdatasync"])

    def test_abandon_after_failure_keeps_what_is_durable(self) -> None:
        """A failed sync is not journaled, what was before it is."""
        files = FaultyFiles()
        pool = self.make_pool(files=files, limits=LIMITS)
        receiving = self.begin(pool, size_bytes=4 * EXTENT)
        receiving.write(CONTENT[:EXTENT])
        files.rule = fail_nth({"fdatasync"}, 0)
        with self.assertRaises(OSError):
            receiving.write(CONTENT[:EXTENT])
        with self.assertRaises(OSError):
            receiving.write_hole(EXTENT)
        receiving.abandon()
        self.assertEqual(self.begin(pool, size_bytes=4 * EXTENT).held.bitmap, b"\x01")

    def test_abandon_fails(self) -> None:
        """A sync that fails while abandoning loses no more than that."""
        files = FaultyFiles()
        pool = self.make_pool(files=files, limits=LIMITS)
        receiving = self.begin(pool, size_bytes=4 * EXTENT)
        receiving.write(CONTENT[:EXTENT])
        receiving.write_hole(EXTENT)
        syncs = files.calls.count("fdatasync")
        files.rule = fail_nth({"fdatasync"}, 0)
        receiving.abandon()
        self.assertEqual(files.calls.count("fdatasync"), syncs + 1)
        resumed = pool.begin(
            "disk", size_bytes=4 * EXTENT, sparse=True, replace=False, mode=None,
            owner=OWNER, transfer_id=transfer_id(),
        )  # fmt: skip
        assert isinstance(resumed, Receiving)
        self.assertEqual(resumed.durable_bytes, EXTENT)
