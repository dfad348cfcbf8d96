"""C{send_from} and C{save_to}: every source, and files."""

from __future__ import annotations

import gc
import io
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, succeed

from rpcstream.errors import ConnectionClosed, NameExists, StreamAborted
from rpcstream.net.threads import InlineRunner
from tests.net.files_program import Fetch
from tests.net.pair_case import CONTENT, PairTestCase, Pusher


class SourceTests(PairTestCase):
    """C{send_from}: everything that has bytes."""

    def assert_sent(self, source: Any) -> None:
        stream = self.upload()
        progress = self.pair.result_of(stream.send_from(source))
        self.assertEqual(self.finish(stream), CONTENT)
        self.assertLessEqual(progress.byte_count, len(CONTENT))

    def chunks(self) -> Iterator[bytes]:
        for start in range(0, len(CONTENT), 70_000):
            yield CONTENT[start : start + 70_000]

    def test_bytes(self) -> None:
        """bytes, bytearray, memoryview."""
        for kind in (bytes, bytearray, memoryview):
            self.assert_sent(kind(CONTENT))

    def test_path_and_files(self) -> None:
        """A Path, an open file, a file in memory."""
        path = Path(self.mktemp())
        path.write_bytes(CONTENT)
        self.assert_sent(path)
        with path.open("rb") as file:
            self.assert_sent(file)
            self.assertFalse(file.closed)
        self.assert_sent(io.BytesIO(CONTENT))

    def test_iterables(self) -> None:
        """A list, a generator, an async generator, an async iterator without aclose."""

        async def generator() -> AsyncIterator[bytes]:
            for chunk in self.chunks():
                yield chunk

        class Plain:
            def __init__(self, chunks: Iterator[bytes]) -> None:
                self.chunks = chunks

            def __aiter__(self) -> Plain:
                return self

            async def __anext__(self) -> bytes:
                for chunk in self.chunks:
                    return chunk
                raise StopAsyncIteration

        self.assert_sent(list(self.chunks()))
        self.assert_sent(self.chunks())
        self.assert_sent(generator())
        self.assert_sent(Plain(self.chunks()))

    def test_stream_to_stream(self) -> None:
        """A download is an async iterable."""
        self.assert_sent(self.download())

    def test_failing(self) -> None:
        """A source that fails aborts the stream; the caller gets the source's error."""

        def generator() -> Iterator[bytes]:
            yield b"abc"
            raise ZeroDivisionError("half")

        stream = self.upload()
        self.failureResultOf(stream.send_from(generator()), ZeroDivisionError)
        self.pair.pump()
        self.assertIn("half", str(self.files.ended_with[0]))
        stream = self.upload()
        self.failureResultOf(stream.send_from(Path("/does/not/exist")), FileNotFoundError)
        self.pair.pump()

    def test_cancelled(self) -> None:
        """Cancelling aborts the stream and closes the generator."""
        closed: list[str] = []

        async def generator() -> AsyncIterator[bytes]:
            try:
                while True:
                    yield bytes(1 << 20)
            finally:
                closed.append("generator")

        stream = self.upload()
        self.pair.server_transport.pauseProducing()
        sending = stream.send_from(generator())
        self.pair.pump()
        sending.cancel()
        self.failureResultOf(sending, CancelledError)
        self.assertEqual(closed, ["generator"])
        self.assertTrue(stream.is_closed)
        self.pair.server_transport.resumeProducing()
        self.pair.pump()

    def test_file_while_the_stream_fails(self) -> None:
        """The read that was under way is waited for before the file is closed."""

        class Slow(InlineRunner):
            reading: Deferred[Any] | None = None
            calls: list[str] = []

            def run(self, function: Any, *args: Any, **kwargs: Any) -> Deferred[Any]:
                self.calls.append(function.__name__)
                if function.__name__ == "read" and self.calls.count("read") == 2:
                    self.reading = Deferred()
                    return self.reading
                return succeed(function(*args, **kwargs))

        runner = Slow()
        path = Path(self.mktemp())
        path.write_bytes(CONTENT)
        stream = self.upload()
        self.pair.client.link.runner = runner
        self.pair.server_transport.pauseProducing()
        sending = stream.send_from(path)
        self.pair.pump()
        self.pair.cut()
        self.assertNotIn("close", runner.calls)
        assert runner.reading is not None
        runner.reading.errback(OSError("too late"))
        self.failureResultOf(sending, ConnectionClosed)
        self.assertEqual(runner.calls[-1], "close")

    def test_producer_on_an_ended_stream(self) -> None:
        """It is stopped, and nothing hangs."""
        stream = self.upload()
        stream.abort("enough")
        pusher = Pusher(stream, 3)
        self.failureResultOf(stream.send_from(pusher), StreamAborted)
        self.assertTrue(pusher.stopped)


