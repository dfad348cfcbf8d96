"""
What the real virsh and libvirt-python send, against what our C{.x} compiler's types make of it.

A relay before a libvirtd records every message.  Each is decoded and encoded again by the
types of libvirt's own C{.x} files; and for nearly all calls the bytes are also made from the
values that libvirt-python or virsh was given.
"""

from __future__ import annotations

import functools
import subprocess
import textwrap
from collections.abc import Iterator
from typing import Any
from unittest import TestCase

from twisted.trial.unittest import SynchronousTestCase

from rpcstream.libvirt.server_keys import set_password
from rpcstream.programs.xdrfile import DeclaredProcedure, Interface, load, request_from_json, to_json
from rpcstream.programs.xdrfile.constructs import unnamed
from rpcstream.wire import Codec, MessageType, Status, codec_of, composite, xdr
from tests.interop.api_values import DOMAIN, HANDLES, UUID, Row, int_, string, uint
from tests.interop.domain_calls import DOMAIN_CALLS
from tests.interop.host_calls import HOST_CALLS
from tests.interop.libvirt_source import libvirt_source
from tests.interop.libvirtd import Libvirtd, require_libvirtd
from tests.interop.recorder import Message, PythonClient, Recorder
from tests.interop.virsh_case import VirshCase, require_libvirt_python

FILES = ("remote/remote_protocol.x", "remote/qemu_protocol.x", "rpc/virkeepaliveprotocol.x")
FEATURES = {
    "union",
    "optional set",
    "optional unset",
    "nested typed parameters",
    "char array",
    *(f"arm {number} of a typed parameter" for number in range(1, 8)),
}
LEAST_PROCEDURES = 100
PREPARATION = (
    "uri = uri.replace('///X', '//%s')",
    f"UUID = bytes.fromhex('{UUID}')",
    "c = libvirt.open('test+' + uri % '/default')",
    "q = libvirt.open('qemu+' + uri % '/session')",
    "import libvirt_qemu",
)

VIRSH_CALLS: tuple[Row, ...] = (
    ("CONNECT_OPEN", "hostname", {"name": "test:///default", "flags": 0}),
    ("CONNECT_LIST_ALL_DOMAINS", "list --all", {"need_results": 1, "flags": 3}),
    ("DOMAIN_LOOKUP_BY_NAME", "dominfo test", {"name": "test"}),
    ("DOMAIN_LOOKUP_BY_ID", "dominfo 1", {"id": 1}),
    ("DOMAIN_GET_STATE", "domstate test", {"dom": DOMAIN, "flags": 0}),
    ("DOMAIN_SET_MEMORY_FLAGS", "setmem test 4096", {"dom": DOMAIN, "memory": 4096, "flags": 1}),
    ("DOMAIN_SET_METADATA", "desc test --title a title",
     {"dom": DOMAIN, "type": 1, "metadata": "a title", "key": None, "uri": None, "flags": 0}),
    ("DOMAIN_SEND_KEY", "send-key test 30 48",
     {"dom": DOMAIN, "codeset": 0, "holdtime": 0, "keycodes": [30, 48], "flags": 0}),
    ("DOMAIN_SET_NUMA_PARAMETERS", "numatune test --mode strict --nodeset 0-1",
     {"dom": DOMAIN, "params": [string("numa_nodeset", "0-1"), int_("numa_mode", 0)], "flags": 0}),
    ("DOMAIN_SET_INTERFACE_PARAMETERS", "domiftune test aa:bb:cc:dd:ee:ff --inbound 100,200",
     {"dom": DOMAIN, "device": "aa:bb:cc:dd:ee:ff", "flags": 0,
      "params": [uint("inbound.average", 100), uint("inbound.peak", 200)]}),
    ("DOMAIN_GET_BLOCK_IO_TUNE", "blkdeviotune test vda",
     {"dom": DOMAIN, "disk": "vda", "nparams": 20, "flags": 4}),
    ("DOMAIN_BLOCK_REBASE", "blockpull test vda --base /b",
     {"dom": DOMAIN, "path": "vda", "base": "/b", "bandwidth": 0, "flags": 0}),
    ("CONNECT_FIND_STORAGE_POOL_SOURCES", "find-storage-pool-sources-as netfs h",
     {"type": "netfs", "srcSpec": "<source>\n  <host name='h'/>\n</source>\n", "flags": 0}),
    ("CONNECT_GET_ALL_DOMAIN_STATS", "domstats test --state", {"doms": [DOMAIN], "stats": 1, "flags": 0}),
)  # fmt: skip
"""The procedure, a command of virsh that calls it, and its fields."""


