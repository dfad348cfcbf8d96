"""Whole transfers between a client and a destination, in memory, with real files."""

from __future__ import annotations

import os
from pathlib import Path

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from rpcstream.errors import ConnectionClosed, StorageError
from rpcstream.limits import EXTENT_BYTES
from rpcstream.net.threads import InlineRunner
from rpcstream.programs import transfer
from rpcstream.services.policy import Rule, RulePolicy
from rpcstream.services.receiving import ReceiveOptions, receive
from rpcstream.services.sending import SendOptions, Sent, send
from rpcstream.services.transfers import TransferResponders
from rpcstream.storage.pool import Pool
from rpcstream.storage.sources import open_path
from rpcstream.testing import ConnectedPair

ID = b"0123456789abcdef"


class TransferTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.store = self.folder / "store"
        self.store.mkdir(parents=True)
        self.here = self.folder / "here"
        self.here.mkdir()
        self.runner = InlineRunner()
        self.pool = Pool(self.store)
        self.addCleanup(self.pool.close)
        self.pair = self.connect()

    def connect(self) -> ConnectedPair:
        return ConnectedPair(TransferResponders({"default": self.pool}, self.runner), runner=self.runner)

    def file(self, name: str, content: bytes) -> Path:
        path = self.here / name
        path.write_bytes(content)
        return path

    def send(self, path: Path, name: str, *, transfer_id: bytes = ID, **options: object) -> Sent:
        with open_path(path) as source:
            sending = send(
                self.pair.client,
                source,
                SendOptions(name, transfer_id, **options),  # type: ignore[arg-type]
                self.runner,
            )
            return self.pair.result_of(Deferred.fromCoroutine(sending))

    def receive(self, name: str, target: str, **options: object) -> Sent:
        local = Pool(self.here)
        self.addCleanup(local.close)
        receiving = receive(
            self.pair.client,
            local,
            ReceiveOptions(name, target, ID, **options),  # type: ignore[arg-type]
            self.runner,
        )
        return self.pair.result_of(Deferred.fromCoroutine(receiving))

    def test_sizes(self) -> None:
        """Every size around the extent's arrives whole, both ways, with equal digests."""
        for size in (0, 1, EXTENT_BYTES - 1, EXTENT_BYTES, EXTENT_BYTES + 1, 3 * EXTENT_BYTES + 17):
            name = f"file-{size}"
            content = os.urandom(size)
            sent = self.send(self.file(name, content), name, transfer_id=size.to_bytes(16, "big"))
            self.assertEqual((self.store / name).read_bytes(), content)
            self.assertEqual(sent.sent_bytes, size)
            received = self.receive(name, f"back-{size}")
            self.assertEqual((self.here / f"back-{size}").read_bytes(), content)
            self.assertEqual(received.digest, sent.digest)

    def test_sparse(self) -> None:
        """Holes cost nothing on the wire and no blocks at the destination."""
        path = self.here / "sparse"
        with path.open("wb") as file:
            file.truncate(1 << 30)
            file.seek(100 << 20)
            file.write(b"data" * 1000)
        before = self.pair.client_transport.written_bytes
        self.send(path, "sparse")
        self.assertLess(self.pair.client_transport.written_bytes - before, 20_000)
        there = (self.store / "sparse").stat()
        self.assertEqual(there.st_size, 1 << 30)
        self.assertLessEqual(there.st_blocks, path.stat().st_blocks)
        self.receive("sparse", "back")
        self.assertLessEqual((self.here / "back").stat().st_blocks, path.stat().st_blocks)

    def cut_after(self, path: Path, byte_count: int) -> None:
        """Send until C{byte_count} bytes went over, then lose the connection."""
        with open_path(path) as source:
            sending = Deferred.fromCoroutine(
                send(self.pair.client, source, SendOptions(path.name, ID), self.runner)
            )
            self.pair.set_path(bytes_per_second=20e9)
            moved = self.pair.client_transport.written_bytes + byte_count
            write = self.pair.client_transport.deliver

            def deliver(limit: int, slice_bytes: int | None) -> int:
                if self.pair.client_transport.written_bytes > moved:
                    self.pair.cut()
                    return 0
                return write(min(limit, 1 << 20), slice_bytes)

            self.pair.client_transport.deliver = deliver  # type: ignore[method-assign]
            self.assertRaises(ConnectionClosed, self.pair.result_of, sending)
        self.assertFalse((self.store / path.name).exists())
        self.pair = self.connect()

    def test_resume(self) -> None:
        """After a cut the same transfer goes on where it was durable."""
        content = os.urandom(10 * EXTENT_BYTES + 5)
        path = self.file("big", content)
        self.cut_after(path, 7 * EXTENT_BYTES)
        sent = self.send(path, "big")
        self.assertEqual((self.store / "big").read_bytes(), content)
        self.assertGreaterEqual(sent.resumed_from, 4 * EXTENT_BYTES)
        self.assertEqual(sent.sent_bytes, len(content) - sent.resumed_from)

    def test_resume_with_damage_there(self) -> None:
        """A kept extent that changed on the destination's disk is found and sent again."""
        content = os.urandom(10 * EXTENT_BYTES)
        path = self.file("big", content)
        self.cut_after(path, 7 * EXTENT_BYTES)
        (partial,) = [
            p
            for p in (self.store / ".rpcstream").rglob("*")
            if p.is_file() and p.stat().st_size > EXTENT_BYTES
        ]
        with partial.open("r+b") as file:
            file.seek(EXTENT_BYTES + 99)
            byte = file.read(1)
            file.seek(EXTENT_BYTES + 99)
            file.write(bytes([byte[0] ^ 1]))
        self.send(path, "big")
        self.assertEqual((self.store / "big").read_bytes(), content)

    def test_resume_with_change_here(self) -> None:
        """A source changed at equal size between two tries is sent as it is now."""
        content = bytearray(os.urandom(10 * EXTENT_BYTES))
        path = self.file("big", bytes(content))
        self.cut_after(path, 7 * EXTENT_BYTES)
        content[EXTENT_BYTES + 99] ^= 1
        path.write_bytes(content)
        self.send(path, "big")
        self.assertEqual((self.store / "big").read_bytes(), content)

    def test_repeated_after_success(self) -> None:
        """The same transfer again is complete at once and moves nothing."""
        path = self.file("a", os.urandom(EXTENT_BYTES + 5))
        first = self.send(path, "a")
        again = self.send(path, "a")
        self.assertEqual(again.digest, first.digest)
        self.assertEqual(again.sent_bytes, 0)

    def test_name_taken(self) -> None:
        """An existing name is refused before any data, unless it is to be replaced."""
        (self.store / "a").write_bytes(b"old")
        path = self.file("a", b"new")
        self.assertRaises(transfer.NameTaken, self.send, path, "a")
        self.assertEqual((self.store / "a").read_bytes(), b"old")
        self.send(path, "a", replace=True)
        self.assertEqual((self.store / "a").read_bytes(), b"new")

    def test_bad_names(self) -> None:
        """Names that escape or hide are refused."""
        path = self.file("a", b"x")
        for name in ("../x", "/etc/passwd", "", ".", "..", ".hidden", "a/b", "a\nb"):
            self.assertRaises(transfer.BadName, self.send, path, name)
        self.assertEqual([p.name for p in self.store.iterdir()], [".rpcstream"])

    def test_no_such_name(self) -> None:
        """What is not there cannot be fetched, and nothing is left here."""
        self.assertRaises(transfer.NoSuchName, self.receive, "absent", "back")
        self.assertFalse((self.here / "back").exists())

    def test_peek(self) -> None:
        """OUTGOING with offset and length reads any range."""
        content = os.urandom(EXTENT_BYTES + 1000)
        self.send(self.file("a", content), "a")
        for offset, length in ((0, 10), (EXTENT_BYTES - 5, 10), (len(content) - 3, 100), (len(content), 5)):
            request = transfer.Outgoing("a", "", offset, length, False, ID, transfer.Held(b"", b""))
            stream = self.pair.result_of(self.pair.client.open(request))
            got = self.pair.result_of(stream.read(limit_bytes=1000))
            self.assertEqual(got, content[offset : offset + length])

    def test_list_and_stat(self) -> None:
        """Names are listed with size and stored digest."""
        sent = self.send(self.file("a", b"abc"), "a")
        listing = self.pair.result_of(self.pair.client.call(transfer.ListNames("", "", 10)))
        self.assertEqual([(e.name, e.size, e.digest) for e in listing.entries], [("a", 3, sent.digest)])
        self.pair.result_of(self.pair.client.call(transfer.Remove("a", "")))
        self.assertRaises(
            transfer.NoSuchName, self.pair.result_of, self.pair.client.call(transfer.Stat("a", ""))
        )

    def test_commit_without_transfer(self) -> None:
        """COMMIT of an unknown transfer is refused."""
        commit = self.pair.client.call(transfer.Commit(ID, 1, bytes(32)))
        self.assertRaises(transfer.NoSuchTransfer, self.pair.result_of, commit)

    def test_wrong_digest(self) -> None:
        """A digest that differs publishes nothing."""
        request = transfer.Incoming("a", "", transfer.SourceKind.FILE, 3, True, False, None, ID, b"")
        stream = self.pair.result_of(self.pair.client.open(request))
        self.pair.result_of(stream.send(b"abc"))
        self.pair.result_of(stream.finish())
        commit = self.pair.client.call(transfer.Commit(ID, 3, bytes(32)))
        self.assertRaises(transfer.DigestDiffers, self.pair.result_of, commit)
        self.assertFalse((self.store / "a").exists())

    def test_short_and_long(self) -> None:
        """One byte too few or too many is an error, and nothing is published."""
        for content, expected in ((b"ab", transfer.Short), (b"abcd", Exception)):
            request = transfer.Incoming("a", "", transfer.SourceKind.FILE, 3, True, False, None, ID, b"")
            stream = self.pair.result_of(self.pair.client.open(request))
            self.pair.result_of(stream.send(content))
            self.assertRaises(expected, self.pair.result_of, stream.finish())
            self.assertFalse((self.store / "a").exists())

    def test_source_changes_during(self) -> None:
        """A source that is changed while it is sent is never reported as a success."""
        path = self.file("a", os.urandom(2 * EXTENT_BYTES))
        with open_path(path) as source:
            path.write_bytes(os.urandom(2 * EXTENT_BYTES))
            os.utime(path, ns=(1, 1))
            sending = send(self.pair.client, source, SendOptions("a", ID), self.runner)
            self.assertRaises(StorageError, self.pair.result_of, Deferred.fromCoroutine(sending))
        self.assertFalse((self.store / "a").exists())


