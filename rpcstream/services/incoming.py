"""
The destination's side of an upload: INCOMING decides and takes the data.

What is kept between the end of the stream and COMMIT is an L{IncomingTransfer}.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from rpcstream.net.calls import UploadCall
from rpcstream.net.threads import Runner, SerialRunner
from rpcstream.programs import transfer
from rpcstream.services.receiving import held_of, write_stream
from rpcstream.storage.extents import bitmap_of
from rpcstream.storage.receiving import Receiving

__all__ = ["IncomingTransfer"]

PROGRESS_SECONDS = 0.5


class IncomingTransfer:
    """
    One partial that a client is filling.

    @ivar owner: the client's identity; only it can commit.
    """

    log = Logger()

    def __init__(self, owner: str, request: transfer.Incoming, receiving: Receiving, runner: Runner) -> None:
        self.owner = owner
        self.request = request
        self.receiving = receiving
        self._serial = SerialRunner(runner)
        self._cancelled = False
        self._verified: Deferred[Sequence[int]] = runner.run(receiving.verify_held, lambda: self._cancelled)
        self._told_at = 0.0
        self._told_bytes = 0
        self._complete = False

    async def take(self, call: UploadCall[transfer.Grant], packet_bytes: int) -> None:
        """
        Decide for the transfer and write its stream.

        Returning confirms the client's finish: all bytes are here, none is
        promised to be durable before COMMIT.
        """
        receiving = self.receiving
        grant = transfer.Grant(
            transfer.Verdict.SEND, None, held_of(receiving), packet_bytes, transfer.Lane.SHARED, ()
        )
        stream = call.accept(grant, total_bytes=self.request.size, sparse=True)
        await write_stream(stream, receiving, self._serial, lambda: self._tell(call))
        self._complete = True

    def _tell(self, call: UploadCall[Any]) -> None:
        """Report what is durable, now and then."""
        now = call.connection.link.clock.seconds()
        durable = self.receiving.durable_bytes
        if durable > self._told_bytes and now - self._told_at >= PROGRESS_SECONDS:
            self._told_at, self._told_bytes = now, durable
            call.connection.emit(transfer.Progress(self.request.transfer_id, durable))

    async def commit(self, size: int, digest: bytes) -> transfer.Committed:
        """
        Make it durable, compare, publish.

        @raise StorageError: short, different, fenced, or the name is taken.
        """
        if not self._complete:
            raise transfer.Short("the stream was not finished")
        stale = await self._verified
        if stale:
            await self._serial.run(self.receiving.discard, stale)
            return transfer.Committed(False, None, bitmap_of(stale), ())
        await self._serial.run(self.receiving.commit, size, digest)
        self.log.info(
            "published {name} for {owner}: {size} bytes, digest {digest}",
            name=self.request.name,
            owner=self.owner,
            size=size,
            digest=digest.hex(),
        )
        return transfer.Committed(True, digest, b"", ())

    def abandon(self) -> Deferred[None]:
        """The client is gone, or takes another stream: keep the partial, free the rest."""
        self._cancelled = True
        self._verified.addErrback(lambda _: None)
        return self._verified.addBoth(lambda _: self._serial.run(self.receiving.abandon))

    def remove(self) -> Deferred[None]:
        """The client has cancelled: delete the partial."""
        self._cancelled = True
        self._verified.addErrback(lambda _: None)
        return self._verified.addBoth(lambda _: self._serial.run(self.receiving.remove))
