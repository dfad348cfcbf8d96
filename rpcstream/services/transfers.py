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

from rpcstream.errors import BadValue, InvalidArgument, OperationAborted, RemoteError, StorageError
from rpcstream.net.answers import as_remote_error
from rpcstream.net.calls import Call, DownloadCall, UploadCall
from rpcstream.net.threads import Runner
from rpcstream.programs import transfer
from rpcstream.programs.parameters import refuse_unknown_critical
from rpcstream.programs.parts import PART_NAMES, asked_part, attempt_of
from rpcstream.services.incoming import IncomingTransfer
from rpcstream.services.outgoing import OutgoingTransfer
from rpcstream.services.transfer_errors import as_transfer_error
from rpcstream.storage.listing import Entry
from rpcstream.storage.pool import Finished, Pool
from rpcstream.storage.receiving import Receiving
from rpcstream.storage.sources import FileSource

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
        except BadValue as error:
            raise InvalidArgument(str(error)) from error

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
        # By the attempt's key.
        self._outgoing: dict[bytes, OutgoingTransfer] = {}

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
        refuse_unknown_critical(request.parameters, PART_NAMES)
        part = asked_part(request.parameters)
        key = (call.principal.name, request.transfer_id)
        if part is not None and part.attempt:
            kept = self._incoming.get(key)
            if kept is None or kept.key != part.attempt:
                raise transfer.Fenced("this attempt of the transfer is over; begin it again, it resumes")
        else:
            begun = await self._begin(call, key, request)
            if not isinstance(begun, Receiving):
                nothing = transfer.Held(b"", b"")
                packet_bytes = call.connection.link.packet_bytes
                call.accept(
                    transfer.Grant(
                        transfer.Verdict.COMPLETE, begun.digest, nothing, packet_bytes, transfer.Lane.SHARED
                    )
                )
                return
            kept = self._incoming[key] = IncomingTransfer(key[0], request, begun, self._runner)
        taken = kept
        taken.join(call.connection, lambda error: self._drop_incoming(key, taken, error))
        try:
            await taken.take(call, request, part)
        except BaseException as error:
            self._drop_incoming(key, taken, _for_the_others(error))
            raise

    async def _begin(
        self, call: UploadCall[transfer.Grant], key: tuple[str, bytes], request: transfer.Incoming
    ) -> Receiving | Finished:
        """A new attempt; whatever runs of the one before is fenced."""
        if request.replace and not _allows(call, "transfer.replace", request.name, request.pool):
            raise transfer.Denied("replacing is not allowed to this client")
        pool = self._pool(request.pool)
        before = self._incoming.pop(key, None)
        if before is not None:
            before.leave()
            await before.fence()
        return await self._runner.run(
            pool.begin,
            request.name,
            size_bytes=request.size,
            sparse=request.sparse,
            replace=request.replace,
            mode=request.mode,
            owner=key[0],
            transfer_id=request.transfer_id,
            discard=request.discard,
        )

    def _drop_incoming(self, key: tuple[str, bytes], kept: IncomingTransfer, error: RemoteError) -> None:
        """The client is gone or has failed: what is durable stays, to be resumed."""
        if self._incoming.get(key) is kept:
            del self._incoming[key]
        kept.leave()
        kept.abandon(error)

    # --- download ----------------------------------------------------------------------

    @transfer.Outgoing.responder
    @_storage_errors_told
    async def outgoing(self, call: DownloadCall[transfer.Offer], request: transfer.Outgoing) -> None:
        """Decide, send the stream, keep the source for COMMIT."""
        refuse_unknown_critical(request.parameters, PART_NAMES)
        part = asked_part(request.parameters)
        if part is not None and part.attempt:
            found = self._outgoing.get(part.attempt)
            if found is None or found.owner != call.principal.name:
                raise transfer.Fenced("this attempt of the transfer is over; begin it again, it resumes")
            given = found
        else:
            source = await self._runner.run(_open_window, self._pool(request.pool), request)
            given = OutgoingTransfer(call.principal.name, request, source, self._runner)
            if given.is_whole:
                before = self._outgoing_of(call, request.transfer_id)
                if before is not None:
                    self._drop_outgoing(before, transfer.Fenced("a newer attempt of this transfer took over"))
                self._outgoing[given.key] = given
        given.join(call.connection, lambda error: self._drop_outgoing(given, error))
        try:
            await given.give(call, request, part)
        except BaseException as error:
            self._drop_outgoing(given, _for_the_others(error))
            raise
        if not given.is_whole:
            self._drop_outgoing(given, _OVER)

    def _outgoing_of(self, call: Call, transfer_id: bytes, attempt: bytes = b"") -> OutgoingTransfer | None:
        """The download of this name, if it is this connection's."""
        for given in self._outgoing.values():
            if given.request.transfer_id == transfer_id and call.connection in given.connections:
                return given if attempt in (b"", given.key) else None
        return None

    def _drop_outgoing(self, given: OutgoingTransfer, error: RemoteError) -> None:
        self._outgoing.pop(given.key, None)
        given.leave()
        given.close(error)

    # --- the end of both ----------------------------------------------------------------

    @transfer.Commit.responder
    @_storage_errors_told
    async def commit(self, call: Call, request: transfer.Commit) -> transfer.Committed:
        """Durable, equal, published: or the reason why not."""
        refuse_unknown_critical(request.parameters, PART_NAMES)
        attempt = attempt_of(request.parameters)
        outgoing = self._outgoing_of(call, request.transfer_id, attempt)
        if outgoing is not None:
            committed = await outgoing.commit()
            self._drop_outgoing(outgoing, _OVER)
            return committed
        key = (call.principal.name, request.transfer_id)
        kept = self._incoming.get(key)
        if kept is not None and attempt not in (b"", kept.key):
            raise transfer.Fenced("a newer attempt of this transfer took over")
        if kept is not None:
            committed = await kept.commit(request.size, request.digest)
            if committed.published:
                self._incoming.pop(key, None)
                kept.leave()
            return committed
        for pool in self._pools.values():
            finished = await self._runner.run(pool.finished, request.transfer_id)
            if finished is not None and (finished.owner, finished.digest) == (key[0], request.digest):
                return transfer.Committed(True, finished.digest, b"")
        raise transfer.NoSuchTransfer("there is no such transfer; send again, it resumes")

    @transfer.Cancel.responder
    @_storage_errors_told
    async def cancel(self, call: Call, request: transfer.Cancel) -> bool:
        """Give a transfer up and delete its partial; false when there is none."""
        owner = call.principal.name
        kept = self._incoming.pop((owner, request.transfer_id), None)
        if kept is not None:
            kept.leave()
            return await kept.remove()
        return await self._runner.run(self._discard_left, owner, request.transfer_id)

    def _discard_left(self, owner: str, transfer_id: bytes) -> bool:
        """Delete what an earlier connection has left of a transfer; runs in a thread."""
        for pool in list(self._pools.values()):
            for partial in pool.partials():
                if (partial.owner, partial.transfer_id) == (owner, transfer_id) and not partial.active:
                    pool.discard(partial.name)
                    return True
        return False

    # --- the pool ------------------------------------------------------------------------

    @transfer.ListNames.responder
    @_storage_errors_told
    async def list_names(self, call: Call, request: transfer.ListNames) -> transfer.Listing:
        """Names in order, a page at a time."""
        limit = min(request.limit or transfer.ENTRY_COUNT, transfer.ENTRY_COUNT)
        pool = self._pool(request.pool)
        shown: list[transfer.Entry] = []
        after = request.after
        while len(shown) <= limit:
            entries = await self._runner.run(pool.entries, after, limit + 1)
            shown += [_entry(e) for e in entries if _allows(call, "transfer.list", e.name, request.pool)]
            if len(entries) <= limit:
                break
            after = entries[-1].name
        return transfer.Listing(tuple(shown[:limit]), len(shown) > limit)

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
                p.name, p.size_bytes, p.held_bytes, p.owner, p.transfer_id, p.modified_ns, p.active
            )
            for p in found[: transfer.ENTRY_COUNT]
            if _allows(call, "transfer.list", p.name, request.pool)
        )

    @transfer.Discard.responder
    @_storage_errors_told
    async def discard(self, call: Call, request: transfer.Discard) -> None:
        """Delete an unfinished transfer's partial."""
        await self._runner.run(self._pool(request.pool).discard, request.name)


