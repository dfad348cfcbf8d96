"""
The far end as a process: C{python -m rpcstream.bench.server FOLDER}.

It listens on 127.0.0.1, with TLS and without, stores files in C{FOLDER/store},
and prints one line of JSON: its ports.  It ends with its parent.
"""

from __future__ import annotations

import json
import sys
from functools import partial
from pathlib import Path
from typing import Any

from rpcstream.bench.responders import BenchResponders
from rpcstream.bench.usage import TimedFiles, own_usage
from rpcstream.limits import DEFAULT_LIMITS, Limits
from rpcstream.net.service import RPCService, serve
from rpcstream.net.threads import ThreadRunner
from rpcstream.services.policy import AllowAll
from rpcstream.services.transfers import TransferResponders
from rpcstream.storage.pool import Pool

__all__ = ["bench_service", "main"]


def bench_service(reactor: Any, folder: Path, limits: Limits = DEFAULT_LIMITS) -> RPCService:
    """
    The service, not started yet.

    @param folder: has C{pki} and C{store}.
    """
    files = TimedFiles()
    runner = ThreadRunner(reactor)
    pool = Pool(folder / "store", files=files, limits=limits)
    reactor.addSystemEventTrigger("after", "shutdown", runner.stop)
    return serve(
        ["rpctls:0:interface=127.0.0.1", "tcp:0:interface=127.0.0.1"],
        BenchResponders(partial(own_usage, files)),
        TransferResponders({"default": pool}, runner),
        policy=AllowAll(anonymous=True),
        pki=folder / "pki",
        insecure=True,
        partial=True,
        limits=limits,
        runner=runner,
        reactor=reactor,
    )


def main(folder: str) -> None:
    """Serve until the process is ended."""
    from twisted.internet import reactor

    running: Any = reactor
    service = bench_service(running, Path(folder))

    def tell() -> None:
        tls, tcp = (port.getHost().port for port in service.ports)  # type: ignore[attr-defined]
        sys.stdout.write(json.dumps({"tls": tls, "tcp": tcp}) + "\n")
        sys.stdout.flush()

    def start() -> None:
        service.startService()
        running.addSystemEventTrigger("before", "shutdown", service.stopService)
        running.callLater(0, tell)

    running.callWhenRunning(start)
    running.run()


if __name__ == "__main__":
    main(sys.argv[1])
