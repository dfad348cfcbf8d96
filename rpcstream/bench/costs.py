"""
Where the time goes, per GiB: the question that the proposal leaves open.

Three runs for each lane, alike but for one thing: from memory in plain text,
from memory with TLS, from file to file with TLS.  What a step costs is the
difference of two runs, a count of the kernel's, a timer at the seam to the
operating system, or the step alone: each row says which.
"""

from __future__ import annotations

from typing import Any, NamedTuple

from rpcstream.bench.ends import Bench, FarEnd
from rpcstream.bench.files import SHARED_ONLY, make_file, send_file, stored_digest
from rpcstream.bench.isolated import digest_seconds, framing_seconds, switch_seconds
from rpcstream.bench.lanes import can_ask
from rpcstream.bench.moving import Mode, move, prove
from rpcstream.bench.plan import Plan, Share
from rpcstream.bench.processes import BenchFailed
from rpcstream.bench.program import Measure, Usage
from rpcstream.bench.usage import TimedFiles, difference, own_usage
from rpcstream.limits import DEFAULT_LIMITS, GIB, MIB

__all__ = ["METHOD", "Run", "ledger", "measure_costs"]

METHOD = (
    "Three runs a lane: memory to memory in plain text, the same with TLS, and file to file with TLS, "
    "digest and fsync. Processor time, context switches and memory are the kernel's counts (getrusage) "
    "of both processes. Encryption is the difference of the first two runs in user time; system calls "
    "are the kernel time of the second run, and of the third what is more; file I/O is timed at the "
    "seam between storage and the system, as wall time of threads of its own, so it overlaps with the "
    "rest; framing and digest are measured alone, as processor time of both ends; a switch costs what "
    "two threads need to wake each other by a pipe; idle waiting is the wall time in which neither "
    "end's processor time was spent, for both ends. Medians of the samples; the stored file's digest is "
    "compared after each run."
)


class Run(NamedTuple):
    """
    One run, or the median of several.

    @ivar near: what the sending process used.
    @ivar far: what the receiving process used.
    """

    byte_count: int
    seconds: float
    near: Usage
    far: Usage

    @property
    def user(self) -> float:
        """User time of both, in seconds."""
        return (self.near.user_ns + self.far.user_ns) / 1e9

    @property
    def system(self) -> float:
        """Kernel time of both, in seconds."""
        return (self.near.system_ns + self.far.system_ns) / 1e9

    @property
    def switches(self) -> tuple[int, int]:
        """Voluntary and involuntary ones of both."""
        return (
            self.near.voluntary_switches + self.far.voluntary_switches,
            self.near.involuntary_switches + self.far.involuntary_switches,
        )

    def fields(self) -> dict[str, Any]:
        """For JSON, per GiB."""
        scale = GIB / self.byte_count
        found: dict[str, Any] = {"bytes": self.byte_count, "seconds_per_gib": round(self.seconds * scale, 4)}
        for name, used in (("near", self.near), ("far", self.far)):
            found[name] = {
                "user_seconds_per_gib": round(used.user_ns / 1e9 * scale, 4),
                "system_seconds_per_gib": round(used.system_ns / 1e9 * scale, 4),
                "voluntary_switches_per_gib": round(used.voluntary_switches * scale),
                "involuntary_switches_per_gib": round(used.involuntary_switches * scale),
                "file_seconds_per_gib": round(used.file_ns / 1e9 * scale, 4),
                "growth_bytes": used.resident_bytes,
            }
        return found


class _Lane(NamedTuple):
    name: str
    mode: Mode
    packet_bytes: int


_LANES = (
    _Lane("shared", Mode.STREAM, DEFAULT_LIMITS.packet_bytes),
    _Lane("exclusive", Mode.EXCLUSIVE, DEFAULT_LIMITS.exclusive_packet_bytes),
)


_RUNS = ("memory to memory, plain", "memory to memory, TLS", "file to file, TLS")


async def _memory(bench: Bench, far_end: FarEnd, plan: Plan, lane: _Lane, is_tls: bool) -> Run:
    async with far_end.connect(is_tls=is_tls) as connection:
        await prove(connection, lane.mode, lane.packet_bytes, 2 * lane.packet_bytes)
        far, near = await connection.call(Measure()), own_usage()
        with bench.watched():
            moved = await move(connection, lane.mode, lane.packet_bytes, 60.0, plan.cost_bytes)
        near = difference(near, own_usage())
        far = difference(far, await connection.call(Measure()))
    return Run(moved.byte_count, moved.seconds, near, far)


