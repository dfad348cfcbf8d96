"""
Our own programs on the wire: numbers and bytes that must never change.

XDR cannot grow, so a changed layout here is a broken peer out there: a changed
procedure gets a new number instead.
"""

from __future__ import annotations

from typing import Any
from unittest import TestCase

from rpcstream.errors import BadValue, DecodeError, RemoteError
from rpcstream.limits import MIB
from rpcstream.programs import keepalive
from rpcstream.programs.base import Program
from rpcstream.programs.flow import FLOW, Cancel, Credit, Hello, Lost, Subscribe, Unsubscribe, Welcome
from rpcstream.programs.jobs import (
    FOREVER,
    JOBS,
    CancelJob,
    Job,
    JobListing,
    JobState,
    ListJobs,
    Measured,
    Submit,
)
from rpcstream.programs.parameters import IntValue, Parameter, TextValue
from rpcstream.programs.transfer import (
    TRANSFER,
    Commit,
    Committed,
    Discard,
    Entry,
    Grant,
    Held,
    Incoming,
    Lane,
    Listing,
    ListNames,
    Offer,
    Outgoing,
    PartialEntry,
    Partials,
    Progress,
    Remove,
    SourceKind,
    Stat,
    Verdict,
)
from rpcstream.programs.transfer import Cancel as CancelTransfer
from rpcstream.wire import Codec, codec_of
from tests.wire.support import CodecTestCase

ID = bytes(range(16))
DIGEST = bytes(range(32))
ENTRY = Entry("a", SourceKind.DEVICE, 5, 6, -7, DIGEST, True)
PARTIAL = PartialEntry("a", None, 5, "alice", ID, 7, False)
JOB = Job(9, "/a", "b", JobState.FAILED, 5, None, 2, "why", DIGEST, 1, 2)
ID_HEX, DIGEST_HEX = ID.hex(), DIGEST.hex()
ENTRY_HEX = f"00000001 61000000 00000001 {5:016x} {6:016x} fffffffffffffff9 00000001 {DIGEST_HEX} 00000001"
PARTIAL_HEX = f"00000001 61000000 00000000 {5:016x} 00000005 616c696365000000 {ID_HEX} {7:016x} 00000000"
JOB_HEX = (
    f"{9:016x} 00000002 2f610000 00000001 62000000 00000004 {5:016x} 00000000 00000002"
    f"00000003 77687900 00000001 {DIGEST_HEX} {1:016x} {2:016x}"
)
TEXT_HEX = "00000003 616263 00"

GOLDEN: list[tuple[Any, str]] = [
    (
        Hello(1, 2, "abc", 3, ("abc",), (Parameter("abc", IntValue(-1), True),)),
        f"00000001 00000002 {TEXT_HEX} {3:016x} 00000001 {TEXT_HEX} 00000001"
        f"{TEXT_HEX} 00000001 ffffffff 00000001",
    ),
    (Welcome(1, "abc", 3), f"00000001 {TEXT_HEX} {3:016x} 00000000 00000000"),
    (Credit(1, 2, -3, 4, 5), f"00000001 00000002 fffffffd 00000004 {5:016x}"),
    (Cancel(7, "abc"), f"00000007 {TEXT_HEX}"),
    (Lost(1, 2, -3, 4), f"00000001 00000002 fffffffd {4:016x}"),
    (Subscribe(1, 2, 3), "00000001 00000002 00000003"),
    (Unsubscribe(1, 2, -3), "00000001 00000002 fffffffd"),
    (
        Incoming("abc", "", SourceKind.PIPE, None, True, False, 0o600, ID, b"\5"),
        f"{TEXT_HEX} 00000000 00000002 00000000 00000001 00000000 00000001 00000180"
        f"{ID_HEX} 00000001 05000000 00000000",
    ),
    (
        Grant(Verdict.COMPLETE, DIGEST, Held(b"\1", DIGEST), 262144, Lane.EXCLUSIVE),
        f"00000001 00000001 {DIGEST_HEX} 00000001 01000000 00000020 {DIGEST_HEX} 00040000 00000001 00000000",
    ),
    (Commit(ID, 5, DIGEST), f"{ID_HEX} {5:016x} 00000001 {DIGEST_HEX} 00000000"),
    (Committed(True, None, b"\1\2\3\4"), "00000001 00000000 00000004 01020304 00000000"),
    (
        Outgoing("abc", "abc", 1, 2, False, ID),
        f"{TEXT_HEX} {TEXT_HEX} {1:016x} 00000001 {2:016x} 00000000 {ID_HEX} 00000000 00000000 00000000",
    ),
    (
        Offer(5, SourceKind.FILE, True, 0o644, 1024, Lane.SHARED, (Parameter("abc", TextValue("abc")),)),
        f"{5:016x} 00000000 00000001 000001a4 00000400 00000000 00000001"
        f"{TEXT_HEX} 00000007 {TEXT_HEX} 00000000",
    ),
    (ListNames("abc", "", 7), f"{TEXT_HEX} 00000000 00000007"),
    (Listing((ENTRY,), True), f"00000001 {ENTRY_HEX} 00000001"),
    (Stat("abc"), f"{TEXT_HEX} 00000000"),
    (ENTRY, ENTRY_HEX),
    (Remove("abc", "abc"), f"{TEXT_HEX} {TEXT_HEX}"),
    (CancelTransfer(ID), ID_HEX),
    (Partials("abc"), TEXT_HEX),
    (Discard("abc"), f"{TEXT_HEX} 00000000"),
    (Progress(ID, 5), f"{ID_HEX} {5:016x}"),
    (
        Submit("/a", "b", True, False, None, FOREVER),
        "00000002 2f610000 00000001 62000000 00000001 00000000 00000000 ffffffff",
    ),
    (ListJobs(3, 4), f"{3:016x} 00000004"),
    (JobListing((JOB,), False), f"00000001 {JOB_HEX} 00000000"),
    (CancelJob(3), f"{3:016x}"),
    (Measured(3), f"{3:016x}"),
]
RESULTS: list[tuple[Codec[Any], Any, str]] = [
    (Submit.__procedure__.result, 9, f"{9:016x}"),
    (CancelJob.__procedure__.result, JOB, JOB_HEX),
    (Partials.__procedure__.result, (PARTIAL,), f"00000001 {PARTIAL_HEX}"),
    (CancelTransfer.__procedure__.result, True, "00000001"),
    (Stat.__procedure__.result, ENTRY, ENTRY_HEX),
    (Remove.__procedure__.result, None, ""),
]


