"""
C{rpcstream demo}: both ends on this machine, and one verified transfer between them.
"""

from __future__ import annotations

import os
import shutil
import sys
import tempfile
from pathlib import Path

import click
from twisted.internet.defer import gatherResults
from twisted.internet.task import deferLater

from rpcstream.cli.children import Child, ChildFailed
from rpcstream.cli.demo_result import DemoFailed, DemoResult, drawn
from rpcstream.cli.dialing import dial
from rpcstream.cli.options import SIZE, Settings, watching
from rpcstream.cli.running import Session, run
from rpcstream.errors import ConfigurationError
from rpcstream.limits import MIB
from rpcstream.net.authority import initialise
from rpcstream.net.client import ClientConnection
from rpcstream.net.progress import Progress
from rpcstream.net.urls import Url
from rpcstream.programs.jobs import Job, JobState, ListJobs, Measured, Submit
from rpcstream.storage.reading import digest_file
from rpcstream.units import format_size

__all__ = ["demo"]

DEFAULT_BYTES = 256 * MIB
SPARE_BYTES = 64 * MIB
SOCKET_NAME = "source.socket"
LOOK_SECONDS = 0.1
_ENDED = (JobState.DONE, JobState.FAILED, JobState.CANCELLED)


@click.command(short_help="Show a transfer between two processes on this machine.")
@click.option("--file", type=click.Path(path_type=Path), help="What to send; random bytes if left out.")
@click.option("--size", type=SIZE, metavar="SIZE", help="How many random bytes; 256M if left out.")
@watching
def demo(settings: Settings, file: Path | None, size: int | None) -> int:
    """
    Make certificates, start a destination and a source service, send a file over
    mutual TLS, compare both ends, and print what was measured.

    Everything happens below a temporary directory (TMPDIR), which is removed.
    """
    if file is not None and size is not None:
        raise click.UsageError("--size is for random bytes; a file has its size")
    demonstration = _Demonstration(settings, file, DEFAULT_BYTES if size is None else size)
    return run(demonstration.run, settings.output)


class _Demonstration:
    """The two services, and what they work on."""

    def __init__(self, settings: Settings, file: Path | None, size: int) -> None:
        self._settings = settings
        self._file = None if file is None else Path(os.path.abspath(file))
        self._size = size
        self._children: list[Child] = []

    async def run(self, session: Session) -> None:
        """Show it, and clean up whatever happens."""
        folder = Path(tempfile.mkdtemp(prefix="rpcstream-demo-", dir=_short_directory()))
        try:
            result = await self._show(session, folder)
        except ChildFailed as error:
            for line in error.lines:
                session.output.note(line)
            raise
        finally:
            for child in reversed(self._children):
                await child.stop()
            await session.runner.run(shutil.rmtree, folder, True)
        session.output.drawing(drawn(result, None if sys.stdout.isatty() else 110))
        session.output.done(**result.fields())

    async def _show(self, session: Session, folder: Path) -> DemoResult:
        file = await session.runner.run(self._prepare, folder)
        destination, source = await self._start(session, folder, file)
        via = Url("unix", "", 0, socket=str(folder / SOCKET_NAME))
        async with dial(session, self._settings, via) as connection:
            job_id = await connection.call(Submit(str(file), file.name))
            job = await self._follow(session, connection, job_id, file)
            measures = await connection.call(Measured(job_id))
        if job.state is not JobState.DONE:
            raise source.failed(f"could not send: {job.message}")
        sent, stored = await gatherResults(
            [session.runner.run(digest_file, path) for path in (file, folder / "store" / file.name)],
            consumeErrors=True,
        )
        result = DemoResult.of(
            file.name, (job.digest or b"", sent, stored), measures, (source.pid, destination.pid)
        )
        result.check()
        return result

    def _prepare(self, folder: Path) -> Path:
        """
        Certificates, an empty store, and something to send.

        @raise ConfigurationError: it would not fit, or is no file.
        """
        file = self._file
        if file is not None and not file.is_file():
            raise ConfigurationError(f"{file}: no such file, or not a regular one")
        size = self._size if file is None else file.stat().st_size
        needed = (2 if file is None else 1) * size + SPARE_BYTES
        free = shutil.disk_usage(folder).free
        if free < needed:
            raise ConfigurationError(
                f"{folder.parent} has {format_size(free)} free, {format_size(needed)} are needed: "
                "use a smaller --size, or name another directory in TMPDIR"
            )
        initialise(folder / "pki", ["127.0.0.1", "localhost"], ["demo"])
        (folder / "store").mkdir()
        if file is None:
            (folder / "root").mkdir()
            file = folder / "root" / "demo.img"
            with file.open("wb") as random:
                for start in range(0, size, MIB):
                    random.write(os.urandom(min(MIB, size - start)))
        return file

    async def _start(self, session: Session, folder: Path, file: Path) -> tuple[Child, Child]:
        pki = ("--pki", str(folder / "pki"))
        destination = self._child(
            session,
            folder,
            "destination",
            *("--listen", "rpctls:0:interface=127.0.0.1", "--store", str(folder / "store"), *pki),
        )
        address = await destination.listening("rpctls")
        source = self._child(
            session,
            folder,
            "source",
            *("--listen", f"unix:{folder / SOCKET_NAME}", "--to", f"rpcstream+tls://{address}/", *pki),
            *("--root", str(file.parent), "--state", str(folder / "state")),
        )
        await source.listening("unix")
        return destination, source

    def _child(self, session: Session, folder: Path, *arguments: str) -> Child:
        name, *rest = arguments
        child = Child(session.reactor, name, folder, *rest)
        self._children.append(child)
        return child

    async def _follow(self, session: Session, connection: ClientConnection, job_id: int, file: Path) -> Job:
        """Until it has ended, one way or the other."""
        size = file.stat().st_size
        started = session.reactor.seconds()
        session.output.started(file.name, size)
        while True:
            for child in self._children:
                child.check()
            listing = await connection.call(ListJobs(job_id - 1, 1))
            job = listing.jobs[0] if listing.jobs else None
            if job is None or job.job_id != job_id:
                raise DemoFailed(f"the source service has forgotten job {job_id}")
            seconds = session.reactor.seconds() - started
            session.output.progress(Progress(job.byte_count, 0, 0, seconds, size, None))
            if job.state in _ENDED:
                return job
            await deferLater(session.reactor, LOOK_SECONDS)


def _short_directory() -> str | None:
    """The path of a socket has 107 bytes at most."""
    return None if len(os.fsencode(tempfile.gettempdir())) < 60 else "/tmp"
