"""The libvirt server: uploads in place, and downloads."""

import errno
from typing import Any

from twisted.internet.defer import Deferred

from rpcstream.errors import InvalidArgument, OperationFailed, RemoteError, StreamAborted, SystemCallFailed
from rpcstream.libvirt.server import libvirt_responders
from rpcstream.net.spool import Hole
from rpcstream.programs import remote
from rpcstream.programs.remote import SPARSE
from rpcstream.testing import ConnectedPair
from tests.libvirt.server_case import URI, ServerCase


class UploadTests(ServerCase):
    """VOL_UPLOAD."""

    def setUp(self) -> None:
        super().setUp()
        self.disk = self.volume(content=b"o" * 10000)

    @property
    def content(self) -> bytes:
        """Of the volume."""
        return (self.store / "disk").read_bytes()

    @property
    def is_incomplete(self) -> bool:
        """What the pool says of the volume."""
        return self.pools["default"].stat("disk").incomplete

    def test_whole(self) -> None:
        """Bytes from the start; the rest stays, the file may grow."""
        self.upload(self.disk, [b"n" * 100])
        self.assertEqual(self.content, b"n" * 100 + b"o" * 9900)
        self.upload(self.disk, [b"m" * 8000, b"l" * 8000])
        self.assertEqual(self.content, b"m" * 8000 + b"l" * 8000)
        self.assertFalse(self.is_incomplete)

    def test_window(self) -> None:
        """From an offset; a length that is enough."""
        self.upload(self.disk, [b"n" * 100], offset=9950, length=100)
        self.assertEqual(self.content, b"o" * 9950 + b"n" * 100)

    def test_too_much(self) -> None:
        """Past the length there is no space, as libvirt says it."""
        with self.assertRaises(SystemCallFailed) as caught:
            self.upload(self.disk, [b"n" * 101], length=100)
        error = caught.exception
        self.assertEqual((error.code, error.domain, error.int1), (38, 38, 28))
        self.assertTrue(self.is_incomplete)
        self.assertEqual(self.call(remote.StorageVolGetInfo(self.disk)).capacity_bytes, 10000)

    def test_sparse(self) -> None:
        """Holes become zeros, also at the end."""
        self.upload(self.disk, [4096, b"n" * 10, 8192], flags=SPARSE)
        self.assertEqual(self.content, bytes(4096) + b"n" * 10 + bytes(8192))

    def test_hole_unasked(self) -> None:
        """A hole on a stream without them ends the stream, and only that."""
        stream = self.opened(remote.StorageVolUpload(self.disk))
        stream._core.sparse = True
        stream.send_hole(4096)
        self.pair.pump()
        self.assertRaises(RemoteError, self.pair.result_of, stream.finish())
        self.assertEqual(self.call(remote.ConnectGetURI()), URI)

    def test_nothing(self) -> None:
        """An upload of nothing changes nothing."""
        self.upload(self.disk, [])
        self.assertEqual(self.content, b"o" * 10000)

    def test_arguments(self) -> None:
        self.refused_stream(remote.StorageVolUpload(self.disk, 0, 0, 2), InvalidArgument)
        for kind in (remote.StorageVolUpload, remote.StorageVolDownload):
            error = self.refused_stream(kind(self.disk, 1 << 63), SystemCallFailed)
            self.assertEqual(error.message, f"Unable to seek {self.disk.key} to {1 << 63}: Invalid argument")
            self.assertEqual((error.domain, error.int1), (38, errno.EINVAL))
            self.refused_stream(kind(self.volume("none")), remote.NoVolume)
            self.refused_stream(kind(self.volume("../x")), InvalidArgument)

    def refused_stream(self, request: Any, kind: type[Any]) -> Any:
        """The error that a stream is refused with."""
        return self.assertRaises(kind, self.pair.result_of, self.pair.client.open(request))

    def test_abort(self) -> None:
        """What was written stays, marked; the next whole upload mends it."""
        stream = self.opened(remote.StorageVolUpload(self.disk))
        self.pair.result_of(stream.send(b"n" * 100))
        self.pair.pump()
        self.assertTrue(self.is_incomplete)
        error = self.refused_stream(remote.StorageVolDownload(self.disk), remote.OperationInvalid)
        self.assertIn("incomplete", error.message)
        stream.abort()
        self.pair.pump()
        self.assertTrue(self.is_incomplete)
        self.upload(self.disk, [b"m" * 100])
        self.assertFalse(self.is_incomplete)

    def test_lost(self) -> None:
        """A client that is gone leaves the mark, and the volume free."""
        stream = self.opened(remote.StorageVolUpload(self.disk))
        self.pair.result_of(stream.send(b"n" * 100))
        self.pair.pump()
        self.pair.cut()
        self.pair = self.connect()
        self.call(remote.ConnectOpen(URI))
        self.assertTrue(self.is_incomplete)
        self.upload(self.disk, [b"m" * 10000])
        self.assertFalse(self.is_incomplete)

    def test_one_writer(self) -> None:
        """A volume that is written has no second writer."""
        stream = self.opened(remote.StorageVolUpload(self.disk))
        error = self.refused_stream(remote.StorageVolUpload(self.disk), remote.OperationInvalid)
        self.assertIn("Requested operation is not valid", error.message)
        self.pair.result_of(stream.finish())
        self.upload(self.disk, [b"n"])

    def test_several(self) -> None:
        """Streams into several volumes at once, with calls in between."""
        volumes = [self.volume(f"disk-{n}", b"") for n in range(8)]
        streams = [self.opened(remote.StorageVolUpload(volume)) for volume in volumes]
        for part in range(4):
            for n, stream in enumerate(streams):
                self.pair.result_of(stream.send(bytes([n]) * 1000))
            self.assertEqual(self.call(remote.StorageVolGetInfo(volumes[part])).type, 0)
        for stream in streams:
            self.pair.result_of(stream.finish())
        for n, volume in enumerate(volumes):
            self.assertEqual(self.download(volume), bytes([n]) * 4000)

    def test_removed_meanwhile(self) -> None:
        """What is gone is not reported as written."""
        stream = self.opened(remote.StorageVolUpload(self.disk))
        self.pair.result_of(stream.send(b"n"))
        self.pair.pump()
        self.call(remote.StorageVolDelete(self.disk))
        self.assertRaises(OperationFailed, self.pair.result_of, stream.finish())

    def test_quota(self) -> None:
        """A quota is told with its errno."""
        self.add_pool("small", self.directory / "small", quota_bytes=1 << 16)
        (self.directory / "small" / "disk").write_bytes(b"")
        volume = remote.VolumeHandle("small", "disk", "")
        with self.assertRaises(SystemCallFailed) as caught:
            self.upload(volume, [bytes(100_000)])
        self.assertEqual(caught.exception.int1, errno.EDQUOT)


