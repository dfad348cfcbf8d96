"""When to try again, and whether to."""

from __future__ import annotations

import errno

from twisted.trial.unittest import TestCase

from rpcstream import errors
from rpcstream.programs import jobs, transfer
from rpcstream.services.backoff import FINAL, RETRYABLE, Backoff, is_retryable


class RetryableTests(TestCase):
    """Which errors are worth another attempt."""

    def test_retryable(self) -> None:
        """Network, time, load and space come and go."""
        for error in (
            errors.ConnectionClosed("cut"),
            errors.ConnectRefused("not up"),
            errors.DeadlineExceeded("ping", 5),
            errors.StreamStalled("peer socket", 60),
            errors.StreamAborted("stopping", "peer"),
            errors.ResourceBusy(),
            errors.OperationAborted(),
            errors.SystemCallFailed("full", int1=errno.ENOSPC),
            errors.NameBusy("x"),
            transfer.Busy(),
            transfer.DigestDiffers(),
            transfer.NoSuchTransfer(),
            OSError(errno.EDQUOT, "quota"),
            ConnectionResetError(errno.ECONNRESET, "reset"),
        ):
            self.assertTrue(is_retryable(error), repr(error))

    def test_final(self) -> None:
        """Decisions, names, settings and bugs stay."""
        for error in (
            errors.StreamAborted("ctrl-c", "local"),
            errors.ConfigurationError("no"),
            errors.CallCancelled(),
            errors.BadValue("name", "long"),
            errors.ProtocolViolation("len-short", "3"),
            errors.DecodeError("x", "short"),
            errors.RemoteError("what", code=4711),
            errors.InternalError(),
            errors.Unsupported(),
            errors.AccessDenied(),
            errors.SystemCallFailed("read only", int1=errno.EROFS),
            errors.SystemCallFailed("unknown"),
            errors.NameExists("x"),
            errors.SourceChanged("x"),
            errors.TransferFenced("x"),
            transfer.Denied(),
            transfer.BadName(),
            transfer.NoSuchName(),
            transfer.NameTaken(),
            transfer.Short(),
            transfer.TooLarge(),
            transfer.Changed(),
            transfer.NotServed(),
            transfer.Fenced(),
            FileNotFoundError(errno.ENOENT, "gone"),
            OSError("without a number"),
            KeyError("bug"),
            KeyboardInterrupt(),
        ):
            self.assertFalse(is_retryable(error), repr(error))

    def test_tables(self) -> None:
        """Each error of our own programs is in exactly one table, with a reason."""
        self.assertEqual(set(RETRYABLE) & set(FINAL), set())
        for error in (*transfer.TRANSFER.errors.values(), *jobs.JOBS.errors.values()):
            self.assertIn(error, RETRYABLE.keys() | FINAL.keys())
        self.assertTrue(all({**RETRYABLE, **FINAL}.values()))


class BackoffTests(TestCase):
    """How long to wait."""

    def test_doubles(self) -> None:
        """Up to the limit, however many attempts there were."""
        backoff = Backoff(1.0, 60.0, random=lambda: 1.0)
        self.assertEqual([backoff.delay_seconds(n) for n in range(1, 9)], [1, 2, 4, 8, 16, 32, 60, 60])
        self.assertEqual(backoff.delay_seconds(10**9), 60)
        self.assertEqual(backoff.delay_seconds(0), 1)

    def test_jitter(self) -> None:
        """From half of it to all of it."""
        self.assertEqual(Backoff(8.0, random=lambda: 0.0).delay_seconds(1), 4)
        self.assertEqual(Backoff(8.0, random=lambda: 0.5).delay_seconds(1), 6)
        self.assertTrue(all(0.5 <= Backoff().delay_seconds(1) < 1 for _ in range(20)))
