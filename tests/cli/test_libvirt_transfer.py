"""
C{send} and C{receive} with libvirt volumes, against a daemon in memory: what a real one seldom does.
"""

from __future__ import annotations

import io
from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from rpcstream import libvirt
from rpcstream.cli import libvirt_transfer
from rpcstream.cli.libvirt_uris import VolumePlace
from rpcstream.cli.options import Settings
from rpcstream.cli.output import Output
from rpcstream.cli.running import Session
from rpcstream.errors import (
    ConnectionClosed,
    InvalidArgument,
    NameExists,
    OperationFailed,
    RemoteError,
    SizeMismatch,
)
from rpcstream.libvirt import striping
from rpcstream.limits import DEFAULT_LIMITS
from rpcstream.programs import remote
from tests.libvirt.daemon import DaemonCase

OPTIONS: dict[str, Any] = {
    "connections": 1,
    "bwlimit": None, "replace": False, "no_resume": False, "retry": 0, "mode": None,
}  # fmt: skip
PLACE = VolumePlace("test+unix:///?socket=/s", "p", "v")


class TransferTests(DaemonCase):
    """One command, without its process."""

    def setUp(self) -> None:
        super().setUp()
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.source = self.folder / "source"
        self.source.write_bytes(b"content")
        self.stdout, self.stderr = io.StringIO(), io.StringIO()
        output = Output(self.stdout, self.stderr)
        self.settings = Settings(output)
        runner: Any = self.network.runner
        self.session = Session(self.network.clock, runner, output, DEFAULT_LIMITS)
        self.patch(libvirt_transfer, "dial_libvirt", self._dial)

    def _dial(self, session: Session, settings: Settings, uri: str) -> Any:
        return libvirt.connect(
            uri, endpoint=self.network, runner=self.network.runner, reactor=self.network.clock
        )

    def _send(self, **options: Any) -> Any:
        values = {**OPTIONS, "size": None}
        return libvirt_transfer._Sending(self.settings, str(self.source), PLACE, **{**values, **options})

    def _receive(self, **options: Any) -> Any:
        target = self.folder / "target"
        return libvirt_transfer._Receiving(self.settings, PLACE, target, **{**OPTIONS, **options})

    def _replace(self, name: str, method: Any) -> Any:
        """Answer a procedure by C{method}; gives the one that did."""
        table = self.network.serving._responders
        for key, responder in list(table.items()):
            if responder.procedure.name == name:
                table[key] = responder._replace(method=method)
                return responder.method
        raise AssertionError(name)

    def test_new_volume(self) -> None:
        """Made as it is needed."""
        self.network.run(self._send().run(self.session))
        self.assertEqual(b"content", self.daemon.volumes["v"])
        self.assertIn("p/v: 7 B in", self.stdout.getvalue())
        self.assertRaises(NameExists, self.network.run, self._send().run(self.session))

    def test_failed_upload(self) -> None:
        """A volume that was made here is deleted; if that fails, it is told."""

        def fail(call: Any, request: Any) -> None:
            raise OperationFailed("disk full")

        upload = self._replace("StorageVolUpload", fail)
        self.assertRaises(OperationFailed, self.network.run, self._send().run(self.session))
        self.assertEqual({}, self.daemon.volumes)
        self._replace("StorageVolDelete", fail)
        self.assertRaises(OperationFailed, self.network.run, self._send().run(self.session))
        self.assertIn("is incomplete and could not be deleted", self.stderr.getvalue())
        self._replace("StorageVolUpload", upload)

    def test_still_in_use(self) -> None:
        """A volume that is just opened for an upload is deleted a moment later."""
        refusals = 3

        def delete(call: Any, request: Any) -> Any:
            nonlocal refusals
            if refusals:
                refusals -= 1
                raise remote.OperationInvalid("volume 'v' is still in use.")
            return original(call, request)

        original = self._replace("StorageVolDelete", delete)
        self.daemon.volumes["v"] = bytearray(b"old")
        done: list[Any] = []
        Deferred.fromCoroutine(self._send(replace=True).run(self.session)).addBoth(done.append)
        for step in range(10):
            self.assertEqual(step >= 3, bool(done), step)
            self.network.advance(0.1)
        self.assertEqual([None], done)
        self.assertEqual(b"content", self.daemon.volumes["v"])
        # One that somebody keeps is told so.
        refusals = 1000
        Deferred.fromCoroutine(self._send(replace=True).run(self.session)).addErrback(done.append)
        for _ in range(60):
            self.network.advance(0.1)
        self.assertIsInstance(done[1].value, remote.OperationInvalid)
        self.assertEqual(b"content", self.daemon.volumes["v"])

    def test_opened_in_turn(self) -> None:
        """A daemon that opens a volume for one range refuses the others as long as it does."""
        self.patch(striping, "ALIGNED_BYTES", 1)
        self.patch(striping, "LEAST_BYTES", 2)
        is_opening = False

        async def upload(call: Any, request: Any) -> None:
            nonlocal is_opening
            if is_opening:
                raise remote.OperationInvalid("volume 'v' is still in use.")
            is_opening = True
            await deferLater(self.network.clock, 0.1)
            is_opening = False
            await original(call, request)

        original = self._replace("StorageVolUpload", upload)
        done: list[Any] = []
        Deferred.fromCoroutine(self._send(connections=3).run(self.session)).addBoth(done.append)
        for _ in range(10):
            self.network.advance(0.1)
        self.assertEqual([None], done)
        self.assertEqual(b"content", self.daemon.volumes["v"])
        # One that is refused keeps none of the others from being ended.
        is_opening = True
        Deferred.fromCoroutine(self._send(connections=3, replace=True).run(self.session)).addBoth(done.append)
        for _ in range(100):
            self.network.advance(0.1)
        self.assertIsInstance(done[1].value, remote.OperationInvalid)

    def test_device(self) -> None:
        """A volume that is a block device is written in place, if it is large enough."""
        self.daemon.volumes["v"] = bytearray(b"." * 20)
        size = [20]
        self._replace("StorageVolGetInfo", lambda call, request: remote.VolumeInfo(1, size[0], size[0]))
        self.network.run(self._send(replace=True).run(self.session))
        self.assertEqual(b"content" + b"." * 13, self.daemon.volumes["v"])

        async def cut(call: Any, request: Any) -> None:
            await call.accept(None, sparse=True).next_piece()
            raise OperationFailed("broken")

        self._replace("StorageVolUpload", cut)
        sending = self._send(replace=True)
        self.assertRaises(OperationFailed, self.network.run, sending.run(self.session))
        self.assertIn("incomplete", sending.remedy)
        self.assertIn("v", self.daemon.volumes)
        size[0] = 6
        self.assertRaises(SizeMismatch, self.network.run, sending.run(self.session))

    def test_pool_without_holes(self) -> None:
        """Sent and received without them; other errors are not taken for that."""
        refusal: list[RemoteError] = [InvalidArgument("unsupported flags")]

        def refusing(original: Any) -> Any:
            def answer(call: Any, request: Any) -> Any:
                if request.flags:
                    raise refusal[0]
                return original(call, request)

            return answer

        self._replace("StorageVolUpload", refusing(self.daemon.upload))
        self._replace("StorageVolDownload", refusing(self.daemon.download))
        self.network.run(self._send().run(self.session))
        self.network.run(self._receive().run(self.session))
        self.assertEqual(b"content", (self.folder / "target").read_bytes())
        refusal[0] = OperationFailed("no")
        self.assertRaises(OperationFailed, self.network.run, self._receive(replace=True).run(self.session))

    def test_trying_again(self) -> None:
        """From the beginning, after what may pass; what the first try left is ours to replace."""
        lost: list[bool] = []
        original = self.daemon.upload

        async def lose(call: Any, request: Any) -> None:
            if not lost:
                lost.append(True)
                self.network.cut()
                return
            await original(call, request)

        self._replace("StorageVolUpload", lose)
        done: list[Any] = []
        Deferred.fromCoroutine(self._send(retry=1).run(self.session)).addBoth(done.append)
        self.network.advance(30)
        self.assertEqual([None], done)
        self.assertEqual(b"content", self.daemon.volumes["v"])
        self.assertIn("trying again", self.stderr.getvalue())
        self.flushLoggedErrors()

    def test_target_exists(self) -> None:
        """Before anything is connected."""
        (self.folder / "target").touch()
        self.assertRaises(NameExists, self.network.run, self._receive().run(self.session))
        self.assertEqual([], self.network.connections)
        self.daemon.volumes["v"] = bytearray(b"new")
        self.network.run(self._receive(replace=True).run(self.session))
        self.assertEqual(b"new", (self.folder / "target").read_bytes())
        self.assertRaises(ConnectionClosed, self._down)

    def _down(self) -> None:
        self.network.is_down = True
        self.network.run(self._receive(replace=True).run(self.session))
