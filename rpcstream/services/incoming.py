"""
The destination's side of an upload: INCOMING decides and takes the data.

What is kept between the end of the stream and COMMIT is an L{IncomingTransfer}.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from rpcstream.errors import BadState, InvalidArgument, OperationAborted
from rpcstream.net.calls import UploadCall
from rpcstream.net.threads import Runner, SerialRunner
from rpcstream.programs import transfer
from rpcstream.services.lanes import decide_lane, lane_of
from rpcstream.services.receiving import held_of, write_stream
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
        # What this does not get done, COMMIT does.
        verifying = runner.run(receiving.verify_held, lambda: self._cancelled)
        verifying.addErrback(lambda _: None)
        self._told_at = 0.0
        self._told_bytes = 0

    async def take(self, call: UploadCall[transfer.Grant]) -> None:
        """
        Decide for the transfer and write its stream.

        Returning confirms the client's finish: all bytes are here, none is
        promised to be durable before COMMIT.
        """
        receiving, request = self.receiving, self.request
        decision = decide_lane(call, request.parameters, request.size)
        grant = transfer.Grant(
            transfer.Verdict.SEND, None, held_of(receiving), decision.packet_bytes, decision.lane
        )
        stream = call.accept(grant, total_bytes=request.size, sparse=True)
        lane = lane_of(stream, decision.lane)
        try:
            if lane is not None:
                await lane.receive(stream, receiving, written=lambda: self._tell(call))
                await self._serial.run(receiving.finish)
            else:
                await write_stream(stream, receiving, self._serial, lambda: self._tell(call))
        except BadState as error:
            if not self._cancelled:
                raise
            # Its own client has cancelled it: not a fault of ours.
            raise OperationAborted("the transfer was cancelled") from error

    def _tell(self, call: UploadCall[Any]) -> None:
        """Report what is durable, now and then, to who wants to know."""
        if not call.connection.is_subscribed(transfer.Progress):
            return
        now = call.connection.link.clock.seconds()
        durable = self.receiving.durable_bytes
        if durable > self._told_bytes and now - self._told_at >= PROGRESS_SECONDS:
            self._told_at, self._told_bytes = now, durable
            call.connection.emit(transfer.Progress(self.request.transfer_id, durable))

    async def commit(self, size: int, digest: bytes | None) -> transfer.Committed:
        """
        Make it durable, compare, publish.

        @raise StorageError: short, different, fenced, or the name is taken.
        """
        if digest is None:
            raise InvalidArgument("the commit of an upload needs the digest of its content")
        outcome = await self._serial.run(self.receiving.commit, size, digest)
        if outcome.published:
            self.log.info(
                "published {name} for {owner}: {size} bytes, digest {digest}",
                name=self.request.name,
                owner=self.owner,
                size=size,
                digest=digest.hex(),
            )
        return transfer.Committed(outcome.published, outcome.digest, outcome.missing)

    def abandon(self) -> Deferred[None]:
        """The client is gone, or takes another stream: keep the partial, free the rest."""
        self._cancelled = True
        return self._serial.run(self.receiving.abandon)

    def remove(self) -> Deferred[bool]:
        """The client has cancelled: delete the partial; false if it was published meanwhile."""
        self._cancelled = True
        return self._serial.run(self.receiving.remove)
