"""Transfers over lanes: TLS, TCP and UNIX sockets, both directions, every end of a transfer but loss."""

from __future__ import annotations

import dataclasses
import errno
import os
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred

from rpcstream.core.states import ConnectionState
from rpcstream.errors import BadState, ResourceBusy, SourceChanged, StorageError
from rpcstream.limits import EXTENT_BYTES, KIB, MIB
from rpcstream.net.outgoing import OutgoingStream
from rpcstream.net.progress import RATE_LIMIT, Progress
from rpcstream.programs import transfer
from rpcstream.services.sending import SendOptions, Sent, send
from rpcstream.storage.sources import FileSource, Hole, open_path
from tests.net.lane.support import LIMITS, LaneCase, lane_threads, random_bytes
from tests.storage.faults import FaultyFiles, fail_nth

ID = b"0123456789abcdef"


class TransferTests(LaneCase):
    """Both directions over TLS."""

    kind = "tls"

    async def test_both_ways(self) -> None:
        """What arrives is equal, and says that the lane was exclusive."""
        content = random_bytes(3 * EXTENT_BYTES + 12345)
        url = self.serve(self.kind)
        sent = await self.upload(url, self.file(content))
        self.assertEqual((self.store / "a").read_bytes(), content)
        self.assertEqual((sent.lane, sent.size, sent.sent_bytes), ("exclusive", len(content), len(content)))
        self.assertGreater(sent.written_bytes, len(content))
        self.assertLess(sent.written_bytes, len(content) + 10_000)
        got = await self.download(url)
        self.assertEqual((self.here / "b").read_bytes(), content)
        self.assertEqual((got.lane, got.sent_bytes, got.digest), ("exclusive", len(content), sent.digest))

    async def test_sizes(self) -> None:
        """Every size around those that matter."""
        url = self.serve(self.kind)
        for size in (
            0,
            1,
            16 * KIB - 28,
            16 * KIB,
            MIB,
            MIB + 1,
            EXTENT_BYTES - 1,
            EXTENT_BYTES,
            EXTENT_BYTES + 1,
        ):
            content = random_bytes(size, size)
            name = f"file-{size}"
            transfer_id = size.to_bytes(16, "big")
            sent = await self.upload(url, self.file(content), name, transfer_id)
            self.assertEqual((self.store / name).read_bytes(), content)
            await self.download(url, name, name, transfer_id)
            self.assertEqual((self.here / name).read_bytes(), content)
            self.assertEqual(sent.lane, "exclusive")

    async def test_sparse(self) -> None:
        """Holes stay holes, and do not cross the wire."""
        url = self.serve(self.kind)
        path = self.here / "sparse"
        with path.open("wb") as file:
            file.truncate(200 * MIB)
            for offset in (0, 33 * MIB + 4096, 150 * MIB):
                file.seek(offset)
                file.write(random_bytes(100_000, offset))
        sent = await self.upload(url, path)
        self.assertLess(sent.sent_bytes, MIB)
        self.assertGreater(sent.hole_bytes, 190 * MIB)
        await self.download(url)
        for arrived in (self.store / "a", self.here / "b"):
            self.assertEqual(arrived.read_bytes(), path.read_bytes())
            self.assertLessEqual(arrived.stat().st_blocks, path.stat().st_blocks)

    async def test_fragmented(self) -> None:
        """Many small pieces go together; content is equal."""
        url = self.serve(self.kind)
        path = self.here / "fragments"
        with path.open("wb") as file:
            file.truncate(4 * MIB)
            for offset in range(0, 4 * MIB, 16 * KIB):
                file.seek(offset)
                file.write(random_bytes(4096, offset))
        await self.upload(url, path)
        self.assertEqual((self.store / "a").read_bytes(), path.read_bytes())


class PlainTCPTests(TransferTests):
    """The same without TLS."""

    kind = "tcp"


class UNIXTests(TransferTests):
    """The same over a UNIX socket."""

    kind = "unix"


