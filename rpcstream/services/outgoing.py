"""
The destination's side of a download: OUTGOING, which is also peek.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from rpcstream.errors import BadState, BadValue, InvalidArgument, RemoteError
from rpcstream.net.calls import DownloadCall
from rpcstream.net.reading import send_pieces
from rpcstream.net.threads import Runner, SerialRunner
from rpcstream.programs import transfer
from rpcstream.programs.parts import PartRequest, attempt_parameters
from rpcstream.services.attempts import Attempt
from rpcstream.services.lanes import decide_lane, lane_of, pieces_for
from rpcstream.storage.extents import NOTHING_HELD, Held
from rpcstream.storage.sources import FileSource

__all__ = ["OutgoingTransfer"]


class OutgoingTransfer(Attempt):
    """
    One source that a client is reading.

    @ivar owner: the client's identity; only it can commit.
    """

    def __init__(self, owner: str, request: transfer.Outgoing, source: FileSource, runner: Runner) -> None:
        super().__init__()
        self.owner = owner
        self.request = request
        self._source = source
        self._runner = runner
        self._serial = SerialRunner(runner)
        self._verified: Deferred[bytes] | None = None
        self._failure: BaseException | None = None
        self._held = NOTHING_HELD

    @property
    def is_whole(self) -> bool:
        """Whether the whole content was asked for; only then COMMIT means something."""
        return self.request.offset == 0 and self.request.length is None

    async def give(
        self, call: DownloadCall[transfer.Offer], request: transfer.Outgoing, part: PartRequest | None
    ) -> None:
        """
        Decide for a stream of the transfer and send it.

        @param part: what the stream is to carry, C{None} for all that was asked for.
        @raise StorageError: reading fails, or the source was changed meanwhile.
        @raise BadValue: there is no such part.
        """
        if (request.name, request.pool, request.transfer_id) != (
            self.request.name,
            self.request.pool,
            self.request.transfer_id,
        ):
            raise InvalidArgument("this part belongs to another transfer")
        if part is not None and not self.is_whole:
            raise BadValue("part", "only of a whole content")
        with self.streaming_on(call.connection):
            try:
                await self._give(call, request, part)
            except BadState as error:
                if self.ended_by is None:
                    raise
                raise self.ended_by from error

    async def _give(
        self, call: DownloadCall[transfer.Offer], request: transfer.Outgoing, part: PartRequest | None
    ) -> None:
        source, serial = self._source, SerialRunner(self._runner)
        is_first = part is None or not part.attempt
        if is_first and self.is_whole:
            self._held = Held(request.held.bitmap, request.held.digests).check()
        decision = decide_lane(call, request.parameters, source.size_bytes)
        packet_bytes = decision.packet_bytes
        offer = transfer.Offer(
            size=source.whole_bytes,
            kind=transfer.SourceKind(source.kind),
            sparse=request.sparse,
            mode=source.mode or 0,
            packet_bytes=packet_bytes,
            lane=decision.lane,
            parameters=() if part is None else attempt_parameters(self.key),
        )
        within = None if part is None else part.range
        stream = call.accept(
            offer, total_bytes=source.size_bytes, packet_bytes=packet_bytes, sparse=request.sparse
        )
        self.streams.add(stream)
        lane = lane_of(stream, decision.lane)
        if is_first and self.is_whole:
            self._verified = self._runner.run(source.verify, self._held, lambda: self.ended_by is not None)
            self._verified.addErrback(self._failed)
        pieces = pieces_for(
            lane,
            source,
            self._held.bitmap,
            packet_bytes,
            sparse=request.sparse,
            within=within,
            digests=self.is_whole,
        )
        if lane is not None:
            await lane.send(stream, pieces)
        else:
            await send_pieces(stream, pieces, serial)
        await serial.run(source.check_unchanged)
        self.streams.discard(stream)

    def _failed(self, failure: Failure) -> bytes:
        """Verifying failed: COMMIT tells it, should it come."""
        self._failure = failure.value
        return b""

    async def commit(self) -> transfer.Committed:
        """
        Tell the digest of what the client should hold, or which extents it must fetch again.

        @raise StorageError: the source was changed meanwhile.
        """
        stale = b"" if self._verified is None else await self._verified
        if self._failure is not None:
            raise self._failure
        if any(stale):
            return transfer.Committed(False, None, stale)
        await self._serial.run(self._source.check_unchanged)
        own = await self._serial.run(self._source.content_digest)
        return transfer.Committed(True, own, b"")

    def close(self, error: RemoteError) -> Deferred[None]:
        """Free the source, once nothing reads it any more; streams that still run fail with C{error}."""
        self.end(error)
        self.fail_streams()
        return self._serial.run(self._source.close)
