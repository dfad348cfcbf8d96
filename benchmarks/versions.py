"""
Versions of the peers that are here.
"""

from __future__ import annotations

import re
import subprocess
from contextlib import suppress
from importlib import metadata

from benchmarks.work import find_program

__all__ = ["peer_versions"]

_PROGRAMS = (
    ("ssh", "-V"), ("nbdkit", "--version"), ("nbdcopy", "--version"), ("virsh", "--version"),
    ("libvirtd", "--version"),
)  # fmt: skip
_VERSION = re.compile(r"\d+(\.\d+)+\w*")


def peer_versions() -> str:
    """In one line."""
    found = []
    for name, option in _PROGRAMS:
        program = find_program(name)
        if program:
            told = subprocess.run([program, option], capture_output=True, text=True, check=False, timeout=30)
            match = _VERSION.search(told.stdout + told.stderr)
            found.append(f"{name} {match[0] if match else 'of an unknown version'}")
    with suppress(metadata.PackageNotFoundError):
        found.append(f"grpcio {metadata.version('grpcio')}")
    return ", ".join(found) or "none"