class NegotiationTests(LaneCase):
    """Who gets a lane, and what is possible on it."""

    async def test_off_at_either_end(self) -> None:
        """Without a lane at one end it is the shared one; content is equal all the same."""
        off = dataclasses.replace(LIMITS, exclusive_lanes=0)
        content = random_bytes(EXTENT_BYTES + 1)
        url = self.serve()
        sent = await self.upload(url, self.file(content), limits=off)
        self.assertEqual(sent.lane, "shared")
        await self.stop()
        url = self.serve(limits=off)
        got = await self.download(url)
        self.assertEqual((got.lane, (self.here / "b").read_bytes()), ("shared", content))

    async def test_short_content(self) -> None:
        """What is short is not worth a thread."""
        url = self.serve(limits=dataclasses.replace(LIMITS, exclusive_least_bytes=1000))
        self.assertEqual((await self.upload(url, self.file(b"x" * 999))).lane, "shared")

    async def test_other_calls_are_refused(self) -> None:
        """A connection that a lane has takes no other calls, for good; another connection does."""
        url = self.serve()
        path = self.file(random_bytes(2 * MIB))
        async with self.connect(url) as connection:
            with open_path(path) as source:
                await send(connection, source, SendOptions("a", ID), self.runner)
            with self.assertRaises(BadState):
                await connection.call(transfer.Stat("a", ""))
        async with self.connect(url) as other:
            self.assertEqual((await other.call(transfer.Stat("a", ""))).size, 2 * MIB)

    async def test_repeated(self) -> None:
        """The same transfer again, on the same connection, learns that it is complete."""
        url = self.serve()
        path = self.file(random_bytes(2 * MIB))
        async with self.connect(url) as connection:
            for resumed in (0, 2 * MIB):
                with open_path(path) as source:
                    sent = await send(connection, source, SendOptions("a", ID), self.runner)
                    self.assertEqual(sent.resumed_from, resumed)

    async def test_further_round(self) -> None:
        """What was kept and is wrong is sent again, over the same lane."""
        url = self.serve()
        content = random_bytes(4 * EXTENT_BYTES)
        path = self.file(content)
        async with self.connect(url) as connection:
            with _StopsAfter(open_path(path), 3 * EXTENT_BYTES) as source, self.assertRaises(StorageError):
                await send(connection, source, SendOptions("a", ID), self.runner)
        await self.lanes_gone()
        changed = bytearray(content)
        changed[100] ^= 1
        path.write_bytes(changed)
        sent = await self.upload(url, path)
        self.assertEqual((self.store / "a").read_bytes(), changed)
        self.assertGreater(sent.resumed_from, 0)
        # All but what was kept, and of that what differs.
        self.assertLessEqual(sent.sent_bytes, len(content) - sent.resumed_from + EXTENT_BYTES)

    async def test_events_only_for_subscribers(self) -> None:
        """A slow transfer is not told how far it is unless it asked: it would take that for a flood."""
        url = self.serve(limits=dataclasses.replace(LIMITS, sync_bytes=MIB))
        path = self.file(random_bytes(12 * MIB))
        strict = dataclasses.replace(LIMITS, dropped_messages=0)
        await self.upload(url, path, limits=strict, bytes_per_second=8 * MIB)
        told: list[int] = []
        async with self.connect(url, strict) as connection:
            await connection.subscribe(
                transfer.Progress, lambda event: told.append(event.durable_bytes)
            ).confirmed
            with open_path(path) as source:
                options = SendOptions("b", ID, bytes_per_second=8 * MIB)
                await send(connection, source, options, self.runner)
        self.assertTrue(told)
        self.assertEqual(told, sorted(told))

    async def test_rate_limit(self) -> None:
        """A rate limit holds on average, both ways, and is named as the cause of waiting."""
        url = self.serve()
        path = self.file(random_bytes(2 * MIB))
        seen: list[Progress] = []

        def opened(stream: OutgoingStream[Any], held_bytes: int) -> None:
            self.watch(stream, seen)

        started = self.now()
        async with self.connect(url) as connection:
            with open_path(path) as source:
                options = SendOptions("a", ID, bytes_per_second=2 * MIB)
                await send(connection, source, options, self.runner, opened=opened)
        self.assertGreater(self.now() - started, 0.6)
        self.assertIn(RATE_LIMIT, [progress.stalled_by for progress in seen])
        self.assertEqual({progress.lane for progress in seen}, {"exclusive"})
        started = self.now()
        await self.download(url, bytes_per_second=2 * MIB)
        self.assertGreater(self.now() - started, 0.5)

    def now(self) -> float:
        from twisted.internet import reactor

        return float(reactor.seconds())  # type: ignore[attr-defined]

    def watch(self, stream: OutgoingStream[Any], seen: list[Progress]) -> None:
        """Look at the progress as long as the stream lives."""

        async def look() -> None:
            while not stream.is_closed:
                seen.append(stream.progress)
                await self.pause(0.02)

        Deferred.fromCoroutine(look())