class PermissionTests(SynchronousTestCase):
    """What rules say about names and flags, beyond the permission of the call."""

    def setUp(self) -> None:
        store = Path(self.mktemp())
        store.mkdir()
        for name in ("mine-1", "mine-2", "other-1", "other-2"):
            (store / name).write_bytes(b"x")
        pool = Pool(store)
        self.addCleanup(pool.close)
        runner = InlineRunner()
        rules = [Rule(("tester",), ("transfer.list", "transfer.write"), names=("mine-*",))]
        self.pair = ConnectedPair(
            TransferResponders({"default": pool}, runner), runner=runner, policy=RulePolicy(rules)
        )

    def test_list_shows_what_is_allowed(self) -> None:
        """Names that the rules hide are not listed, page by page."""
        listing = self.pair.result_of(self.pair.client.call(transfer.ListNames("", "", 10)))
        self.assertEqual(([e.name for e in listing.entries], listing.more), (["mine-1", "mine-2"], False))
        page = self.pair.result_of(self.pair.client.call(transfer.ListNames("", "", 1)))
        self.assertEqual(([e.name for e in page.entries], page.more), (["mine-1"], True))
        page = self.pair.result_of(self.pair.client.call(transfer.ListNames("", "mine-2", 1)))
        self.assertEqual((page.entries, page.more), ((), False))

    def test_replace_is_a_permission_of_its_own(self) -> None:
        """Who may write may not replace unless that is allowed, too."""
        request = transfer.Incoming("mine-1", "", transfer.SourceKind.FILE, 1, True, True, None, ID, b"")
        self.assertRaises(transfer.Denied, self.pair.result_of, self.pair.client.open(request))
