"""
libvirt's own C{.x} files, unchanged: all compile, and mean what libvirt means by them.

The reference beside them in the source package are the C{-structs} files: what
the C compiler made of rpcgen's output, read out of its debugging information.
"""

from __future__ import annotations

import functools
import re
import time
from collections import Counter
from collections.abc import Iterator
from enum import IntEnum
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from rpcstream.programs.base import Kind
from rpcstream.programs.remote import REMOTE
from rpcstream.programs.xdrfile import (
    Interface,
    describe,
    layout_text,
    load,
    request_from_json,
    result_to_json,
    to_json,
)
from rpcstream.programs.xdrfile.constructs import unnamed
from rpcstream.wire import HEADER_BYTES, ErrorInfo, codec_of, composite, decode_header, decode_hole, xdr
from tests.interop.captured import CALL, ERRORS, HEADERS, HOLE, MESSAGES
from tests.interop.libvirt_source import X_FILES, libvirt_source

PROCEDURE_COUNTS = (443, 7, 1, 0, 2, 19, 8, 4, 2)
PROGRAMS = (0x20008086, 0x20008087, 0x68000, None, 0x6B656570, 0x06900690, 0x0EA7BEEF, 0x87539319, 0x12341234)
PREFIXES = (
    "remote_", "qemu_", "lxc_", "(none)", "(none)", "admin_",
    "virLockSpaceProtocol", "virLogManagerProtocol", "virLXCMonitor",
)  # fmt: skip
STREAMS = {
    148: Kind.UPLOAD, 201: Kind.DUPLEX, 208: Kind.UPLOAD, 209: Kind.DOWNLOAD,
    211: Kind.DOWNLOAD, 215: Kind.UPLOAD, 296: Kind.DUPLEX, 304: Kind.UPLOAD,
}  # fmt: skip
DERIVATION_SECONDS = 2.0

C_TYPES = {
    "int": "int",
    "u_int": "unsigned int",
    "int64_t": "hyper",
    "uint64_t": "unsigned hyper",
    "u_char": "unsigned char",
    "u_short": "unsigned short",
    "char": "char",
    "double": "double",
}
_BLOCK = re.compile(r"^(struct|enum) (\w+) \{\n(.*?)^\};", re.M | re.S)
_ARRAY = re.compile(r"struct \{\s*u_int\s+\w+_len;\s*(\w+) \*\s*\w+_val;\s*\} (\w+);")
_FIELD = re.compile(r"(\w+)\s+(\w+)(?:\[(\d+)\])?;")


@functools.cache
def compiled(name: str) -> Interface:
    """One of the files."""
    return load(libvirt_source() / name)


def structs() -> Iterator[tuple[str, str, str, str]]:
    """Kind, name and body of each type in the C{-structs} files, and the C{.x} file of it."""
    for name in X_FILES:
        path = libvirt_source() / f"{Path(name).stem}-structs"
        if path.is_file():
            for kind, type_name, body in _BLOCK.findall(path.read_text()):
                yield kind, type_name, body, name


