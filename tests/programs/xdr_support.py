"""The small C{.x} files of these tests, and strategies of legal values for any declaration."""

from __future__ import annotations

import functools
from pathlib import Path
from typing import Any

from hypothesis import HealthCheck, settings, strategies

from rpcstream.programs.xdrfile import Interface, load
from rpcstream.programs.xdrfile.constructs import Later, OpenUnion, unnamed
from rpcstream.wire import composite, xdr

FILES = Path(__file__).parent / "xdr_files"
QUICK = settings(
    max_examples=25,
    derandomize=True,
    deadline=None,
    database=None,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much, HealthCheck.data_too_large],
)
_LISTED = 3
"""Elements of a list, characters of a text: enough to see an order."""


@functools.cache
def interface(name: str) -> Interface:
    """One of the files, compiled."""
    return load(FILES / f"{name}.x")


def values(declaration: Any, depth: int = 0) -> strategies.SearchStrategy[Any]:
    """Legal values of a declaration; types within themselves end soon."""
    declaration = unnamed(declaration)
    if isinstance(declaration, Later):
        declaration, depth = unnamed(declaration.target), depth + 1
    make = _STRATEGIES[type(declaration)]
    found: strategies.SearchStrategy[Any] = make(declaration, depth)
    return found


def _numbers(declaration: xdr.Number, depth: int) -> strategies.SearchStrategy[Any]:
    if declaration.format in "fd":
        return strategies.floats(allow_nan=False, width=32 if declaration.format == "f" else 64)
    bits = declaration.struct.size * 8
    low = 0 if declaration.format.isupper() else -(1 << (bits - 1))
    return strategies.integers(low, low + (1 << bits) - 1)


def _text(declaration: xdr.String, depth: int) -> strategies.SearchStrategy[str]:
    if declaration.errors == "strict":
        return strategies.text(
            strategies.characters(codec="ascii", exclude_characters="\0"), max_size=_LISTED
        )
    return strategies.binary(max_size=_LISTED).map(
        lambda data: data.replace(b"\0", b"").decode("utf-8", "surrogateescape")
    )


def _bytes(low: int, high: int) -> strategies.SearchStrategy[bytes]:
    return strategies.binary(min_size=low, max_size=min(high, low + _LISTED))


def _lists(declaration: Any, low: int, high: int, depth: int) -> strategies.SearchStrategy[Any]:
    if depth > 2 and not low:
        return strategies.just(())
    most = min(high, low + _LISTED) if low != high else high
    return strategies.lists(values(declaration.subcon, depth), min_size=low, max_size=most).map(tuple)


def _optionals(declaration: composite.Optional, depth: int) -> strategies.SearchStrategy[Any]:
    if depth > 2:
        return strategies.none()
    return strategies.none() | values(declaration.subcon, depth)


def _unions(declaration: Any, depth: int) -> strategies.SearchStrategy[Any]:
    if getattr(declaration, "types", None) is not None:
        return strategies.one_of([values(arm, depth) for arm in declaration.arms.values()])
    arms = [
        strategies.tuples(strategies.just(number), values(arm, depth))
        for number, arm in declaration.arms.items()
    ]
    if getattr(declaration, "default", None) is not None:
        other = _numbers(declaration.discriminant, depth).filter(lambda n: n not in declaration.arms)
        arms.append(strategies.tuples(other, values(declaration.default, depth)))
    return strategies.one_of(arms)


def _records(declaration: composite.Record, depth: int) -> strategies.SearchStrategy[Any]:
    return strategies.tuples(*(values(field, depth) for field in declaration.subcons)).map(declaration.make)


_STRATEGIES: dict[type, Any] = {
    xdr.Number: _numbers,
    xdr.SmallInt: lambda each, depth: strategies.integers(each.smallest, each.largest),
    xdr.Boolean: lambda each, depth: strategies.booleans(),
    xdr.Enumeration: lambda each, depth: strategies.sampled_from(list(each.type)),
    xdr.Void: lambda each, depth: strategies.none(),
    xdr.String: _text,
    xdr.Opaque: lambda each, depth: _bytes(0, each.limit_bytes),
    xdr.FixedOpaque: lambda each, depth: strategies.binary(
        min_size=each.byte_count, max_size=each.byte_count
    ),
    xdr.Chars: lambda each, depth: _bytes(0, each.limit_bytes),
    xdr.FixedChars: lambda each, depth: strategies.binary(min_size=each.byte_count, max_size=each.byte_count),
    composite.Optional: _optionals,
    composite.Array: lambda each, depth: _lists(each, 0, each.limit_count, depth),
    composite.FixedArray: lambda each, depth: _lists(each, each.count, each.count, depth),
    composite.Union: _unions,
    OpenUnion: _unions,
    composite.Record: _records,
}
