"""
Messages captured from libvirt 9.0: the hexadecimal words, the procedure, the fields.

C{KEY} is the procedure's C name without C{REMOTE_PROC_}; C{CALL} says that the
arguments are meant, C{RESULT} what the reply carries.
"""

from __future__ import annotations

__all__ = ["CALL", "DOMAIN", "ERRORS", "HEADERS", "HOLE", "MESSAGES", "RESULT"]

CALL, RESULT = True, False
_TEST = "00000004 74657374 6695eb01 f6a48304 79aa97f2 502e193f 00000001"
_UUID = "6695eb01f6a4830479aa97f2502e193f"
DOMAIN = {"name": "test", "uuid": _UUID, "id": 1}
_CHALLENGE = b"nonce=" + b"x" * 144

MESSAGES = (
    ("AUTH_LIST", CALL, "0000001c 20008086 00000001 00000042 00000000 00000000 00000000", {}),
    (
        "AUTH_LIST",
        RESULT,
        "00000024 20008086 00000001 00000042 00000001 00000000 00000000 00000001 00000000",
        {"types": [0]},
    ),
    (
        "CONNECT_SUPPORTS_FEATURE",
        CALL,
        "00000020 20008086 00000001 0000003c 00000000 00000001 00000000 0000000a",
        {"feature": 10},
    ),
    (
        "CONNECT_SUPPORTS_FEATURE",
        RESULT,
        "00000020 20008086 00000001 0000003c 00000001 00000001 00000000 00000001",
        {"supported": 1},
    ),
    (
        "CONNECT_OPEN",
        CALL,
        """00000038 20008086 00000001 00000001 00000000 00000002 00000000 00000001
        0000000f 74657374 3a2f2f2f 64656661 756c7400 00000000""",
        {"name": "test:///default", "flags": 0},
    ),
    ("CONNECT_OPEN", RESULT, "0000001c 20008086 00000001 00000001 00000001 00000002 00000000", None),
    (
        "CONNECT_LIST_ALL_DOMAINS",
        CALL,
        "00000024 20008086 00000001 00000111 00000000 00000006 00000000 00000001 00000003",
        {"need_results": 1, "flags": 3},
    ),
    (
        "CONNECT_LIST_ALL_DOMAINS",
        RESULT,
        f"00000040 20008086 00000001 00000111 00000001 00000006 00000000 00000001 {_TEST} 00000001",
        {"domains": [DOMAIN], "ret": 1},
    ),
    (
        "DOMAIN_GET_INFO",
        RESULT,
        """0000003c 20008086 00000001 00000010 00000001 0000000d 00000000 00000001
        00000000 00800000 00000000 00200000 00000002 18eab016 7827ac58""",
        {
            "state": 1, "maxMem": 8388608, "memory": 2097152, "nrVirtCpu": 2,
            "cpuTime": 0x18EAB0167827AC58,
        },
    ),
    (
        "NODE_GET_INFO",
        RESULT,
        "000000bc 20008086 00000001 00000006 00000001 00000009 00000000"
        "00000069 00000036 00000038 00000036"
        + 28 * "00000000"
        + "00000000 00300000 00000010 00000578 00000002 00000002 00000002 00000002",
        {
            "model": (b"i686" + bytes(28)).hex(), "memory": 3145728, "cpus": 16, "mhz": 1400,
            "nodes": 2, "sockets": 2, "cores": 2, "threads": 2,
        },
    ),
    (
        "CONNECT_GET_ALL_DOMAIN_STATS",
        RESULT,
        f"""00000070 20008086 00000001 00000158 00000001 00000020 00000000 00000001
        {_TEST} 00000002
        0000000b 73746174 652e7374 61746500 00000001 00000001 0000000c 73746174
        652e7265 61736f6e 00000001 00000000""",
        {
            "retStats": [
                {
                    "dom": DOMAIN,
                    "params": [
                        {"field": "state.state", "value": {"type": 1, "value": 1}},
                        {"field": "state.reason", "value": {"type": 1, "value": 0}},
                    ],
                }
            ]
        },
    ),
    (
        "DOMAIN_GET_VCPUS",
        RESULT,
        """00000050 20008086 00000001 00000014 00000001 00000026 00000000 00000002
        00000000 00000001 0000a34b 5e5fa7e8 0000000f 00000001 00000001 0000a34b
        5e5fa7e8 0000000f 00000002 ffff0000""",
        {
            "info": [
                {"number": number, "state": 1, "cpu_time": 0x0000A34B5E5FA7E8, "cpu": 15}
                for number in (0, 1)
            ],
            "cpumaps": "ffff",
        },
    ),
    (
        "DOMAIN_MEMORY_PEEK",
        CALL,
        f"""00000048 20008086 00000001 00000068 00000000 00000002 00000000 {_TEST}
        00000000 00000000 00000010 00000001""",
        {"dom": DOMAIN, "offset": 0, "size": 16, "flags": 1},
    ),
    (
        "DOMAIN_MEMORY_PEEK",
        RESULT,
        """00000030 20008086 00000001 00000068 00000001 00000002 00000000
        00000010 00010203 04050607 08090a0b 0c0d0e0f""",
        {"buffer": bytes(range(16)).hex()},
    ),
    (
        "STORAGE_VOL_UPLOAD",
        CALL,
        """00000058 20008086 00000001 000000d0 00000000 0000000a 00000000 00000001
        70000000 00000002 76330000 00000013 2f766172 2f706f6f 6c732f70 6f6f6c31
        2f763300 00000000 00000000 00000000 00000000 00000001""",
        {
            "vol": {"pool": "p", "name": "v3", "key": "/var/pools/pool1/v3"},
            "offset": 0, "length": 0, "flags": 1,
        },
    ),
    (
        "DOMAIN_SCREENSHOT",
        CALL,
        f"00000040 20008086 00000001 000000d3 00000000 00000007 00000000 {_TEST} 00000000 00000000",
        {"dom": DOMAIN, "screen": 0, "flags": 0},
    ),
    (
        "DOMAIN_SCREENSHOT",
        RESULT,
        """00000030 20008086 00000001 000000d3 00000001 00000007 00000000
        00000001 00000009 696d6167 652f706e 67000000""",
        {"mime": "image/png"},
    ),
    (
        "CONNECT_DOMAIN_EVENT_CALLBACK_REGISTER_ANY",
        CALL,
        f"00000040 20008086 00000001 0000013c 00000000 00000007 00000000 00000000 00000001 {_TEST}",
        {"eventID": 0, "dom": DOMAIN},
    ),
    (
        "CONNECT_DOMAIN_EVENT_CALLBACK_REGISTER_ANY",
        RESULT,
        "00000020 20008086 00000001 0000013c 00000001 00000007 00000000 00000000",
        {"callbackID": 0},
    ),
    (
        "DOMAIN_EVENT_CALLBACK_LIFECYCLE",
        CALL,
        f"""00000044 20008086 00000001 0000013e 00000002 00000001 00000000 00000000
        {_TEST} 00000003 00000000""",
        {"callbackID": 0, "msg": {"dom": DOMAIN, "event": 3, "detail": 0}},
    ),
    (
        "AUTH_SASL_INIT",
        RESULT,
        """0000002c 20008086 00000001 00000043 00000001 00000001 00000000
        0000000a 44494745 53542d4d 44350000""",
        {"mechlist": "DIGEST-MD5"},
    ),
    (
        "AUTH_SASL_START",
        CALL,
        """00000034 20008086 00000001 00000044 00000000 00000002 00000000 0000000a
        44494745 53542d4d 44350000 00000001 00000000""",
        {"mech": "DIGEST-MD5", "nil": 1, "data": ""},
    ),
    (
        "AUTH_SASL_START",
        RESULT,
        "00000280 20008086 00000001 00000044 00000001 00000002 00000000 00000000 00000000 00000096"
        + "".join(f"{byte:08x}" for byte in _CHALLENGE),
        {"complete": 0, "nil": 0, "data": _CHALLENGE.hex()},
    ),
)  # fmt: skip

