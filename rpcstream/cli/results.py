"""
What a finished transfer is reported as.
"""

from __future__ import annotations

from rpcstream.cli.output import Output
from rpcstream.services.sending import Sent
from rpcstream.units import format_rate, format_seconds, format_size

__all__ = ["report_transfer"]


def report_transfer(output: Output, name: str, sent: Sent) -> None:
    """The last word of C{send} and C{receive}; the digest is the first word of the text."""
    protection = sent.protection
    rate = sent.size / sent.seconds if sent.seconds > 0 else 0.0
    text = f"{sent.digest.hex()}  {name}: {format_size(sent.size)} in {format_seconds(sent.seconds)}"
    if sent.resumed_from:
        text += f", {format_size(sent.resumed_from)} of it was there already"
    else:
        text += f", {format_rate(rate)}"
    output.done(
        text,
        name=name,
        bytes=sent.size,
        seconds=round(sent.seconds, 6),
        digest=sent.digest.hex(),
        resumed_from=sent.resumed_from,
        lane=sent.lane,
        connections=sent.connection_count,
        tls=protection.version if protection else None,
        cipher=protection.cipher if protection else None,
        sent_bytes=sent.sent_bytes,
        hole_bytes=sent.hole_bytes,
        packets=sent.packet_count,
        holes=sent.hole_count,
        written_bytes=sent.written_bytes,
    )
