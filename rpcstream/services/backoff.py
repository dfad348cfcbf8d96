"""
When to try again, and whether to: delays, and a table of errors.

Trying again is always safe for a transfer: it has an identifier, so that the
next attempt resumes, and COMMIT is idempotent.  The table is about sense:
what comes out the same way the next time is final.
"""

from __future__ import annotations

import errno
import random as random_module
from collections.abc import Callable

import attrs

from rpcstream import errors
from rpcstream.programs import jobs, transfer

__all__ = ["FINAL", "RETRYABLE", "RETRYABLE_ERRNOS", "Backoff", "is_retryable"]

RETRYABLE: dict[type[Exception], str] = {
    errors.ConnectionClosed: "the network, or a restart of the peer",
    # Certificates too are mended while jobs wait; whoever sits before it sees the cause.
    errors.ConnectRefused: "the peer is not up yet, or its certificate is being renewed",
    errors.DeadlineExceeded: "the peer or the network is slow at the moment",
    errors.StreamStalled: "whatever it waited for may move again",
    errors.OperationAborted: "the peer stops or restarts",
    errors.ResourceBusy: "too many calls or streams at the moment",
    errors.NameBusy: "another writer has the name at the moment",
    errors.DigestMismatch: "damaged on the way to a disk; what differs is sent again",
    transfer.Busy: "another writer has the name at the moment",
    transfer.DigestDiffers: "damaged on the way to a disk; what differs is sent again",
    transfer.NoSuchTransfer: "forgotten by the destination; INCOMING makes it known again",
}
"""What may succeed the next time, and why."""

FINAL: dict[type[Exception], str] = {
    errors.LocalError: "settings, values and our own mistakes stay as they are",
    errors.PeerError: "a peer that breaks the protocol does so again",
    errors.RemoteError: "the peer answered; unless it is named above, the answer stays the same",
    errors.SourceChanged: "what is being written would be sent over and over: its owner decides",
    errors.TransferFenced: "a newer stream of the same transfer has taken over",
    transfer.Denied: "a rule says no",
    transfer.BadName: "the name stays as it is",
    transfer.NoSuchName: "there is nothing to read",
    transfer.NameTaken: "replacing was not asked for",
    transfer.Short: "the declared size was wrong",
    transfer.TooLarge: "the declared size was wrong, or the quota is used up",
    transfer.Changed: "as SourceChanged",
    transfer.NotServed: "it is a link, a directory or some such thing",
    transfer.Fenced: "as TransferFenced",
    jobs.NoSuchJob: "numbers are never used again",
    jobs.SourceRefused: "the service does not open such files",
    jobs.JobEnded: "it has ended for good",
}
"""What comes out the same way the next time, and why."""

RETRYABLE_ERRNOS = frozenset(
    {
        errno.ENOSPC, errno.EDQUOT,  # someone makes room
        errno.EAGAIN, errno.EINTR, errno.EBUSY, errno.ENOMEM, errno.ENOBUFS, errno.EMFILE, errno.ENFILE,
        errno.ECONNREFUSED, errno.ECONNRESET, errno.ECONNABORTED, errno.EPIPE, errno.ETIMEDOUT,
        errno.EHOSTUNREACH, errno.ENETUNREACH, errno.EHOSTDOWN, errno.ENETDOWN, errno.ENETRESET,
        errno.ESTALE,  # a network file system's server restarted
    }
)  # fmt: skip
"""Of an OSError here, and of a SystemCallFailed (C{int1}) of the peer."""


def is_retryable(error: BaseException) -> bool:
    """
    Whether the same request may succeed later: by L{RETRYABLE} and L{FINAL}, the
    most specific class deciding; for failed system calls by L{RETRYABLE_ERRNOS};
    for an aborted stream by who aborted it.  Anything else is final.
    """
    if isinstance(error, errors.SystemCallFailed):
        return error.int1 in RETRYABLE_ERRNOS
    if isinstance(error, OSError):
        return error.errno in RETRYABLE_ERRNOS
    if isinstance(error, errors.StreamAborted):
        # Ours was a decision; the peer's is like a lost connection.
        return error.by == "peer"
    for each in type(error).__mro__:
        if each in RETRYABLE:
            return True
        if each in FINAL:
            return False
    return False


@attrs.frozen
class Backoff:
    """
    Delays that double up to a limit, of which the second half is random, so that
    peers which failed together do not come back together.

    @ivar first_seconds: the first delay, before jitter.
    @ivar largest_seconds: no delay is longer.
    @ivar random: a number in [0, 1), as L{random.random}.
    """

    first_seconds: float = 1.0
    largest_seconds: float = 300.0
    random: Callable[[], float] = random_module.random

    def delay_seconds(self, attempt: int) -> float:
        """
        How long to wait.

        @param attempt: number of the attempt that failed; the first is 1.
        @return: seconds, from half of the delay to the whole of it.
        """
        # 2.0 ** 1024 overflows; 64 doublings are past any limit.
        delay = min(self.first_seconds * 2.0 ** min(max(attempt, 1) - 1, 64), self.largest_seconds)
        return delay * (0.5 + 0.5 * self.random())
