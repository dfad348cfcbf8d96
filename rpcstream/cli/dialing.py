"""
Connecting for a command, and trying again.
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import TypeVar

from twisted.internet.task import deferLater

from rpcstream.cli.error_text import one_line
from rpcstream.cli.options import Settings
from rpcstream.cli.running import Session
from rpcstream.net.client import ClientConnection
from rpcstream.net.connect import connect
from rpcstream.net.opening import Opening
from rpcstream.net.urls import Url
from rpcstream.services.backoff import Backoff, is_retryable
from rpcstream.services.connections import Connections
from rpcstream.units import format_seconds

__all__ = ["dial", "dial_several", "with_retries"]

T = TypeVar("T")


def dial(session: Session, settings: Settings, url: Url) -> Opening[ClientConnection]:
    """
    Connect to the server of C{url}; its name is not looked at.

    @return: as L{connect}.
    """
    return connect(
        str(url._replace(name="", pool="")),
        pki=settings.pki,
        insecure=settings.insecure,
        limits=session.limits,
        runner=session.runner,
        reactor=session.reactor,
    )


@asynccontextmanager
async def dial_several(
    session: Session, settings: Settings, url: Url, count: int
) -> AsyncIterator[Connections]:
    """
    Connect once, and C{count} times if the transfer turns out to need it; closes all.

    @raise ConnectRefused: the first connection cannot be had.
    """
    async with dial(session, settings, url) as first:
        connections = Connections(first, lambda: dial(session, settings, url), count)
        try:
            yield connections
        finally:
            await connections.close()


async def with_retries(
    session: Session, retry_count: int, attempt: Callable[[], Awaitable[T]], backoff: Backoff | None = None
) -> T:
    """
    Do it, and after a failure that may pass do it again, up to C{retry_count} times.

    @raise Exception: what the last attempt raised, or the first that will not pass.
    """
    delays = backoff or Backoff()
    failed_count = 0
    while True:
        try:
            return await attempt()
        except Exception as error:
            failed_count += 1
            if failed_count > retry_count or not is_retryable(error):
                raise
            seconds = delays.delay_seconds(failed_count)
            session.output.note(
                f"{one_line(error)}; trying again in {format_seconds(seconds)} "
                f"({failed_count} of {retry_count})"
            )
        await deferLater(session.reactor, seconds)
