"""
A destination and clients of it in this process, over real sockets, with lanes.
"""

from __future__ import annotations

import contextlib
import os
import random
import shutil
import tempfile
import threading
from pathlib import Path
from typing import Any

import attrs
from twisted.internet import reactor
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

from rpcstream.limits import Limits
from rpcstream.net.client import ClientConnection
from rpcstream.net.connect import connect
from rpcstream.net.lane.lane import lane_count
from rpcstream.net.opening import Opening
from rpcstream.net.threads import ThreadRunner
from rpcstream.services.config import load_config
from rpcstream.services.destination import DestinationService, destination_service
from rpcstream.services.receiving import ReceiveOptions, receive
from rpcstream.services.sending import SendOptions, Sent, send
from rpcstream.storage.pool import Pool
from rpcstream.storage.sources import open_path
from tests.net.certificates import pki_directory

__all__ = ["LIMITS", "LaneCase", "random_bytes"]

LIMITS = Limits(exclusive_lanes=64, exclusive_least_bytes=0, close_seconds=1.0)


def random_bytes(count: int, seed: int = 1) -> bytes:
    """The same for the same seed."""
    return random.Random(seed).randbytes(count)


def descriptors() -> dict[str, str]:
    """Open descriptors of this process, and what they are of; but those that are the reactor's."""
    found = {}
    for number in os.listdir("/proc/self/fd"):
        with contextlib.suppress(OSError):
            found[number] = os.readlink(f"/proc/self/fd/{number}")
    return {number: what for number, what in found.items() if not what.startswith(("pipe:", "/dev/null"))}


def lane_threads() -> list[threading.Thread]:
    """Threads of lanes that run."""
    return [thread for thread in threading.enumerate() if thread.name.startswith("rpcstream lane")]


class LaneCase(TestCase):
    """
    @ivar store: the destination's pool.
    @ivar here: the client's files.
    """

    timeout = 25
    limits = LIMITS

    def setUp(self) -> None:
        self.folder = Path(tempfile.mkdtemp(prefix="rpcstream-"))
        self.addCleanup(shutil.rmtree, self.folder, ignore_errors=True)
        self.store = self.folder / "store"
        self.here = self.folder / "here"
        for place in (self.store, self.here):
            place.mkdir()
        self.addCleanup(self.assert_nothing_left, descriptors())
        self.runner = ThreadRunner(reactor, 4)
        self.addCleanup(self.runner.stop)
        self.pool = Pool(self.here, limits=self.limits)
        self.addCleanup(self.pool.close)

    # --- the ends ---------------------------------------------------------------------

    def serve(self, kind: str = "tls", limits: Limits | None = None, quota_bytes: int | None = None) -> str:
        """
        Start a destination.

        @return: its URL.
        """
        listen = {
            "tls": "rpctls:0:interface=127.0.0.1",
            "tcp": "tcp:0:interface=127.0.0.1",
            "unix": f"unix:{self.folder}/d.sock",
        }[kind]
        if kind == "tls" and not (self.folder / "pki").exists():
            self.pki = pki_directory(str(self.folder / "pki"))
        config = load_config(None, insecure=kind == "tcp")
        service = destination_service(
            listen,
            self.store,
            pki=self.folder / "pki" if kind == "tls" else None,
            config=attrs.evolve(
                config,
                limits=limits or self.limits,
                store=attrs.evolve(config.store, quota_bytes=quota_bytes),
            ),
            insecure=kind == "tcp",
        )
        self.service: DestinationService = service
        self.addCleanup(self.stop)
        service.privilegedStartService()  # type: ignore[no-untyped-call]
        service.startService()
        if kind == "unix":
            return f"rpcstream+unix:///?socket={self.folder}/d.sock"
        address: Any = service.rpc.ports[0].getHost()
        return f"rpcstream+{kind}://127.0.0.1:{address.port}"

    def stop(self) -> Deferred[Any]:
        """Stop the destination, if it still runs."""
        return (
            maybeDeferred(self.service.stopService) if self.service.running else maybeDeferred(lambda: None)
        )

    def connect(self, url: str, limits: Limits | None = None) -> Opening[ClientConnection]:
        """A connection to it."""
        return connect(
            url,
            pki=self.folder / "pki",
            runner=self.runner,
            limits=limits or self.limits,
            reactor=reactor,
        )

    # --- transfers --------------------------------------------------------------------

    def file(self, content: bytes, name: str = "source") -> Path:
        """A file of the client's."""
        path = self.here / name
        path.write_bytes(content)
        return path

    async def upload(
        self, url: str, path: Path, name: str = "a", transfer_id: bytes = b"0123456789abcdef", **options: Any
    ) -> Sent:
        """Send a file over a connection of its own."""
        limits = options.pop("limits", None)
        async with self.connect(url, limits) as connection:
            with open_path(path) as source:
                return await send(connection, source, SendOptions(name, transfer_id, **options), self.runner)

    async def download(
        self,
        url: str,
        name: str = "a",
        target: str = "b",
        transfer_id: bytes = b"fedcba9876543210",
        **options: Any,
    ) -> Sent:
        """Fetch a file over a connection of its own."""
        limits = options.pop("limits", None)
        async with self.connect(url, limits) as connection:
            return await receive(
                connection, self.pool, ReceiveOptions(name, target, transfer_id, **options), self.runner
            )

    # --- waiting ----------------------------------------------------------------------

    async def until(self, condition: Any, seconds: float = 10) -> None:
        """Wait for C{condition}, or fail."""
        end = reactor.seconds() + seconds  # type: ignore[attr-defined]
        while not condition():
            self.assertLess(reactor.seconds(), end, "waited in vain")  # type: ignore[attr-defined]
            await self.pause(0.01)

    async def pause(self, seconds: float) -> None:
        """Let time pass."""
        await deferLater(reactor, seconds)  # type: ignore[arg-type]

    async def lanes_gone(self, seconds: float = 10) -> None:
        """I6: no thread stays, nor anything that is remembered of a lane."""
        await self.until(lambda: not lane_threads() and not lane_count(), seconds)

    def assert_nothing_left(self, before: dict[str, str]) -> Deferred[None]:
        """After everything was stopped: no thread, no descriptor."""

        async def look() -> None:
            await self.lanes_gone()
            for _ in range(100):
                left = {number: what for number, what in descriptors().items() if number not in before}
                if not left:
                    return
                await self.pause(0.02)
            self.fail(f"left open: {left}")

        return Deferred.fromCoroutine(look())
