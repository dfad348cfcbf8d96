"""
Real processes for the acceptance tests: a destination, the command line, a relay.

Everything listens on 127.0.0.1; every process started here is ended here, by
its own pid.
"""

from __future__ import annotations

import json
import os
import random
import re
import selectors
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import rpcstream
from rpcstream.net import pki

__all__ = [
    "COMMAND",
    "Destination",
    "Relay",
    "Watcher",
    "free_port",
    "make_pki",
    "random_file",
    "rpcstream_run",
]

COMMAND = [sys.executable, "-c", "from rpcstream.cli.main import main; raise SystemExit(main())"]
TWISTD = [sys.executable, "-c", "from twisted.scripts.twistd import run; run()"]

ENVIRONMENT = {
    **os.environ,
    # The package under test, wherever it is, with the plugins beside it.
    "PYTHONPATH": os.pathsep.join(
        [str(Path(rpcstream.__file__).parent.parent), os.environ.get("PYTHONPATH", "")]
    ),
    "PYTHONUNBUFFERED": "1",
}

_ANY = random.SystemRandom()
_given: set[int] = set()


def free_port() -> int:
    """
    A TCP port that is free now, and was not given before.

    It is below those that Linux takes for outgoing connections: one of them could have it
    before it is listened on, or while its server is restarted.
    """
    while True:
        port = _ANY.randrange(20_000, 32_000)
        with socket.socket() as probe:
            try:
                probe.bind(("127.0.0.1", port))
            except OSError:
                continue
        if port not in _given:
            _given.add(port)
            return port


def make_pki(folder: Path, clients: Sequence[str] = ("alice",)) -> Path:
    """A directory of certificates for 127.0.0.1 and localhost."""
    pki.initialise(folder / "pki", ["127.0.0.1", "localhost"], list(clients))
    return folder / "pki"


def random_file(path: Path, size: int, seed: int = 0) -> Path:
    """A file of random bytes."""
    generator = random.Random(seed)
    with path.open("wb") as file:
        while size > 0:
            size -= file.write(generator.randbytes(min(size, 1 << 24)))
    return path


class Destination:
    """
    C{twistd -n rpcstream destination} as a process of its own.

    @ivar port: where it listens, the same after a restart.
    """

    def __init__(self, folder: Path, pki_folder: Path, *options: str, endpoint: str = "rpctls") -> None:
        self.store = folder / "store"
        self.store.mkdir(exist_ok=True)
        self.log = folder / "destination.log"
        self.port = free_port()
        listen = f"{endpoint}:{self.port}:interface=127.0.0.1"
        self._command = [
            *TWISTD, "-n", "--pidfile=", "rpcstream", "destination", "--listen", listen,
            "--store", str(self.store), "--pki", str(pki_folder), *options,
        ]  # fmt: skip
        self._folder = folder
        self.process: subprocess.Popen[bytes] | None = None
        self.start()

    def start(self) -> None:
        """Start it and wait until it listens."""
        heard = self.log.read_bytes().count(b"listening on") if self.log.exists() else 0
        with self.log.open("ab") as log:
            self.process = subprocess.Popen(
                self._command,
                cwd=self._folder,
                env=ENVIRONMENT,
                stdout=log,
                stderr=log,
                stdin=subprocess.DEVNULL,
            )
        deadline = time.monotonic() + 60
        while time.monotonic() < deadline:
            if self.process.poll() is not None:
                raise AssertionError(f"the destination ended: {self.log.read_text()[-2000:]}")
            if self.log.read_bytes().count(b"listening on") > heard:
                return
            time.sleep(0.05)
        raise AssertionError("the destination does not listen")

    def kill(self) -> None:
        """SIGKILL."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def stop(self) -> None:
        """SIGTERM, and SIGKILL when that does not end it."""
        if self.process is None or self.process.poll() is not None:
            return
        self.process.terminate()
        try:
            self.process.wait(20)
        except subprocess.TimeoutExpired:
            self.kill()

    def url(self, name: str = "", port: int | None = None) -> str:
        """The URL of a name, perhaps through a relay's port."""
        return f"rpcstream+tls://127.0.0.1:{port or self.port}/{name}"