ERRORS = (
    (
        """0000002a 0000000c 00000001 00000010 446f6d61 696e206e 6f742066 6f756e64 00000002
        00000000 00000001 00000010 446f6d61 696e206e 6f742066 6f756e64 00000000
        00000000 ffffffff ffffffff 00000000""",
        (42, 12, "Domain not found", 2, None, "Domain not found", None, None, -1, -1, None),
    ),
    (
        """00000027 00000007 00000001 00000019 756e6b6e 6f776e20 70726f63 65647572
        653a2039 39393939 39000000 00000002 00000000 00000001 00000002 25730000
        00000001 00000019 756e6b6e 6f776e20 70726f63 65647572 653a2039 39393939
        39000000 00000000 ffffffff ffffffff 00000000""",
        (39, 7, "unknown procedure: 999999", 2, None, "%s", "unknown procedure: 999999", None, -1, -1, None),
    ),
    (
        """00000026 00000026 00000001 0000002f 63616e6e 6f742077 72697465 20746f20 73747265
        616d3a20 4e6f2073 70616365 206c6566 74206f6e 20646576 69636500 00000002
        00000000 00000001 00000002 25730000 00000001 0000002f 63616e6e 6f742077
        72697465 20746f20 73747265 616d3a20 4e6f2073 70616365 206c6566 74206f6e
        20646576 69636500 00000000 0000001c ffffffff 00000000""",
        (
            38, 38, "cannot write to stream: No space left on device", 2, None,
            "%s", "cannot write to stream: No space left on device", None, 28, -1, None,
        ),
    ),
)  # fmt: skip
"""Payloads of errors, and their fields."""

HOLE = ("00000000 00100000 00000000", (1 << 20, 0))
"""The payload of a hole."""

HEADERS = (
    ("20008086 00000001 000000d0 00000003 0000000a 00000002", (0x20008086, 1, 208, 3, 10, 2)),
    ("20008086 00000001 000000d0 00000006 0000000a 00000002", (0x20008086, 1, 208, 6, 10, 2)),
    ("20008086 00000001 000000d0 00000003 0000000a 00000000", (0x20008086, 1, 208, 3, 10, 0)),
    ("20008086 00000001 000000d1 00000003 0000000f 00000001", (0x20008086, 1, 209, 3, 15, 1)),
    ("6b656570 00000001 00000001 00000002 00000000 00000000", (0x6B656570, 1, 1, 2, 0, 0)),
    ("6b656570 00000001 00000002 00000002 00000000 00000000", (0x6B656570, 1, 2, 2, 0, 0)),
)
"""Headers behind the length word: stream data, hole, finish, abort, PING, PONG."""
