"""
Sizes, rates and durations as people write and read them.

K, M, G and T are powers of 1024, with or without C{iB} or C{B}: C{256M},
C{256MiB} and C{256MB} are the same.  Command line, configuration file and
endpoints all parse with these functions, so that a size means one thing.
"""

from __future__ import annotations

import re
from fractions import Fraction

from rpcstream.errors import ConfigurationError

__all__ = ["format_rate", "format_seconds", "format_size", "parse_rate", "parse_size"]

_LARGEST_BYTES = 2**63 - 1
# Bounded digits: Fraction("9" * 10**6) would take its time.
_SIZE = re.compile(r"([0-9]{1,20}(?:\.[0-9]{1,20})?) ?(?:([KMGT])(?:iB|B)?|B)?", re.IGNORECASE)
_POWERS = {"": 0, "K": 1, "M": 2, "G": 3, "T": 4}
_UNITS = ("B", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
_SHOWN_CHARACTERS = 40


def parse_size(text: str, what: str = "size") -> int:
    """
    Read a size.

    @param text: digits, perhaps a fraction and a unit: C{4096}, C{1.5G}, C{256 MiB}.
    @param what: what the size is for; errors begin with it.
    @return: bytes; a fraction of a byte is cut off.
    @raise ConfigurationError: not a size, or more than 2**63 - 1 bytes.
    """
    return _parse(text.strip(), text, what, "a number with an optional K, M, G or T, for example 256M")


def parse_rate(text: str, what: str = "rate") -> int:
    """
    Read a rate: a size, which is per second, with or without C{/s}.

    @param what: what the rate is for; errors begin with it.
    @return: bytes per second, at least 1.
    @raise ConfigurationError: not a rate, or less than 1 byte per second.
    """
    number = text.strip()
    if number[-2:].lower() == "/s":
        number = number[:-2].rstrip()
    rate = _parse(number, text, what, "a number with an optional K, M, G or T, per second, for example 100M")
    if rate < 1:
        raise ConfigurationError(f"{what}: {_shown(text)} lets nothing through; leave it out for no limit")
    return rate


def format_size(byte_count: float) -> str:
    """
    Write a size with three significant digits: C{17 B}, C{1.50 GiB}, C{256 MiB}.
    """
    value, unit = float(byte_count), 0
    # 1023.5 and more would be rounded to 1024 of the smaller unit.
    while value >= 1023.5 and unit < len(_UNITS) - 1:
        value, unit = value / 1024, unit + 1
    if unit == 0:
        return f"{value:.0f} B"
    decimals = 0 if value >= 99.95 or value.is_integer() else 1 if value >= 9.995 else 2
    return f"{value:.{decimals}f} {_UNITS[unit]}"


def format_rate(bytes_per_second: float) -> str:
    """
    Write a rate: C{980 MiB/s}.
    """
    return f"{format_size(bytes_per_second)}/s"


def format_seconds(seconds: float) -> str:
    """
    Write a duration, the finer the shorter: C{3.1 ms}, C{0.42 s}, C{12.3 s}, C{2 min 05 s}, C{3 h 07 min}.
    """
    if seconds < 0.01:
        return f"{max(seconds, 0.0) * 1000:.1f} ms"
    if seconds < 59.95:
        return f"{seconds:.2f} s" if seconds < 9.995 else f"{seconds:.1f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02} s"
    minutes = round(seconds / 60)
    if minutes < 48 * 60:
        return f"{minutes // 60} h {minutes % 60:02} min"
    hours = round(seconds / 3600)
    return f"{hours // 24} d {hours % 24:02} h"


def _parse(number: str, text: str, what: str, expected: str) -> int:
    match = _SIZE.fullmatch(number)
    if match is None:
        raise ConfigurationError(f"{what}: {_shown(text)} is not {expected}")
    power = _POWERS[(match[2] or "").upper()]
    value = int(Fraction(match[1]) * 1024**power)
    if value > _LARGEST_BYTES:
        raise ConfigurationError(f"{what}: {_shown(text)} is more than 8 EiB")
    return value


def _shown(text: str) -> str:
    return repr(text if len(text) <= _SHOWN_CHARACTERS else text[:_SHOWN_CHARACTERS] + "...")