async def _files(bench: Bench, far_end: FarEnd, lane: _Lane) -> Run:
    path, files = bench.folder / "costs", TimedFiles()
    limits = SHARED_ONLY if lane.name == "shared" else DEFAULT_LIMITS
    # A lane's connection refuses other calls, so another one asks what was used.
    async with far_end.connect() as asking, far_end.connect(limits=limits) as connection:
        far, near = await asking.call(Measure()), own_usage(files)
        with bench.watched():
            sent = await send_file(bench, connection, path, files)
        near = difference(near, own_usage(files))
        far = difference(far, await asking.call(Measure()))
    if sent.lane != lane.name:
        raise BenchFailed(f"the {sent.lane} lane was used, not the {lane.name} one")
    await stored_digest(bench, far_end, path, sent)
    return Run(sent.size, sent.seconds, near, far)


def _median(runs: list[Run]) -> Run:
    """The run of middle duration: its figures belong together."""
    return sorted(runs, key=lambda run: run.seconds)[len(runs) // 2]


def _row(what: str, seconds: float, how: str, count: float | None = None) -> dict[str, Any]:
    return {
        "what": what,
        "seconds_per_gib": round(seconds, 4),
        "count_per_gib": None if count is None else round(count),
        "how": how,
    }


def ledger(
    plain: Run, tls: Run, files: Run, framing: float, digest: float, switch: float
) -> list[dict[str, Any]]:
    """
    Split the time of C{files}.

    @param framing: processor seconds per GiB, both ends.
    @param digest: the same.
    @param switch: seconds.
    """

    def per_gib(run: Run, seconds: float) -> float:
        return seconds / run.byte_count * GIB

    scale = GIB / files.byte_count
    encryption = max(0.0, per_gib(tls, tls.user) - per_gib(plain, plain.user))
    sockets = per_gib(tls, tls.system)
    file_kernel = max(0.0, per_gib(files, files.system) - sockets)
    busy = per_gib(files, files.user + files.system)
    known = framing + encryption + sockets + file_kernel + digest
    voluntary, involuntary = (count * scale for count in files.switches)
    return [
        _row("wall time", files.seconds * scale, "clock"),
        _row("processor time, both ends", busy, "kernel's count"),
        _row("framing", framing, "alone"),
        _row("encryption", encryption, "difference: TLS and plain"),
        _row("system calls: sockets", sockets, "kernel's count, without files"),
        _row("system calls: files", file_kernel, "difference: with and without files"),
        _row("digest, both ends", digest, "alone"),
        _row("Python, Twisted and the rest", max(0.0, busy - known), "what is left of the processor time"),
        _row(
            "file I/O, wall",
            per_gib(files, (files.near.file_ns + files.far.file_ns) / 1e9),
            "timer; overlaps",
        ),
        _row("context switches, voluntary", voluntary * switch, "count x one alone", voluntary),
        _row("context switches, involuntary", involuntary * switch, "count x one alone", involuntary),
        _row("idle waiting, both ends", max(0.0, 2 * files.seconds * scale - busy), "2 x wall - processor"),
    ]


async def _measure_lane(
    bench: Bench, far_end: FarEnd, plan: Plan, share: Share, lane: _Lane, alone: tuple[float, float]
) -> dict[str, Any]:
    plain: list[Run] = []
    tls: list[Run] = []
    files: list[Run] = []
    sample_count = 0
    # In turn, so that what disturbs one disturbs all; the first round counts whatever it takes.
    while sample_count < plan.sample_count and (not sample_count or share.has_room(f"{lane.name}: a sample")):
        plain.append(await _memory(bench, far_end, plan, lane, False))
        tls.append(await _memory(bench, far_end, plan, lane, True))
        files.append(await _files(bench, far_end, lane))
        sample_count += 1
    middle = _median(plain), _median(tls), _median(files)
    framing = framing_seconds(
        lane.packet_bytes, min(plan.cost_bytes, 64 * MIB), is_joined=lane.mode is Mode.STREAM
    )
    digest, switch = alone
    return {
        "lane": lane.name,
        "packet_bytes": lane.packet_bytes,
        "sample_count": sample_count,
        "runs": [{"what": name, **run.fields()} for name, run in zip(_RUNS, middle, strict=True)],
        "rows": ledger(*middle, framing, 2 * digest, switch),
        "switch_seconds": switch,
    }


async def measure_costs(bench: Bench, plan: Plan, share: Share) -> dict[str, Any]:
    """
    @return: C{method}, C{lanes}, C{left_out}.
    """
    lanes: list[dict[str, Any]] = []
    path = await bench.runner.run(make_file, bench.folder / "costs", plan.cost_bytes)
    try:
        with bench.far_end() as far_end:
            alone = digest_seconds(min(plan.cost_bytes, 64 * MIB)), switch_seconds()
            async with far_end.connect() as connection:
                has_exclusive = can_ask(connection)
            for lane in _LANES:
                if lane.name == "exclusive" and not has_exclusive:
                    share.left_out.append("the exclusive lane: there is none here")
                elif share.has_room(f"the {lane.name} lane"):
                    lanes.append(await _measure_lane(bench, far_end, plan, share, lane, alone))
    finally:
        path.unlink()
    return {"method": METHOD, "lanes": lanes, "left_out": share.left_out}
