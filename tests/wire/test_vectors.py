"""
Messages captured from libvirt: they decode to what was meant, and encode to the same bytes.

The layouts are declared here in our own words; the numbers are facts about the
wire (program 0x20008086, version 1).
"""

from __future__ import annotations

from typing import Annotated, Any
from unittest import TestCase

from rpcstream.wire import (
    HEADER_BYTES,
    ErrorInfo,
    Header,
    Hyper,
    Int,
    Max,
    MessageType,
    Status,
    Text,
    codec_of,
    decode_header,
    decode_hole,
    encode_header,
    encode_hole,
    remote_error,
)
from tests.wire.layouts import (
    PEEKED,
    TEST,
    TEST_HEX,
    ConnectOpen,
    CpuInfo,
    CpusResult,
    DomainInfo,
    EventRegister,
    IntParameter,
    LifecycleEvent,
    ListArguments,
    ListResult,
    MemoryPeek,
    NodeInfo,
    SaslReply,
    SaslStart,
    Screenshot,
    StatsRecord,
    TextParameter,
    TypedParameter,
    Vol,
    VolumeUpload,
)

REMOTE = 0x20008086
KEEPALIVE = 0x6B656570
CALL, REPLY, MESSAGE, STREAM = MessageType.CALL, MessageType.REPLY, MessageType.MESSAGE, MessageType.STREAM
OK, ERROR, CONTINUE = Status.OK, Status.ERROR, Status.CONTINUE


