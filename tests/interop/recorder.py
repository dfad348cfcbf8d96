"""
A relay before a daemon's UNIX socket that keeps every message, and libvirt-python as the client.
"""

from __future__ import annotations

import json
import selectors
import socket
import subprocess
import tempfile
import threading
from pathlib import Path
from typing import Any, NamedTuple, Self

from rpcstream.wire import HEADER_BYTES, Header, decode_header
from tests.interop.virsh_case import require_libvirt_python

__all__ = ["Message", "PythonClient", "Recorder"]

_RECEIVE_BYTES = 1 << 16
_STATEMENT_SECONDS = 120

_SCRIPT = """
import json, sys, libvirt
libvirt.registerErrorHandler(lambda *arguments: None, None)
libvirt.virEventRegisterDefaultImpl()
names = {'libvirt': libvirt, 'uri': sys.argv[1], 'ignore': lambda *arguments: None}
for line in sys.stdin:
    try:
        exec(json.loads(line), names)
        answer = None
    except libvirt.libvirtError as error:
        answer = [error.get_error_code(), str(error)]
    # Whatever else happens ends it, with a traceback.
    print(json.dumps(answer), flush=True)
"""


class Message(NamedTuple):
    """
    One message as it passed.

    @ivar connection: counts the connections from 0.
    @ivar payload: what follows the header.
    """

    connection: int
    header: Header
    payload: bytes


class Recorder:
    """
    Passes on what comes, message by message, each recorded before it is passed on.

    @ivar path: where clients connect.
    @ivar messages: in the order in which they came.
    """

    def __init__(self, path: Path, target: Path) -> None:
        self.path = path
        self.messages: list[Message] = []
        self._target = target
        self._count = 0
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(path))
        self._listener.listen()
        threading.Thread(target=self._accept, daemon=True).start()

    def close(self) -> None:
        """Accept no more."""
        self._listener.close()
        self.path.unlink(missing_ok=True)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            number, self._count = self._count, self._count + 1
            threading.Thread(target=self._relay, args=(client, number), daemon=True).start()

    def _relay(self, client: socket.socket, number: int) -> None:
        with client, socket.socket(socket.AF_UNIX) as server, selectors.DefaultSelector() as selector:
            try:
                server.connect(str(self._target))
                for source, other in ((client, server), (server, client)):
                    selector.register(source, selectors.EVENT_READ, (source, other, bytearray()))
                while True:
                    for key, _ in selector.select():
                        source, other, waiting = key.data
                        data = source.recv(_RECEIVE_BYTES)
                        if not data:
                            return
                        waiting += data
                        self._take(waiting, number)
                        other.sendall(data)
            except OSError:
                # One of them is gone; so is the other.
                return

    def _take(self, waiting: bytearray, number: int) -> None:
        """The whole messages at the start of what has come."""
        while len(waiting) >= HEADER_BYTES:
            header = decode_header(bytes(waiting[:HEADER_BYTES]))
            if len(waiting) < header.length:
                return
            self.messages.append(Message(number, header, bytes(waiting[HEADER_BYTES : header.length])))
            del waiting[: header.length]


class PythonClient:
    """
    A process with Debian's libvirt-python that does what it is told, line by line.
    """

    def __init__(self, uri: str) -> None:
        """
        @param uri: what its variable C{uri} is.
        """
        # Not a pipe, which nobody would empty.
        self._errors = tempfile.TemporaryFile("w+")  # noqa: SIM115 - closed with the process
        self._process = subprocess.Popen(
            [require_libvirt_python(), "-c", _SCRIPT, uri],
            stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=self._errors, text=True,
        )  # fmt: skip

    def run(self, statement: str) -> Any:
        """
        @return: C{None}, or code and message of the libvirtError that it raised.
        @raise AssertionError: it raised anything else.
        """
        process = self._process
        assert process.stdin is not None and process.stdout is not None
        # A daemon that does not answer must not hang the test.
        late = threading.Timer(_STATEMENT_SECONDS, process.kill)
        late.start()
        process.stdin.write(json.dumps(statement) + "\n")
        process.stdin.flush()
        answer = process.stdout.readline()
        late.cancel()
        if not answer:
            self._errors.seek(0)
            raise AssertionError(f"{statement}: {self._errors.read()}")
        return json.loads(answer)

    def close(self) -> None:
        """End it."""
        self._process.kill()
        self._process.communicate()
        self._errors.close()
