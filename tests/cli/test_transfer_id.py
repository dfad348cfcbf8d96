"""Which runs of a command are the same transfer."""

from __future__ import annotations

import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from rpcstream.cli.transfer_id import random_id, receive_id, send_id
from rpcstream.net.urls import parse_url
from rpcstream.programs.transfer import Entry, SourceKind

HERE = "rpcstream+tls://host:17000/name?pool=p"
OTHERS = (
    "rpcstream+tls://other/name?pool=p",
    "rpcstream+tls://host/other?pool=p",
    "rpcstream+tls://host/name?pool=q",
    "rpcstream+unix:///name?socket=/s&pool=p",
)


class TransferIdTests(SynchronousTestCase):
    """16 bytes, the same only for the same."""

    def setUp(self) -> None:
        self.path = Path(self.mktemp())
        self.path.write_bytes(b"content")

    def test_same(self) -> None:
        """Another port, or an upper case host, is the same place; nothing else is."""
        first = send_id(parse_url(HERE), self.path)
        self.assertEqual(len(first), 16)
        self.assertEqual(send_id(parse_url("rpcstream+tls://HOST/name?pool=p"), self.path), first)
        ids = {send_id(parse_url(url), self.path) for url in OTHERS}
        self.assertEqual(len(ids | {first}), len(OTHERS) + 1)

    def test_source(self) -> None:
        """A file that was written to or replaced is another source; so is a copy."""
        url = parse_url(HERE)
        ids = {send_id(url, self.path)}
        os.utime(self.path, ns=(0, 5))
        ids.add(send_id(url, self.path))
        self.path.write_bytes(b"longer content")
        os.utime(self.path, ns=(0, 5))
        ids.add(send_id(url, self.path))
        copy = self.path.with_suffix(".copy")
        copy.write_bytes(b"longer content")
        os.utime(copy, ns=(0, 5))
        ids.add(send_id(url, copy))
        self.assertEqual(len(ids), 4)

    def test_no_file(self) -> None:
        """What cannot be recognised gets a new id each time."""
        url = parse_url(HERE)
        self.assertNotEqual(send_id(url, Path("/dev/null")), send_id(url, Path("/dev/null")))
        self.assertNotEqual(random_id(), random_id())
        self.assertRaises(FileNotFoundError, send_id, url, self.path.with_name("none"))

    def test_receive(self) -> None:
        """Another target, or other content at the server, is another transfer."""
        url = parse_url(HERE)
        entry = Entry("name", SourceKind.FILE, 5, 5, 1, None, False)
        later = Entry("name", SourceKind.FILE, 5, 5, 2, None, False)
        known = Entry("name", SourceKind.FILE, 5, 5, 1, b"d" * 32, False)
        ids = {receive_id(url, self.path, each) for each in (entry, later, known)}
        ids.add(receive_id(url, self.path / "x", entry))
        self.assertEqual(len(ids), 4)
        self.assertIn(receive_id(url, Path(os.path.relpath(self.path)), entry), ids)
