"""
Which names a pool accepts: one plain path component, and nothing else.

A name that passes still is only ever opened relative to the pool's directory
descriptor with C{O_NOFOLLOW} (L{rpcstream.storage.layout}).
"""

from __future__ import annotations

import unicodedata

from rpcstream.errors import NameRefused
from rpcstream.limits import NAME_BYTES

__all__ = ["check_name"]


def check_name(name: str) -> str:
    """
    Accept a name or say why not (C{docs/bad-inputs.md}, rows P01 to P03).

    @param name: as the peer or the user gave it.
    @return: the same name.
    @raise NameRefused: it is empty, too long, not one path component, starts
        with a dot, or holds control, surrogate or line-separator characters or
        a backslash (which a Windows tool would take for a separator).
    """
    if not name:
        raise NameRefused("a name must not be empty")
    try:
        encoded = name.encode("utf-8")
    except UnicodeEncodeError:
        raise NameRefused("a name must be valid UTF-8") from None
    if len(encoded) > NAME_BYTES:
        raise NameRefused(f"a name has at most {NAME_BYTES} bytes, this one has {len(encoded)}")
    if name.startswith("."):
        raise NameRefused("a name must not start with a dot", name)
    if "/" in name or "\\" in name:
        raise NameRefused("a name is one path component, without / or \\", name)
    # Cc: NUL, newline, escape ...; Zl and Zp: line and paragraph separators, which forge log lines.
    if any(unicodedata.category(character) in ("Cc", "Zl", "Zp") for character in name):
        raise NameRefused("a name must not hold control characters", ascii(name)[1:-1])
    return name
