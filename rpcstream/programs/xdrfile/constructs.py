"""
Two Constructs that only C{.x} files need: a union with a default arm, and a type
that is part of itself.

Both are rare, so they have no fast codec of their own: L{rpcstream.wire.derive}
interprets them where they stand.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from rpcstream.wire.reader import WORD_BYTES, XDR, XDRError, budget_of, largest_bytes, shown, smallest_bytes
from rpcstream.wire.xdr import Int, Number

__all__ = ["Later", "OpenUnion", "unnamed"]


def unnamed(declaration: Any) -> Any:
    """The declaration without the name of the field or arm that it stands in."""
    # Construct itself is imported in wire only, so its class is known by its name.
    while type(declaration).__name__ == "Renamed":
        declaration = declaration.subcon
    return declaration


class OpenUnion(XDR):
    """
    C{union} with a default arm, or with an unsigned discriminant.

    A value is a tuple C{(number, value)}.

    @ivar arms: the declarations by number.
    @ivar default: the declaration for every other number, C{None} if there is none.
    @ivar discriminant: how the number is sent.
    """

    def __init__(self, arms: Mapping[int, Any], default: Any = None, discriminant: Number = Int) -> None:
        every = [*arms.values(), *([] if default is None else [default])]
        most = [largest_bytes(arm) for arm in every]
        known = [size for size in most if size is not None]
        super().__init__(
            WORD_BYTES + min(map(smallest_bytes, every)),
            WORD_BYTES + max(known) if len(known) == len(most) else None,
        )
        self.arms = dict(arms)
        self.default = default
        self.discriminant = discriminant

    def arm(self, number: Any, path: str) -> Any:
        """The declaration for a discriminant; L{XDRError} if there is none."""
        found = self.arms.get(number, self.default)
        if found is None:
            raise XDRError(f"no arm for discriminant {shown(number)}", path)
        return found

    def _parse(self, stream: Any, context: Any, path: str) -> tuple[int, Any]:
        number = self.discriminant._parse(stream, context, path)
        arm = self.arm(number, path)
        budget = budget_of(stream)
        budget.enter(path)
        value = arm._parsereport(stream, context, path)
        budget.leave()
        return number, value

    def _build(self, obj: Any, stream: Any, context: Any, path: str) -> Any:
        if not isinstance(obj, tuple) or len(obj) != 2 or not isinstance(obj[0], int):
            raise XDRError(f"{shown(obj)} is not (number, value)", path)
        arm = self.arm(obj[0], path)
        self.discriminant._build(obj[0], stream, context, path)
        budget = budget_of(stream)
        budget.enter(path)
        arm._build(obj[1], stream, context, path)
        budget.leave()
        return obj


class Later(XDR):
    """
    A type inside itself (the next element of a list), looked up when it is used.

    How deep values nest is limited as for all others, by XDR_DEPTH.

    @ivar type_name: what it is called in the file.
    """

    def __init__(self, type_name: str, find: Callable[[], Any]) -> None:
        # A type can contain itself through optionals, arrays and unions only:
        # each of them takes a word at least.
        super().__init__(WORD_BYTES, None)
        self.type_name = type_name
        self._find = find
        self._target: Any = None

    @property
    def target(self) -> Any:
        """The declaration of the type."""
        if self._target is None:
            self._target = self._find()
        return self._target

    def _parse(self, stream: Any, context: Any, path: str) -> Any:
        return self.target._parsereport(stream, context, path)

    def _build(self, obj: Any, stream: Any, context: Any, path: str) -> Any:
        return self.target._build(obj, stream, context, path)
