"""
Work for a source service on this machine: C{submit}, C{jobs}, C{cancel}.
"""

from __future__ import annotations

import os
from collections.abc import Awaitable, Callable
from typing import Any

import click

from rpcstream.cli.dialing import dial
from rpcstream.cli.options import MODE, VIA, Settings, printing
from rpcstream.cli.running import Session, run
from rpcstream.cli.tables import JOBS
from rpcstream.net.client import ClientConnection
from rpcstream.net.urls import Url
from rpcstream.programs.jobs import FOREVER, CancelJob, Job, ListJobs, Submit

__all__ = ["all_jobs", "cancel", "jobs", "submit"]

_via = click.option(
    "--via", type=VIA, required=True, metavar="unix:PATH", help="Socket of the source service."
)


class _Retry(click.ParamType[int]):
    name = "count"

    def convert(self, value: Any, param: click.Parameter | None, ctx: click.Context | None) -> int:
        if value == "forever":
            return FOREVER
        try:
            count = int(value)
        except ValueError:
            count = -1
        if not 0 <= count < FOREVER:
            self.fail(f"{value!r} is neither a count nor 'forever'", param, ctx)
        return count


@click.command(short_help="Give a file to a source service.")
@click.argument("source")
@click.argument("name")
@_via
@click.option("--replace", is_flag=True, help="Replace the name if it exists.")
@click.option("--mode", type=MODE, metavar="OCTAL", help="Permission bits of the new file.")
@click.option("--retry", type=_Retry(), default=0, metavar="N", help="Try again up to N times, or 'forever'.")
@printing
def submit(
    settings: Settings,
    source: str,
    name: str,
    via: Url,
    replace: bool,
    mode: int | None,
    retry: int,
) -> int:
    """
    Have the source service send SOURCE as NAME; prints the number of the job.

    Exit status 0 means that the job is on disk, and survives a restart.
    """
    request = Submit(os.path.abspath(source), name, replace=replace, mode=mode, retry=retry)

    async def command(session: Session, connection: ClientConnection) -> None:
        job_id = await connection.call(request)
        session.output.done(str(job_id), job_id=job_id, source=request.source, name=name)

    return _run_via(settings, via, command)


@click.command(short_help="List the jobs of a source service.")
@_via
@printing
def jobs(settings: Settings, via: Url) -> int:
    """List jobs in the order of submission."""

    async def command(session: Session, connection: ClientConnection) -> None:
        found = await all_jobs(connection)
        session.output.table(JOBS, found)
        session.output.done(count=len(found))

    return _run_via(settings, via, command)


@click.command(short_help="Cancel a job of a source service.")
@click.argument("job_id", metavar="ID", type=click.IntRange(0, 2**63 - 1))
@_via
@printing
def cancel(settings: Settings, job_id: int, via: Url) -> int:
    """Cancel the job ID, queued or running; its partial stays at the destination."""

    async def command(session: Session, connection: ClientConnection) -> None:
        job = await connection.call(CancelJob(job_id))
        session.output.done(**JOBS.row(job))

    return _run_via(settings, via, command)


async def all_jobs(connection: ClientConnection, after: int = 0) -> list[Job]:
    """Every job with a number above C{after}."""
    found: list[Job] = []
    while True:
        listing = await connection.call(ListJobs(after))
        found += [job for job in listing.jobs if job.job_id > after]
        if not listing.more or not found or found[-1].job_id <= after:
            return found
        after = found[-1].job_id


def _run_via(
    settings: Settings, via: Url, command: Callable[[Session, ClientConnection], Awaitable[None]]
) -> int:
    async def connected(session: Session) -> None:
        async with dial(session, settings, via) as connection:
            await command(session, connection)

    return run(connected, settings.output)
