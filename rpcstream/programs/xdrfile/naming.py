"""
Python's names for what C{.x} files name in the ways of C.
"""

from __future__ import annotations

import keyword
import re
from collections.abc import Container, Iterable

__all__ = ["class_name", "field_names", "plain", "unused"]

_RESERVED = frozenset({"responder"})
"""Of the bases that fields live in (L{rpcstream.programs.base})."""


def class_name(name: str) -> str:
    """C{DOMAIN_GET_XML_DESC} and C{domain_get_xml_desc} give C{DomainGetXmlDesc}; mixed case stays."""
    words = [word.lower() if word.isupper() else word for word in name.split("_") if word]
    found = "".join(word[0].upper() + word[1:] for word in words)
    if not found.isidentifier():
        # What is left of FOO_PROC_9P, and of names that are underscores only.
        found = f"X{found}"
    return f"{found}_" if keyword.iskeyword(found) else found


def field_names(names: Iterable[str], reserved: Container[str] = _RESERVED) -> list[str]:
    """
    The names themselves, with an underscore behind keywords and reserved names.

    One in front is not possible in Python's named tuples, and moves to the end.
    """
    found: list[str] = []
    for name in names:
        field = name.lstrip("_") or "field"
        if field != name or keyword.iskeyword(field) or field in reserved:
            field += "_"
        found.append(unused(field if field.isidentifier() else f"field_{field}", found))
    return found


def unused(name: str, taken: Container[str]) -> str:
    """The name, with as many underscores behind it as it needs to be none of C{taken}."""
    while name in taken:
        name += "_"
    return name


def plain(name: str) -> str:
    """What is left when the ways of writing names are not looked at: C{FOO_BAR}, C{fooBar}, C{foo-bar}."""
    return re.sub("[_-]", "", name).lower()
