"""
The destination's side of a download: OUTGOING, which is also peek.
"""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from rpcstream.net.calls import DownloadCall
from rpcstream.net.reading import send_pieces
from rpcstream.net.threads import Runner, SerialRunner
from rpcstream.programs import transfer
from rpcstream.services.lanes import decide_lane, lane_of
from rpcstream.storage.extents import NOTHING_HELD, Held
from rpcstream.storage.sources import FileSource

__all__ = ["OutgoingTransfer"]


class OutgoingTransfer:
    """
    One source that a client is reading.

    @ivar owner: the client's identity; only it can commit.
    """

    def __init__(self, owner: str, request: transfer.Outgoing, source: FileSource, runner: Runner) -> None:
        self.owner = owner
        self.request = request
        self._source = source
        self._runner = runner
        self._serial = SerialRunner(runner)
        self._cancelled = False
        self._verified: Deferred[bytes] | None = None
        self._failure: BaseException | None = None

    @property
    def is_whole(self) -> bool:
        """Whether the whole content was asked for; only then COMMIT means something."""
        return self.request.offset == 0 and self.request.length is None

    async def give(self, call: DownloadCall[transfer.Offer]) -> None:
        """
        Decide for the transfer and send its stream.

        @raise StorageError: reading fails, or the source was changed meanwhile.
        """
        source, request = self._source, self.request
        held = Held(request.held.bitmap, request.held.digests).check() if self.is_whole else NOTHING_HELD
        decision = decide_lane(call, request.parameters, source.size_bytes)
        packet_bytes = decision.packet_bytes
        offer = transfer.Offer(
            size=source.whole_bytes,
            kind=transfer.SourceKind(source.kind),
            sparse=request.sparse,
            mode=source.mode or 0,
            packet_bytes=packet_bytes,
            lane=decision.lane,
        )
        stream = call.accept(
            offer, total_bytes=source.size_bytes, packet_bytes=packet_bytes, sparse=request.sparse
        )
        lane = lane_of(stream, decision.lane)
        if self.is_whole:
            self._verified = self._runner.run(source.verify, held, lambda: self._cancelled)
            self._verified.addErrback(self._failed)
        skip, sparse = held.bitmap, request.sparse
        if lane is not None and lane.takes_files:
            await lane.send(
                stream, source.file_parts(skip, packet_bytes, sparse=sparse, digests=self.is_whole)
            )
        elif lane is not None:
            await lane.send(stream, source.pieces(skip, packet_bytes, sparse=sparse))
        else:
            await send_pieces(stream, source.pieces(skip, packet_bytes, sparse=sparse), self._serial)
        await self._serial.run(source.check_unchanged)

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

    def close(self) -> Deferred[None]:
        """Free the source, once nothing reads it any more."""
        self._cancelled = True
        return self._serial.run(self._source.close)
