"""
Journals and records that are torn, stale or not ours.
"""

from __future__ import annotations

import os
import zlib

from rpcstream.errors import NameBusy
from rpcstream.storage import records as records_module
from rpcstream.storage.files import FileOperations
from rpcstream.storage.journal import Header, Journal, replay
from rpcstream.storage.layout import Layout
from rpcstream.storage.recorder import Run
from rpcstream.storage.records import Record, Records
from tests.storage.support import StorageTestCase

HEADER = Header("alice", bytes(16), 1000, 7, 10)
RUNS = [Run(0, 1, 10, b"a" * 32), Run(2, 50, 10, b"b" * 32), Run(99, 1, 10, b"c" * 32)]


class JournalTests(StorageTestCase):
    """Journals."""

    def setUp(self) -> None:
        super().setUp()
        self.layout = Layout(self.store, None, FileOperations())
        self.addCleanup(self.layout.close)
        self.path = self.store / ".rpcstream" / "journals" / "disk"

    def write(self) -> bytes:
        """A journal with some of everything."""
        journal = Journal.lock(self.layout, "disk")
        journal.start(HEADER)
        journal.add(RUNS)
        journal.forget([(10, 20)])
        journal.close()
        return self.path.read_bytes()

    def held(self, size: int | None = 1000) -> bytes:
        """The flags that the journal gives, after opening it as a writer does."""
        journal = Journal.lock(self.layout, "disk")
        try:
            return bytes(journal.replay(size, 10).flags)
        finally:
            journal.close()

    def test_round_trip(self) -> None:
        """What was written is read."""
        self.write()
        flags = self.held()
        expected = {0, *range(2, 52), 99} - set(range(10, 20))
        self.assertEqual({index for index, flag in enumerate(flags) if flag}, expected)

    def test_torn_at_each_byte(self) -> None:
        """Cut anywhere, or with a byte changed: all records before are good, none after."""
        data = self.write()
        sizes = set()
        for length in range(len(data)):
            self.path.write_bytes(data[:length])
            sizes.add(sum(self.held()))
            self.path.write_bytes(data[:length] + bytes([data[length] ^ 1]) + data[length + 1 :])
            sizes.add(sum(self.held()))
        self.assertEqual(sizes, {0, 1, 51, 52})

    def test_no_resurrection(self) -> None:
        """A whole record behind a torn one does not come to life when something is written between."""
        journal = Journal.lock(self.layout, "disk")
        journal.start(HEADER)
        start = self.path.stat().st_size
        for run in RUNS:
            journal.add([run])
        journal.close()
        with self.path.open("r+b") as file:
            file.seek(start)
            file.write(b"\0" * 8)
        journal = Journal.lock(self.layout, "disk")
        journal.add([RUNS[0]])
        journal.close()
        self.assertEqual(sum(self.held()), 1)

    def test_other_sizes(self) -> None:
        """Claims serve content of another size as far as their extents are the same."""
        journal = Journal.lock(self.layout, "disk")
        journal.start(HEADER._replace(size_bytes=45))
        journal.add([Run(0, 4, 10, b"a" * 32), Run(4, 1, 5, b"b" * 32)])
        journal.close()
        for size, count in (
            (45, 5),
            (46, 4),
            (50, 4),
            (40, 4),
            (39, 3),
            (44, 4),
            (0, 0),
            (1000, 4),
            (None, 4),
        ):
            self.assertEqual(sum(self.held(size)), count, size)

    def test_unknown_records(self) -> None:
        """A header that is not one makes the journal one of nothing; so does its absence."""
        data = self.write()
        journal = Journal.lock(self.layout, "disk")
        journal.start(HEADER)
        journal._append(data[:0])
        journal.close()
        for body in (b"{}", b"[]", b"nonsense", b'{"transfer_id": 5}', b'{"transfer_id": "zz"}', b'{"a": 1}'):
            journal = Journal.lock(self.layout, "disk")
            journal._size_bytes = 0

            class Wrong(Header):
                def encode(self, body: bytes = body) -> bytes:
                    return body

            journal.start(Wrong(*HEADER))
            journal.close()
            journal = Journal.lock(self.layout, "disk")
            self.assertIsNone(journal.header)
            journal.close()
        journal = Journal.lock(self.layout, "disk")
        journal.add(RUNS)
        journal.close()
        journal = Journal.lock(self.layout, "disk")
        self.assertIsNone(journal.header)
        journal.remove()
        journal.remove()
        self.assertFalse(self.path.exists())

    def test_lock(self) -> None:
        """Locked once; free when closed; and not what was removed meanwhile."""
        journal = Journal.lock(self.layout, "disk")
        with self.assertRaises(NameBusy):
            Journal.lock(self.layout, "disk")
        self.path.unlink()
        other = Journal.lock(self.layout, "disk")
        other.close()
        journal.close()

    def test_removed_between_open_and_lock(self) -> None:
        """Who locks a journal that was just removed tries again."""
        first = True
        path = self.path

        class Racing(FileOperations):
            def lock(self, fd: int) -> bool:
                nonlocal first
                if first:
                    path.unlink()
                first = False
                return super().lock(fd)

        self.layout.files = Racing()
        journal = Journal.lock(self.layout, "disk")
        self.assertTrue(self.path.exists())
        journal.close()

    def test_long(self) -> None:
        """A journal longer than one read."""
        journal = Journal.lock(self.layout, "disk")
        journal.start(HEADER._replace(size_bytes=None))
        for start in range(0, 40_000, 10_000):
            journal.add(Run(index, 1, 10, b"d" * 32) for index in range(start, start + 10_000))
        self.assertGreater(self.path.stat().st_size, 1 << 20)
        fd = os.open(self.path, os.O_RDONLY)
        self.assertEqual(replay(FileOperations(), fd, None, 10).known_count, 40_000)
        os.close(fd)
        journal.close()

    def test_torn_record(self) -> None:
        """A record of a name is whole or not there."""
        records = Records(self.layout)
        record = Record(b"d" * 32, b"t" * 16, "alice", 5, 6, 7, 8.0)
        records.write("disk", record)
        self.assertEqual(records.read("disk"), record)
        path = self.store / ".rpcstream" / "records" / "disk"
        data = path.read_bytes()
        for length in range(len(data) - 1):
            self.assertIsNone(Record.decode(data[:length]))
        path.write_bytes(Record.encode(record)[:20])
        self.assertIsNone(records.read("disk"))
        self.assertIsNone(records.read("other"))
        os.unlink(path)
        os.symlink("elsewhere", path)
        self.assertIsNone(records.read("disk"))
        records.remove("other")

    def test_record_of_other_shape(self) -> None:
        """Whole, but not a record."""
        for body in (b"[]", b"{", b"{}", b'{"digest": "00", "transfer_id": "00"}'):
            self.assertIsNone(Record.decode(b"%08x %s\n" % (zlib.crc32(body), body)))

    def test_written_by_another_process(self) -> None:
        """A transfer that another process finished is found, also under a name known before."""
        here, there = Records(self.layout), Records(self.layout)
        record = Record(b"d" * 32, b"1" * 16, "alice", 5, 6, 7, 8.0)
        there.write("disk", record)
        self.assertEqual(here.find(b"1" * 16, 0.0), ("disk", record))
        there.write("disk", record._replace(transfer_id=b"2" * 16))
        found = here.find(b"2" * 16, 0.0)
        assert found is not None
        self.assertEqual(found[0], "disk")
        self.assertIsNone(here.find(b"1" * 16, 0.0))
        self.assertIsNone(here.find(b"2" * 16, 9.0))
        os.utime(self.store / ".rpcstream" / "records", (1, 1))
        self.assertIsNone(here.find(b"3" * 16, 0.0))
        self.assertIsNone(here.find(b"3" * 16, 0.0))

    def test_known_transfers_are_bounded(self) -> None:
        """Memory does not grow with every transfer."""
        self.patch(records_module, "_KNOWN_COUNT", 2)
        records = Records(self.layout)
        for number in range(5):
            records.write(f"disk{number}", Record(b"d" * 32, bytes([number]) * 16, "alice", 5, 6, 7, 8.0))
        self.assertLessEqual(len(records._names), 2)
        self.assertIsNotNone(records.find(bytes(16), 0.0))
