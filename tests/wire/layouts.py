"""Some of libvirt's layouts, in our own words, for the captured messages."""

from __future__ import annotations

from typing import Annotated

from rpcstream.wire import Double, Fixed, Int, Max, Struct, Switch, Text, UChar, UHyper, UInt, UShort, xdr


class Dom(Struct, lenient=True):
    name: Text
    uuid: Annotated[bytes, Fixed(16)]
    id: Int


class Vol(Struct, lenient=True):
    pool: Text
    name: Text
    key: Text


class ConnectOpen(Struct, lenient=True):
    name: Text | None
    flags: UInt


class ListArguments(Struct, lenient=True):
    need: Int
    flags: UInt


class ListResult(Struct, lenient=True):
    domains: Annotated[tuple[Dom, ...], Max(16384)]
    count: UInt


class DomainInfo(Struct, lenient=True):
    state: UChar
    max_memory: UHyper
    memory: UHyper
    cpus: UShort
    cpu_time: UHyper


class NodeInfo(Struct, lenient=True):
    model: Annotated[bytes, xdr.FixedChars(32)]
    memory: UHyper
    cpus: Int
    mhz: Int
    nodes: Int
    sockets: Int
    cores: Int
    threads: Int


class IntParameter(Struct, lenient=True):
    value: Int


class TextParameter(Struct, lenient=True):
    value: Text


class TypedParameter(Struct, lenient=True):
    field: Text
    value: Annotated[
        IntParameter | TextParameter | float, Switch({1: IntParameter, 5: Double, 7: TextParameter})
    ]


class StatsRecord(Struct, lenient=True):
    domain: Dom
    parameters: Annotated[tuple[TypedParameter, ...], Max(262_144)]


class CpuInfo(Struct, lenient=True):
    number: UInt
    state: Int
    cpu_time: UHyper
    cpu: Int


class CpusResult(Struct, lenient=True):
    infos: Annotated[tuple[CpuInfo, ...], Max(16384)]
    maps: Annotated[bytes, Max(8_388_608)]


class MemoryPeek(Struct, lenient=True):
    domain: Dom
    offset: UHyper
    size: UInt
    flags: UInt


class VolumeUpload(Struct, lenient=True):
    volume: Vol
    offset: UHyper
    length: UHyper
    flags: UInt


class Screenshot(Struct, lenient=True):
    domain: Dom
    screen: UInt
    flags: UInt


class EventRegister(Struct, lenient=True):
    event_id: Int
    domain: Dom | None


class LifecycleEvent(Struct, lenient=True):
    callback_id: Int
    domain: Dom
    event: Int
    detail: Int


class SaslStart(Struct, lenient=True):
    mechanism: Text
    nil: Int
    data: Annotated[bytes, xdr.Chars(65536)]


class SaslReply(Struct, lenient=True):
    complete: Int
    nil: Int
    data: Annotated[bytes, xdr.Chars(65536)]


TEST = Dom("test", bytes.fromhex("6695eb01f6a4830479aa97f2502e193f"), 1)
TEST_HEX = "00000004 74657374 6695eb01 f6a48304 79aa97f2 502e193f 00000001"
PEEKED = Annotated[bytes, Max(4_194_304)]