class DownloadTests(ServerCase):
    """VOL_DOWNLOAD."""

    def setUp(self) -> None:
        super().setUp()
        self.disk = self.volume(content=bytes(range(256)) * 40)

    def test_windows(self) -> None:
        """As libvirt takes them: length 0 is to the end, past the end is nothing."""
        content = bytes(range(256)) * 40
        self.assertEqual(self.download(self.disk), content)
        self.assertEqual(self.download(self.disk, offset=1000, length=50), content[1000:1050])
        self.assertEqual(self.download(self.disk, offset=10000), content[10000:])
        self.assertEqual(self.download(self.disk, length=1 << 62), content)
        self.assertEqual(self.download(self.disk, offset=10240), b"")
        self.assertEqual(self.download(self.disk, offset=(1 << 63) - 1, length=5), b"")

    def test_sparse(self) -> None:
        """Holes of the file are holes of the stream."""
        path = self.store / "sparse"
        with path.open("wb") as file:
            file.truncate(1 << 20)
            file.seek(1 << 19)
            file.write(b"d" * 4096)
        stream = self.opened(remote.StorageVolDownload(self.volume("sparse"), flags=SPARSE))
        pieces = []
        while (piece := self.pair.result_of(stream.next_piece())) is not None:
            pieces.append(piece)
        self.assertEqual(pieces[0], Hole(1 << 19))
        self.assertEqual(pieces[-1], Hole((1 << 19) - 4096))
        self.assertEqual(self.download(self.volume("sparse")), path.read_bytes())

    def test_early_finish(self) -> None:
        """A reader that has enough is confirmed."""
        large = self.volume("large", bytes(32 << 20))
        stream = self.opened(remote.StorageVolDownload(large))
        stream.abort()
        self.pair.pump()
        self.assertRaises(StreamAborted, self.pair.result_of, stream.when_closed())
        self.assertEqual(self.download(self.disk, length=1), b"\0")

    def test_changed(self) -> None:
        """A file that changes while it is read is not passed off as whole."""
        path = self.store / "large"
        path.write_bytes(bytes(32 << 20))
        stream = self.opened(remote.StorageVolDownload(self.volume("large")))
        path.write_bytes(b"short")
        with self.assertRaises(RemoteError) as caught:
            self.pair.result_of(stream.read(limit_bytes=1 << 26))
        self.assertEqual(caught.exception.domain, 38)
        self.assertEqual(caught.exception.code, 9)


class Later:
    """A runner whose work is done when the test says so."""

    def __init__(self) -> None:
        self.work: list[Any] = []

    def run(self, function: Any, *args: Any, **kwargs: Any) -> Deferred[Any]:
        """Put it off."""
        result: Deferred[Any] = Deferred()

        def do() -> None:
            try:
                value = function(*args, **kwargs)
            except Exception as error:
                result.errback(error)
            else:
                result.callback(value)

        self.work.append(do)
        return result


class LateTests(ServerCase):
    """A client that leaves while the disk is busy."""

    def test_lost_while_opening(self) -> None:
        """What a thread opens for nobody is closed: the volume is free again."""
        disk = self.volume(content=b"x")
        for kind in (remote.StorageVolUpload, remote.StorageVolDownload):
            later = Later()
            pair = ConnectedPair(*libvirt_responders(self.pools, later), greet=False)
            pair.result_of(pair.client.call(remote.ConnectOpen(URI)))
            opening = pair.client.open(kind(disk))
            opening.addErrback(lambda _: None)
            pair.pump()
            pair.cut()
            while later.work:
                later.work.pop(0)()
            self.upload(disk, [b"y"])
