"""
The single pieces of the measurements: sums, counters, limits of time, processes.
"""

from __future__ import annotations

import os
from contextlib import nullcontext
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import TestCase

from blake3 import blake3
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from rpcstream.bench import latency, memory, moving, processes
from rpcstream.bench.costs import Run, ledger
from rpcstream.bench.files import make_file, stored_digest
from rpcstream.bench.isolated import digest_seconds, framing_seconds, switch_seconds
from rpcstream.bench.latency import percentiles
from rpcstream.bench.machine import machine
from rpcstream.bench.moving import Mode, Supply, move, prove
from rpcstream.bench.plan import FULL, QUICK, Share
from rpcstream.bench.processes import BenchFailed, Process
from rpcstream.bench.program import Begin, End, Tally, Usage
from rpcstream.bench.responders import BenchResponders, Count
from rpcstream.bench.usage import TimedFiles, difference, own_usage
from rpcstream.limits import GIB, KIB, MIB
from rpcstream.storage.reading import digest_file
from tests.bench.support import TINY


class PlanTests(TestCase):
    def test_bounds(self) -> None:
        """A minute and a quarter of an hour are not passed by the shares of time."""
        self.assertLess(sum(QUICK.share_seconds), 60 - 5)
        self.assertLess(sum(FULL.share_seconds), 15 * 60 - 30)
        self.assertEqual((FULL.stream_counts[0], FULL.stream_counts[-1]), (1, 256))
        self.assertEqual((FULL.sizes[0], FULL.sizes[-1]), (MIB, 100 * GIB))
        self.assertEqual((FULL.packet_sizes[0], FULL.packet_sizes[-1]), (16 * KIB, 4 * MIB))

    def test_share(self) -> None:
        """What does not fit any more is named."""
        clock = Clock()
        share = Share(10, clock.seconds)
        self.assertTrue(share.has_room("a", 9))
        clock.advance(5)
        self.assertFalse(share.has_room("b", 9))
        self.assertTrue(share.has_room("c"))
        self.assertEqual(share.left_out, ["b"])


class PercentileTests(TestCase):
    def test_enough(self) -> None:
        """Of a thousand samples all are told."""
        found = percentiles([number / 1000 for number in range(1000)])
        self.assertEqual(found, {"p50_ms": 500.0, "p99_ms": 990.0, "p99_9_ms": 999.0, "max_ms": 999.0})

    def test_too_few(self) -> None:
        """A percentile that no sample stands for is not told."""
        self.assertEqual(
            percentiles([0.001] * 99), {"p50_ms": 1, "p99_ms": None, "p99_9_ms": None, "max_ms": 1}
        )


class SupplyTests(TestCase):
    def test_digest(self) -> None:
        """The digest is that of all pieces, in order."""
        supply = Supply(256 * KIB, Clock(), 1.0, 20 * MIB)
        hasher = blake3()
        for piece in supply:
            hasher.update(piece)
        self.assertEqual((supply.byte_count, supply.piece_count), (20 * MIB, 80))
        self.assertEqual(supply.digest(), hasher.digest())

    def test_time(self) -> None:
        """It ends when the time is up."""
        clock = Clock()
        supply = Supply(256 * KIB, clock, 1.0)
        next(supply)
        clock.advance(1)
        self.assertEqual(list(supply), [])


class UsageTests(TestCase):
    def test_growth(self) -> None:
        """Working shows, as processor time."""
        before = own_usage()
        sum(range(3_000_000))
        used = difference(before, own_usage())
        self.assertGreater(used.user_ns + used.system_ns, 0)
        self.assertGreater(before.resident_bytes, MIB)

    def test_files(self) -> None:
        """Every call that moves or syncs content is timed, and does its work."""
        files = TimedFiles()
        path = Path(self.id())
        fd = files.open(str(path), os.O_RDWR | os.O_CREAT)
        self.addCleanup(path.unlink)
        self.addCleanup(os.close, fd)
        calls: list[Any] = [
            lambda: files.pwrite(fd, b"abc", 0),
            lambda: files.pread(fd, 3, 0),
            lambda: files.read(fd, 3),
            lambda: files.start_writeback(fd, 0, 3),
            lambda: files.fdatasync(fd),
            lambda: files.fsync(fd),
        ]
        found = []
        for call in calls:
            before = files.ns
            found.append(call())
            self.assertGreater(files.ns, before)
        self.assertEqual(found, [3, b"abc", b"abc", None, None, None])
        self.assertEqual(own_usage(files).file_ns, files.ns)


