"""rpcstream passwd."""

from __future__ import annotations

from pathlib import Path
from unittest import TestCase
from unittest.mock import patch

from click.testing import CliRunner

from rpcstream.cli.main import cli
from rpcstream.libvirt.server_keys import KeyFile


class PasswdTests(TestCase):
    """Users of a destination."""

    def run_command(self, folder: str, user: str, typed: str) -> tuple[int, str]:
        """Exit status and output."""
        done = CliRunner().invoke(cli, ["passwd", f"{folder}/passwd", user], input=typed)
        return int(done.return_value or done.exit_code), done.output

    def test_set(self) -> None:
        """From standard input; added first, then changed."""
        with CliRunner().isolated_filesystem() as folder:
            self.assertIn("added", self.run_command(folder, "alice", "secret\n")[1])
            self.assertIn("changed", self.run_command(folder, "alice", "other\n")[1])
            self.assertEqual(list(KeyFile(Path(folder) / "passwd").load()), ["alice"])

    def test_prompt(self) -> None:
        """Asked for on a terminal, twice."""
        with CliRunner().isolated_filesystem() as folder:
            with patch("rpcstream.cli.passwd._is_terminal", lambda: True):
                self.assertIn("added", self.run_command(folder, "alice", "secret\nsecret\n")[1])
            self.assertEqual(list(KeyFile(Path(folder) / "passwd").load()), ["alice"])

    def test_refused(self) -> None:
        """A name that cannot be used."""
        with CliRunner().isolated_filesystem() as folder:
            self.run_command(folder, "a:b", "secret\n")
            self.assertFalse((Path(folder) / "passwd").exists())
