"""
A tiny run of all measurements: what it tells is complete, and the bytes were really moved.
"""

from __future__ import annotations

import json
import tempfile
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

from twisted.internet import reactor
from twisted.internet.defer import Deferred
from twisted.trial.unittest import TestCase

from rpcstream.bench.costs import measure_costs
from rpcstream.bench.ends import Bench
from rpcstream.bench.latency import measure_calls
from rpcstream.bench.memory import idle_connections, measure_memory
from rpcstream.bench.modes import measure_modes
from rpcstream.bench.moving import Mode
from rpcstream.bench.plan import Share
from rpcstream.bench.program import Begin, End, Stall
from rpcstream.bench.whole import PARTS, measure
from rpcstream.cli.bench_tables import tables_of
from rpcstream.limits import MIB
from rpcstream.net.threads import ThreadRunner
from tests.bench.support import TINY


class WholeTests(TestCase):
    timeout = 120

    def setUp(self) -> None:
        self.runner = ThreadRunner(reactor, 4)
        self.addCleanup(self.runner.stop)

    def bench(self) -> Bench:
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        return Bench(reactor, self.runner, folder)

    def part(self, measuring: Callable[..., Any], seconds: float = 60.0) -> Deferred[dict[str, Any]]:
        clock: Any = reactor
        return Deferred.fromCoroutine(measuring(self.bench(), TINY, Share(seconds, clock.seconds)))

    def check_tables(self, name: str, part: dict[str, Any]) -> None:
        """Every row has what its table shows, and JSON can tell it."""
        shown = list(tables_of(name, part))
        self.assertTrue(shown)
        for table, rows in shown:
            for row in rows:
                table.line(table.row(row))
            table.rich([table.row(row) for row in rows])
        self.assertEqual(json.loads(json.dumps(part)), part)

    async def test_modes(self) -> None:
        """Every way, round trip and encryption; bytes that came, digests that are equal, samples counted."""
        part = await self.part(measure_modes)
        ways = {(row["mode"], row["tls"], row["round_trip_ms"]) for row in part["rows"]}
        expected = {Mode.CALL, Mode.MESSAGE, Mode.STREAM}
        expected |= set() if part["left_out"] else {Mode.EXCLUSIVE}
        self.assertEqual(
            ways, {(mode.value, tls, trip) for mode in expected for tls in (True, False) for trip in (0, 2)}
        )
        for row in part["rows"]:
            self.assertEqual((row["sample_count"], len(row["samples"])), (2, 2))
            self.assertGreaterEqual(row["digest_equal_bytes"], 256 * 1024)
            self.assertGreater(row["bytes"], 0)
            self.assertGreater(row["ratio_to_call"], 0)
            # A call needs a round trip of its own.
            if row["mode"] == Mode.CALL.value and row["round_trip_ms"]:
                self.assertGreaterEqual(row["seconds"], row["packet_count"] * row["round_trip_ms"] / 1000)
        self.check_tables("modes", part)

    async def test_costs(self) -> None:
        """Each lane has its runs, of all bytes, and a ledger that adds up."""
        part = await self.part(measure_costs)
        self.assertEqual(part["lanes"][0]["lane"], "shared")
        for lane in part["lanes"]:
            self.assertEqual(lane["sample_count"], 2)
            self.assertEqual([run["bytes"] for run in lane["runs"]], [TINY.cost_bytes] * 3)
            # Only the last run touches files, at both ends.
            files = [
                (run["near"]["file_seconds_per_gib"], run["far"]["file_seconds_per_gib"])
                for run in lane["runs"]
            ]
            self.assertEqual(files[0][0] + files[1][0], 0)
            self.assertGreater(min(files[2]), 0)
            found = {row["what"]: row["seconds_per_gib"] for row in lane["rows"]}
            self.assertGreater(found["framing"], 0)
            self.assertGreater(found["digest, both ends"], 0)
            self.assertLessEqual(found["framing"], found["processor time, both ends"])
        self.check_tables("costs", part)

    async def test_calls(self) -> None:
        """Calls are counted, their latencies ordered; the streams went on beside them."""
        part = await self.part(measure_calls)
        self.assertEqual(
            [row["what"] for row in part["rows"]],
            ["one at a time", "20 in flight", "while 2 streams run"],
        )
        for row in part["rows"]:
            self.assertGreater(row["sample_count"], 0)
            self.assertLessEqual(row["p50_ms"], row["max_ms"])
        self.assertGreater(part["rows"][2]["stream_bytes"], 0)
        self.check_tables("calls", part)

    async def test_memory(self) -> None:
        """Every count and size is told; a sparse file sends its data and no more."""
        part = await self.part(measure_memory)
        self.assertEqual([row["connections"] for row in part["idle"]], [1, 2])
        self.assertEqual([row["streams"] for row in part["streams"]], [1, 2])
        for row in part["streams"]:
            self.assertGreater(row["least_bytes_of_a_stream"], 0)
            self.assertGreater(row["sample_count"], 0)
        self.assertEqual([row["size"] for row in part["sizes"]], list(TINY.sizes))
        for row in part["sizes"]:
            self.assertEqual(row["data_bytes"], MIB)
            self.assertLessEqual(row["sent_bytes"], 4 * MIB)
            self.assertGreaterEqual(row["sent_bytes"], MIB)
        self.check_tables("memory", part)

    async def test_single(self) -> None:
        """What benchmarks/ uses alone: idle connections; a stream that nobody takes for a while."""
        bench = self.bench()
        with bench.far_end() as far_end:
            row = await Deferred.fromCoroutine(idle_connections(bench, far_end, 2))
            self.assertEqual((row["connections"], row["sample_count"]), (2, 1))
            async with far_end.connect() as connection:
                await connection.call(Begin(False))
                started = connection.clock.seconds()
                async with connection.open(Stall(200)) as stream:
                    await stream.send(bytes(1000))
                self.assertGreaterEqual(connection.clock.seconds() - started, 0.2)
                self.assertEqual((await connection.call(End())).byte_count, 1000)
        self.assertEqual([each["end"] for each in bench.take_holds()], ["far"])
        self.assertEqual(bench.take_holds(), [])

    async def test_whole(self) -> None:
        """
        All parts in order, and nothing is left on disk; what there is no time for is left out, and
        said to be.
        """
        told: list[str] = []
        folder = Path(self.mktemp()).absolute()
        folder.mkdir()
        self.patch(tempfile, "tempdir", str(folder))
        found = await Deferred.fromCoroutine(
            measure(
                reactor,
                self.runner,
                replace(TINY, share_seconds=(-1.0,) * 4),
                lambda name: told.append(f"begun {name}"),
                lambda name, part: told.append(f"done {name}"),
            )
        )
        self.assertEqual(told, [f"{what} {name}" for name in PARTS for what in ("begun", "done")])
        for name in PARTS:
            self.assertTrue(found[name]["left_out"], name)
            rows = [found[name].get(key, []) for key in ("rows", "lanes", "idle", "streams", "sizes")]
            self.assertFalse(any(rows), name)
            self.assertEqual([table for table, _ in tables_of(name, {**found[name], "holds": []})], [])
            self.assertLessEqual({row["part"] for row in found[name]["holds"]}, {name})
        self.assertEqual(found["plan"], "tiny")
        self.assertGreater(found["machine"]["cores"], 0)
        self.assertEqual(list(folder.iterdir()), [])
