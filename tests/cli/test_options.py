"""Command lines: what is understood, and what is a wrong usage (exit status 2)."""

from __future__ import annotations

from pathlib import Path
from typing import Any
from unittest import mock

import click
from click.testing import CliRunner, Result
from twisted.trial.unittest import SynchronousTestCase

from rpcstream.cli import jobs, receive, send
from rpcstream.cli.main import cli
from rpcstream.cli.options import MODE, RATE, SIZE, default_pki
from rpcstream.programs.jobs import FOREVER
from tests.cli.support import RealCase

URL = "rpcstream+tls://host/name"


def invoke(*arguments: str, **environment: str) -> Result:
    """Parse a command line, and run what needs no reactor."""
    return CliRunner().invoke(cli, arguments, env=environment)


class UsageTests(SynchronousTestCase):
    """What is wrong is said before anything is done."""

    def refused(self, text: str, *arguments: str) -> None:
        result = invoke(*arguments)
        self.assertEqual(result.exit_code, 2, result.output)
        # click wraps long lines.
        self.assertIn(text, " ".join(result.output.replace("│", " ").split()))

    def test_urls(self) -> None:
        """A URL is checked in all commands that take one."""
        for command in ("list", "stat", "remove", "ping", "peek", "partials"):
            self.refused("must look like", command, "http://host/name")
        self.refused("must look like", "send", "file", "host:name")
        self.refused("must look like", "receive", "host:name", "file")

    def test_names(self) -> None:
        """Where a name is needed it must be in the URL."""
        nameless = "rpcstream+tls://host/?pool=disks"
        for arguments in (
            ("stat", nameless),
            ("remove", nameless),
            ("peek", nameless),
            ("send", "file", nameless),
            ("receive", nameless, "file"),
        ):
            self.refused("rpcstream+tls://host/NAME?pool=disks", *arguments)

    def test_values(self) -> None:
        """Sizes, rates, modes, counts."""
        send_options = (
            ("--bwlimit", "0"), ("--bwlimit", "fast"), ("--mode", "9"), ("--mode", "0x1"), ("--mode", "7777"),
            ("--mode", "-7"), ("--retry", "-1"), ("--retry", "many"), ("--size", "-1"),
        )  # fmt: skip
        for option in send_options:
            self.refused(f"Invalid value for '{option[0]}'", "send", "-", URL, *option)
        self.refused("Invalid value for '--offset'", "peek", URL, "--offset", "-1")
        self.refused("unix:PATH", "jobs", "--via", "tcp:16514")
        self.refused("unix:PATH", "jobs", "--via", "unix:")
        self.refused("Missing option '--via'", "jobs")
        for number in ("0x1", "-1", str(2**63)):
            self.refused("Invalid value for 'ID'", "cancel", "--via", "unix:x", "--", number)
        self.refused(
            "neither a count nor 'forever'", "submit", "a", "b", "--via", "unix:x", "--retry", "ever"
        )

    def test_contradictions(self) -> None:
        """Options that do not go together."""
        self.refused("--size is for standard input", "send", "file", URL, "--size", "1")
        self.refused("--retry cannot be used", "send", "-", URL, "--retry", "1")
        self.refused("rpcstream peek URL", "receive", URL, "-")
        self.refused("--size is for random bytes", "demo", "--file", "x", "--size", "1")
        self.refused("name what to add", "pki", "add", "somewhere")

    def test_help(self) -> None:
        """Each command has help; the main one names all of them, completion and exit statuses."""
        text = invoke("--help").output
        context = click.Context(cli)
        for name in cli.list_commands(context):
            command = cli.get_command(context, name)
            assert command is not None
            self.assertEqual(command.name, name)
            self.assertIn(f"  {name} ", text)
            self.assertEqual(invoke(name, "--help").exit_code, 0)
            self.assertTrue(command.get_short_help_str())
        for word in ("bash_source", "zsh_source", "fish_source", "rpcstream+unix:///", "130", "16514"):
            self.assertIn(word, text)


