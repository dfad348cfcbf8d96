"""The libvirt server: opening, features, what is refused before anything is read."""

from __future__ import annotations

import socket
from typing import Any

from rpcstream.errors import (
    AccessDenied,
    ConfigurationError,
    ConnectionClosed,
    InternalError,
    RPCFailed,
    Unsupported,
)
from rpcstream.net.responders import Responders
from rpcstream.programs import remote
from rpcstream.programs.remote import Feature
from rpcstream.programs.remote_names import PROCEDURE_NAMES, function_name, is_callable
from rpcstream.services.policy import allow
from rpcstream.testing import FrameFactory, RecordingPeer
from rpcstream.wire.error import ErrorInfo, decode_error
from tests.libvirt.server_case import URI, ServerCase

REMOTE = remote.REMOTE.number


class RawCase(ServerCase):
    """Frames, as no client of ours would send them."""

    is_open = False

    def setUp(self) -> None:
        super().setUp()
        self.peer = RecordingPeer()
        self.frames = FrameFactory(REMOTE)
        self.pair.client_transport.protocol = self.peer

    def send(self, *frames: bytes) -> list[Any]:
        """What comes back for them."""
        del self.peer.frames[:]
        self.pair.client_transport.write(b"".join(frames))
        self.pair.pump()
        return self.peer.frames

    def error(self, *frames: bytes) -> ErrorInfo:
        """The error that comes back."""
        header, payload = self.send(*frames)[-1]
        self.assertEqual(header.status, 1)
        return decode_error(payload)


class BeforeOpenTests(RawCase):
    """What libvirtd refuses, in its words (wire-protocol.md section 1.3)."""

    def test_unknown(self) -> None:
        """Numbers that are no procedures, and events."""
        for number in (0, -1, 454, 99999, -(1 << 31), 107, 318, 362):
            info = self.error(self.frames.frame(number))
            self.assertEqual((info.code, info.domain), (39, 7))
            self.assertEqual(info.message, f"unknown procedure: {number}")

    def test_not_open(self) -> None:
        """A call before CONNECT_OPEN; its arguments are not looked at."""
        for number in (59, 84, 273, 208):
            info = self.error(self.frames.frame(number, b"?" * 12))
            self.assertEqual((info.code, info.domain), (1, 7))
            self.assertEqual(info.message, "internal error: hypervisor connection not open")

    def test_feature_before_open(self) -> None:
        """Only keepalive may be asked for, which starts it."""
        frames = self.send(self.frames.frame(60, (10).to_bytes(4, "big")))
        self.assertEqual(frames[0][1], (1).to_bytes(4, "big"))
        self.assertIn("not open", str(self.error(self.frames.frame(60, (15).to_bytes(4, "big"))).message))
        for _ in range(12):
            self.pair.clock.advance(0.5)
        self.pair.pump()
        self.assertEqual(self.peer.frames[-1][0].program, 0x6B656570)

    def test_no_ping_unasked(self) -> None:
        """Whoever has not asked for keepalive gets none, and no foreign message."""
        self.send(self.frames.frame(66))
        for _ in range(60):
            self.pair.clock.advance(1)
        self.pair.pump()
        self.assertEqual([header.program for header, _ in self.peer.frames], [REMOTE])

    def test_decode(self) -> None:
        """Arguments that are none."""
        self.assertIn("Unable to decode message payload", str(self.error(self.frames.frame(1, b"")).message))
        self.assertIn("Unable to decode message payload", str(self.error(self.frames.frame(60, b"")).message))

    def test_true_of_any_kind(self) -> None:
        """go-libvirt's flags."""
        name = b"\1\0\0\0" + len(URI).to_bytes(4, "big") + URI.encode() + bytes(-len(URI) % 4)
        header, _ = self.send(self.frames.frame(1, name + bytes(4)))[0]
        self.assertEqual(header.status, 0)


