"""
C{rpcstream events}: what happens to the domains of a libvirt host, as JSON lines.
"""

from __future__ import annotations

import sys
from typing import Any

import click
from twisted.internet.defer import maybeDeferred

from rpcstream.cli.libvirt_uris import HOST_URI, pki_for_libvirt
from rpcstream.cli.options import Settings, connecting
from rpcstream.cli.output import JsonOutput
from rpcstream.cli.running import Session, run
from rpcstream.cli.tables import Column, Table
from rpcstream.errors import ConnectionClosed
from rpcstream.libvirt.events import Gap, LifecycleEvent
from rpcstream.libvirt.service import ConnectionService
from rpcstream.programs.remote import Lifecycle

__all__ = ["events"]

_LIFECYCLE = Table(
    "lifecycle",
    tuple(Column(key, key.upper()) for key in ("what", "detail", "domain", "uuid", "id")),
)
_GAP = Table("gap", (Column("reason", "REASON"), Column("lost", "LOST")))


@click.command(short_help="Print what happens to a libvirt host's domains.")
@click.argument("uri", type=HOST_URI)
@click.option("--domain", "name", metavar="NAME", help="Of this domain only.")
@click.option("--count", type=click.IntRange(1), metavar="N", help="End after N events.")
@connecting
def events(settings: Settings, uri: str, name: str | None, count: int | None) -> int:
    """
    Print the lifecycle events of the domains of a libvirt host, one JSON object a line.

    It goes on over restarts of the daemon, and prints an object with "event": "gap"
    where events may be missing.  The first connection must succeed.
    """
    # Made for scripts: with and without --json.
    output = JsonOutput(sys.stdout, sys.stderr)

    async def command(session: Session) -> None:
        service = ConnectionService(
            uri,
            pki=pki_for_libvirt(settings),
            insecure=settings.insecure,
            limits=session.limits,
            runner=session.runner,
            reactor=session.reactor,
        )
        service.startService()
        try:
            await service.connected(failures=1)
            seen = await _print(service, output, name, count)
        finally:
            await maybeDeferred(service.stopService)
        output.done(count=seen)

    return run(command, output)


async def _print(service: ConnectionService, output: JsonOutput, name: str | None, count: int | None) -> int:
    domain = None if name is None else await service.domain(name)
    seen = 0
    async with service.domain_events(domain, gaps=True) as stream:
        output.note("listening")
        async for event in stream:
            if isinstance(event, Gap):
                output.table(_GAP, [{"reason": event.reason, "lost": event.lost_count}])
                continue
            output.table(_LIFECYCLE, [_record(event)])
            seen += 1
            if seen == count:
                return seen
    raise ConnectionClosed("no more events")


def _record(event: LifecycleEvent) -> dict[str, Any]:
    kind = event.event
    return {
        "what": kind.name.lower() if isinstance(kind, Lifecycle) else kind,
        "detail": event.detail,
        "domain": event.domain.name,
        "uuid": str(event.domain.uuid),
        "id": event.domain.id,
    }
