"""
What the demonstration has measured, checked and shown.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, NamedTuple

import attrs
from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

from rpcstream.errors import RPCStreamError
from rpcstream.programs.parameters import Parameter
from rpcstream.units import format_rate, format_size
from rpcstream.wire.header import HEADER_BYTES

__all__ = ["DemoFailed", "DemoResult", "Overhead", "drawn"]

HOLE_BYTES = HEADER_BYTES + 12
"""A hole's message."""
CALL_BYTES = 4096
"""INCOMING, the stream's end, COMMIT and some keepalives are far from it."""


_EXPECTED = (
    "size",
    "sent_bytes",
    "hole_bytes",
    "hole_count",
    "packet_count",
    "written_bytes",
    "seconds",
    "lane",
    "tls",
    "cipher",
)


class DemoFailed(RPCStreamError):
    """What was measured does not fit together."""


class Overhead(NamedTuple):
    """
    Where the bytes went that are no content.

    @ivar counted: handed to the transport, less the content: what was measured.
    @ivar headers: 28 x packets + 40 x holes.
    @ivar calls: the rest: calls, the end of the stream, keepalive.
    """

    counted: int
    headers: int
    calls: int


@attrs.frozen
class DemoResult:
    """
    One finished job.

    @ivar digests: as the job says, of the file sent, and of the file stored.
    @ivar measures: by name, as L{rpcstream.programs.jobs.Measured} tells them.
    @ivar pids: of the source and the destination service.
    """

    name: str
    digests: tuple[bytes, bytes, bytes]
    measures: dict[str, Any]
    pids: tuple[int, int]

    @classmethod
    def of(
        cls,
        name: str,
        digests: tuple[bytes, bytes, bytes],
        measures: Iterable[Parameter],
        pids: tuple[int, int],
    ) -> DemoResult:
        """
        Put together what was told.

        @raise DemoFailed: something is missing.
        """
        found = {each.name: each.value.value for each in measures}
        missing = [each for each in _EXPECTED if each not in found]
        if missing:
            raise DemoFailed(f"the source service has not measured: {', '.join(missing)}")
        return cls(name, digests, found, pids)

    @property
    def overhead(self) -> Overhead:
        """Counted by the transport, and explained by the protocol."""
        of = self.measures
        counted = of["written_bytes"] - of["sent_bytes"]
        headers = HEADER_BYTES * (of["packet_count"] - of["hole_count"]) + HOLE_BYTES * of["hole_count"]
        return Overhead(counted, headers, counted - headers)

    def check(self) -> None:
        """
        @raise DemoFailed: the ends differ, it was not protected, or the bytes do not add up.
        """
        if len(set(self.digests)) != 1:
            told = ", ".join(digest.hex()[:16] for digest in self.digests)
            raise DemoFailed(f"the digests of the job, the source and the destination differ: {told}")
        of, overhead = self.measures, self.overhead
        if of["sent_bytes"] + of["hole_bytes"] != of["size"]:
            raise DemoFailed(f"{of['sent_bytes']} + {of['hole_bytes']} bytes were sent, not {of['size']}")
        if not 0 < overhead.calls <= CALL_BYTES:
            raise DemoFailed(
                f"the transport counted {overhead.counted} bytes of overhead, packets and holes account for "
                f"{overhead.headers}"
            )

    @property
    def percent(self) -> float:
        """Overhead in percent of the content that crossed the wire."""
        sent = self.measures["sent_bytes"]
        return 100 * self.overhead.counted / sent if sent else 0.0

    def fields(self) -> dict[str, Any]:
        """For C{--json}."""
        of, overhead = self.measures, self.overhead
        return {
            "name": self.name,
            "bytes": of["size"],
            "seconds": round(of["seconds"], 6),
            "digest": self.digests[0].hex(),
            "source_digest": self.digests[1].hex(),
            "destination_digest": self.digests[2].hex(),
            "resumed_from": of.get("resumed_from", 0),
            "lane": of["lane"],
            "tls": of["tls"],
            "cipher": of["cipher"],
            "sent_bytes": of["sent_bytes"],
            "hole_bytes": of["hole_bytes"],
            "packets": of["packet_count"],
            "holes": of["hole_count"],
            "written_bytes": of["written_bytes"],
            "overhead_bytes": overhead.counted,
            "header_bytes": overhead.headers,
            "call_bytes": overhead.calls,
            "overhead_percent": round(self.percent, 6),
        }

    def rows(self) -> list[tuple[str, str]]:
        """For a person."""
        of, overhead = self.measures, self.overhead
        data_count = of["packet_count"] - of["hole_count"]
        return [
            ("bytes", f"{of['size']} ({format_size(of['size'])})"),
            ("seconds", f"{of['seconds']:.3f} (asked, sent, verified, synced, published)"),
            ("rate", format_rate(of["size"] / of["seconds"]) if of["seconds"] > 0 else "-"),
            ("packets", f"{data_count} of data, {of['hole_count']} holes"),
            ("header overhead", f"{overhead.counted} bytes, {self.percent:.4f} %, counted by the transport"),
            (
                "... made of",
                f"{HEADER_BYTES} x {data_count} + {HOLE_BYTES} x {of['hole_count']} = {overhead.headers}, "
                f"and {overhead.calls} of calls",
            ),
            ("protection", f"{of['tls']}, {of['cipher']}, certificates on both sides"),
            ("lane", of["lane"]),
            ("content digest", f"{self.digests[0].hex()[:32]}... the same on both ends"),
            ("processes", f"source {self.pids[0]}, destination {self.pids[1]}, both ended"),
        ]


def drawn(result: DemoResult, width: int | None) -> str:
    """The table, for a file of this width."""
    table = Table("WHAT", "MEASURED", box=box.SIMPLE_HEAD, show_edge=False, pad_edge=False)
    for what, value in result.rows():
        table.add_row(Text(what), Text(value))
    console = Console(width=width, highlight=False, color_system=None)
    with console.capture() as captured:
        console.print(table)
    return captured.get().rstrip("\n")
