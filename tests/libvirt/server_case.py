"""
The libvirt server in memory: a pool in a directory, and our own client calling it as virsh does.
"""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from rpcstream.errors import RemoteError
from rpcstream.libvirt.server import libvirt_responders
from rpcstream.net.threads import InlineRunner
from rpcstream.programs import remote
from rpcstream.programs.remote import PoolHandle, VolumeHandle
from rpcstream.storage import Pool
from rpcstream.testing import ConnectedPair

__all__ = ["ServerCase"]

URI = "storage:///system"


class ServerCase(SynchronousTestCase):
    """
    @ivar store: directory of the pool C{default}.
    @ivar pair: the connection; no HELLO is sent, as libvirt's clients send none.
    """

    is_open = True

    def setUp(self) -> None:
        self.directory = Path(os.path.abspath(self.mktemp()))
        self.store = self.directory / "store"
        self.store.mkdir(parents=True)
        self.pools: dict[str, Pool] = {}
        self.add_pool("default", self.store)
        self.pair = self.connect()
        if self.is_open:
            self.call(remote.ConnectOpen(URI))

    def add_pool(self, name: str, directory: Path, **options: Any) -> Pool:
        """Serve one more pool."""
        directory.mkdir(exist_ok=True)
        pool = self.pools[name] = Pool(directory, name=name, **options)
        self.addCleanup(pool.close)
        return pool

    def connect(self, **options: Any) -> ConnectedPair:
        """One more client."""
        responders = libvirt_responders(self.pools, InlineRunner())
        return ConnectedPair(*responders, greet=False, **options)

    def call(self, request: Any) -> Any:
        """What a call is answered with."""
        return self.pair.result_of(self.pair.client.call(request))

    def refused(self, request: Any, kind: type[Any] | None = None) -> Any:
        """The error that a call is answered with."""
        return self.assertRaises(kind or RemoteError, self.call, request)

    @property
    def pool(self) -> PoolHandle:
        """The pool C{default}."""
        handle: PoolHandle = self.call(remote.StoragePoolLookupByName("default"))
        return handle

    def volume(self, name: str = "disk", content: bytes | None = None) -> VolumeHandle:
        """A volume, made with this content if there is any."""
        path = self.store / name
        if content is not None:
            path.write_bytes(content)
            path.chmod(0o600)
        return VolumeHandle("default", name, str(path))

    def upload(self, volume: VolumeHandle, pieces: list[bytes | int], **options: Any) -> None:
        """A whole upload of bytes and holes."""
        stream = self.opened(remote.StorageVolUpload(volume, **options))
        for piece in pieces:
            sent = stream.send(piece) if isinstance(piece, bytes) else stream.send_hole(piece)
            self.pair.result_of(sent)
        self.pair.result_of(stream.finish())

    def opened(self, request: Any) -> Any:
        """A stream."""
        sparse = bool(request.flags & remote.SPARSE)
        return self.pair.result_of(self.pair.client.open(request, sparse=sparse))

    def download(self, volume: VolumeHandle, **options: Any) -> bytes:
        """A whole download, holes as zeros."""
        stream = self.opened(remote.StorageVolDownload(volume, **options))
        data: bytes = self.pair.result_of(stream.read(limit_bytes=1 << 26))
        return data