@functools.cache
def interfaces() -> dict[int, Interface]:
    """libvirt's own files, by the numbers of their programs."""
    found = {}
    for name in FILES:
        interface = load(libvirt_source() / name)
        found.update({program.number: interface for program in interface.programs})
    return found


def procedure(message: Message) -> DeclaredProcedure:
    """What a message is about."""
    return interfaces()[message.header.program].procedure(message.header.procedure)


def named(key: str) -> DeclaredProcedure:
    """By the C name, C{REMOTE_PROC_} being understood."""
    full = key if "_PROC_" in key else f"REMOTE_PROC_{key}"
    (found,) = (
        each for file in set(interfaces().values()) for each in file.procedures if each.c_name == full
    )
    return found


def features(declaration: Any, value: Any, depth: int = 0) -> Iterator[str]:
    """What is special about a value of a declaration."""
    declaration = unnamed(declaration)
    if isinstance(declaration, composite.Record):
        for field, each in zip(declaration.subcons, declaration.split(value, ""), strict=True):
            yield from features(field, each, depth + 1)
    elif isinstance(declaration, (composite.Array, composite.FixedArray)):
        for each in value:
            yield from features(declaration.subcon, each, depth + 1)
    elif isinstance(declaration, composite.Optional):
        yield "optional unset" if value is None else "optional set"
        if value is not None:
            yield from features(declaration.subcon, value, depth + 1)
    elif isinstance(declaration, composite.Union):
        number, inside = declaration.split(value, "")
        yield "union"
        yield f"arm {number} of a typed parameter"
        # In a parameter in a list in the arguments.
        if depth >= 3:
            yield "nested typed parameters"
        yield from features(declaration.arms[number], inside, depth + 1)
    elif isinstance(declaration, (xdr.Chars, xdr.FixedChars)) and value:
        yield "char array"


class Seen:
    """
    What was compared.

    @ivar calls: procedures whose arguments were, by C name.
    @ivar results: those whose results were.
    @ivar features: what occurred in arguments.
    """

    def __init__(self) -> None:
        self.calls: set[str] = set()
        self.results: set[str] = set()
        self.features: set[str] = set()

    def add(self, test: TestCase, message: Message) -> None:
        """Decode a message and encode it again, by both ways that there are."""
        header = message.header
        if header.type in (MessageType.STREAM, MessageType.STREAM_HOLE):
            return
        found = procedure(message)
        info = found.request.__procedure__
        codec: Codec[Any] = info.result if header.type == MessageType.REPLY else info.arguments
        if header.status == Status.ERROR:
            codec = codec_of(interfaces()[info.program.number].types["remote_error"])
        value = codec.decode(message.payload)
        test.assertEqual(message.payload, codec.encode(value), found.c_name)
        test.assertEqual(message.payload, codec.construct.build(value), found.c_name)
        if header.type == MessageType.CALL:
            again = request_from_json(found.request, to_json(codec, value))
            test.assertEqual(message.payload, codec.encode(again), found.c_name)
            self.calls.add(found.c_name)
            self.features.update(features(codec.construct, value))
        elif header.status == Status.OK and message.payload:
            self.results.add(found.c_name)