class ValueTests(SynchronousTestCase):
    """What options mean."""

    def test_types(self) -> None:
        """Units are powers of 1024; modes are octal."""
        self.assertEqual(SIZE.convert("1.5K", None, None), 1536)
        self.assertEqual(RATE.convert("2MiB", None, None), 2 << 20)
        self.assertEqual([MODE.convert(text, None, None) for text in ("0", "640", "0777")], [0, 0o640, 0o777])

    def options_of(self, module: Any, method: str, *arguments: str, **environment: str) -> Any:
        """What the command would run with."""
        with mock.patch.object(module, "run", return_value=0) as run:
            result = invoke(*arguments, **environment)
        self.assertEqual(result.exit_code, 0, result.output)
        return getattr(run.call_args.args[0], "__self__", None) or run.call_args

    def test_pki(self) -> None:
        """--pki, else RPCSTREAM_PKI, else the home directory."""
        empty = {"RPCSTREAM_PKI": ""}
        for arguments, environment, expected in (
            (("--pki", "/a"), {"RPCSTREAM_PKI": "/b"}, "/a"),
            ((), {"RPCSTREAM_PKI": "/b"}, "/b"),
            ((), empty, default_pki()),
        ):
            sending = self.options_of(send, "run", "send", "x", URL, *arguments, **environment)
            self.assertEqual(sending._settings.pki, Path(expected))
        self.assertTrue(default_pki().endswith("/.config/rpcstream/pki"))

    def test_transfer_options(self) -> None:
        """All options of send and receive arrive."""
        options = (
            "--bwlimit",
            "1M",
            "--replace",
            "--no-resume",
            "--retry",
            "3",
            "--mode",
            "0600",
            "--insecure",
        )
        for found in (
            self.options_of(send, "run", "send", "x", URL, *options),
            self.options_of(receive, "run", "receive", URL, "x", *options),
        ):
            self.assertEqual((found._bytes_per_second, found._retry_count, found._mode), (1 << 20, 3, 0o600))
            self.assertTrue(found._replace and found._no_resume and found._settings.insecure)
            self.assertIn("without --no-resume", found.remedy())
        self.assertIn("cannot be read again", self.options_of(send, "run", "send", "-", URL).remedy())

    def test_retry_for_ever(self) -> None:
        """A job may be tried for ever."""
        with mock.patch.object(jobs, "Submit") as submit, mock.patch.object(jobs, "run", return_value=0):
            invoke("submit", "a", "b", "--via", "unix:x", "--retry", "forever", "--mode", "640")
        self.assertEqual(
            (submit.call_args.kwargs["retry"], submit.call_args.kwargs["mode"]), (FOREVER, 0o640)
        )
        self.assertTrue(submit.call_args.args[0].endswith("/a"))


class WayOutTests(RealCase):
    """The one way out of the program."""

    def test_usage_error(self) -> None:
        """Also a wrong usage is one line, and one object with --json."""
        self.assert_error(self.command("send"), 2, "see rpcstream send --help")
        self.assert_error(self.command("nonsense"), 2, "No such command 'nonsense'")
        finished = self.command("stat", "nonsense", "--json")
        self.assert_error(finished, 2, "must look like")
        self.assertEqual([each["event"] for each in finished.objects], ["error"])

    def test_without_command(self) -> None:
        """Nothing typed: the help, as a wrong usage."""
        finished = self.command()
        self.assertEqual(finished.status, 2)
        self.assertIn("Usage: rpcstream", finished.stderr)

    def test_completion(self) -> None:
        """The shell's completion scripts, and what they ask for."""
        script = self.command(environment={"_RPCSTREAM_COMPLETE": "bash_source"})
        self.assertEqual(script.status, 0)
        self.assertIn(b"_rpcstream_completion", script.stdout)
        asked = {"_RPCSTREAM_COMPLETE": "bash_complete", "COMP_WORDS": "rpcstream par", "COMP_CWORD": "1"}
        self.assertIn(b"partials", self.command(environment=asked).stdout)

    def test_log(self) -> None:
        """RPCSTREAM_LOG names a log; one that cannot be written is said so."""
        log = self.folder / "command.log"
        environment = {"RPCSTREAM_PKI": str(self.pki), "RPCSTREAM_LOG": str(log)}
        self.assertEqual(self.command("ping", self.tls, environment=environment).status, 0)
        self.assertTrue(log.exists())
        environment["RPCSTREAM_LOG"] = "/nonexistent/log"
        self.assert_error(self.command("ping", self.tls, environment=environment), 1, "RPCSTREAM_LOG=")

    def test_results_unread(self) -> None:
        """Standard output that is full or closed: an error status, no traceback."""
        with open("/dev/full", "wb") as full:
            finished = self.command("digest", str(self.file("unread", 1)), stdout=full)
        self.assertEqual(finished.status, 1)
        self.assertNotIn("Traceback", finished.stderr)

    def test_pki(self) -> None:
        """Certificates are made, listed, never overwritten."""
        directory = str(self.folder / "new-pki")
        made = self.command(
            "pki", "init", directory, "--server", "a.example", "--client", "c", "--client", "d"
        )
        self.assertEqual(made.status, 0, made.stderr)
        paths = [Path(line[0]) for line in made.lines]
        self.assertTrue(all(path.exists() for path in paths))
        self.assertIn("clients/d/clientkey.pem", made.stdout.decode())
        self.assert_error(self.command("pki", "init", directory), 1, "rpcstream pki add")
        added = self.command("pki", "add", directory, "--client", "e", "--json")
        self.assertEqual(added.objects[-1], {"event": "done", "count": len(added.objects) - 1})

    def test_digest(self) -> None:
        """A digest needs no network; a missing file is one line."""
        path = self.file("digested", 100)
        text = self.done("digest", str(path)).stdout.decode()
        self.assertEqual((len(text), text[-1]), (65, "\n"))
        last = self.done("digest", str(path), "--json").objects[-1]
        self.assertEqual((last["digest"], last["bytes"]), (text.strip(), 100))
        self.assert_error(self.command("digest", str(self.folder / "no-such")), 1, "no-such")
