"""
libvirt's remote program as declared here, against messages captured between virsh and libvirtd 9.0.
"""

from __future__ import annotations

from typing import Any
from unittest import TestCase

from rpcstream.errors import RemoteError
from rpcstream.programs import remote
from rpcstream.programs.program import Kind
from rpcstream.programs.remote import REMOTE, DomainHandle, VolumeHandle
from rpcstream.wire import decode_error, remote_error

DOMAIN_HEX = "00000004 74657374 6695eb01 f6a48304 79aa97f2 502e193f 00000001"
DOMAIN = DomainHandle("test", bytes.fromhex("6695eb01f6a4830479aa97f2502e193f"), 1)

ARGUMENTS = (
    (remote.ConnectSupportsFeature(10), "0000000a"),
    (remote.ConnectOpen("test:///default"), "00000001 0000000f 74657374 3a2f2f2f 64656661 756c7400 00000000"),
    (remote.ConnectListAllDomains(1, 3), "00000001 00000003"),
    (remote.DomainMemoryPeek(DOMAIN, 0, 16, 1), f"{DOMAIN_HEX} 00000000 00000000 00000010 00000001"),
    (
        remote.StorageVolUpload(VolumeHandle("p", "v3", "/var/pools/pool1/v3"), 0, 0, remote.SPARSE),
        "00000001 70000000 00000002 76330000 00000013 2f766172 2f706f6f 6c732f70 6f6f6c31 2f763300"
        "00000000 00000000 00000000 00000000 00000001",
    ),
    (remote.DomainScreenshot(DOMAIN), f"{DOMAIN_HEX} 00000000 00000000"),
    (remote.ConnectDomainEventCallbackRegisterAny(0, DOMAIN), f"00000000 00000001 {DOMAIN_HEX}"),
    (
        remote.DomainEventCallbackLifecycle(0, DOMAIN, 3, 0),
        f"00000000 {DOMAIN_HEX} 00000003 00000000",
    ),
    (remote.AuthSaslStart("DIGEST-MD5", True, b""), "0000000a 44494745 53542d4d 44350000 00000001 00000000"),
)
"""Requests and events, and their payloads on the wire."""

RESULTS: tuple[tuple[type[Any], Any, str], ...] = (
    (remote.AuthList, (0,), "00000001 00000000"),
    (remote.ConnectSupportsFeature, True, "00000001"),
    (remote.ConnectOpen, None, ""),
    (remote.ConnectListAllDomains, remote.DomainList((DOMAIN,), 1), f"00000001 {DOMAIN_HEX} 00000001"),
    (
        remote.DomainGetInfo,
        remote.DomainInfo(1, 8388608, 2097152, 2, 0x18EAB0167827AC58),
        "00000001 00000000 00800000 00000000 00200000 00000002 18eab016 7827ac58",
    ),
    (
        remote.NodeGetInfo,
        remote.NodeInfo(b"i686".ljust(32, b"\0"), 3145728, 16, 1400, 2, 2, 2, 2),
        "00000069 00000036 00000038 00000036" + "00000000" * 28 + "00000000 00300000"
        "00000010 00000578 00000002 00000002 00000002 00000002",
    ),
    (
        remote.ConnectGetAllDomainStats,
        (
            remote.DomainStatsRecord(
                DOMAIN,
                (
                    remote.TypedParameter("state.state", remote.TypedInt(1)),
                    remote.TypedParameter("state.reason", remote.TypedInt(0)),
                ),
            ),
        ),
        f"00000001 {DOMAIN_HEX} 00000002 0000000b 73746174 652e7374 61746500 00000001 00000001"
        "0000000c 73746174 652e7265 61736f6e 00000001 00000000",
    ),
    (remote.DomainMemoryPeek, bytes(range(16)), "00000010 00010203 04050607 08090a0b 0c0d0e0f"),
    (remote.DomainScreenshot, "image/png", "00000001 00000009 696d6167 652f706e 67000000"),
    (remote.DomainScreenshot, None, "00000000"),
    (remote.ConnectDomainEventCallbackRegisterAny, 0, "00000000"),
    (remote.AuthSaslInit, "DIGEST-MD5", "0000000a 44494745 53542d4d 44350000"),
    (
        remote.AuthSaslStart,
        remote.SaslReply(False, False, b"nonce="),
        "00000000 00000000 00000006 0000006e 0000006f 0000006e 00000063 00000065 0000003d",
    ),
)
"""Results of procedures, and their payloads."""