class IsolatedTests(TestCase):
    def test_all(self) -> None:
        """Every step takes some time, alone."""
        self.assertGreater(framing_seconds(64 * KIB, MIB), 0)
        self.assertGreater(framing_seconds(64 * KIB, MIB, is_joined=False), 0)
        self.assertGreater(digest_seconds(MIB), 0)
        self.assertGreater(switch_seconds(50), 0)

    def test_machine(self) -> None:
        """What it is about is told; what is not installed, too."""
        self.assertGreater(machine()["memory_bytes"], MIB)


class LedgerTests(TestCase):
    def test_sums(self) -> None:
        """The parts of the processor time are its whole."""

        def run(seconds: float, user: float, system: float, files: float = 0.0) -> Run:
            used = Usage(int(user * 5e8), int(system * 5e8), 100, 10, 0, int(files * 5e8))
            return Run(GIB, seconds, used, used)

        rows = ledger(run(1, 1, 0.5), run(2, 2, 0.6), run(4, 4, 0.9, 1), 0.25, 0.5, 1e-5)
        found = {row["what"]: (row["seconds_per_gib"], row["count_per_gib"]) for row in rows}
        self.assertEqual(
            found,
            {
                "wall time": (4, None),
                "processor time, both ends": (4.9, None),
                "framing": (0.25, None),
                "encryption": (1, None),
                "system calls: sockets": (0.6, None),
                "system calls: files": (0.3, None),
                "digest, both ends": (0.5, None),
                "Python, Twisted and the rest": (2.25, None),
                "file I/O, wall": (1, None),
                "context switches, voluntary": (0.002, 200),
                "context switches, involuntary": (0.0002, 20),
                "idle waiting, both ends": (3.1, None),
            },
        )


class ProcessTests(TestCase):
    def setUp(self) -> None:
        self.log = Path(self.id() + ".log")
        self.addCleanup(self.log.unlink)

    def test_fails(self) -> None:
        """A process that does not start says why."""
        with self.assertRaisesRegex(BenchFailed, "rpcstream.bench.nothing did not start: .*No module"):
            Process("rpcstream.bench.nothing", log=self.log)

    def test_stubborn(self) -> None:
        """One that does not end when it is asked to is killed."""
        self.addCleanup(setattr, processes, "STOP_SECONDS", processes.STOP_SECONDS)
        processes.STOP_SECONDS = 0.01
        with Process("rpcstream.bench.relay", "1", "0", log=self.log) as process:
            os.kill(process.pid, 19)  # stopped, it cannot end in order
        self.assertRaises(ProcessLookupError, os.kill, process.pid, 0)
        process.stop()


class FakeConnection:
    """A far end that tells what it likes."""

    def __init__(self, tally: Tally, reply: int = 0, features: tuple[str, ...] = ()) -> None:
        self.clock = Clock()
        self.tally = tally
        self.features = features
        self.stream = SimpleNamespace(reply=reply, progress=SimpleNamespace(byte_count=7, packet_count=1))

    def call(self, request: Any, timeout_seconds: Any = None) -> Deferred[Any]:
        self.clock.advance(1)
        return succeed(self.tally if isinstance(request, End) else 0)

    def open(self, request: Any, **options: Any) -> Deferred[Any]:
        return succeed(self.stream)