class CompileTests(SynchronousTestCase):
    def test_all_compile(self) -> None:
        """Nine files; numbers of programs and procedures; libvirt's rules for decoding."""
        for name, count, number in zip(X_FILES, PROCEDURE_COUNTS, PROGRAMS, strict=True):
            found = compiled(name)
            self.assertEqual(len(found.procedures), count, name)
            self.assertEqual([program.number for program in found.programs], [number] if number else [])
            self.assertTrue(all(program.lenient and program.version == 1 for program in found.programs))
        self.assertEqual(
            sorted(path.name for path in libvirt_source().rglob("*.x")), sorted(Path(n).name for n in X_FILES)
        )

    def test_numbers(self) -> None:
        """Every number of the remote program from 1 to 443 is there, under the name that C has for it."""
        remote = compiled(X_FILES[0])
        self.assertEqual(sorted(remote.programs[0].procedures), list(range(1, 444)))
        for kind, _, body, name in structs():
            if kind == "enum":
                for member, value in re.findall(r"(\w+) = (-?\w+)", body):
                    self.assertEqual(compiled(name).constants[member], int(value, 0))
        for key, number, class_name in (
            ("REMOTE_PROC_DOMAIN_LOOKUP_BY_NAME", 23, "DomainLookupByName"),
            ("domain-get-xml-desc", 14, "DomainGetXmlDesc"),
            ("ConnectListAllDomains", 273, "ConnectListAllDomains"),
        ):
            request = remote.find(key)
            self.assertEqual((request.__procedure__.number, request.__name__), (number, class_name))
            self.assertIs(remote.find(number), request)

    def test_kinds(self) -> None:
        """Streams and their directions, sparse ones, events."""
        remote = compiled(X_FILES[0])
        kinds = {n: each.__procedure__.kind for n, each in remote.programs[0].procedures.items()}
        streams = {n: kind for n, kind in kinds.items() if kind not in (Kind.CALL, Kind.EVENT)}
        self.assertEqual(streams, STREAMS)
        sparse = {each.request.__procedure__.number for each in remote.procedures if each.sparse_flag}
        self.assertEqual(sparse, {208, 209})
        events = {
            each.c_name
            for each in remote.procedures
            if kinds[each.request.__procedure__.number] is Kind.EVENT
        }
        named = {
            each.c_name
            for each in remote.procedures
            if "_EVENT_" in each.c_name and "REGISTER" not in each.c_name
        }
        self.assertEqual(events, named)

    def test_every_struct_is_bound(self) -> None:
        """No struct of arguments, results or messages is left over."""
        for name, prefix in zip(X_FILES, PREFIXES, strict=True):
            found = compiled(name)
            # A message of the old events is part of the new ones as well, and counts once.
            wanted = {
                type_name
                for type_name in found.types
                if type_name.startswith(prefix) and re.search(r"(_args|_ret|_msg|Args|Ret|Msg)$", type_name)
            }
            bound = Counter(
                "args" if info.kind is not Kind.EVENT else "msg"
                for info in (each.request.__procedure__ for each in found.procedures)
                if info.request.__fields__
            )
            results = sum(bool(each.request.__procedure__.result.max_bytes) for each in found.procedures)
            self.assertEqual(len(wanted), bound.total() + results, (name, bound, results))

    def test_derivation(self) -> None:
        """Codecs of all procedures take less than two seconds of this machine in all."""
        fresh = [load(libvirt_source() / name) for name in X_FILES]
        began = time.process_time()
        for procedure in (each for found in fresh for each in found.procedures):
            info = procedure.request.__procedure__
            self.assertLessEqual(info.arguments.max_bytes, 33_554_408)
            self.assertLessEqual(info.result.max_bytes, 33_554_408)
        self.assertLess(time.process_time() - began, DERIVATION_SECONDS)

    def test_describe(self) -> None:
        """All layouts have words."""
        for name in X_FILES:
            found = compiled(name)
            text = describe(found.programs, found.types.values())
            self.assertNotIn("(", text)
            again = load(libvirt_source() / name)
            self.assertEqual(text, describe(again.programs, again.types.values()))


class StructsTests(SynchronousTestCase):
    def expected(self, found: Interface, c_type: str) -> str:
        """Our words for a type of C."""
        if c_type in C_TYPES:
            return C_TYPES[c_type]
        made = found.types[c_type]
        lenient = bool(found.programs)
        if isinstance(made, type) and issubclass(made, IntEnum):
            return "int" if lenient else made.__name__
        return layout_text(codec_of(made, lenient).construct)

    def test_layouts(self) -> None:
        """Every field of every struct has the place, the name and the type that it has in C."""
        count = 0
        for kind, name, body, file in structs():
            found = compiled(file)
            if kind == "enum":
                continue
            codec = codec_of(found.types[name], bool(found.programs))
            if "union {" in body:
                self.check_union(found, codec, body)
                continue
            arrays = {field: element for element, field in _ARRAY.findall(body)}
            flat = _ARRAY.sub(r"array \2;", body)
            fields = codec.construct.subcons
            self.assertEqual(
                [field for _, field, _ in _FIELD.findall(flat)],
                [each.name.rstrip("_") for each in fields],
                name,
            )
            for (c_type, field, length), declared in zip(_FIELD.findall(flat), fields, strict=True):
                text = layout_text(declared)
                if c_type == "array":
                    base, limit = re.fullmatch(r"(.*)<(\d+)>", text).groups()  # type: ignore[union-attr]
                    self.assertGreater(int(limit), 0)
                    if arrays[field] == "char":
                        self.assertIn(base, ("opaque", "char"))
                    else:
                        self.assertEqual(base, self.expected(found, arrays[field]))
                else:
                    wanted = self.expected(found, c_type)
                    self.assertEqual(text, f"{wanted}[{length}]" if length else wanted, (name, field))
                count += 1
        # All there are.
        self.assertEqual(count, 1580)

    def check_union(self, found: Interface, codec: Any, body: str) -> None:
        arms = _FIELD.findall(body.partition("union {")[2].partition("}")[0])
        texts = [self.expected(found, c_type) for c_type, _, _ in arms]
        self.assertEqual(
            layout_text(codec.construct),
            f"union {{{'; '.join(f'{number}: {text}' for number, text in enumerate(texts, 1))}}}",
        )


