"""
The text of endpoint descriptions: C{prefix:argument:name=value}.

What lives here: splitting it as Twisted does, and values that are wrong.  What must
not: which descriptions there are (L{rpcstream.net.endpoints}).
"""

from __future__ import annotations

import ipaddress
from collections.abc import Callable, Mapping, Sequence
from typing import TypeVar

from rpcstream.errors import ConfigurationError

__all__ = ["check_interface", "check_parts", "parse_count", "parse_value", "parse_yes", "split_description"]

_T = TypeVar("_T")


def split_description(description: str) -> tuple[str, list[str], dict[str, str]]:
    """
    Split as Twisted does: at colons, a backslash takes the next character as it is.

    @return: prefix in lower case, positional arguments, options.
    """
    parts: list[str] = [""]
    equals: list[int | None] = [None]
    characters = iter(description)
    for character in characters:
        if character == "\\":
            parts[-1] += next(characters, "")
        elif character == ":":
            parts.append("")
            equals.append(None)
        else:
            if character == "=" and equals[-1] is None:
                equals[-1] = len(parts[-1])
            parts[-1] += character
    arguments = [part for part, index in zip(parts, equals, strict=True) if index is None]
    options = {
        part[:index]: part[index + 1 :]
        for part, index in zip(parts, equals, strict=True)
        if index is not None
    }
    prefix = arguments.pop(0).lower() if arguments else ""
    return prefix, arguments, options


def check_parts(
    form: str,
    arguments: Sequence[str],
    argument_count: int,
    options: Mapping[str, str],
    names: tuple[str, ...],
) -> None:
    if len(arguments) != argument_count:
        raise ConfigurationError(f"endpoint: write {form}, and options as :name=value")
    for name in options:
        if name not in names:
            raise ConfigurationError(
                f"endpoint {form}: option {name!r} is not known; known: {', '.join(names)}"
            )


def parse_value(parse: Callable[..., _T], text: str, **keywords: int) -> _T:
    try:
        return parse(text, **keywords)
    except ValueError as error:
        raise ConfigurationError(f"endpoint: {error}") from None


def check_interface(text: str) -> None:
    ipaddress.ip_address(text.partition("%")[0])


def parse_count(text: str) -> int:
    count = int(text)
    if not 0 < count <= 65535:
        raise ValueError(f"{text!r} is not a number from 1 to 65535")
    return count


def parse_yes(text: str) -> bool:
    if text.lower() not in ("yes", "no"):
        raise ValueError(f"{text!r} is neither yes nor no")
    return text.lower() == "yes"