_OVER = OperationAborted("the transfer is over")


def _for_the_others(error: BaseException) -> RemoteError:
    """What the other streams of a transfer fail with, when one has failed with C{error}."""
    if isinstance(error, StorageError):
        return as_transfer_error(error)
    if isinstance(error, RemoteError | OSError):
        return as_remote_error(error, TransferResponders.log)
    return OperationAborted("another stream of this transfer has failed")


def _entry(entry: Entry) -> transfer.Entry:
    return transfer.Entry(
        entry.name,
        transfer.SourceKind(entry.kind),
        entry.size_bytes,
        entry.allocated_bytes,
        entry.mtime_ns,
        entry.digest,
        entry.incomplete,
    )


def _open_window(pool: Pool, request: transfer.Outgoing) -> FileSource:
    """The part of the content that is asked for; a length past the end means up to the end."""
    source = pool.open_source(request.name)
    if request.offset == 0 and request.length is None:
        return source
    with source:
        room = source.whole_bytes - request.offset
    if room < 0:
        raise InvalidArgument(f"offset {request.offset} is past the end, at {source.whole_bytes}")
    length = room if request.length is None else min(room, request.length)
    return pool.open_source(request.name, offset=request.offset, length=length)


def _allows(call: Call, permission: str, name: str, pool: str) -> bool:
    """What a name in the answer, or a flag of the request, needs beyond the call's own permission."""
    policy = call.connection.serving.policy
    return bool(policy.decide(call.principal.name, permission, name, pool).allowed)