class HandWrittenTests(SynchronousTestCase):
    def test_layouts(self) -> None:
        """What we declare of the remote program by hand is on the wire what its file says."""
        found = compiled(X_FILES[0])
        for number, request in REMOTE.procedures.items():
            ours, theirs = request.__procedure__, found.find(number).__procedure__
            self.assertIs(ours.kind, theirs.kind, ours)
            self.assertEqual(shape(ours.arguments.construct), shape(theirs.arguments.construct), ours)
            self.assertEqual(shape(ours.result.construct), shape(theirs.result.construct), ours)


def shape(declaration: Any) -> tuple[Any, ...]:
    """
    A layout without what cannot be seen on the wire: names, structs, limits of what varies.
    """
    declaration = unnamed(declaration)
    if isinstance(declaration, composite.Record):
        return tuple(each for field in declaration.subcons for each in shape(field))
    if isinstance(declaration, (composite.Array, composite.Optional)):
        return (type(declaration).__name__, shape(declaration.subcon))
    if isinstance(declaration, composite.Union):
        return tuple((number, shape(arm)) for number, arm in sorted(declaration.arms.items()))
    if isinstance(declaration, (xdr.Enumeration, xdr.Boolean)):
        return ("int",)
    return () if isinstance(declaration, xdr.Void) else (re.sub(r"<\d*>", "<>", layout_text(declaration)),)


class CaptureTests(SynchronousTestCase):
    def test_messages(self) -> None:
        """Captured messages decode to what was meant and encode to the same bytes; so does their JSON."""
        remote = compiled(X_FILES[0])
        for key, is_call, dump, fields in MESSAGES:
            data = bytes.fromhex(dump)
            header = decode_header(data)
            self.assertEqual(header.length, len(data))
            request = remote.find(f"REMOTE_PROC_{key}")
            info = request.__procedure__
            self.assertEqual((header.program, header.version), (info.program.number, info.program.version))
            self.assertEqual(header.procedure, info.number)
            codec = info.arguments if is_call is CALL else info.result
            value = codec.decode(data[HEADER_BYTES:])
            self.assertEqual(codec.encode(value), data[HEADER_BYTES:])
            self.assertEqual(codec.construct.build(value), data[HEADER_BYTES:])
            if is_call is CALL:
                self.assertEqual(to_json(codec, value), fields)
                self.assertEqual(request_from_json(request, fields), value)
            else:
                self.assertEqual(result_to_json(request, value), fields)

    def test_headers(self) -> None:
        """Headers, errors and holes by the types of virnetprotocol.x."""
        types = compiled(X_FILES[3]).types
        for dumps, codec in (
            (HEADERS, codec_of(types["virNetMessageHeader"])),
            (ERRORS, codec_of(types["virNetMessageError"])),
            ((HOLE,), codec_of(types["virNetStreamHole"])),
            (ERRORS, codec_of(compiled(X_FILES[0]).types["remote_error"])),
            (ERRORS, codec_of(ErrorInfo)),
        ):
            for dump, fields in dumps:
                value = codec.decode(bytes.fromhex(dump))
                self.assertEqual(value[:], fields)
                self.assertEqual(codec.encode(value), bytes.fromhex(dump))
        self.assertEqual(decode_hole(bytes.fromhex(HOLE[0])), 1 << 20)
        keepalive = compiled(X_FILES[4])
        for number, name in ((1, "Ping"), (2, "Pong")):
            request = keepalive.find(number)
            self.assertEqual((request.__name__, request.__procedure__.kind), (name, Kind.EVENT))
            self.assertEqual(request.__procedure__.arguments.encode(request()), b"")
