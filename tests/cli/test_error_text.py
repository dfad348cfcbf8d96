"""Errors as a person or a script sees them."""

from __future__ import annotations

import errno
import signal

import click
from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import TestCase

from rpcstream import errors
from rpcstream.cli.error_text import REMEDIES, Interrupted, error_code, exit_status, one_line, printable
from rpcstream.programs import jobs, transfer


class PrintableTests(TestCase):
    """No text of a peer does anything to a terminal."""

    def test_kept(self) -> None:
        """Ordinary text of any language stays as it is."""
        for text in ("", "plain", "Größe 5 €", "日本語", "a\\b"):
            self.assertEqual(printable(text), text)

    def test_escaped(self) -> None:
        """Control characters, escapes, separators, direction marks, surrogates."""
        for text, expected in [
            ("a\nb\tc", "a\\x0ab\\x09c"),
            ("\x1b[2J", "\\x1b[2J"),
            ("\x7f\x9b31m", "\\x7f\\x9b31m"),
            ("\u2028\u202egpj", "\\u2028\\u202egpj"),
            ("\ud800", "\\ud800"),
            ("\U000e0041", "\\U000e0041"),
        ]:
            self.assertEqual(printable(text), expected)

    def test_cut(self) -> None:
        """At the limit nothing is lost; past it the end is marked, between two characters."""
        self.assertEqual(printable("x" * 4096), "x" * 4096)
        self.assertEqual(printable("x" * 4097), "x" * 4093 + "...")
        self.assertEqual(printable("é" * 2049), "é" * 2046 + "...")
        self.assertEqual(printable("\n" * 100, 40), "\\x0a" * 9 + "\\...")
        self.assertEqual(len(printable("x" * 10**8)), 4096)

    @settings(max_examples=100, deadline=None, derandomize=True)
    @given(st.text(st.characters(), max_size=60), st.integers(3, 80))
    def test_any_text(self, text: str, limit: int) -> None:
        """Any text gives one printable line within the limit."""
        result = printable(text, limit)
        self.assertTrue(result.isprintable())
        self.assertLessEqual(len(result.encode()), limit)


class OneLineTests(TestCase):
    """What went wrong, and what to do about it."""

    def test_remedies(self) -> None:
        """The remedy follows, where there is one."""
        for error, expected in [
            (transfer.NameTaken("disk exists"), "disk exists (code 1004); use --replace to replace it"),
            (errors.ConfigurationError("no key; make one"), "no key; make one"),
            (errors.ConnectRefused("port closed: start it"), "port closed: start it"),
            (errors.ConnectionClosed("cut"), "cut; run the same command again: it goes on where it stopped"),
            (errors.StreamAborted("bye", "peer"), "stream aborted by peer: bye; run the same command again"),
            (errors.StreamAborted("", "local"), "stream aborted by local"),
            (errors.RemoteError("odd", code=77), "odd (code 77)"),
            (errors.Unsupported("no driver"), "no driver (code 3); the other side cannot do it"),
            (errors.SystemCallFailed("no space", int1=errno.ENOSPC), "no space (code 38); make room"),
            (
                PermissionError(errno.EACCES, "Permission denied", "/a"),
                "/a: Permission denied; check the perm",
            ),
            (BrokenPipeError(errno.EPIPE, "Broken pipe"), "Broken pipe"),
            (OSError("odd"), "odd"),
            (errors.CallCancelled(), "CallCancelled"),
            (KeyError("x"), "internal error: KeyError: 'x'"),
            (KeyboardInterrupt(), "interrupted"),
            (click.UsageError("no such option"), "no such option"),
            (Interrupted(signal.SIGTERM), "interrupted by SIGTERM; run the same command again"),
            (Interrupted(signal.SIGINT, "nothing is kept"), "interrupted by SIGINT; nothing is kept"),
        ]:
            line = one_line(error)
            self.assertTrue(line.startswith(expected), line)
            if ";" not in expected:
                self.assertEqual(line, expected)

    def test_peer_text(self) -> None:
        """A hostile text stays in its line, and the remedy is not cut off with it."""
        line = one_line(transfer.NameTaken("\x1b[2Jerror: ok\n" + "x" * 10000))
        self.assertTrue(line.isprintable())
        self.assertTrue(line.endswith("...; use --replace to replace it"))
        self.assertLess(len(line), 4200)

    def test_table(self) -> None:
        """Every error of our own programs tells what to do."""
        for error in (*transfer.TRANSFER.errors.values(), *jobs.JOBS.errors.values()):
            self.assertTrue(REMEDIES[error])


class CodeTests(TestCase):
    """What scripts go by."""

    def test_codes(self) -> None:
        """A stable word for each class."""
        for error, expected in [
            (transfer.NameTaken(), "name-taken"),
            (errors.RPCFailed(), "rpc-failed"),
            (errors.RemoteError(), "remote-error"),
            (errors.ConnectRefused("x"), "connect-refused"),
            (errors.ProtocolViolation("len-short", "3"), "len-short"),
            (errors.SystemCallFailed(int1=errno.ENOSPC), "enospc"),
            (errors.SystemCallFailed(int1=99999), "system-call-failed"),
            (FileNotFoundError(errno.ENOENT, "x"), "enoent"),
            (OSError("x"), "os-error"),
            (KeyboardInterrupt(), "interrupted"),
            (Interrupted(), "interrupted"),
        ]:
            self.assertEqual(error_code(error), expected)

    def test_exit_status(self) -> None:
        """0 done, 1 failed, 2 usage, 130 and 143 interrupted."""
        for error, expected in [
            (None, 0),
            (errors.ConnectionClosed("x"), 1),
            (KeyError("bug"), 1),
            (click.UsageError("x"), 2),
            (click.ClickException("x"), 1),
            (KeyboardInterrupt(), 130),
            (Interrupted(), 130),
            (Interrupted(signal.SIGTERM), 143),
        ]:
            self.assertEqual(exit_status(error), expected)
