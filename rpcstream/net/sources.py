"""
C{send_from}: one verb, many sources.
"""

from __future__ import annotations

from collections.abc import AsyncIterable, Iterable
from contextlib import suppress
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, cast

from twisted.internet.interfaces import IPullProducer, IPushProducer

from rpcstream.net.progress import Progress

if TYPE_CHECKING:
    from rpcstream.net.outgoing import OutgoingStream

__all__ = ["Sendable", "send_from"]

Sendable = bytes | Path | IO[bytes] | Iterable[bytes] | AsyncIterable[bytes] | IPushProducer | IPullProducer

READ_BYTES = 1024 * 1024


async def send_from(stream: OutgoingStream[Any], source: Sendable) -> Progress:
    """
    Send all of C{source}; the stream is aborted when it fails.

    Files are read in the connection's threads; anything that yields is asked
    only while the stream takes more.
    """
    try:
        if isinstance(source, bytes | bytearray | memoryview):
            await stream.send(bytes(source))
        elif isinstance(source, Path):
            await _send_path(stream, source)
        elif hasattr(source, "__aiter__"):  # before read(): an incoming stream has both
            await _send_async(stream, cast("AsyncIterable[bytes]", source))
        elif hasattr(source, "read"):
            await _send_file(stream, cast("IO[bytes]", source))
        elif hasattr(source, "resumeProducing"):
            await _send_producer(stream, source)
        else:
            for data in source:
                await stream.send(data)
    except Exception as error:
        stream.abort(str(error))
        raise
    return stream.progress


async def _send_path(stream: OutgoingStream[Any], path: Path) -> None:
    run = stream.runner.run
    file = await run(path.open, "rb")
    try:
        await _send_file(stream, cast("IO[bytes]", file))
    finally:
        await run(file.close)


async def _send_file(stream: OutgoingStream[Any], file: IO[bytes]) -> None:
    run = stream.runner.run
    reading = run(file.read, READ_BYTES)
    while data := await reading:
        # The next piece is read while this one is sent.
        reading = run(file.read, READ_BYTES)
        try:
            await stream.send(data)
        except BaseException:
            # The file must not be closed under the thread that reads it.
            with suppress(Exception):
                await reading
            raise


async def _send_async(stream: OutgoingStream[Any], source: AsyncIterable[bytes]) -> None:
    # Twisted does not finish an abandoned async generator: close it on every exit.
    try:
        async for data in source:
            await stream.send(data)
    finally:
        close = getattr(source, "aclose", None)
        if close is not None:
            await close()


async def _send_producer(stream: OutgoingStream[Any], producer: Any) -> None:
    streaming = IPushProducer.providedBy(producer)
    done = stream.when_unregistered()
    stream.registerProducer(producer, streaming)
    if streaming:
        producer.resumeProducing()
    await done
