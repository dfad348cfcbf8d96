"""
The transfer program's responders: what a destination answers.

The state of transfers between stream and COMMIT lives here, by identity and
transfer id; what they do is in L{rpcstream.services.incoming} and
L{rpcstream.services.outgoing}.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from functools import wraps
from typing import Any, TypeVar

from twisted.logger import Logger

from rpcstream.errors import StorageError
from rpcstream.net.calls import Call, DownloadCall, UploadCall
from rpcstream.net.threads import Runner
from rpcstream.programs import transfer
from rpcstream.programs.parameters import refuse_unknown_critical
from rpcstream.services.incoming import IncomingTransfer
from rpcstream.services.outgoing import OutgoingTransfer
from rpcstream.services.transfer_errors import as_transfer_error
from rpcstream.storage.extents import indexes_of
from rpcstream.storage.pool import Pool
from rpcstream.storage.receiving import Receiving

__all__ = ["TransferResponders"]

F = TypeVar("F", bound=Callable[..., Awaitable[Any]])


def _storage_errors_told(method: F) -> F:
    """Storage errors reach the caller as the transfer program's errors."""

    @wraps(method)
    async def told(*args: Any) -> Any:
        try:
            return await method(*args)
        except StorageError as error:
            raise as_transfer_error(error) from error

    return told  # type: ignore[return-value]


