"""
The seam to the system, and files written aside.
"""

from __future__ import annotations

import errno
import os

from rpcstream.errors import BadState, NameExists
from rpcstream.storage import AsideFile, FileOperations, system_calls
from rpcstream.storage.files import PIECE_BYTES, read_exactly, write_all, zero_range
from tests.storage.faults import FaultyFiles, fail_nth
from tests.storage.support import StorageTestCase


class ShortFiles(FileOperations):
    """Reads and writes at most three bytes at a time."""

    def pread(self, fd: int, byte_count: int, offset: int) -> bytes:
        return super().pread(fd, min(3, byte_count), offset)

    def pwrite(self, fd: int, data: bytes | memoryview, offset: int) -> int:
        return super().pwrite(fd, data[:3], offset)


class StuckFiles(FileOperations):
    """Writes nothing."""

    def pwrite(self, fd: int, data: bytes | memoryview, offset: int) -> int:
        return 0


class FileTests(StorageTestCase):
    """Reading, writing, zeroing."""

    def setUp(self) -> None:
        super().setUp()
        self.fd = os.open(self.make_file("file", b"x" * 20000), os.O_RDWR)
        self.addCleanup(os.close, self.fd)

    def test_short(self) -> None:
        """D07: short reads and writes are gone on with."""
        files = ShortFiles()
        write_all(files, self.fd, b"0123456789", 5)
        self.assertEqual(read_exactly(files, self.fd, 12, 4), b"x0123456789x")
        self.assertEqual(read_exactly(files, self.fd, 10, 19996), b"xxxx")
        self.assertEqual(read_exactly(files, self.fd, 10, 30000), b"")
        with self.assertRaises(OSError) as caught:
            write_all(StuckFiles(), self.fd, b"x", 0)
        self.assertEqual(caught.exception.errno, errno.EIO)

    def test_in_memory(self) -> None:
        """A tmpfs is known by its type, as mount(8) tells it."""
        with open("/proc/self/mounts", encoding="ascii", errors="replace") as mounts:
            types = {words[1]: words[2] for words in (line.split() for line in mounts)}
        places = [place for place in ("/dev/shm", "/proc", "/") if place in types]
        self.assertIn("/proc", places)
        for place in places:
            fd = os.open(place, os.O_RDONLY | os.O_DIRECTORY)
            self.addCleanup(os.close, fd)
            self.assertEqual(FileOperations().is_in_memory(fd), types[place] == "tmpfs", place)
        self.assertFalse(FileOperations().is_in_memory(-1))

    def test_zero_range(self) -> None:
        """Zeros with or without the help of the file system."""
        for code in (None, errno.EOPNOTSUPP):
            os.pwrite(self.fd, b"x" * 20000, 0)
            files = FaultyFiles() if code is None else FaultyFiles(fail_nth({"punch"}, 0, code))
            zero_range(files, self.fd, 100, 10000)
            self.assertEqual(os.pread(self.fd, 20000, 0), b"x" * 100 + bytes(10000) + b"x" * 9900)
        with self.assertRaises(OSError):
            zero_range(FaultyFiles(fail_nth({"punch"}, 0)), self.fd, 0, 10)
        zero_range(FaultyFiles(fail_nth({"punch"}, 0, errno.EOPNOTSUPP)), self.fd, 0, 2 * PIECE_BYTES + 5)
        self.assertEqual(os.fstat(self.fd).st_size, 2 * PIECE_BYTES + 5)

    def test_missing_call(self) -> None:
        """A C library without the call is like a file system without the operation."""
        self.assertIsNone(system_calls._function("no_such_call_anywhere"))
        with self.assertRaises(OSError) as caught:
            system_calls._check(None)
        self.assertIn(caught.exception.errno, system_calls.UNSUPPORTED)

    def test_errno(self) -> None:
        """The errno of the calls comes through."""
        with self.assertRaises(OSError) as caught:
            system_calls.fallocate(-1, 0, 0, 1)
        self.assertEqual(caught.exception.errno, errno.EBADF)
        with self.assertRaises(NotADirectoryError):
            system_calls.rename_exchange("absent-1", "absent-2", self.fd, self.fd)


class AsideTests(StorageTestCase):
    """Files for user code."""

    def names(self) -> list[str]:
        """What is in the directory."""
        return sorted(os.listdir(self.store))

    def test_commit(self) -> None:
        """The name appears with the whole content, or not at all."""
        path = self.store / "file"
        for replace in (False, True):
            with AsideFile(path, replace=replace, mode=0o640) as file:
                self.assertEqual(os.fstat(file.fileno()).st_mode & 0o777, 0o600)
                file.write(b"abc")
                file.write_hole(10000)
                file.write(b"end")
                self.assertEqual(file.size_bytes, 10006)
                file.commit()
                with self.assertRaises(BadState):
                    file.write(b"x")
            self.assertEqual(path.read_bytes(), b"abc" + bytes(10000) + b"end")
            self.assertEqual(path.stat().st_mode & 0o777, 0o640)
            self.assertEqual(self.names(), ["file"])
        with AsideFile(path, replace=False) as file, self.assertRaises(NameExists):
            file.commit()
        self.assertEqual(self.names(), ["file"])

    def test_removed(self) -> None:
        """What is not committed is removed."""
        with AsideFile(self.store / "file") as file:
            file.write(b"abc")
        self.assertEqual(self.names(), [])
        file.remove()

    def test_every_step_fails(self) -> None:
        """An error, and no file left behind."""
        for replace in (False, True):
            for number in range(100):
                files = FaultyFiles()
                files.rule = lambda at, name, number=number: OSError(errno.EIO, "") if at == number else None
                try:
                    with AsideFile(self.store / "file", replace=replace, files=files) as file:
                        file.write(b"abc")
                        file.commit()
                except OSError:
                    if not replace:
                        self.assertEqual(self.names(), [])
                else:
                    self.assertEqual((self.store / "file").read_bytes(), b"abc")
                    if len(files.calls) <= number:
                        break
                for name in self.names():
                    os.unlink(self.store / name)
                self.assertEqual(files.open_fds, set())
            (self.store / "file").unlink(missing_ok=True)
