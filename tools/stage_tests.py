"""
Makes a directory in which the tests, and nothing else of the checkout, can be imported.

C{python -m twisted.trial} puts the current directory first on the path; in the
checkout that would be the source instead of the wheel.

    stage_tests.py CHECKOUT DIRECTORY [--without PACKAGE]...
"""

from __future__ import annotations

import shutil
import sys
from pathlib import Path


def main(checkout: Path, directory: Path, without: list[str]) -> None:
    """Link each part of the tests; a resolved C{__file__} still finds the README beside them."""
    staged = directory / "tests"
    shutil.rmtree(staged, ignore_errors=True)
    staged.mkdir(parents=True)
    for part in sorted((checkout.resolve() / "tests").iterdir()):
        if part.name not in (*without, "__pycache__"):
            (staged / part.name).symlink_to(part)
    if (directory / "rpcstream").exists():
        raise SystemExit(f"{directory} must not hold rpcstream")


if __name__ == "__main__":
    checkout, directory, *options = sys.argv[1:]
    main(Path(checkout), Path(directory), [option for option in options if option != "--without"])