NO_DOMAIN = bytes.fromhex(
    "0000002a 0000000c 00000001 00000010 446f6d61 696e206e 6f742066 6f756e64 00000002 00000000 00000001"
    "00000010 446f6d61 696e206e 6f742066 6f756e64 00000000 00000000 ffffffff ffffffff 00000000"
)


class LayoutTests(TestCase):
    """Byte for byte."""

    def test_arguments(self) -> None:
        """Requests and events encode and decode."""
        for request, text in ARGUMENTS:
            codec = request.__procedure__.arguments
            self.assertEqual(bytes.fromhex(text), codec.encode(request), request)
            self.assertEqual(request, codec.decode(bytes.fromhex(text)))

    def test_results(self) -> None:
        """Results encode and decode."""
        for request, value, text in RESULTS:
            codec = request.__procedure__.result
            self.assertEqual(bytes.fromhex(text), codec.encode(value), request)
            self.assertEqual(value, codec.decode(bytes.fromhex(text)))

    def test_leniency(self) -> None:
        """Any flag but 0 is set; text may be any bytes."""
        codec = remote.ConnectOpen.__procedure__.arguments
        payload = bytes.fromhex("01000000 00000004 fffefdfc 00000000")
        self.assertEqual("\udcff\udcfe\udcfd\udcfc", codec.decode(payload).name)

    def test_every_procedure(self) -> None:
        """All layouts can be derived; what changes something is never idempotent; streams are streams."""
        for number, request in REMOTE.procedures.items():
            info = request.__procedure__
            self.assertEqual(number, info.number)
            info.arguments, info.result  # noqa: B018 - made when they are asked for
            self.assertFalse(info.idempotent and info.permission.endswith("write"), request)
        streams = {
            info.number: info.kind
            for info in (request.__procedure__ for request in REMOTE.procedures.values())
            if info.kind not in (Kind.CALL, Kind.EVENT)
        }
        expected = {
            201: Kind.DUPLEX,
            208: Kind.UPLOAD,
            209: Kind.DOWNLOAD,
            211: Kind.DOWNLOAD,
            296: Kind.DUPLEX,
        }
        self.assertEqual(expected, streams)

    def test_names(self) -> None:
        """Everything declared can be imported from one place."""
        for name in remote.__all__:
            self.assertTrue(hasattr(remote, name), name)


class ErrorTests(TestCase):
    """Typed errors."""

    def test_captured(self) -> None:
        """The answer to a lookup of a domain that is not there."""
        error = remote_error(decode_error(NO_DOMAIN), REMOTE.errors)
        self.assertIsInstance(error, remote.NoDomain)
        self.assertEqual(
            (42, 12, 2, "Domain not found"), (error.code, error.domain, error.level, error.message)
        )
        self.assertEqual(("Domain not found", None, -1), (error.str1, error.str2, error.int1))

    def test_codes(self) -> None:
        """Each class under its code; an unknown one is a plain RemoteError."""
        self.assertIs(remote.NoVolume, REMOTE.errors[50])
        self.assertIs(remote.AuthenticationFailed, REMOTE.errors[45])
        for code, kind in remote.LIBVIRT_ERRORS.items():
            self.assertEqual(code, kind("text").code)
        info = decode_error(NO_DOMAIN).__replace__(code=99999)
        self.assertIs(RemoteError, type(remote_error(info, REMOTE.errors)))
