"""
C{from rpcstream import ...}: every public name is there, from its home, and only when asked for.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from importlib import import_module
from pathlib import Path
from unittest import TestCase

import rpcstream


class PublicNameTests(TestCase):
    """The names of the package itself."""

    def test_every_name_is_that_of_its_home(self) -> None:
        """Each public name can be had, and is the same object as at home."""
        self.assertEqual(sorted(rpcstream.__all__), sorted(rpcstream._HOMES))
        for name, home in rpcstream._HOMES.items():
            self.assertIs(getattr(import_module(home), name), getattr(rpcstream, name), name)

    def test_type_checkers_see_the_same(self) -> None:
        """What is imported under TYPE_CHECKING is what is imported lazily."""
        tree = ast.parse(Path(rpcstream.__file__).read_text(encoding="utf-8"))
        (block,) = (node for node in tree.body if isinstance(node, ast.If))
        seen = {
            alias.name: node.module
            for node in block.body
            if isinstance(node, ast.ImportFrom)
            for alias in node.names
        }
        self.assertEqual(rpcstream._HOMES, seen)

    def test_unknown_name(self) -> None:
        """What does not exist is an AttributeError, as for every module."""
        with self.assertRaisesRegex(AttributeError, "no_such_name"):
            rpcstream.no_such_name  # noqa: B018

    def test_listed(self) -> None:
        """dir() shows names that were not imported yet."""
        self.assertLessEqual(set(rpcstream.__all__), set(dir(rpcstream)))

    def test_import_is_cheap(self) -> None:
        """Importing the package alone imports neither Twisted nor Construct."""
        program = "import rpcstream, sys; print([n for n in ('twisted', 'construct') if n in sys.modules])"
        ended = subprocess.run(
            [sys.executable, "-c", program],
            cwd=Path(rpcstream.__file__).parent.parent,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        )
        self.assertEqual("[]", ended.stdout.strip())