class GoldenTests(CodecTestCase):
    def check(self, codec: Codec[Any], value: Any, dump: str) -> None:
        data = bytes.fromhex(dump)
        self.assertEqual(codec.encode(value).hex(), data.hex())
        self.assertEqual(codec.decode(data), value)
        self.assertEqual(codec.construct.build(value), data)
        self.check_damage(codec, data, len(data))

    def test_structs(self) -> None:
        """Every request, reply and event, byte for byte, and none of its damaged forms by accident."""
        for value, dump in GOLDEN:
            with self.subTest(type(value).__name__):
                self.check(codec_of(type(value)), value, dump)

    def test_results(self) -> None:
        """Results that are not a Struct of their own."""
        for codec, value, dump in RESULTS:
            self.check(codec, value, dump)

    def test_complete(self) -> None:
        """No procedure of ours is missing above."""
        tested = {type(value) for value, _ in GOLDEN}
        for program in (FLOW, TRANSFER, JOBS):
            self.assertEqual(
                [request for request in program.procedures.values() if request not in tested], []
            )


class NumberTests(TestCase):
    def check(self, program: Program, number: int, names: dict[int, str], errors: dict[int, str]) -> None:
        self.assertEqual((program.number, program.version), (number, 1))
        self.assertEqual({n: cls.__name__ for n, cls in program.procedures.items()}, names)
        self.assertEqual({code: cls.__name__ for code, cls in program.errors.items()}, errors)

    def test_keepalive(self) -> None:
        """libvirt's numbers."""
        numbers = (keepalive.PROGRAM, keepalive.VERSION, keepalive.PING, keepalive.PONG)
        self.assertEqual(numbers, (0x6B656570, 1, 1, 2))

    def test_flow(self) -> None:
        """The flow program."""
        names = {1: "Hello", 2: "Credit", 3: "Cancel", 4: "Subscribe", 5: "Unsubscribe", 6: "Lost"}
        self.check(FLOW, 0x666C6F77, names, {})
        self.assertEqual({cls.__procedure__.permission for cls in FLOW.procedures.values()}, {"flow"})

    def test_transfer(self) -> None:
        """The transfer program."""
        names = (
            "Incoming",
            "Commit",
            "Outgoing",
            "ListNames",
            "Stat",
            "Remove",
            "Cancel",
            "Partials",
            "Discard",
            "Progress",
        )
        errors = (
            "Denied",
            "BadName",
            "NoSuchName",
            "NameTaken",
            "Busy",
            "Short",
            "DigestDiffers",
            "TooLarge",
            "Changed",
            "NotServed",
            "NoSuchTransfer",
            "Fenced",
        )
        self.check(TRANSFER, 0x78666572, dict(enumerate(names, 1)), dict(enumerate(errors, 1001)))

    def test_jobs(self) -> None:
        """The jobs program."""
        names = {1: "Submit", 2: "ListJobs", 3: "CancelJob", 4: "Measured"}
        self.check(JOBS, 0x6A6F6273, names, {1001: "NoSuchJob", 1002: "SourceRefused", 1003: "JobEnded"})

    def test_errors_have_texts(self) -> None:
        """Each error can be raised with a text alone."""
        for program in (TRANSFER, JOBS):
            for code, cls in program.errors.items():
                error = cls("text")
                self.assertIsInstance(error, RemoteError)
                self.assertEqual((error.code, error.message), (code, "text"))


class BoundTests(TestCase):
    def test_calls_are_small(self) -> None:
        """A peer cannot make us read much more than a call may carry (X11, F14)."""
        for program, bound in ((FLOW, 1 * MIB), (TRANSFER, 28 * MIB), (JOBS, 16 * 1024)):
            for request in program.procedures.values():
                self.assertLessEqual(request.__procedure__.arguments.max_bytes, bound)

    def test_limits(self) -> None:
        """Names, listings and bitmaps at their limits and one past them."""
        self.assertRaises(BadValue, codec_of(Stat).encode, Stat("x" * 256))
        codec_of(Stat).encode(Stat("ä" * 127))
        self.assertRaises(BadValue, codec_of(Stat).encode, Stat("ä" * 128))
        codec_of(Listing).encode(Listing((ENTRY,) * 1000, False))
        self.assertRaisesRegex(
            BadValue, "entries: 1001", codec_of(Listing).encode, Listing((ENTRY,) * 1001, False)
        )
        self.assertRaisesRegex(BadValue, "digest: ", codec_of(Commit).encode, Commit(ID, 5, b"short"))
        self.assertRaisesRegex(
            DecodeError,
            "kind: 3 is not",
            codec_of(Entry).decode,
            codec_of(Entry).encode(ENTRY)[:8] + b"\0\0\0\3" + bytes(80),
        )
