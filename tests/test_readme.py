"""
The README is true: its example runs as text, its commands and links exist.
"""

from __future__ import annotations

import os
import re
import socket
import subprocess
import sys
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from rpcstream.net.authority import initialise

ROOT = Path(__file__).resolve().parent.parent
README = ROOT / "README.md"
PORT = "16599"


def blocks(language: str) -> list[str]:
    """The fenced code blocks of one language."""
    return re.findall(
        rf"^```{language}\n(.*?)^```", README.read_text(encoding="utf-8"), re.DOTALL | re.MULTILINE
    )


def free_port() -> int:
    """A TCP port that nobody had a moment ago."""
    with socket.socket() as found:
        found.bind(("127.0.0.1", 0))
        port: int = found.getsockname()[1]
        return port


class ReadmeTests(SynchronousTestCase):
    """What a reader would type."""

    def test_example_runs(self) -> None:
        """The embedding example, as it stands, serves a file over TLS and fetches it."""
        (example,) = blocks("python")
        self.assertIn(PORT, example)
        folder = Path(self.mktemp())
        folder.mkdir()
        initialise(folder / "pki", ["127.0.0.1"], ["client"])
        (folder / "example.py").write_text(example.replace(PORT, str(free_port())))
        ended = subprocess.run(
            [sys.executable, "example.py"],
            cwd=folder,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
            capture_output=True,
            text=True,
            timeout=60,
            check=False,
        )
        self.assertEqual((0, "6000000\nTrue\n", ""), (ended.returncode, ended.stdout, ended.stderr))

    def test_links(self) -> None:
        """Every relative link leads to something."""
        links = re.findall(r"\]\((?!https?:)([^)#]+)", README.read_text(encoding="utf-8"))
        self.assertTrue(links)
        self.assertEqual([], [link for link in links if not (ROOT / link).exists()])

    def test_commands(self) -> None:
        """Every command that is named has a help page."""
        import click

        from rpcstream.cli.main import cli

        named = {
            word
            for line in README.read_text(encoding="utf-8").splitlines()
            if line.startswith("| `rpcstream ")
            for word in re.findall(r"`(?:rpcstream )?([a-z]+)\b", line.split("|")[1])
        }
        self.assertIn("send", named)
        self.assertEqual(set(), named - set(cli.list_commands(click.Context(cli))))

    def test_set_up(self) -> None:
        """The two commands that do all the set-up are there, word for word."""
        text = README.read_text(encoding="utf-8")
        self.assertIn("python3 -m venv .venv && .venv/bin/pip install . && .venv/bin/rpcstream demo", text)
        self.assertIn("python3 -m venv .venv && .venv/bin/pip install tox && .venv/bin/tox", text)
