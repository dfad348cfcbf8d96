"""
Programs of others that tests talk to.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from unittest import SkipTest

__all__ = ["REQUIRE_PEERS", "require_file", "require_program"]

REQUIRE_PEERS = "RPCSTREAM_REQUIRE_PEERS"
"""Environment variable: with C{1} a missing program fails a test that would be skipped."""


def require_program(name: str) -> str:
    """
    @param name: of a program, as one types it.
    @return: its path.
    @raise SkipTest: it is not installed.
    @raise AssertionError: it is not installed, though C{RPCSTREAM_REQUIRE_PEERS=1} says that
        it has to be.
    """
    path = shutil.which(name)
    if path is not None:
        return path
    if os.environ.get(REQUIRE_PEERS) == "1":
        raise AssertionError(f"{name} is not installed, but {REQUIRE_PEERS}=1 requires it")
    raise SkipTest(f"{name} is not installed")


def require_file(path: str) -> Path:
    """
    @param path: of a file or directory that a Debian package brings.
    @return: the same.
    @raise SkipTest: it is not installed; AssertionError as L{require_program}.
    """
    if os.path.exists(path):
        return Path(path)
    if os.environ.get(REQUIRE_PEERS) == "1":
        raise AssertionError(f"{path} is not there, but {REQUIRE_PEERS}=1 requires it")
    raise SkipTest(f"{path} is not there")