class FailureTests(LaneCase):
    """Errors of either end reach the caller, and leave nothing behind."""

    async def test_source_fails(self) -> None:
        """An error while reading ends the transfer with it; what is durable can be resumed."""
        url = self.serve()
        path = self.file(random_bytes(4 * EXTENT_BYTES))
        async with self.connect(url) as connection:
            with _StopsAfter(open_path(path), 3 * MIB) as source, self.assertRaises(SourceChanged):
                await send(connection, source, SendOptions("a", ID), self.runner)
        await self.lanes_gone()
        self.assertFalse((self.store / "a").exists())

    async def send_with(self, files: FaultyFiles, path: Path, kind: str = "tcp") -> Sent:
        url = self.serve(kind)
        async with self.connect(url) as connection:
            with open_path(path, files=files) as source:
                return await send(connection, source, SendOptions("a", ID), self.runner)

    async def test_file_system_without_sendfile(self) -> None:
        """Where the kernel cannot send the file, it is read and written."""
        content = random_bytes(3 * MIB)
        files = FaultyFiles(fail_nth({"send_to"}, 1, errno.EINVAL, for_good=True))
        sent = await self.send_with(files, self.file(content))
        self.assertEqual((sent.lane, (self.store / "a").read_bytes()), ("exclusive", content))
        self.assertGreater(files.calls.count("send_to"), 1)

    async def test_file_fails_in_a_packet(self) -> None:
        """A file that fails behind a header that was written: the packet is filled up, the transfer fails."""

        def rule(number: int, name: str) -> OSError | None:
            in_lane = threading.current_thread().name == "rpcstream lane"
            return OSError(errno.EIO, "bad sector") if in_lane and number > 40 else None

        files = FaultyFiles(rule)
        with self.assertRaises(OSError) as caught:
            await self.send_with(files, self.file(random_bytes(24 * MIB)), "unix")
        self.assertEqual(caught.exception.errno, errno.EIO)
        await self.lanes_gone()
        self.assertFalse((self.store / "a").exists())

    async def test_file_becomes_shorter_in_a_packet(self) -> None:
        """S27: and the same for one that has lost its end."""
        path = self.file(random_bytes(24 * MIB))

        def rule(number: int, name: str) -> None:
            if threading.current_thread().name == "rpcstream lane" and number > 40:
                os.truncate(path, MIB)

        with self.assertRaises(SourceChanged):
            await self.send_with(FaultyFiles(rule), path)
        await self.lanes_gone()
        self.assertFalse((self.store / "a").exists())

    async def test_destination_fails(self) -> None:
        """A destination that is full says so, long before all was sent."""
        url = self.serve(quota_bytes=2 * MIB)
        path = self.file(random_bytes(64 * MIB))
        with self.assertRaises(transfer.TooLarge):
            await self.upload(url, path)
        await self.lanes_gone()
        self.assertFalse((self.store / "a").exists())

    async def test_target_fails(self) -> None:
        """A download that cannot be written fails with the reason."""
        url = self.serve()
        await self.upload(url, self.file(random_bytes(8 * MIB)))
        (self.here / "b").write_bytes(b"in the way")
        with self.assertRaises(StorageError):
            await self.download(url)
        await self.lanes_gone()

    async def test_cancelled(self) -> None:
        """The sender is cancelled: both ends forget the lane, the partial stays and is resumed."""
        url = self.serve()
        content = random_bytes(24 * MIB)
        path = self.file(content)
        sending = Deferred.fromCoroutine(self.upload(url, path, bytes_per_second=24 * MIB))
        await self.until(lane_threads)
        await self.pause(0.5)
        sending.cancel()
        with self.assertRaises(BaseException):  # noqa: B017
            await sending
        await self.lanes_gone()
        self.assertFalse((self.store / "a").exists())
        sent = await self.upload(url, path)
        self.assertEqual((self.store / "a").read_bytes(), content)
        self.assertGreater(sent.resumed_from, 0)
        self.assertLess(sent.sent_bytes, len(content))

    async def test_removed_by_its_client(self) -> None:
        """CANCEL is served while the lane has the connection."""
        url = self.serve()
        path = self.file(random_bytes(16 * MIB))
        async with self.connect(url) as connection:
            with open_path(path) as source:
                options = SendOptions("a", ID, bytes_per_second=8 * MIB)
                sending = Deferred.fromCoroutine(send(connection, source, options, self.runner))
                await self.until(lambda: connection.link.core.state is ConnectionState.DATA_STREAM)
                await self.pause(0.3)
                self.assertTrue(await connection.call(transfer.Cancel(ID)))
                with self.assertRaises(Exception):  # noqa: B017
                    await sending
        self.assertEqual([partial.name for partial in self.service.pools["default"].partials()], [])

    async def test_busy(self) -> None:
        """A second stream on a lane that carries one is refused."""
        url = self.serve()
        path = self.file(random_bytes(8 * MIB))
        async with self.connect(url) as connection:
            with open_path(path) as source:
                options = SendOptions("a", ID, bytes_per_second=8 * MIB)
                sending = Deferred.fromCoroutine(send(connection, source, options, self.runner))
                core = connection.link.core
                await self.until(lambda: core.state is ConnectionState.DATA_STREAM)
                request = transfer.Incoming(
                    "other", "", transfer.SourceKind.FILE, 10, True, False, None, bytes(16)
                )
                with self.assertRaises(ResourceBusy):
                    await connection.open(request)
                await sending
        self.assertEqual((self.store / "a").stat().st_size, os.path.getsize(path))

    async def test_service_stops(self) -> None:
        """The destination is stopped in the middle: the client hears of it, and nothing stays."""
        url = self.serve()
        path = self.file(random_bytes(16 * MIB))
        sending = Deferred.fromCoroutine(self.upload(url, path, bytes_per_second=8 * MIB))
        await self.until(lane_threads)
        await self.pause(0.3)
        stopping = self.stop()
        with self.assertRaises(Exception):  # noqa: B017
            await sending
        await stopping
        await self.lanes_gone()
        self.assertFalse((self.store / "a").exists())


class _StopsAfter(FileSource):
    """A source that fails after so many bytes."""

    def __init__(self, source: FileSource, byte_count: int) -> None:
        self.__dict__ = source.__dict__
        self.left = byte_count

    def pieces(self, *arguments: Any, **keywords: Any) -> Iterator[bytes | Hole]:  # type: ignore[override]
        for piece in super().pieces(*arguments, **keywords):
            self.left -= len(piece) if isinstance(piece, bytes) else piece.length
            if self.left < 0:
                raise SourceChanged("it was changed")
            yield piece
