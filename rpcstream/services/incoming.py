"""
The destination's side of an upload: INCOMING decides and takes the data.

What is kept between its streams, and until COMMIT, is an L{IncomingTransfer}.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from rpcstream.errors import BadState, InvalidArgument, OperationAborted, RemoteError
from rpcstream.net.calls import UploadCall
from rpcstream.net.threads import Runner, SerialRunner
from rpcstream.programs import transfer
from rpcstream.programs.parts import PartRequest, attempt_parameters
from rpcstream.services.attempts import Attempt
from rpcstream.services.lanes import decide_lane, lane_of
from rpcstream.services.receiving import held_of, write_stream
from rpcstream.storage.receiving import Receiving

__all__ = ["IncomingTransfer"]

PROGRESS_SECONDS = 0.5


class IncomingTransfer(Attempt):
    """
    One partial that a client is filling.

    @ivar owner: the client's identity; only it can commit.
    """

    log = Logger()

    def __init__(self, owner: str, request: transfer.Incoming, receiving: Receiving, runner: Runner) -> None:
        super().__init__()
        self.owner = owner
        self.request = request
        self.receiving = receiving
        self._runner = runner
        self._serial = SerialRunner(runner)
        # What this does not get done, COMMIT does.
        verifying = runner.run(receiving.verify_held, lambda: self.ended_by is not None)
        verifying.addErrback(lambda _: None)
        self._told_at = 0.0
        self._told_bytes = 0

    async def take(
        self, call: UploadCall[transfer.Grant], request: transfer.Incoming, part: PartRequest | None
    ) -> None:
        """
        Decide for a stream of the transfer and write it.

        Returning confirms the client's finish: all bytes are here, none is
        promised to be durable before COMMIT.

        @param part: what the stream is to carry, C{None} for all.
        @raise BadValue: there is no such part.
        """
        if (request.name, request.pool, request.size) != self._what:
            raise InvalidArgument("this part belongs to another transfer")
        with self.streaming_on(call.connection):
            try:
                await self._take(call, request, part)
            except BadState as error:
                if self.ended_by is None:
                    raise
                # Not a fault of ours.
                raise self.ended_by from error

    @property
    def _what(self) -> tuple[str, str, int | None]:
        return self.request.name, self.request.pool, self.request.size

    async def _take(
        self, call: UploadCall[transfer.Grant], request: transfer.Incoming, part: PartRequest | None
    ) -> None:
        receiving, serial = self.receiving, SerialRunner(self._runner)
        sink: Any = receiving
        if part is not None:
            sink = await serial.run(receiving.part, part.first, part.extent_count)
        # Who opens a further part knows what is held.
        held = transfer.Held() if part is not None and part.attempt else held_of(receiving)
        decision = decide_lane(call, request.parameters, request.size)
        grant = transfer.Grant(
            transfer.Verdict.SEND,
            None,
            held,
            decision.packet_bytes,
            decision.lane,
            () if part is None else attempt_parameters(self.key),
        )
        stream = call.accept(grant, total_bytes=request.size, sparse=True)
        self.streams.add(stream)
        lane = lane_of(stream, decision.lane)
        if lane is not None:
            await lane.receive(stream, sink, written=self._tell)
            await serial.run(sink.finish)
        else:
            await write_stream(stream, sink, serial, self._tell)
        self.streams.discard(stream)

    def _tell(self) -> None:
        """Report what is durable, now and then, to whoever of the client's connections asked for it."""
        connections = [each for each in self.connections if each.is_subscribed(transfer.Progress)]
        if not connections:
            return
        now = connections[0].link.clock.seconds()
        durable = self.receiving.durable_bytes
        if durable > self._told_bytes and now - self._told_at >= PROGRESS_SECONDS:
            self._told_at, self._told_bytes = now, durable
            for connection in connections:
                connection.emit(transfer.Progress(self.request.transfer_id, durable))

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

    def abandon(self, error: RemoteError) -> Deferred[None]:
        """The client is gone, or has failed: keep the partial, free the rest."""
        self.end(error)
        self.fail_streams()
        return self._serial.run(self.receiving.abandon)

    def fence(self) -> Deferred[None]:
        """The client begins anew: all streams of this attempt are told so."""
        self.end(transfer.Fenced("a newer attempt of this transfer took over"))
        self.fail_streams()
        return self._serial.run(self.receiving.fence)

    def remove(self) -> Deferred[bool]:
        """The client has cancelled: delete the partial; false if it was published meanwhile."""
        self.end(OperationAborted("the transfer was cancelled"))
        removing = self._serial.run(self.receiving.remove)

        def told(result: Any) -> Any:
            # Not earlier: a client that hears of it leaves, and shall find nothing when it looks.
            self.fail_streams()
            return result

        return removing.addBoth(told)