class ForgottenTests(PairTestCase):
    """Coroutines that the interpreter throws away with everything they wait for."""

    def test_garbage(self) -> None:
        """They end without a word: nothing runs in them any more."""

        async def within(stream: Any) -> None:
            async with stream:
                await stream.send(bytes(1 << 20))

        for forget in ("send_from", "save_to", "within"):
            self.setUp()
            self.pair.client_transport._producer.pauseProducing()
            if forget == "save_to":
                stream: Any = self.pair.client.open(Fetch("disk"))
                self.pair.client_transport._producer.resumeProducing()
                self.pair.result_of(stream.addCallback(lambda s: s.save_to(Path(self.mktemp())) and None))
            else:
                self.pair.client_transport._producer.resumeProducing()
                stream = self.upload()
                self.pair.client_transport._producer.pauseProducing()
                if forget == "within":
                    Deferred.fromCoroutine(within(stream))
                else:
                    stream.send_from(bytes(1 << 20))
            del stream, self.pair
            gc.collect()
        self.setUp()


class SaveTests(PairTestCase):
    """C{save_to}: complete or not at all."""

    def setUp(self) -> None:
        super().setUp()
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.path = self.folder / "file"

    def names(self) -> list[str]:
        return sorted(path.name for path in self.folder.iterdir())

    def test_complete(self) -> None:
        """The file has all the bytes, mode 0600, and nothing else is left."""
        progress = self.pair.result_of(self.download().save_to(self.path))
        self.assertEqual(self.path.read_bytes(), CONTENT)
        self.assertEqual(self.path.stat().st_mode & 0o777, 0o600)
        self.assertEqual((self.names(), progress.byte_count), (["file"], len(CONTENT)))

    def test_holes(self) -> None:
        """Holes stay holes."""

        async def fetch(call: Any, request: Any) -> None:
            stream = call.accept(0)
            await stream.send_hole(100 << 20)
            await stream.send(b"end")

        table = self.pair.serving._responders
        table[(0x2F11E500, 1, 2)] = table[(0x2F11E500, 1, 2)]._replace(method=fetch)
        self.pair.result_of(self.download().save_to(self.path))
        self.assertEqual(self.path.stat().st_size, (100 << 20) + 3)
        self.assertLess(self.path.stat().st_blocks, 100)

    def test_existing_name(self) -> None:
        """An existing file stays, unless it is to be replaced."""
        self.path.write_bytes(b"old")
        self.assertRaises(NameExists, self.pair.result_of, self.download().save_to(self.path))
        self.assertEqual((self.path.read_bytes(), self.names()), (b"old", ["file"]))
        self.pair.result_of(self.download().save_to(self.path, replace=True))
        self.assertEqual((self.path.read_bytes(), self.names()), (CONTENT, ["file"]))

    def test_aborted(self) -> None:
        """A cut leaves nothing; nor does a folder that is not there."""
        saving = self.download().save_to(self.path)
        self.pair.client_transport.deliver(1 << 20, None)
        self.pair.server_transport.deliver(1 << 20, None)
        self.pair.cut()
        self.failureResultOf(saving, ConnectionClosed)
        self.assertEqual(self.names(), [])

    def test_nowhere(self) -> None:
        """A folder that does not exist fails before any data is taken."""
        stream = self.download()
        self.failureResultOf(stream.save_to(self.folder / "no" / "file"), FileNotFoundError)
        self.assertTrue(stream.is_closed)

    def cancelled_at(self, step: str) -> tuple[Deferred[Any], list[str]]:
        """Cancelled while the thread does C{step}; returns when the thread is done, too."""

        class Held(InlineRunner):
            def __init__(self) -> None:
                self.steps: list[str] = []
                self.held: list[Deferred[Any]] = []

            def run(self, function: Any, *args: Any, **kwargs: Any) -> Deferred[Any]:
                self.steps.append(function.__name__)
                done = super().run(function, *args, **kwargs)
                if function.__name__ != step:
                    return done
                late: Deferred[Any] = Deferred(lambda _: None)
                self.held.append(late)
                return late.addCallback(lambda _: done)

        runner = Held()
        stream = self.download()
        stream._link.runner = runner
        saving: Deferred[Any] = stream.save_to(self.path)
        self.pair.pump()
        saving.cancel()
        self.assertNoResult(saving)
        for late in runner.held:
            late.callback(None)
        self.pair.pump()
        return saving, runner.steps

    def test_cancelled(self) -> None:
        """Nothing is left, and nothing is removed under the thread that writes."""
        for step in ("open", "write"):
            saving, steps = self.cancelled_at(step)
            self.failureResultOf(saving, CancelledError)
            self.assertEqual((self.names(), steps[-1], steps.count("close")), ([], "close", 1))

    def test_cancelled_while_committing(self) -> None:
        """S26: a cancel that comes too late is none: published and OK."""
        saving, _ = self.cancelled_at("commit")
        self.assertEqual(self.successResultOf(saving).byte_count, len(CONTENT))
        self.assertEqual(self.path.read_bytes(), CONTENT)