class VectorTests(TestCase):
    def check(self, dump: str, head: tuple[int, int, int, int], layout: Any, value: Any) -> None:
        """The dump is this header and this value, both ways, as Construct and derived."""
        data = bytes.fromhex(dump)
        header = Header(len(data), REMOTE, 1, *head)
        self.assertEqual(decode_header(data), header)
        codec = codec_of(layout, lenient=True)
        payload = data[HEADER_BYTES:]
        self.assertEqual(codec.decode(payload), value)
        self.assertEqual(codec.construct.parse(payload), value)
        self.assertEqual(encode_header(header) + codec.encode(value), data)
        self.assertEqual(codec.construct.build(value), payload)
        self.assertLessEqual(len(payload), codec.max_bytes)

    def test_auth_list(self) -> None:
        """AUTH_LIST, and its reply: one entry, none."""
        self.check(
            "0000001c 20008086 00000001 00000042 00000000 00000000 00000000", (66, CALL, 0, OK), None, None
        )
        self.check(
            "00000024 20008086 00000001 00000042 00000001 00000000 00000000 00000001 00000000",
            (66, REPLY, 0, OK),
            Annotated[tuple[Int, ...], Max(20)],
            (0,),
        )

    def test_supports_feature(self) -> None:
        """SUPPORTS_FEATURE(10): yes."""
        self.check(
            "00000020 20008086 00000001 0000003c 00000000 00000001 00000000 0000000a",
            (60, CALL, 1, OK),
            Int,
            10,
        )
        self.check(
            "00000020 20008086 00000001 0000003c 00000001 00000001 00000000 00000001",
            (60, REPLY, 1, OK),
            Int,
            1,
        )

    def test_connect_open(self) -> None:
        """CONNECT_OPEN of test:///default."""
        self.check(
            """00000038 20008086 00000001 00000001 00000000 00000002 00000000 00000001
            0000000f 74657374 3a2f2f2f 64656661 756c7400 00000000""",
            (1, CALL, 2, OK),
            ConnectOpen,
            ConnectOpen("test:///default", 0),
        )
        self.check(
            "0000001c 20008086 00000001 00000001 00000001 00000002 00000000", (1, REPLY, 2, OK), None, None
        )

    def test_list_all_domains(self) -> None:
        """LIST_ALL_DOMAINS: one domain."""
        self.check(
            "00000024 20008086 00000001 00000111 00000000 00000006 00000000 00000001 00000003",
            (273, CALL, 6, OK),
            ListArguments,
            ListArguments(1, 3),
        )
        self.check(
            f"00000040 20008086 00000001 00000111 00000001 00000006 00000000 00000001 {TEST_HEX} 00000001",
            (273, REPLY, 6, OK),
            ListResult,
            ListResult((TEST,), 1),
        )

    def test_lookup_error(self) -> None:
        """DOMAIN_LOOKUP_BY_NAME of a name that is not there."""
        text = "Domain not found"
        info = ErrorInfo(42, 12, text, 2, None, text, None, None, -1, -1, None)
        self.check(
            """00000070 20008086 00000001 00000017 00000001 00000003 00000001 0000002a
            0000000c 00000001 00000010 446f6d61 696e206e 6f742066 6f756e64 00000002
            00000000 00000001 00000010 446f6d61 696e206e 6f742066 6f756e64 00000000
            00000000 ffffffff ffffffff 00000000""",
            (23, REPLY, 3, ERROR),
            ErrorInfo,
            info,
        )
        self.assertEqual(str(remote_error(info, {})), "Domain not found (code 42)")

    def test_unknown_procedure(self) -> None:
        """The payload for an unknown procedure, whose words clients look for."""
        payload = bytes.fromhex(
            """00000027 00000007 00000001 00000019 756e6b6e 6f776e20 70726f63 65647572
            653a2039 39393939 39000000 00000002 00000000 00000001 00000002 25730000
            00000001 00000019 756e6b6e 6f776e20 70726f63 65647572 653a2039 39393939
            39000000 00000000 ffffffff ffffffff 00000000"""
        )
        text = "unknown procedure: 999999"
        info = ErrorInfo(39, 7, text, 2, None, "%s", text, None, -1, -1, None)
        self.assertEqual(codec_of(ErrorInfo).decode(payload), info)
        self.assertEqual(codec_of(ErrorInfo).encode(info), payload)
        self.assertEqual(type(remote_error(info, {})).__name__, "Unsupported")

    def test_domain_info(self) -> None:
        """DOMAIN_GET_INFO: a char and a short in four bytes each."""
        self.check(
            """0000003c 20008086 00000001 00000010 00000001 0000000d 00000000 00000001
            00000000 00800000 00000000 00200000 00000002 18eab016 7827ac58""",
            (16, REPLY, 13, OK),
            DomainInfo,
            DomainInfo(1, 8388608, 2097152, 2, 0x18EAB0167827AC58),
        )

    def test_node_info(self) -> None:
        """NODE_GET_INFO: 32 chars in 128 bytes."""
        self.check(
            "000000bc 20008086 00000001 00000006 00000001 00000009 00000000"
            "00000069 00000036 00000038 00000036"
            + 28 * "00000000"
            + "00000000 00300000 00000010 00000578 00000002 00000002 00000002 00000002",
            (6, REPLY, 9, OK),
            NodeInfo,
            NodeInfo(b"i686" + bytes(28), 3145728, 16, 1400, 2, 2, 2, 2),
        )

    def test_domain_stats(self) -> None:
        """GET_ALL_DOMAIN_STATS: typed parameters."""
        parameters = (
            TypedParameter("state.state", IntParameter(1)),
            TypedParameter("state.reason", IntParameter(0)),
        )
        self.check(
            f"""00000070 20008086 00000001 00000158 00000001 00000020 00000000 00000001
            {TEST_HEX} 00000002
            0000000b 73746174 652e7374 61746500 00000001 00000001 0000000c 73746174
            652e7265 61736f6e 00000001 00000000""",
            (344, REPLY, 32, OK),
            Annotated[tuple[StatsRecord, ...], Max(16384)],
            (StatsRecord(TEST, parameters),),
        )

    def test_vcpus(self) -> None:
        """GET_VCPUS: two records, then an opaque of two bytes."""
        time = 0x0000A34B5E5FA7E8
        self.check(
            """00000050 20008086 00000001 00000014 00000001 00000026 00000000 00000002
            00000000 00000001 0000a34b 5e5fa7e8 0000000f 00000001 00000001 0000a34b
            5e5fa7e8 0000000f 00000002 ffff0000""",
            (20, REPLY, 38, OK),
            CpusResult,
            CpusResult((CpuInfo(0, 1, time, 15), CpuInfo(1, 1, time, 15)), b"\xff\xff"),
        )

    def test_memory_peek(self) -> None:
        """MEMORY_PEEK of 16 bytes."""
        self.check(
            f"""00000048 20008086 00000001 00000068 00000000 00000002 00000000 {TEST_HEX}
            00000000 00000000 00000010 00000001""",
            (104, CALL, 2, OK),
            MemoryPeek,
            MemoryPeek(TEST, 0, 16, 1),
        )
        self.check(
            """00000030 20008086 00000001 00000068 00000001 00000002 00000000
            00000010 00010203 04050607 08090a0b 0c0d0e0f""",
            (104, REPLY, 2, OK),
            PEEKED,
            bytes(range(16)),
        )

    def test_volume_upload(self) -> None:
        """VOL_UPLOAD, sparse."""
        self.check(
            """00000058 20008086 00000001 000000d0 00000000 0000000a 00000000 00000001
            70000000 00000002 76330000 00000013 2f766172 2f706f6f 6c732f70 6f6f6c31
            2f763300 00000000 00000000 00000000 00000000 00000001""",
            (208, CALL, 10, OK),
            VolumeUpload,
            VolumeUpload(Vol("p", "v3", "/var/pools/pool1/v3"), 0, 0, 1),
        )

    def test_hole(self) -> None:
        """A hole of 1 MiB."""
        data = bytes.fromhex(
            "00000028 20008086 00000001 000000d0 00000006 0000000a 00000002 00000000 00100000 00000000"
        )
        self.assertEqual(
            decode_header(data), Header(40, REMOTE, 1, 208, MessageType.STREAM_HOLE, 10, CONTINUE)
        )
        self.assertEqual(decode_hole(data[HEADER_BYTES:]), 1 << 20)
        self.assertEqual(encode_hole(1 << 20), data[HEADER_BYTES:])

    def test_stream(self) -> None:
        """Data, finish, confirmation, end of data and abort: headers without XDR behind them."""
        for dump, header in (
            (
                "0001001c 20008086 00000001 000000d0 00000003 0000000a 00000002",
                Header(65564, REMOTE, 1, 208, STREAM, 10, CONTINUE),
            ),
            (
                "0000001c 20008086 00000001 000000d0 00000003 0000000a 00000000",
                Header(28, REMOTE, 1, 208, STREAM, 10, OK),
            ),
            (
                "0000001c 20008086 00000001 000000d1 00000003 0000000f 00000002",
                Header(28, REMOTE, 1, 209, STREAM, 15, CONTINUE),
            ),
            (
                "0000001c 20008086 00000001 000000d1 00000003 0000000f 00000001",
                Header(28, REMOTE, 1, 209, STREAM, 15, ERROR),
            ),
        ):
            self.assertEqual(decode_header(bytes.fromhex(dump)), header)
            self.assertEqual(encode_header(header), bytes.fromhex(dump))

    def test_stream_error(self) -> None:
        """An upload that was longer than it said: errno 28 in int1."""
        text = "cannot write to stream: No space left on device"
        info = ErrorInfo(38, 38, text, 2, None, "%s", text, None, 28, -1, None)
        self.check(
            """000000b8 20008086 00000001 000000d0 00000003 00000019 00000001 00000026
            00000026 00000001 0000002f 63616e6e 6f742077 72697465 20746f20 73747265
            616d3a20 4e6f2073 70616365 206c6566 74206f6e 20646576 69636500 00000002
            00000000 00000001 00000002 25730000 00000001 0000002f 63616e6e 6f742077
            72697465 20746f20 73747265 616d3a20 4e6f2073 70616365 206c6566 74206f6e
            20646576 69636500 00000000 0000001c ffffffff 00000000""",
            (208, STREAM, 25, ERROR),
            ErrorInfo,
            info,
        )
        error = remote_error(info, {})
        self.assertEqual((type(error).__name__, error.int1), ("SystemCallFailed", 28))

    def test_screenshot(self) -> None:
        """SCREENSHOT, and the type of the image."""
        self.check(
            f"00000040 20008086 00000001 000000d3 00000000 00000007 00000000 {TEST_HEX} 00000000 00000000",
            (211, CALL, 7, OK),
            Screenshot,
            Screenshot(TEST, 0, 0),
        )
        self.check(
            """00000030 20008086 00000001 000000d3 00000001 00000007 00000000
            00000001 00000009 696d6167 652f706e 67000000""",
            (211, REPLY, 7, OK),
            Text | None,
            "image/png",
        )

    def test_events(self) -> None:
        """Registration, its callback id, and an event, which has serial 1."""
        self.check(
            f"00000040 20008086 00000001 0000013c 00000000 00000007 00000000 00000000 00000001 {TEST_HEX}",
            (316, CALL, 7, OK),
            EventRegister,
            EventRegister(0, TEST),
        )
        self.check(
            "00000020 20008086 00000001 0000013c 00000001 00000007 00000000 00000000",
            (316, REPLY, 7, OK),
            Int,
            0,
        )
        self.check(
            f"""00000044 20008086 00000001 0000013e 00000002 00000001 00000000 00000000
            {TEST_HEX} 00000003 00000000""",
            (318, MESSAGE, 1, OK),
            LifecycleEvent,
            LifecycleEvent(0, TEST, 3, 0),
        )

    def test_keepalive(self) -> None:
        """PING and PONG."""
        for dump, number in (
            ("0000001c 6b656570 00000001 00000001 00000002 00000000 00000000", 1),
            ("0000001c 6b656570 00000001 00000002 00000002 00000000 00000000", 2),
        ):
            header = Header(28, KEEPALIVE, 1, number, MESSAGE, 0, OK)
            self.assertEqual(decode_header(bytes.fromhex(dump)), header)
            self.assertEqual(encode_header(header), bytes.fromhex(dump))

    def test_sasl(self) -> None:
        """SASL_INIT's reply, SASL_START and the shape of its reply: chars take four bytes each."""
        self.check(
            """0000002c 20008086 00000001 00000043 00000001 00000001 00000000
            0000000a 44494745 53542d4d 44350000""",
            (67, REPLY, 1, OK),
            Text,
            "DIGEST-MD5",
        )
        self.check(
            """00000034 20008086 00000001 00000044 00000000 00000002 00000000 0000000a
            44494745 53542d4d 44350000 00000001 00000000""",
            (68, CALL, 2, OK),
            SaslStart,
            SaslStart("DIGEST-MD5", 1, b""),
        )
        challenge = b"nonce=" + b"x" * 144
        self.check(
            "00000280 20008086 00000001 00000044 00000001 00000002 00000000 00000000 00000000 00000096"
            + "".join(f"{byte:08x}" for byte in challenge),
            (68, REPLY, 2, OK),
            SaslReply,
            SaslReply(0, 0, challenge),
        )

    def test_other_parameter_types(self) -> None:
        """The other arms of a typed parameter."""
        codec = codec_of(TypedParameter)
        for value in (TypedParameter("a", 1.5), TypedParameter("b", TextParameter("text"))):
            self.assertEqual(codec.decode(codec.encode(value)), value)
        self.assertEqual(codec_of(Hyper).encode(-2), b"\xff" * 7 + b"\xfe")
