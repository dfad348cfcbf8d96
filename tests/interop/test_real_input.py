"""
Real files: disk images as people move them, and every size around an extent's.

The large ones (an 8 GiB sparse image and 4 GiB of random bytes) are used with
C{RPCSTREAM_LARGE=1}; otherwise they are 512 MiB and 64 MiB.
"""

from __future__ import annotations

import os
import subprocess
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from rpcstream.limits import EXTENT_BYTES, GIB, MIB
from tests.interop.harness import COMMAND, ENVIRONMENT, Destination, make_pki, random_file, rpcstream_run
from tests.peers import require_file, require_program

IS_LARGE = os.environ.get("RPCSTREAM_LARGE") == "1"
INSTALLER = "/usr/lib/debian-installer/images/12/amd64/text"
RESCUE = "/usr/lib/grub-rescue/grub-rescue-cdrom.iso"


class RealInputTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).absolute()
        self.folder.mkdir()
        self.pki = make_pki(self.folder)
        self.destination = Destination(self.folder, self.pki)
        self.addCleanup(self.destination.stop)

    def run_json(self, *arguments: str) -> list[dict[str, object]]:
        pki = None if arguments[0] == "digest" else self.pki
        status, lines, errors = rpcstream_run(*arguments, pki_folder=pki)
        self.assertEqual(status, 0, errors)
        return lines

    def round_trip(self, source: Path) -> None:
        """Send, list, stat, peek, digest, receive; everything equal, sparse stays sparse."""
        name, url = source.name, self.destination.url(source.name)
        size = source.stat().st_size
        done = self.run_json("send", str(source), url)[-1]
        self.assertEqual((done["event"], done["bytes"]), ("done", size))
        there = self.destination.store / name
        self.assertEqual(subprocess.run(["cmp", source, there]).returncode, 0)
        self.assertIn(name, [line.get("name") for line in self.run_json("list", self.destination.url())])
        stat = next(line for line in self.run_json("stat", url) if line.get("name") == name)
        self.assertEqual((stat["size"], stat["digest"]), (size, done["digest"]))
        digest = self.run_json("digest", str(source))[-1]
        self.assertEqual(digest["digest"], done["digest"])
        self.peek(source, url, size)
        back = self.folder / "back"
        received = self.run_json("receive", url, str(back))[-1]
        self.assertEqual(received["digest"], done["digest"])
        self.assertEqual(subprocess.run(["cmp", source, back]).returncode, 0)
        for copy in (there, back):
            # One block more where ext4 needs it to know more than four pieces of a dense file.
            self.assertLessEqual(
                copy.stat().st_blocks, max(source.stat().st_blocks, -(-size // 4096) * 8 + 8)
            )
            if source.stat().st_blocks * 512 < size:
                self.assertLessEqual(copy.stat().st_blocks, source.stat().st_blocks)
        back.unlink()
        there.unlink()

    def peek(self, source: Path, url: str, size: int) -> None:
        offset = max(0, size // 2 - 100)
        got = subprocess.run(
            [*COMMAND, "peek", url, "--offset", str(offset), "--length", "1000", "--pki", str(self.pki)],
            env=ENVIRONMENT, stdin=subprocess.DEVNULL, capture_output=True, check=True,
        ).stdout  # fmt: skip
        with source.open("rb") as file:
            file.seek(offset)
            self.assertEqual(got, file.read(1000))

    def test_sizes(self) -> None:
        """0, 1, 4 MiB - 1, 4 MiB, 4 MiB + 1 bytes."""
        for size in (0, 1, EXTENT_BYTES - 1, EXTENT_BYTES, EXTENT_BYTES + 1):
            self.round_trip(random_file(self.folder / f"file-{size}", size, size))

    def test_iso(self) -> None:
        """The rescue ISO of Debian's grub-rescue-pc."""
        copy = self.folder / "rescue.iso"
        copy.write_bytes(require_file(RESCUE).read_bytes())
        self.round_trip(copy)

    def image(self, name: str, size: int) -> Path:
        """An ext4 image with the installer's files."""
        make = require_program("mke2fs")
        image = self.folder / name
        with image.open("wb") as file:
            file.truncate(size)
        files = require_file(INSTALLER)
        subprocess.run([make, "-q", "-t", "ext4", "-d", files, image], check=True, stdin=subprocess.DEVNULL)
        return image

    def test_ext4_and_qcow2(self) -> None:
        """An ext4 image made from real files, and a qcow2 made from it."""
        convert = require_program("qemu-img")
        image = self.image("image.ext4", 256 * MIB)
        self.round_trip(image)
        qcow2 = self.folder / "image.qcow2"
        subprocess.run([convert, "convert", "-O", "qcow2", image, qcow2], check=True)
        self.round_trip(qcow2)

    def test_large_sparse(self) -> None:
        """A sparse ext4 image of 8 GiB."""
        self.round_trip(self.image("sparse.ext4", 8 * GIB if IS_LARGE else 512 * MIB))

    def test_large_random(self) -> None:
        """4 GiB of random bytes."""
        self.round_trip(random_file(self.folder / "random", 4 * GIB if IS_LARGE else 64 * MIB))

    def test_stdin(self) -> None:
        """Standard input, of unknown size."""
        source = random_file(self.folder / "piped", 20 * MIB + 3)
        with source.open("rb") as file:
            cat = subprocess.Popen(["cat"], stdin=file, stdout=subprocess.PIPE)
            sent = subprocess.run(
                [*COMMAND, "send", "-", self.destination.url("piped"), "--json", "--pki", str(self.pki)],
                env=ENVIRONMENT, stdin=cat.stdout, capture_output=True, check=False,
            )  # fmt: skip
            cat.wait()
        self.assertEqual(sent.returncode, 0, sent.stderr)
        self.assertEqual((self.destination.store / "piped").read_bytes(), source.read_bytes())
