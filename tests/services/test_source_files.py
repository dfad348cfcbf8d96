"""Which files a source service opens."""

from __future__ import annotations

import errno
import os
from pathlib import Path
from unittest.mock import patch

from twisted.trial.unittest import SynchronousTestCase

from rpcstream.errors import SourceChanged
from rpcstream.programs.jobs import SourceRefused
from rpcstream.services.source_files import SourceRoots


class RootTests(SynchronousTestCase):
    """Nothing outside of the roots is opened, however it is named."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.root = self.folder / "root"
        (self.root / "a" / "b").mkdir(parents=True)
        self.inside = self.root / "a" / "b" / "file"
        self.inside.write_bytes(b"content")
        self.outside = self.folder / "outside"
        self.outside.write_bytes(b"secret")
        self.roots = SourceRoots([self.root])

    def refused(self, path: object, text: str) -> None:
        """It is refused for that reason."""
        self.assertIn(text, self.assertRaises(SourceRefused, self.roots.check, str(path)).message)

    def test_inside(self) -> None:
        """Files below a root, at any depth, also by a detour or a link that stays inside."""
        (self.root / "link").symlink_to(self.inside)
        (self.root / "directory").symlink_to("a/b")
        for path in (
            self.inside,
            f"{self.root}/a/../a//b/./file",
            self.root / "link",
            self.root / "directory" / "file",
        ):
            with self.roots.open(str(path)) as source:
                self.assertEqual(b"".join(source.pieces()), b"content")

    def test_outside(self) -> None:
        """Other paths, links and detours that lead out."""
        (self.root / "link").symlink_to(self.outside)
        (self.root / "up").symlink_to("..")
        sibling = self.folder / "root-2"
        sibling.mkdir()
        (sibling / "file").write_bytes(b"")
        for path in (
            self.outside,
            self.root / "link",
            self.root / "up" / "outside",
            f"{self.root}/../outside",
            sibling / "file",
            "/etc/passwd",
        ):
            self.refused(path, "not under a --root")

    def test_not_a_file(self) -> None:
        """Directories, FIFOs and what is not there."""
        os.mkfifo(self.root / "fifo")
        self.refused(self.root / "fifo", "not a regular file")
        self.refused(self.root / "a", "not a regular file")
        self.refused(self.root, "not under a --root")
        self.refused(self.root / "none", "no such file")
        self.refused(self.inside / "below", "no such file")
        (self.root / "circle").symlink_to("circle")
        self.refused(self.root / "circle", "in a circle")
        self.refused(self.root / ("n" * 300), "too long")

    def test_not_a_path(self) -> None:
        """Relative paths and NUL."""
        for path in ("", "file", "root/a", f"{self.inside}\0"):
            self.refused(path, "absolute path")

    def test_root_of_everything(self) -> None:
        """A root may be the whole file system, or itself a link."""
        SourceRoots(["/"]).check(str(self.outside))
        (self.folder / "alias").symlink_to(self.root)
        SourceRoots([self.folder / "alias"]).check(str(self.inside))
        with self.roots.open(str(self.inside)) as source:
            self.assertEqual(source.name, str(self.inside))

    def test_exchanged_meanwhile(self) -> None:
        """A directory or file that becomes a link between looking and opening leads nowhere."""
        secret = self.folder / "secret"
        (secret / "b").mkdir(parents=True)
        (secret / "b" / "file").write_bytes(b"secret")
        real_path = os.path.realpath

        def exchange(path: str, *, strict: bool = False) -> str:
            found = real_path(path, strict=strict)
            if path == str(self.inside):
                (self.root / "a").rename(self.folder / "gone")
                (self.root / "a").symlink_to(secret)
            return found

        with patch("os.path.realpath", exchange):
            self.refused(self.inside, "no such file")

        def exchange_file(path: str, *, strict: bool = False) -> str:
            found = real_path(path, strict=strict)
            if path == str(self.root / "plain"):
                (self.root / "plain").unlink()
                (self.root / "plain").symlink_to(self.outside)
            return found

        (self.root / "plain").write_bytes(b"")
        with patch("os.path.realpath", exchange_file):
            self.refused(self.root / "plain", "not a regular file")

    def test_exchanged_at_the_last_moment(self) -> None:
        """What turns out to be something else once it is open is closed again."""
        before = len(os.listdir("/proc/self/fd"))
        os.mkfifo(self.root / "fifo")
        with patch("os.fstat", return_value=os.stat(self.root / "fifo")):
            self.refused(self.inside, "not a regular file")
        self.assertEqual(len(os.listdir("/proc/self/fd")), before)

    def test_what_may_pass(self) -> None:
        """No descriptors left is no refusal: the job is tried again."""
        with patch("os.path.realpath", side_effect=OSError(errno.EMFILE, "too many")):
            self.assertRaises(OSError, self.roots.check, str(self.inside))

    def test_replaced_while_it_is_sent(self) -> None:
        """A file that is exchanged while it is read is noticed."""
        with self.roots.open(str(self.inside)) as source:
            source.check_unchanged()
            other = self.root / "other"
            other.write_bytes(b"content")
            other.rename(self.inside)
            self.assertRaises(SourceChanged, source.check_unchanged)
        with self.roots.open(str(self.inside)) as source:
            self.inside.unlink()
            self.assertRaises(SourceChanged, source.check_unchanged)

    def test_no_descriptor_stays(self) -> None:
        """Refusals leave nothing open."""
        os.mkfifo(self.root / "fifo")
        before = len(os.listdir("/proc/self/fd"))
        self.roots.check(str(self.inside))
        self.refused(self.root / "fifo", "not a regular file")
        self.refused(self.root / "a" / "b", "not a regular file")
        self.assertEqual(len(os.listdir("/proc/self/fd")), before)
