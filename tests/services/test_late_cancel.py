"""S26: a CANCEL that arrives during COMMIT's fsync: published and OK, or neither."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from rpcstream.net.threads import InlineRunner
from rpcstream.programs import transfer
from rpcstream.services.transfers import TransferResponders
from rpcstream.storage.extents import ContentDigest, extent_digest
from rpcstream.storage.pool import Pool
from rpcstream.testing import ConnectedPair

ID = bytes(range(16))
CONTENT = os.urandom(100_000)


class Held(InlineRunner):
    """Does its work at once, but tells about COMMITs only when told to."""

    def __init__(self) -> None:
        self.late: list[Deferred[None]] = []
        self.before = False

    def run(self, function: Any, *args: Any, **kwargs: Any) -> Deferred[Any]:
        if getattr(function, "__name__", "") != "commit":
            return super().run(function, *args, **kwargs)
        gate: Deferred[None] = Deferred(lambda _: None)
        self.late.append(gate)
        if self.before:
            return gate.addCallback(lambda _: InlineRunner.run(self, function, *args, **kwargs))
        done = super().run(function, *args, **kwargs)
        return gate.addCallback(lambda _: done)


class LateCancelTests(SynchronousTestCase):
    def setUp(self) -> None:
        folder = Path(self.mktemp())
        folder.mkdir()
        self.path = folder / "name"
        pool = Pool(folder)
        self.addCleanup(pool.close)
        self.runner = Held()
        self.pair = ConnectedPair(TransferResponders({"default": pool}, self.runner), runner=self.runner)

    def committing(self) -> Deferred[transfer.Committed]:
        """All was sent; COMMIT is under way and its thread is held."""
        request = transfer.Incoming(
            "name", "", transfer.SourceKind.FILE, len(CONTENT), True, False, None, ID, b""
        )
        stream = self.pair.result_of(self.pair.client.open(request))
        self.pair.result_of(stream.send_from(CONTENT))
        self.pair.result_of(stream.finish())
        commit = self.pair.client.call(transfer.Commit(ID, len(CONTENT), digest_of(CONTENT)))
        self.pair.pump()
        self.assertEqual(len(self.runner.late), 1)
        return commit

    def test_either(self) -> None:
        """Whether the thread has published by then or not, the two answers agree with what is there."""
        for before in (True, False):
            for by in ("cancel", "deadline", "cut"):
                with self.subTest(before=before, by=by):
                    self.setUp()
                    self.runner.before = before
                    commit = self.committing()
                    self.agree(commit, by)

    def agree(self, commit: Deferred[transfer.Committed], by: str) -> None:
        results: list[Any] = []
        commit.addBoth(results.append)
        removed: list[Any] = []
        if by == "cancel":
            self.pair.client.call(transfer.Cancel(ID)).addBoth(removed.append)
        elif by == "deadline":
            commit.cancel()
        else:
            self.pair.cut()
        self.pair.pump()
        self.runner.late[0].callback(None)
        self.pair.pump()
        published = self.path.exists()
        if published:
            self.assertEqual(self.path.read_bytes(), CONTENT)
        if by == "cancel":
            told = isinstance(results[0], transfer.Committed) and results[0].published
            self.assertEqual((told, removed), (published, [not published]))
        else:
            # The caller was told nothing: asking again tells what is true.
            self.assertEqual(len(results), 1)

    def test_asked_again(self) -> None:
        """A caller that gave up on COMMIT and asks again learns that it was published."""
        commit = self.committing()
        commit.cancel()
        self.failureResultOf(commit)
        self.pair.pump()
        self.runner.late.pop().callback(None)
        again = self.pair.client.call(transfer.Commit(ID, len(CONTENT), digest_of(CONTENT)))
        self.pair.pump()
        for gate in self.runner.late:
            gate.callback(None)
        self.assertTrue(self.pair.result_of(again).published)
        self.assertEqual(self.path.read_bytes(), CONTENT)


def digest_of(content: bytes) -> bytes:
    """Of a content of one extent."""
    digest = ContentDigest(len(content))
    digest.update(extent_digest(content))
    return digest.digest()
