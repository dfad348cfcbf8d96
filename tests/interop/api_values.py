"""
What the test driver has from the start, and words for the arguments of its calls.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = [
    "DOMAIN",
    "GUEST_XML",
    "HANDLES",
    "NETWORK",
    "NEW_XML",
    "POOL",
    "SECRET_XML",
    "UUID",
    "VOLUME",
    "Row",
    "boolean",
    "double",
    "int_",
    "llong",
    "new_domain",
    "string",
    "uint",
    "ullong",
]

Row = tuple[str, str, dict[str, Any] | None]
"""A procedure without C{REMOTE_PROC_}, what calls it, the fields of the call as JSON."""

UUID = "000102030405060708090a0b0c0d0e0f"
UUID_TEXT = "00010203-0405-0607-0809-0a0b0c0d0e0f"
DOMAIN = {"name": "test", "uuid": "6695eb01f6a4830479aa97f2502e193f", "id": 1}
NETWORK = {"name": "default", "uuid": "dd8fe8846c02601e7551cca97df1c5df"}
POOL = {"name": "default-pool", "uuid": "dfe224cb28fb8dd0c4b264eb3f0f4566"}
VOLUME = {"pool": "default-pool", "name": "v", "key": "/default-pool/v"}

HANDLES: dict[str, Any] = {
    "check": {"name": "k", "dom": DOMAIN},
    "dev": "computer",
    "dom": DOMAIN,
    "g": {"name": "g", "uuid": UUID, "id": -1},
    "net": NETWORK,
    "nic": {"name": "eth1", "mac": "aa:bb:cc:dd:ee:ff"},
    "pool": POOL,
    "sec": {"uuid": UUID, "usageType": 1, "usageID": "/u"},
    "snap": {"name": "s", "dom": DOMAIN},
    "vol": VOLUME,
}
"""Variables of the statements, and the first field of what they call."""

NEW_XML = (
    f"<domain type='test'><name>new</name><uuid>{UUID_TEXT}</uuid><memory>8192</memory>"
    "<os><type>hvm</type></os></domain>"
)
GUEST_XML = (
    f"<domain type='qemu'><name>g</name><uuid>{UUID_TEXT}</uuid><memory>8192</memory>"
    "<os><type arch='x86_64'>hvm</type></os></domain>"
)
SECRET_XML = f"<secret><uuid>{UUID_TEXT}</uuid><usage type='volume'><volume>/u</volume></usage></secret>"


def new_domain(number: int) -> dict[str, Any]:
    """The domain of C{NEW_XML}, with the id that it has then."""
    return {"name": "new", "uuid": UUID, "id": number}


def _parameter(kind: int) -> Callable[[str, Any], dict[str, Any]]:
    return lambda name, value: {"field": name, "value": {"type": kind, "value": value}}


int_, uint, llong, ullong, double, boolean, string = map(_parameter, range(1, 8))
"""Typed parameters, one for each arm of their union."""
