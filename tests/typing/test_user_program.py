"""
The public API under mypy --strict, as a user's program sees it: what is right passes, what is wrong is found.

Runs where mypy is installed: C{tox -e types}.
"""

from __future__ import annotations

import importlib.util
import os
import re
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

import rpcstream

HERE = Path(__file__).resolve().parent
README = HERE.parent.parent / "README.md"
CONFIGURATION = """
[mypy]
strict = true
plugins = mypy_zope:plugin
follow_imports = silent
untyped_calls_exclude = twisted
[mypy-construct.*]
ignore_missing_imports = true
follow_untyped_imports = true
"""


class UserProgramTests(SynchronousTestCase):
    """mypy and its plugin for zope.interface are not there for the other tests."""

    if not all(importlib.util.find_spec(name) for name in ("mypy", "mypy_zope")):
        skip = "mypy and mypy-zope are not installed: tox -e types"

    def errors(self, path: Path) -> set[tuple[int, str]]:
        """Line and code of everything that mypy finds in a file."""
        folder = Path(self.mktemp())
        folder.mkdir()
        (folder / "mypy.ini").write_text(CONFIGURATION)
        environment = {key: value for key, value in os.environ.items() if key != "MYPYPATH"}
        home = Path(rpcstream.__file__).resolve().parent.parent
        if home.name != "site-packages":
            # Not installed, or in a way that only importing finds.
            environment["MYPYPATH"] = str(home)
        # Below the tests' own directory, so that all of one run share it.
        cache = Path("mypy-cache").resolve()
        ended = subprocess.run(
            [
                *(sys.executable, "-m", "mypy", "--config-file", "mypy.ini", "--cache-dir", str(cache)),
                *("--no-error-summary", "--hide-error-context", "--explicit-package-bases", str(path)),
            ],
            cwd=folder,
            env=environment,
            capture_output=True,
            text=True,
            timeout=300,
            check=False,
        )
        self.assertIn(ended.returncode, (0, 1), ended.stdout + ended.stderr)
        found = re.findall(r"^(.*?):(\d+): error: .*\[([a-z-]+)\]$", ended.stdout, re.MULTILINE)
        self.assertEqual(len(found), ended.stdout.count(": error: "), ended.stdout)
        self.assertEqual({Path(each[0]).name for each in found} - {path.name}, set(), ended.stdout)
        return {(int(line), code) for _, line, code in found}

    def test_planted_mistakes(self) -> None:
        """Every planted mistake is found at its line, and nothing else."""
        path = HERE / "user_program.py"
        planted = {
            (number, code)
            for number, line in enumerate(path.read_text().splitlines(), 1)
            for code in re.findall(r"# error: ([a-z-]+)$", line)
        }
        self.assertGreaterEqual(len(planted), 12)
        self.assertEqual(self.errors(path), planted)

    def test_readme(self) -> None:
        """The embedding example of the README is clean."""
        if not README.exists():
            raise AssertionError("the README is not beside the tests")
        (example,) = re.findall(r"^```python\n(.*?)^```", README.read_text(), re.DOTALL | re.MULTILINE)
        path = Path(self.mktemp()).resolve().with_name("readme_example.py")
        path.write_text(example)
        self.assertEqual(self.errors(path), set())