def rpcstream_run(
    *arguments: str, pki_folder: Path | None, timeout: float = 600
) -> tuple[int, list[dict[str, Any]], str]:
    """
    Run a command of rpcstream with C{--json}, and C{--pki} unless that is C{None}.

    @return: exit status, the JSON objects, standard error.
    """
    done = subprocess.run(
        [*COMMAND, *arguments, "--json", *([] if pki_folder is None else ["--pki", str(pki_folder)])],
        env=ENVIRONMENT,
        stdin=subprocess.DEVNULL,
        capture_output=True,
        timeout=timeout,
        check=False,
    )
    lines = [json.loads(line) for line in done.stdout.decode().splitlines() if line]
    return done.returncode, lines, done.stderr.decode()


class Relay:
    """
    Counts what passes to a port, and does something at a certain byte.

    @ivar port: where clients connect.
    @ivar to_server: bytes forwarded towards the server, over all connections.
    """

    def __init__(self, target_port: int) -> None:
        self._target_port = target_port
        self._listener = socket.create_server(("127.0.0.1", 0))
        self.port = int(self._listener.getsockname()[1])
        self.to_server = 0
        self.to_client = 0
        self._trigger: tuple[int, Callable[[], None]] | None = None
        self._threads: list[threading.Thread] = []
        accepting = threading.Thread(target=self._accept, daemon=True)
        accepting.start()
        self._threads.append(accepting)

    def at(self, byte_count: int, action: Callable[[], None]) -> None:
        """Run C{action} once when so many more bytes have gone to the server."""
        self._trigger = (self.to_server + byte_count, action)

    def close(self) -> None:
        """Accept no more."""
        self._listener.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            thread = threading.Thread(target=self._forward, args=(client,), daemon=True)
            thread.start()

    def _forward(self, client: socket.socket) -> None:
        try:
            server = socket.create_connection(("127.0.0.1", self._target_port))
        except OSError:
            client.close()
            return
        selector = selectors.DefaultSelector()
        selector.register(client, selectors.EVENT_READ, server)
        selector.register(server, selectors.EVENT_READ, client)
        try:
            while True:
                for key, _ in selector.select():
                    source: Any = key.fileobj
                    limit = 1 << 16
                    trigger = self._trigger  # of all connections
                    if source is client and trigger is not None:
                        limit = max(1, min(limit, trigger[0] - self.to_server))
                    data = source.recv(limit)
                    if not data:
                        return
                    key.data.sendall(data)
                    if source is client:
                        self._count(len(data))
                    else:
                        self.to_client += len(data)
        except OSError:
            pass
        finally:
            selector.close()
            client.close()
            server.close()

    def _count(self, byte_count: int) -> None:
        self.to_server += byte_count
        trigger = self._trigger
        if trigger is not None and self.to_server >= trigger[0]:
            self._trigger = None
            trigger[1]()


class Watcher:
    """
    inotify on a directory, by inotifywait.

    @ivar events: (event names, file name) in order.
    """

    def __init__(self, program: str, folder: Path) -> None:
        self.process = subprocess.Popen(
            [program, "-m", "-q", "--format", "%e %f", str(folder)],
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
        )
        self.events: list[tuple[str, str]] = []
        self._thread = threading.Thread(target=self._read, daemon=True)
        self._thread.start()
        time.sleep(0.3)

    def _read(self) -> None:
        assert self.process.stdout is not None
        for line in self.process.stdout:
            match = re.match(r"(\S+) (.*)", line.rstrip("\n"))
            if match:
                self.events.append((match[1], match[2]))

    def stop(self) -> list[tuple[str, str]]:
        """All events so far."""
        time.sleep(0.2)
        self.process.terminate()
        self.process.wait()
        self._thread.join(5)
        return self.events
