"""
The destination's side of a download: OUTGOING, which is also peek.
"""

from __future__ import annotations

from collections.abc import Sequence

from twisted.internet.defer import Deferred

from rpcstream.errors import DigestMismatch, InvalidArgument
from rpcstream.net.calls import DownloadCall
from rpcstream.net.threads import Runner, SerialRunner
from rpcstream.programs import transfer
from rpcstream.services.reading import send_pieces
from rpcstream.services.sending import claims_of
from rpcstream.storage.extents import bitmap_of
from rpcstream.storage.sources import Source

__all__ = ["OutgoingTransfer"]


class OutgoingTransfer:
    """
    One source that a client is reading.

    @ivar owner: the client's identity; only it can commit.
    """

    def __init__(self, owner: str, request: transfer.Outgoing, source: Source, runner: Runner) -> None:
        self.owner = owner
        self.request = request
        self._source = source
        self._runner = runner
        self._serial = SerialRunner(runner)
        self._cancelled = False
        self._verified: Deferred[Sequence[int]] | None = None

    @property
    def is_whole(self) -> bool:
        """Whether the whole content was asked for; only then COMMIT means something."""
        return self.request.offset == 0 and self.request.length is None

    async def give(self, call: DownloadCall[transfer.Offer], packet_bytes: int) -> None:
        """
        Decide for the transfer and send its stream.

        @raise StorageError: reading fails, or the source was changed meanwhile.
        """
        source, request = self._source, self.request
        size = source.size or 0
        if request.offset > size:
            raise InvalidArgument(f"offset {request.offset} is past the end, which is at {size}")
        held = claims_of(request.held) if self.is_whole else {}
        offer = transfer.Offer(
            size=size,
            kind=transfer.SourceKind[source.kind.upper()],
            sparse=request.sparse,
            mode=source.mode,
            packet_bytes=packet_bytes,
            lane=transfer.Lane.SHARED,
            parameters=(),
        )
        end = size if request.length is None else min(size, request.offset + request.length)
        stream = call.accept(
            offer, total_bytes=end - request.offset, packet_bytes=packet_bytes, sparse=request.sparse
        )
        if not self.is_whole:
            pieces = source.range(request.offset, end, packet_bytes, sparse=request.sparse)
            await send_pieces(stream, pieces, self._serial)
            await self._serial.run(source.check_unchanged)
            return
        self._verified = self._runner.run(source.verify, held, lambda: self._cancelled)
        pieces = source.pieces(frozenset(held), packet_bytes, sparse=request.sparse)
        await send_pieces(stream, pieces, self._serial)
        await self._serial.run(source.check_unchanged)

    async def commit(self, digest: bytes) -> transfer.Committed:
        """
        Tell whether the client holds the same content.

        @raise StorageError: it differs, or the source was changed.
        """
        stale = [] if self._verified is None else await self._verified
        if stale:
            return transfer.Committed(False, None, bitmap_of(stale), ())
        await self._serial.run(self._source.check_unchanged)
        own = await self._serial.run(self._source.content_digest)
        if own != digest:
            raise DigestMismatch(f"the content digests differ: {own.hex()} here, {digest.hex()} there")
        return transfer.Committed(True, own, b"", ())

    def close(self) -> Deferred[None]:
        """Free the source, once nothing reads it any more."""
        self._cancelled = True
        verified, self._verified = self._verified, None
        if verified is None:
            return self._serial.run(self._source.close)
        return verified.addBoth(lambda _: self._serial.run(self._source.close))