class TransferResponders:
    """
    @param pools: by name; C{"default"} is the one for an empty name.
    @param runner: where blocking work runs.
    """

    log = Logger()

    def __init__(self, pools: Mapping[str, Pool], runner: Runner) -> None:
        self._pools = pools
        self._runner = runner
        self._incoming: dict[tuple[str, bytes], IncomingTransfer] = {}
        self._outgoing: dict[tuple[int, bytes], OutgoingTransfer] = {}

    def _pool(self, name: str) -> Pool:
        pool = self._pools.get(name or "default")
        if pool is None:
            raise transfer.NoSuchName(f"there is no pool {name!r}")
        return pool

    # --- upload ------------------------------------------------------------------------

    @transfer.Incoming.responder
    @_storage_errors_told
    async def incoming(self, call: UploadCall[transfer.Grant], request: transfer.Incoming) -> None:
        """Decide, take the stream, keep it for COMMIT."""
        refuse_unknown_critical(request.parameters, ())
        owner = call.principal.name
        pool = self._pool(request.pool)
        key = (owner, request.transfer_id)
        before = self._incoming.pop(key, None)
        if before is not None:
            await before.abandon()
        begun = await self._runner.run(
            pool.begin,
            request.name,
            size=request.size,
            sparse=request.sparse,
            replace=request.replace,
            mode=request.mode,
            owner=owner,
            transfer_id=request.transfer_id,
            discard=sorted(indexes_of(request.discard)),
        )
        if not isinstance(begun, Receiving):
            nothing = transfer.Held(b"", b"")
            packet_bytes = call.connection.link.packet_bytes
            call.accept(
                transfer.Grant(
                    transfer.Verdict.COMPLETE, begun.digest, nothing, packet_bytes, transfer.Lane.SHARED, ()
                )
            )
            return
        kept = IncomingTransfer(owner, request, begun, self._runner)
        self._incoming[key] = kept
        call.connection.when_lost(lambda: self._connection_lost(key, kept))
        try:
            await kept.take(call, call.connection.link.packet_bytes)
        except BaseException:
            self._forget(key, kept)
            raise

    def _connection_lost(self, key: tuple[str, bytes], kept: IncomingTransfer) -> None:
        self._forget(key, kept)

    def _forget(self, key: tuple[str, bytes], kept: IncomingTransfer) -> None:
        if self._incoming.get(key) is kept:
            del self._incoming[key]
            kept.abandon()

    # --- download ----------------------------------------------------------------------

    @transfer.Outgoing.responder
    @_storage_errors_told
    async def outgoing(self, call: DownloadCall[transfer.Offer], request: transfer.Outgoing) -> None:
        """Decide, send the stream, keep the source for COMMIT."""
        refuse_unknown_critical(request.parameters, ())
        source = await self._runner.run(self._pool(request.pool).open_source, request.name)
        given = OutgoingTransfer(call.principal.name, request, source, self._runner)
        key = (id(call.connection), request.transfer_id)
        keep = given.is_whole
        if keep:
            before = self._outgoing.pop(key, None)
            if before is not None:
                before.close()
            self._outgoing[key] = given
            call.connection.when_lost(lambda: self._close_outgoing(key, given))
        try:
            await given.give(call, call.connection.link.packet_bytes)
        except BaseException:
            self._close_outgoing(key, given)
            raise
        if not keep:
            given.close()

    def _close_outgoing(self, key: tuple[int, bytes], given: OutgoingTransfer) -> None:
        if self._outgoing.get(key) is given:
            del self._outgoing[key]
            given.close()
        elif not given.is_whole:
            given.close()

    # --- the end of both ----------------------------------------------------------------

    @transfer.Commit.responder
    @_storage_errors_told
    async def commit(self, call: Call, request: transfer.Commit) -> transfer.Committed:
        """Durable, equal, published: or the reason why not."""
        refuse_unknown_critical(request.parameters, ())
        outgoing = self._outgoing.get((id(call.connection), request.transfer_id))
        if outgoing is not None:
            return await outgoing.commit(request.digest)
        key = (call.principal.name, request.transfer_id)
        kept = self._incoming.get(key)
        if kept is not None:
            committed = await kept.commit(request.size, request.digest)
            if committed.published:
                self._incoming.pop(key, None)
            return committed
        for pool in self._pools.values():
            finished = await self._runner.run(pool.finished, call.principal.name, request.transfer_id)
            if finished is not None and finished.digest == request.digest:
                return transfer.Committed(True, finished.digest, b"", ())
        raise transfer.NoSuchTransfer("there is no such transfer; send again, it resumes")

    @transfer.Cancel.responder
    @_storage_errors_told
    async def cancel(self, call: Call, request: transfer.Cancel) -> bool:
        """Give a transfer up and delete its partial; false when there is none."""
        kept = self._incoming.pop((call.principal.name, request.transfer_id), None)
        if kept is None:
            return False
        await kept.remove()
        return True

    # --- the pool ------------------------------------------------------------------------

    @transfer.ListNames.responder
    @_storage_errors_told
    async def list_names(self, call: Call, request: transfer.ListNames) -> transfer.Listing:
        """Names in order, a page at a time."""
        limit = min(request.limit or 1000, 1000)
        pool = self._pool(request.pool)
        entries = await self._runner.run(pool.entries, request.after, limit + 1)
        return transfer.Listing(tuple(_entry(e) for e in entries[:limit]), len(entries) > limit)

    @transfer.Stat.responder
    @_storage_errors_told
    async def stat(self, call: Call, request: transfer.Stat) -> transfer.Entry:
        """One name, with its stored digest while the file is unchanged."""
        return _entry(await self._runner.run(self._pool(request.pool).stat, request.name))

    @transfer.Remove.responder
    @_storage_errors_told
    async def remove(self, call: Call, request: transfer.Remove) -> None:
        """Delete a name."""
        await self._runner.run(self._pool(request.pool).remove, request.name)

    @transfer.Partials.responder
    @_storage_errors_told
    async def partials(self, call: Call, request: transfer.Partials) -> tuple[transfer.PartialEntry, ...]:
        """Unfinished transfers of a pool."""
        found = await self._runner.run(self._pool(request.pool).partials)
        return tuple(
            transfer.PartialEntry(
                p.name, p.size, p.held_bytes, p.owner, p.transfer_id, p.modified_ns, p.active
            )
            for p in found[:1000]
        )

    @transfer.Discard.responder
    @_storage_errors_told
    async def discard(self, call: Call, request: transfer.Discard) -> None:
        """Delete an unfinished transfer's partial."""
        await self._runner.run(self._pool(request.pool).discard, request.name)


def _entry(entry: Any) -> transfer.Entry:
    return transfer.Entry(
        entry.name,
        transfer.SourceKind[entry.kind.upper()],
        entry.size,
        entry.allocated,
        entry.mtime_ns,
        entry.digest,
        entry.incomplete,
    )
