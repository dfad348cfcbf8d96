"""
What was measured of jobs that were done, for whoever looks soon.

Kept in memory, for the last jobs only: it says how it went, not what is true.
"""

from __future__ import annotations

from collections import OrderedDict

from rpcstream.programs.parameters import DoubleValue, Parameter, TextValue, UHyperValue
from rpcstream.services.sending import Sent

__all__ = ["JobMeasures", "measures_of"]

KEPT_COUNT = 1000
_COUNTS = (
    "size",
    "sent_bytes",
    "hole_bytes",
    "hole_count",
    "packet_count",
    "written_bytes",
    "resumed_from",
)


def measures_of(sent: Sent) -> tuple[Parameter, ...]:
    """
    The numbers of a transfer as typed parameters: C{size}, C{sent_bytes},
    C{hole_bytes}, C{hole_count}, C{packet_count}, C{written_bytes},
    C{resumed_from}, C{seconds}, C{lane}, and C{tls} and C{cipher} where there is TLS.
    """
    names = (
        "size",
        "sent_bytes",
        "hole_bytes",
        "hole_count",
        "packet_count",
        "written_bytes",
        "resumed_from",
    )
    found = [Parameter(name, UHyperValue(getattr(sent, name))) for name in names]
    found.append(Parameter("seconds", DoubleValue(sent.seconds)))
    found.append(Parameter("lane", TextValue(sent.lane)))
    if sent.protection is not None:
        found.append(Parameter("tls", TextValue(sent.protection.version)))
        found.append(Parameter("cipher", TextValue(sent.protection.cipher)))
    return tuple(found)


class JobMeasures:
    """Measures by job; the oldest give way."""

    def __init__(self) -> None:
        self._measures: OrderedDict[int, tuple[Parameter, ...]] = OrderedDict()

    def put(self, job_id: int, sent: Sent) -> None:
        """A job was done."""
        self._measures[job_id] = measures_of(sent)
        while len(self._measures) > KEPT_COUNT:
            self._measures.popitem(last=False)

    def get(self, job_id: int) -> tuple[Parameter, ...]:
        """
        @return: empty if nothing is known.
        """
        return self._measures.get(job_id, ())
