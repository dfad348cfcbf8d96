"""
Names and what lies under them (docs/bad-inputs.md, P01 to P05, P07).
"""

from __future__ import annotations

import os
import socket
import threading
import time
from contextlib import closing
from pathlib import Path

from rpcstream.errors import (
    ConfigurationError,
    NameExists,
    NameNotFound,
    NameRefused,
    NotRegular,
    StorageError,
)
from rpcstream.storage import Pool, Receiving, check_name
from rpcstream.storage.system_calls import rename_exchange
from tests.storage.faults import FaultyFiles
from tests.storage.support import EXTENT, StorageTestCase

REFUSED = [
    "", ".", "..", "../x", "/etc/passwd", "a/../../x", "a/b", "a" * 256, "é" * 128, "a\0b", "a\nb", "a\\b",
    ".hidden", ".rpcstream", "a\x1b[31m", "a\x7f", "a\x85b", "\udcff", "a\u2028b",
]  # fmt: skip


class NameTests(StorageTestCase):
    """Which names are refused, and what is not served."""

    def test_refused(self) -> None:
        """P01 to P03: every method refuses what is not a plain name."""
        pool = self.make_pool()
        for name in REFUSED:
            for call in (
                pool.stat, pool.remove, pool.open_source, pool.existing, pool.new, pool.discard,
                lambda name: self.begin(pool, name),
            ):  # fmt: skip
                with self.assertRaises(NameRefused):
                    call(name)

    def test_accepted(self) -> None:
        """Everything else is a name, up to 255 bytes, and can be used as one."""
        pool = self.make_pool()
        for name in ("a", "a" * 255, "a b", "ü" * 127, "-x", "a.partial", "CON", "~", "a:b"):
            self.assertEqual(check_name(name), name)
            receiving = self.begin(pool, name, size_bytes=EXTENT)
            source = self.open_file(self.make_file("source", b"x" * EXTENT))
            self.assertTrue(self.send(source, receiving).published)
            self.assertEqual(pool.stat(name).size_bytes, EXTENT)

    def test_not_regular(self) -> None:
        """P04: links, directories, FIFOs and sockets are neither served nor replaced."""
        outside = self.make_file("outside", b"secret")
        os.symlink(outside.resolve(), self.store / "absolute")
        os.symlink("../outside", self.store / "relative")
        os.symlink("nowhere", self.store / "dangling")
        os.link(outside, self.store / "hard")
        (self.store / "directory").mkdir()
        os.mkfifo(self.store / "fifo")
        names = ["absolute", "relative", "dangling", "hard", "directory", "fifo"]
        with socket.socket(socket.AF_UNIX) as server:
            if len(os.fspath(self.store)) < 80:
                server.bind(os.fspath(self.store / "socket"))
                names.append("socket")
        pool = self.make_pool()
        self.assertEqual(pool.entries(), [])
        for name in names:
            for call in (pool.stat, pool.remove, pool.open_source, pool.existing):
                with self.assertRaises(NotRegular):
                    call(name)
            with self.assertRaises(NotRegular):
                self.begin(pool, name, replace=True)
            with self.assertRaises((NotRegular, NameExists)):
                self.begin(pool, name)
            with self.assertRaises(NameExists):
                pool.new(name)
        self.assertEqual(outside.read_bytes(), b"secret")
        self.assertEqual(self.state_names(), [])

    def test_link_planted_meanwhile(self) -> None:
        """A link that appears at the name during a transfer is not followed when it is published."""
        outside = self.make_file("outside", b"secret")
        pool = self.make_pool()
        source = self.open_file(self.make_file("source", b"x" * EXTENT))
        for replace in (False, True):
            receiving = self.begin(pool, size_bytes=EXTENT, replace=replace)
            os.symlink(outside.resolve(), self.store / "disk")
            with self.assertRaises(NotRegular if replace else NameExists):
                self.send(source, receiving)
            receiving.remove()
            self.assertEqual(outside.read_bytes(), b"secret")
            (self.store / "disk").unlink()
        self.assertEqual(self.state_names(), [])

    def test_swapped_while_opening(self) -> None:
        """P05: a name that changes between file and link is never followed out of the pool."""
        outside = self.make_file("outside", b"secret")
        inside = self.make_file("inside", b"public")
        pool = self.make_pool()
        done = threading.Event()

        def swap() -> None:
            while not done.is_set():
                os.symlink(outside.resolve(), self.store / ".link")
                os.rename(self.store / ".link", self.store / "disk")
                (self.store / ".file").write_bytes(b"public")
                os.rename(self.store / ".file", self.store / "disk")

        thread = threading.Thread(target=swap)
        thread.start()
        try:
            for _ in range(2000):
                try:
                    with pool.open_source("disk") as source:
                        self.assertEqual(
                            b"".join(p for p in source.pieces() if isinstance(p, bytes)), b"public"
                        )
                except StorageError:
                    continue
        finally:
            done.set()
            thread.join()
        self.assertEqual(inside.read_bytes(), b"public")

    def test_parents_swapped(self) -> None:
        """P05: a directory on the way that is exchanged for a link in a loop leads nowhere."""
        outside = self.directory / "outside"
        for name in ("", "partials", "journals", "records", "marks"):
            (outside / name).mkdir()
        before = self.tree(outside)
        self.make_pool().close()
        state = self.store / ".rpcstream"
        parents = [state, *(state / name for name in ("partials", "journals", "records", "marks"))]
        links = [parent.with_name(parent.name + ".link") for parent in parents]
        for parent, link in zip(parents, links, strict=True):
            link.symlink_to((outside if parent is state else outside / parent.name).resolve())
        directories = {parent: os.open(parent.parent, os.O_RDONLY) for parent in parents}
        done = threading.Event()

        def swap() -> None:
            while not done.is_set():
                for parent, link in zip(parents, links, strict=True):
                    for _ in range(2):
                        rename_exchange(parent.name, link.name, directories[parent], directories[parent])
                        time.sleep(0)

        thread = threading.Thread(target=swap)
        thread.start()
        counts = {True: 0, False: 0}
        stop = time.monotonic() + 2
        try:
            while time.monotonic() < stop:
                try:
                    with closing(Pool(self.store, extent_bytes=EXTENT, files=FaultyFiles())) as pool:
                        receiving = self.begin(pool, "disk", size_bytes=3, replace=True)
                        receiving.write(b"abc")
                        receiving.remove()
                    counts[True] += 1
                except (ConfigurationError, StorageError, OSError):
                    counts[False] += 1
        finally:
            done.set()
            thread.join()
            for fd in directories.values():
                os.close(fd)
        self.assertGreater(min(counts.values()), 10, counts)
        self.assertEqual(self.tree(outside), before)

    def test_pool_swapped(self) -> None:
        """P05: a pool that is open stays the directory that it was."""
        outside = self.directory / "outside"
        outside.mkdir()
        pool = self.make_pool()
        self.store.rename(self.directory / "away")
        self.store.symlink_to(outside.resolve())
        receiving = self.begin(pool, size_bytes=3)
        self.assertTrue(self.send(self.open_file(self.make_file("file", b"abc")), receiving).published)
        self.assertEqual((self.directory / "away" / "disk").read_bytes(), b"abc")
        self.assertEqual(self.tree(outside), [])

    def tree(self, folder: Path) -> list[str]:
        """All names below a directory."""
        return sorted(str(path.relative_to(folder)) for path in folder.rglob("*"))

    def test_exists(self) -> None:
        """P07: an existing name is refused at once, and again when it appears meanwhile."""
        (self.store / "disk").write_bytes(b"old")
        pool = self.make_pool()
        with self.assertRaises(NameExists):
            self.begin(pool)
        (self.store / "disk").unlink()
        receiving = self.begin(pool, size_bytes=0)
        (self.store / "disk").write_bytes(b"other")
        with self.assertRaises(NameExists):
            self.send(self.open_file(self.make_file("source", b"")), receiving)
        self.assertEqual((self.store / "disk").read_bytes(), b"other")

    def test_not_found(self) -> None:
        """A name that is not there."""
        pool = self.make_pool()
        for call in (pool.stat, pool.remove, pool.open_source, pool.existing, pool.discard):
            with self.assertRaises(NameNotFound):
                call("disk")

    def test_paths_for_user_code(self) -> None:
        """Paths are handed out for names that were checked."""
        pool = self.make_pool()
        self.assertEqual(pool.new("disk"), self.store / "disk")
        (self.store / "disk").write_bytes(b"x")
        self.assertEqual(pool.existing("disk"), self.store / "disk")

    def test_partial_is_private(self) -> None:
        """P12: the partial is 0600 in directories that are 0700, whatever the mode asked for."""
        pool = self.make_pool()
        receiving = self.begin(pool, size_bytes=EXTENT, mode=0o644)
        self.assertIsInstance(receiving, Receiving)
        state = self.store / ".rpcstream"
        self.assertEqual((state / "partials" / "disk").stat().st_mode & 0o7777, 0o600)
        for directory in (state, *state.iterdir()):
            self.assertEqual(directory.stat().st_mode & 0o7777, 0o700)
        self.send(self.open_file(self.make_file("source", b"x" * EXTENT)), receiving)
        self.assertEqual((self.store / "disk").stat().st_mode & 0o7777, 0o644)
