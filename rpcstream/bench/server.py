"""
The far end as a process: C{python -m rpcstream.bench.server FOLDER [SOCKET]}.

It listens on 127.0.0.1, with TLS and without, and at a UNIX socket if one is
named; stores files in C{FOLDER/store}, and prints one line of JSON: its ports.
It ends with its parent, and leaves in C{FOLDER/holds.json} how long its reactor
was held (L{rpcstream.bench.holds}).
"""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

from rpcstream.bench.holds import Holds, holds_wanted
from rpcstream.bench.responders import BenchResponders
from rpcstream.bench.usage import TimedFiles, own_usage
from rpcstream.limits import DEFAULT_LIMITS, Limits
from rpcstream.net.service import RPCService, serve
from rpcstream.net.threads import ThreadRunner
from rpcstream.services.loaded import keep_loaded
from rpcstream.services.policy import AllowAll
from rpcstream.services.transfers import TransferResponders
from rpcstream.storage.pool import Pool

__all__ = ["HOLDS_NAME", "bench_service", "main"]

HOLDS_NAME = "holds.json"


def bench_service(
    reactor: Any, folder: Path, limits: Limits = DEFAULT_LIMITS, socket: str = ""
) -> RPCService:
    """
    The service, not started yet.

    @param folder: has C{pki} and C{store}.
    @param socket: path of a UNIX socket, too.
    """
    files = TimedFiles()
    runner = ThreadRunner(reactor)
    pool = Pool(folder / "store", files=files, limits=limits)
    reactor.addSystemEventTrigger("after", "shutdown", runner.stop)
    return serve(
        [
            "rpctls:0:interface=127.0.0.1",
            "tcp:0:interface=127.0.0.1",
            *([f"unix:{socket}"] if socket else []),
        ],
        BenchResponders(partial(own_usage, files), reactor),
        TransferResponders({"default": pool}, runner),
        policy=AllowAll(anonymous=True),
        pki=folder / "pki",
        insecure=True,
        partial=True,
        limits=limits,
        runner=runner,
        reactor=reactor,
    )


def main(folder: str, socket: str = "") -> None:
    """Serve until the process is ended."""
    from twisted.internet import reactor

    running: Any = reactor
    service = bench_service(running, Path(folder), socket=socket)
    holds = Holds(running)
    keep_loaded()

    def tell_holds() -> None:
        holds.stop()
        holds.write(Path(folder) / HOLDS_NAME)

    def tell() -> None:
        tls, tcp = (port.getHost().port for port in service.ports[:2])  # type: ignore[attr-defined]
        sys.stdout.write(json.dumps({"tls": tls, "tcp": tcp}) + "\n")
        sys.stdout.flush()

    def start() -> None:
        service.startService()
        if holds_wanted():
            holds.start()
            running.addSystemEventTrigger("before", "shutdown", tell_holds)
        running.addSystemEventTrigger("before", "shutdown", service.stopService)
        running.callLater(0, tell)

    running.callWhenRunning(start)
    running.run()


if __name__ == "__main__":
    main(*sys.argv[1:3])