class HonestyTests(SynchronousTestCase):
    """What does not fit together is an error, not a result."""

    def failure(self, coroutine: Any) -> str:
        return str(self.failureResultOf(Deferred.fromCoroutine(coroutine), BenchFailed).value)

    def test_lost(self) -> None:
        """Bytes that did not come."""
        connection: Any = FakeConnection(Tally(1, bytes(32)))
        self.assertIn("1 came", self.failure(move(connection, Mode.CALL, 65536, 0.5)))

    def test_changed(self) -> None:
        """Bytes that are others."""
        connection: Any = FakeConnection(Tally(65536, bytes(32)))
        self.assertIn("not what was sent", self.failure(prove(connection, Mode.CALL, 65536, 65536)))

    def test_no_lane(self) -> None:
        """A lane that was not given."""
        connection: Any = FakeConnection(Tally(0, bytes(32)))
        self.assertIn("cannot be taken over", self.failure(move(connection, Mode.EXCLUSIVE, 65536, 0.5)))
        self.patch(moving, "can_ask", lambda connection: True)
        self.assertIn("does not give", self.failure(move(connection, Mode.EXCLUSIVE, 65536, 0.5)))

    def test_wrong_sum(self) -> None:
        """An answer that is wrong."""
        connection: Any = FakeConnection(Tally(0, bytes(32)))
        self.assertIn("was answered with 0", self.failure(latency._idle(connection, 5.0, 1)))

    def test_lost_under_load(self) -> None:
        """Bytes of the streams beside the calls that did not come."""
        connection: Any = FakeConnection(Tally(1, bytes(32)))
        load = latency._Load(connection, 1)
        load._streams = [connection.stream]
        self.assertIn("7 bytes were sent, 1 came", self.failure(load.stop()))

    def test_lost_streams(self) -> None:
        """The same, of many streams at once."""
        connection: Any = FakeConnection(Tally(1, bytes(32)))
        connection.close = lambda: succeed(None)

        class Far:
            pid = os.getpid()

            def __enter__(self) -> Any:
                return self

            def __exit__(self, *exception: object) -> None:
                pass

            def connect(self) -> Any:
                return succeed(connection)

        async def nothing(*arguments: Any) -> int:
            return 0

        bench: Any = SimpleNamespace(far_end=Far, reactor=connection.clock, watched=nullcontext)
        for name in ("prove", "_pour"):
            self.patch(memory, name, nothing)
        share = Share(10, Clock().seconds)
        self.assertIn("0 bytes were sent, 1 came", self.failure(memory._streams(bench, TINY, share)))

    def test_stored(self) -> None:
        """A file that is another one at the far end."""
        folder = Path(self.mktemp())
        (folder / "store").mkdir(parents=True)
        path = make_file(folder / "file", 1000)
        make_file(folder / "store" / "file", 1000)
        runner = SimpleNamespace(run=lambda function, *arguments: succeed(function(*arguments)))
        bench: Any = SimpleNamespace(runner=runner)
        sent: Any = SimpleNamespace(digest=digest_file(path))
        far_end: Any = SimpleNamespace(folder=folder)
        self.assertIn("digests of both ends differ", self.failure(stored_digest(bench, far_end, path, sent)))


class CountTests(TestCase):
    def test_forgets(self) -> None:
        """BEGIN starts from nothing; without it all that came counts."""
        call: Any = SimpleNamespace(connection=FakeConnection(Tally(0, bytes(32))))
        responders = BenchResponders(own_usage, Clock())
        self.assertEqual(responders.end(call, End()), Tally(0, bytes(32)))
        responders.begin(call, Begin(True))
        responders.put(call, SimpleNamespace(data=b"abc"))
        self.assertEqual(responders.end(call, End()), Tally(3, blake3(b"abc").digest()))
        self.assertEqual(responders.sum(call, SimpleNamespace(a=2, b=3)), 5)
        self.assertGreater(responders.measure(call, SimpleNamespace()).resident_bytes, 0)

    def test_sink(self) -> None:
        """A hole is no data; a producer is left alone."""
        count = Count()
        count.registerProducer(None, True)
        count.write_hole(10)
        count.unregisterProducer()
        self.assertEqual(count.byte_count, 0)