class OpenTests(ServerCase):
    """CONNECT_OPEN and CONNECT_CLOSE."""

    is_open = False

    def test_no_authentication(self) -> None:
        """Nothing but the certificate is asked for."""
        self.assertEqual(self.call(remote.AuthList()), (0,))

    def test_open(self) -> None:
        """The storage driver, by any of its names, with whatever flags."""
        for name in (URI, "storage:///session", "storage:///system?x=1", None):
            self.pair = self.connect()
            self.call(remote.ConnectOpen(name, 0x7FFFFFFE))
            self.assertEqual(self.call(remote.ConnectGetURI()), name or URI)

    def test_others(self) -> None:
        """No other driver, no other path, and once only."""
        error = self.refused(remote.ConnectOpen("qemu:///system"), remote.NoConnect)
        self.assertEqual(error.message, "no connection driver available for qemu:///system")
        self.assertEqual((error.code, error.domain, error.str2), (5, 0, "qemu:///system"))
        error = self.refused(remote.ConnectOpen("storage:///nosuch"), InternalError)
        self.assertIn("unexpected storage URI path '/nosuch'", error.message)
        self.call(remote.ConnectOpen(URI))
        self.assertIn("already open", self.refused(remote.ConnectOpen(URI)).message)
        self.assertEqual(self.call(remote.ConnectGetURI()), URI)

    def test_close(self) -> None:
        """The reply comes, then the end."""
        self.call(remote.ConnectOpen(URI))
        self.call(remote.ConnectClose())
        self.pair.pump()
        self.assertFalse(self.pair.client.link.is_connected)
        self.assertRaises(ConnectionClosed, self.call, remote.ConnectGetURI())

    def test_policy(self) -> None:
        """A caller that no rule knows gets nothing."""
        self.pair = self.connect(policy=allow(alice={"libvirt.*"}))
        self.refused(remote.ConnectOpen(URI), AccessDenied)
        self.pair = self.connect(policy=allow(tester={"libvirt.*"}))
        self.call(remote.ConnectOpen(URI))
        self.refused(remote.StoragePoolLookupByName("default"), AccessDenied)


class HostTests(ServerCase):
    """What is asked of the host."""

    def test_host(self) -> None:
        """Each question has an answer."""
        self.assertEqual(self.call(remote.ConnectGetType()), "storage")
        self.assertEqual(self.call(remote.ConnectGetVersion()), 9_000_000)
        self.assertEqual(self.call(remote.ConnectGetLibVersion()), 9_000_000)
        self.assertEqual(self.call(remote.ConnectGetHostname()), socket.gethostname())
        self.assertTrue(self.call(remote.ConnectIsSecure()))
        self.assertIn("<value>dir</value>", self.call(remote.ConnectGetCapabilities()))
        self.call(remote.ConnectRegisterCloseCallback())
        self.call(remote.ConnectUnregisterCloseCallback())

    def test_features(self) -> None:
        """What is offered, and nothing else."""
        offered = [n for n in range(-1, 20) if self.call(remote.ConnectSupportsFeature(n))]
        self.assertEqual(offered, [Feature.KEEPALIVE, Feature.EVENT_CALLBACKS, Feature.CLOSE_CALLBACK])

    def test_not_supported(self) -> None:
        """What libvirt can and we cannot, in libvirt's words, from declared procedures and others."""
        error = self.refused(remote.ConnectListAllDomains(), Unsupported)
        expected = "this function is not supported by the connection driver: virConnectListAllDomains"
        self.assertEqual((error.message, error.code, error.domain), (expected, 3, 20))
        self.assertEqual(error.str2, "virConnectListAllDomains")
        error = self.refused(remote.StoragePoolDestroy(self.pool), Unsupported)
        self.assertEqual((error.domain, error.str2), (18, "virStoragePoolDestroy"))

    def test_read_only(self) -> None:
        """A connection for reading reads."""
        self.pair = self.connect()
        self.call(remote.ConnectOpen(URI, 1))
        error = self.refused(remote.StorageVolDelete(self.volume(content=b"x")), remote.OperationDenied)
        self.assertEqual(error.message, "operation forbidden: read only access prevents virStorageVolDelete")
        self.assertEqual((error.code, error.domain), (29, 18))
        self.assertEqual(self.call(remote.StorageVolGetInfo(self.volume())).capacity_bytes, 1)


class NameTests(ServerCase):
    """The table of names."""

    def test_names(self) -> None:
        """Numbers and names agree with what is declared."""
        self.assertEqual(len(PROCEDURE_NAMES), 453)
        for number, request in remote.REMOTE.procedures.items():
            wanted = PROCEDURE_NAMES[number].replace("_", "").lower()
            self.assertEqual(request.__name__.lower(), wanted, number)

    def test_functions(self) -> None:
        """As C spells them."""
        known = {14: "virDomainGetXMLDesc", 24: "virDomainLookupByUUID", 178: "virConnectNumOfNWFilters",
                 110: "virConnectGetURI", 316: "virConnectDomainEventRegisterAny"}  # fmt: skip
        self.assertEqual({number: function_name(number) for number in known}, known)

    def test_callable(self) -> None:
        """Events are not."""
        self.assertEqual(
            [n for n in (105, 107, 316, 318, 360, 362, 0, 454) if is_callable(n)], [105, 316, 360]
        )

    def test_one_server(self) -> None:
        """Its procedures are answered once."""
        responder = self.pair.serving.find(REMOTE, 1, 208)
        assert responder is not None
        self.assertRaises(
            ConfigurationError, Responders, responder.method.__self__, responder.method.__self__
        )

    def test_unauthenticated_error(self) -> None:
        """The text that libvirt's clients look for."""
        self.assertEqual(RPCFailed("x").code, 39)