class CapturedCallTests(SynchronousTestCase):
    """A libvirtd that nobody else uses, so that all its numbers are known."""

    def setUp(self) -> None:
        require_libvirtd()
        require_libvirt_python()
        interfaces()
        # libvirt-python answers PINGs only while it calls, and some connections are idle for long.
        self.daemon = Libvirtd(settings={"keepalive_interval": -1})
        self.addCleanup(self.daemon.close)
        self.daemon.start()
        self.recorder = Recorder(self.daemon.folder / "recorder", self.daemon.socket)
        self.addCleanup(self.recorder.close)

    def check(self, key: str, fields: Any, messages: list[Message], what: str) -> None:
        """One of the calls has the bytes that come of these values."""
        found = named(key)
        sent = [
            message.payload
            for message in messages
            if message.header.type == MessageType.CALL and procedure(message).c_name == found.c_name
        ]
        self.assertNotEqual([], sent, f"{what} does not call {found.c_name}")
        if fields is not None:
            request = request_from_json(found.request, fields)
            self.assertIn(found.request.__procedure__.arguments.encode(request), sent, what)

    def test_libvirt_python(self) -> None:
        """More than three hundred procedures, from known values; every answer of the daemon as well."""
        client = PythonClient(f"unix:///X?socket={self.recorder.path}")
        self.addCleanup(client.close)
        for statement in PREPARATION:
            self.assertIsNone(client.run(statement), statement)
        messages = self.recorder.messages
        known = set()
        for key, statement, fields in (*DOMAIN_CALLS, *HOST_CALLS):
            already = len(messages)
            client.run(statement)
            if fields is not None:
                handle = HANDLES.get(statement.rpartition(" = ")[2].partition(".")[0])
                names = named(key).request.__fields__
                if handle is not None and len(names) > len(fields):
                    fields = {names[0]: handle, **fields}
                known.add(named(key).c_name)
            self.check(key, fields, messages[already:], statement)
        seen = Seen()
        for message in messages:
            seen.add(self, message)
        self.assertLessEqual(known, seen.calls)
        for count in (len(known), len(seen.calls), len(seen.results)):
            self.assertGreaterEqual(count, LEAST_PROCEDURES)
        # In arguments, only passwords are in arrays of char.
        self.assertEqual(FEATURES - {"char array"}, seen.features)
        names = textwrap.fill(", ".join(name.partition("_PROC_")[2] for name in sorted(known)), 120)
        print(f"arguments of {len(known)} procedures, results of {len(seen.results)}:\n{names}")  # noqa: T201

    def test_virsh(self) -> None:
        """The same by virsh, from what was typed."""
        seen = Seen()
        for key, command, fields in VIRSH_CALLS:
            already = len(self.recorder.messages)
            words = [
                "virsh",
                "-q",
                "-c",
                f"test+unix:///default?socket={self.recorder.path}",
                *command.split(),
            ]
            subprocess.run(words, capture_output=True, timeout=60, check=False)
            self.check(key, fields, self.recorder.messages[already:], command)
        for message in self.recorder.messages:
            seen.add(self, message)
        self.assertLessEqual({named(key).c_name for key, _, _ in VIRSH_CALLS}, seen.calls)


class CapturedPasswordTests(VirshCase):
    """Arrays of C{char} are in the arguments of SASL only."""

    config = '[sasl]\nfile = "FOLDER/passwd"\n'

    def prepare(self) -> None:
        """A user, and what virsh knows of it."""
        set_password(self.folder / "passwd", "fred", "correct horse")
        (self.folder / "auth").write_text(
            "[credentials-c]\nauthname=fred\npassword=correct horse\n[auth-libvirt-default]\ncredentials=c\n"
        )

    def test_sasl(self) -> None:
        """What virsh sends to prove who it is."""
        recorder = Recorder(self.folder / "recorder", self.folder / "s")
        self.addCleanup(recorder.close)
        uri = f"storage+unix:///system?socket={recorder.path}&authfile={self.folder}/auth"
        done = subprocess.run(
            ["virsh", "-q", "-c", uri, "pool-list"], capture_output=True, text=True, timeout=60, check=False
        )
        self.assertEqual((0, ""), (done.returncode, done.stderr))
        seen = Seen()
        sent: dict[str, Any] = {}
        for message in recorder.messages:
            seen.add(self, message)
            if message.header.type == MessageType.CALL:
                found = procedure(message)
                sent[found.c_name] = found.request.__procedure__.arguments.decode(message.payload)
        self.assertIn("char array", seen.features)
        start, step = sent["REMOTE_PROC_AUTH_SASL_START"], sent["REMOTE_PROC_AUTH_SASL_STEP"]
        self.assertEqual(("SCRAM-SHA-256", 0), (start.mech, start.nil))
        self.assertTrue(start.data.startswith(b"n,,n=fred,r="), start.data)
        self.assertTrue(step.data.startswith(b"c=biws,r="), step.data)
        self.assertLessEqual({"REMOTE_PROC_AUTH_SASL_START", "REMOTE_PROC_AUTH_SASL_STEP"}, seen.results)
