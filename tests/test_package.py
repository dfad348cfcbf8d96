"""
What is installed: the wheel's files, the command, the two plugins.

Skipped where the source is used without being installed.
"""

from __future__ import annotations

import ast
import re
import subprocess
import sys
from importlib import metadata
from pathlib import Path
from unittest import SkipTest, TestCase

import rpcstream

README = Path(__file__).resolve().parent.parent / "README.md"


class InstalledTests(TestCase):
    """The distribution that the tests run against."""

    def setUp(self) -> None:
        try:
            self.distribution = metadata.distribution("rpcstream")
        except metadata.PackageNotFoundError:
            raise SkipTest("rpcstream is not installed") from None
        self.files = {str(path) for path in self.distribution.files or ()}
        if "rpcstream/__init__.py" not in self.files:
            raise SkipTest("rpcstream is installed as editable")

    def test_this_is_what_is_tested(self) -> None:
        """The rpcstream that the tests import is the installed one, not the checkout."""
        self.assertEqual(self.distribution.locate_file("rpcstream/__init__.py"), Path(rpcstream.__file__))

    def test_files(self) -> None:
        """The plugins, the marker for type checkers and the licence are there; tests are not."""
        self.assertLessEqual(
            {
                "rpcstream/py.typed",
                "twisted/plugins/rpcstream_endpoints.py",
                "twisted/plugins/rpcstream_plugin.py",
            },
            self.files,
        )
        self.assertTrue(any(name.endswith("/LICENSE") for name in self.files))
        self.assertEqual(
            [], [name for name in self.files if "tests" in Path(name).parts or "tools" in Path(name).parts]
        )
        # With one of these Twisted would lose its own plugins.
        self.assertFalse({"twisted/__init__.py", "twisted/plugins/__init__.py"} & self.files)

    def test_requirements(self) -> None:
        """Every library that the package imports is named as a requirement, not had by chance."""
        named = {re.split(r"[^\w.-]", text)[0].lower() for text in self.distribution.requires or ()}
        # Where the import is called otherwise than the distribution.
        names = {"OpenSSL": "pyopenssl", "service_identity": "service-identity", "zope": "zope.interface"}
        imported: set[str] = set()
        for path in Path(rpcstream.__file__).parent.rglob("*.py"):
            for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
                if isinstance(node, ast.Import):
                    imported.update(alias.name.split(".")[0] for alias in node.names)
                elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
                    imported.add(node.module.split(".")[0])
        imported -= {*sys.stdlib_module_names, "annotationlib", "rpcstream"}
        self.assertLessEqual({names.get(name, name) for name in imported}, named)

    def test_version(self) -> None:
        """The version is the same wherever it is said, and in the changelog."""
        self.assertEqual(rpcstream.__version__, self.distribution.version)
        self.assertIn(
            f"## [{rpcstream.__version__}]", README.with_name("CHANGELOG.md").read_text(encoding="utf-8")
        )

    def test_description(self) -> None:
        """The package index would show the README."""
        self.assertEqual(
            README.read_text(encoding="utf-8").strip(), self.distribution.metadata.get_payload().strip()
        )

    def test_command(self) -> None:
        """The script starts, from anywhere."""
        (script,) = self.distribution.entry_points.select(group="console_scripts", name="rpcstream")
        self.assertTrue(callable(script.load()))
        self.assertIn("demo", self.output_of(Path(sys.executable).with_name("rpcstream"), "--help"))

    def test_plugins(self) -> None:
        """twistd lists the service, and every Twisted program knows the endpoint."""
        self.assertRegex(
            self.output_of(Path(sys.executable).with_name("twistd"), "--help"), r"(?m)^ +rpcstream "
        )
        program = (
            "from twisted.plugin import getPlugins\n"
            "from twisted.internet.interfaces import IStreamServerEndpointStringParser as I\n"
            "print(sorted(parser.prefix for parser in getPlugins(I)))"
        )
        self.assertIn("'rpctls'", self.output_of(sys.executable, "-c", program))

    def output_of(self, *command: object) -> str:
        """Standard output, run from the root directory."""
        return subprocess.run(
            [str(word) for word in command],
            cwd="/",
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=60,
            check=True,
        ).stdout
