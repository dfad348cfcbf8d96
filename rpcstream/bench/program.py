"""
The bench program: what the measuring end asks of the other one.

Declarations only; L{rpcstream.bench.responders} answers them.
"""

from __future__ import annotations

from typing import Annotated

from rpcstream.limits import KIB, MIB
from rpcstream.programs.base import Event, Procedure, Program, Upload
from rpcstream.wire import Fixed, Hyper, Int, Max, Struct, UHyper, UInt

__all__ = [
    "BENCH",
    "CALL_BYTES",
    "LARGEST_PACKET_BYTES",
    "Begin",
    "End",
    "Fire",
    "Measure",
    "Put",
    "Sink",
    "Stall",
    "Sum",
    "Tally",
    "Usage",
]

BENCH = Program("bench", number=0x62656E63, version=1)

CALL_BYTES = 64 * KIB
"""Data of one L{Put}: the proposal's packet."""
LARGEST_PACKET_BYTES = 4 * MIB
"""Data of one L{Fire}, and of one stream packet."""


class Sum(Procedure[Int], program=BENCH, number=1, permission="bench", idempotent=True):
    """The smallest useful call."""

    a: Int
    b: Int


class Put(Procedure[None], program=BENCH, number=2, permission="bench"):
    """Data as a call of its own: answered before the next one."""

    data: Annotated[bytes, Max(CALL_BYTES)]


class Fire(Event, program=BENCH, number=3, permission="bench"):
    """Data as a MESSAGE: fire and forget."""

    data: Annotated[bytes, Max(LARGEST_PACKET_BYTES)]


class Sink(Upload[UInt], program=BENCH, number=4, permission="bench"):
    """
    Data as a stream, discarded.  The reply is the packet size of an exclusive
    lane, 0 for the shared one.
    """

    exclusive_packet_bytes: UInt


class Begin(Procedure[None], program=BENCH, number=5, permission="bench"):
    """
    Forget what came on this connection.

    @ivar is_digested: digest what comes from here on, too.
    """

    is_digested: bool


class Tally(Struct):
    """
    What came on a connection since L{Begin}, by whichever way.

    @ivar digest: BLAKE3 of it, zeros if it was not asked for.
    """

    byte_count: UHyper
    digest: Annotated[bytes, Fixed(32)]


class End(Procedure[Tally], program=BENCH, number=6, permission="bench"):
    """Tell what came."""


class Usage(Struct):
    """
    What a process has used so far, as the kernel counts it.

    @ivar file_ns: wall time inside calls that read, write or sync files, of all threads.
    """

    user_ns: UHyper
    system_ns: UHyper
    voluntary_switches: UHyper
    involuntary_switches: UHyper
    resident_bytes: Hyper
    file_ns: UHyper


class Measure(Procedure[Usage], program=BENCH, number=7, permission="bench", idempotent=True):
    """Tell what the server's process has used."""


class Stall(Upload[None], program=BENCH, number=8, permission="bench"):
    """Data as a stream that nobody takes until C{milliseconds} have passed; then it is discarded."""

    milliseconds: UInt
