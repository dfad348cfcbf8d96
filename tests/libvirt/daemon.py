"""
A small libvirt daemon, built from our own server side: one driver, in memory.
"""

from __future__ import annotations

import uuid
from typing import Any

import scramp
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from rpcstream import libvirt
from rpcstream.errors import RPCFailed
from rpcstream.limits import DEFAULT_LIMITS, Limits
from rpcstream.net.calls import Call, DownloadCall, DuplexCall, UploadCall
from rpcstream.net.server import ServerConnection
from rpcstream.net.spool import Hole
from rpcstream.programs import remote
from rpcstream.programs.remote import DomainHandle, PoolHandle, VolumeHandle
from tests.libvirt.network import Network

__all__ = ["DOMAIN", "PASSWORD", "USERNAME", "Daemon", "DaemonCase", "Silent"]

USERNAME, PASSWORD = "fred", "secret"
UUID = uuid.UUID("6695eb01-f6a4-8304-79aa-97f2502e193f").bytes
DOMAIN = DomainHandle("vm", UUID, 1)
POOL = PoolHandle("p", UUID)
_MECHANISM = scramp.ScramMechanism("SCRAM-SHA-256")
_KEYS = _MECHANISM.make_auth_info(PASSWORD, iteration_count=4096)


class Silent:
    """Knows nothing but an event, so answers every call with an error."""

    @remote.DomainEventLifecycle.responder
    def ignore(self, call: Call, event: remote.DomainEventLifecycle) -> None:
        """Nothing."""


class Daemon:
    """
    @ivar auth: what AUTH_LIST offers.
    @ivar features: those that are supported.
    @ivar called: names of the procedures called, in order.
    @ivar opened: what CONNECT_OPEN was given.
    @ivar registered: connection and domain filter by callback id.
    @ivar volumes: content by name.
    @ivar waiting: Deferreds that C{DomainSuspend} and C{NodeGetFreeMemory} wait for.
    """

    def __init__(self) -> None:
        self.auth: tuple[int, ...] = (0,)
        self.features = {10, 14, 15}
        self.mechanisms = "DIGEST-MD5,SCRAM-SHA-256"
        self.polkit: bool | Exception = True
        self.called: list[str] = []
        self.opened: list[remote.ConnectOpen] = []
        self.registered: dict[int, tuple[ServerConnection, DomainHandle | None]] = {}
        self.unnumbered: list[ServerConnection] = []
        self.volumes: dict[str, bytearray] = {}
        self.domain_state = 1
        self.waiting: Deferred[None] | None = None
        self.early_events = 0
        self.peek_short = 0
        self.extra = b""
        self.sparse_refused = False
        self.close_callback_fails = False
        self.steps_needed = 0
        self.sasl_data: bytes | None = None
        self._scram: Any = None

    def _note(self, request: Any) -> None:
        self.called.append(type(request).__name__)

    # --- authentication ----------------------------------------------------------------------

    @remote.AuthList.responder
    def auth_list(self, call: Call, request: remote.AuthList) -> tuple[int, ...]:
        """What is offered."""
        self._note(request)
        return self.auth

    @remote.AuthSaslInit.responder
    def sasl_init(self, call: Call, request: remote.AuthSaslInit) -> str:
        """Begin."""
        self._note(request)
        self._scram = _MECHANISM.make_server(lambda name: _KEYS)
        return self.mechanisms

    @remote.AuthSaslStart.responder
    def sasl_start(self, call: Call, request: remote.AuthSaslStart) -> remote.SaslReply:
        """The client's first message."""
        self._note(request)
        self._scram.set_client_first(request.data.decode())
        first = self.sasl_data or self._scram.get_server_first().encode()
        return remote.SaslReply(False, False, first)

    @remote.AuthSaslStep.responder
    def sasl_step(self, call: Call, request: remote.AuthSaslStep) -> remote.SaslReply:
        """The client's proof; then nothing more."""
        self._note(request)
        if request.nil:
            self.steps_needed -= 1
            return remote.SaslReply(self.steps_needed <= 0, True, b"")
        try:
            self._scram.set_client_final(request.data.decode())
        except scramp.ScramException:
            raise remote.AuthenticationFailed("authentication failed", domain=7) from None
        return remote.SaslReply(self.steps_needed <= 0, False, self._scram.get_server_final().encode())

    @remote.AuthPolkit.responder
    def auth_polkit(self, call: Call, request: remote.AuthPolkit) -> bool:
        """The dialog's outcome."""
        self._note(request)
        if isinstance(self.polkit, Exception):
            raise self.polkit
        return self.polkit

    # --- the connection ----------------------------------------------------------------------

    @remote.ConnectSupportsFeature.responder
    def supports(self, call: Call, request: remote.ConnectSupportsFeature) -> bool:
        """One feature."""
        self.called.append(f"feature {request.feature}")
        if request.feature == 15 and 15 not in self.features:
            raise RPCFailed("unknown feature")
        return request.feature in self.features

    @remote.ConnectOpen.responder
    def connect_open(self, call: Call, request: remote.ConnectOpen) -> None:
        """Open the driver."""
        self._note(request)
        self.opened.append(request)
        if request.name == "nosuch:///":
            raise remote.NoConnect("no connection driver available for nosuch:///", domain=0)

    @remote.ConnectClose.responder
    def connect_close(self, call: Call, request: remote.ConnectClose) -> None:
        """Answer; the client closes."""
        self._note(request)

    @remote.ConnectRegisterCloseCallback.responder
    def register_close(self, call: Call, request: remote.ConnectRegisterCloseCallback) -> None:
        """Not every driver can."""
        self._note(request)
        if self.close_callback_fails:
            raise remote.OperationUnsupported("this driver cannot")

    @remote.ConnectGetVersion.responder
    def version(self, call: Call, request: remote.ConnectGetVersion) -> int:
        """7.2.22."""
        return 7002022

    @remote.ConnectGetLibVersion.responder
    def lib_version(self, call: Call, request: remote.ConnectGetLibVersion) -> int:
        """9.0.0."""
        return 9000000

    @remote.ConnectGetType.responder
    def type(self, call: Call, request: remote.ConnectGetType) -> str:
        """The driver."""
        return "TEST"

    @remote.ConnectGetURI.responder
    def uri(self, call: Call, request: remote.ConnectGetURI) -> str:
        """Its URI."""
        return "test:///default"

    @remote.ConnectGetHostname.responder
    def hostname(self, call: Call, request: remote.ConnectGetHostname) -> Any:
        """A name; held back while C{waiting}."""
        self._note(request)
        return self.waiting.addCallback(lambda _: "host") if self.waiting is not None else "host"

    @remote.ConnectGetCapabilities.responder
    def capabilities(self, call: Call, request: remote.ConnectGetCapabilities) -> str:
        """Some XML."""
        return "<capabilities/>"

    @remote.NodeGetInfo.responder
    def node_info(self, call: Call, request: remote.NodeGetInfo) -> remote.NodeInfo:
        """The hardware."""
        return remote.NodeInfo(b"i686".ljust(32, b"\0"), 3145728, 16, 1400, 2, 2, 2, 2)

    @remote.NodeGetFreeMemory.responder
    def free_memory(self, call: Call, request: remote.NodeGetFreeMemory) -> int:
        """Bytes."""
        return 1 << 30

    # --- domains -----------------------------------------------------------------------------

    @remote.ConnectListAllDomains.responder
    def list_domains(self, call: Call, request: remote.ConnectListAllDomains) -> remote.DomainList:
        """One, whose name is not UTF-8, and ours."""
        self._note(request)
        odd = DomainHandle(b"caf\xe9".decode("utf-8", "surrogateescape"), bytes(16), -1)
        return remote.DomainList((DOMAIN, odd), 2)

    @remote.DomainLookupByName.responder
    def by_name(self, call: Call, request: remote.DomainLookupByName) -> DomainHandle:
        """Ours."""
        if request.name != "vm":
            raise remote.NoDomain("Domain not found", domain=12, str1="Domain not found")
        return DOMAIN

    @remote.DomainLookupByUUID.responder
    def by_uuid(self, call: Call, request: remote.DomainLookupByUUID) -> DomainHandle:
        """Ours."""
        return DOMAIN

    @remote.DomainLookupByID.responder
    def by_id(self, call: Call, request: remote.DomainLookupByID) -> DomainHandle:
        """Ours."""
        return DOMAIN

    @remote.DomainGetInfo.responder
    def domain_info(self, call: Call, request: remote.DomainGetInfo) -> remote.DomainInfo:
        """Numbers."""
        return remote.DomainInfo(self.domain_state, 8388608, 2097152, 2, 5)

    @remote.DomainGetState.responder
    def get_state(self, call: Call, request: remote.DomainGetState) -> remote.DomainStateReply:
        """Numbers."""
        return remote.DomainStateReply(self.domain_state, 3)

    @remote.DomainIsActive.responder
    def is_active(self, call: Call, request: remote.DomainIsActive) -> bool:
        """Yes."""
        return True

    @remote.DomainGetXMLDesc.responder
    def domain_xml(self, call: Call, request: remote.DomainGetXMLDesc) -> str:
        """The flags."""
        return f"<domain flags='{request.flags}'/>"

    @remote.DomainCreateXML.responder
    @remote.DomainDefineXML.responder
    @remote.DomainDefineXMLFlags.responder
    @remote.DomainCreateWithFlags.responder
    def create(self, call: Call, request: Any) -> DomainHandle:
        """Ours."""
        self._note(request)
        return DOMAIN

    @remote.DomainShutdown.responder
    @remote.DomainDestroy.responder
    @remote.DomainDestroyFlags.responder
    @remote.DomainReboot.responder
    @remote.DomainReset.responder
    @remote.DomainResume.responder
    @remote.DomainUndefine.responder
    @remote.DomainUndefineFlags.responder
    def change(self, call: Call, request: Any) -> None:
        """Noted only."""
        self._note(request)

    @remote.DomainSuspend.responder
    def suspend(self, call: Call, request: remote.DomainSuspend) -> Any:
        """Held back while C{waiting}."""
        self._note(request)
        return self.waiting

    @remote.DomainMemoryPeek.responder
    @remote.DomainBlockPeek.responder
    def peek(self, call: Call, request: Any) -> bytes:
        """A byte for each address; C{peek_short} too few."""
        self.called.append(f"peek {request.offset} {request.size} {request.flags}")
        return bytes((request.offset + index) & 0xFF for index in range(request.size - self.peek_short))

    @remote.DomainScreenshot.responder
    async def screenshot(self, call: DownloadCall[str | None], request: remote.DomainScreenshot) -> None:
        """Not really a picture; screen 1 has no type."""
        await call.accept("image/png" if not request.screen else None).send(b"picture")

    @remote.DomainOpenConsole.responder
    @remote.DomainOpenChannel.responder
    async def console(self, call: DuplexCall[None], request: Any) -> None:
        """Says what it hears."""
        self.called.append(f"{type(request).__name__} {request.flags}")
        stream = call.accept(None)
        async for data in stream:
            await stream.send(data)

    # --- events ------------------------------------------------------------------------------

    @remote.ConnectDomainEventCallbackRegisterAny.responder
    def register(self, call: Call, request: remote.ConnectDomainEventCallbackRegisterAny) -> int:
        """C{early_events} of them are sent before the reply."""
        self._note(request)
        if request.domain is not None and request.domain.name == "gone":
            raise remote.NoDomain("Domain not found")
        callback_id = len(self.registered)
        self.registered[callback_id] = (call.connection, request.domain)
        for detail in range(self.early_events):
            self.emit(callback_id, detail)
        return callback_id

    @remote.ConnectDomainEventCallbackDeregisterAny.responder
    def deregister(self, call: Call, request: remote.ConnectDomainEventCallbackDeregisterAny) -> None:
        """Forget it."""
        self._note(request)
        del self.registered[request.callback_id]

    @remote.ConnectDomainEventRegisterAny.responder
    def register_unnumbered(self, call: Call, request: remote.ConnectDomainEventRegisterAny) -> None:
        """Of old."""
        self._note(request)
        self.unnumbered.append(call.connection)

    @remote.ConnectDomainEventDeregisterAny.responder
    def deregister_unnumbered(self, call: Call, request: remote.ConnectDomainEventDeregisterAny) -> None:
        """Of old."""
        self._note(request)
        self.unnumbered.remove(call.connection)

    def emit(self, callback_id: int, detail: int, event: int = 3) -> None:
        """A lifecycle event for one registration."""
        connection, _ = self.registered[callback_id]
        connection.emit(remote.DomainEventCallbackLifecycle(callback_id, DOMAIN, event, detail))

    # --- storage -----------------------------------------------------------------------------

    @remote.ConnectListAllStoragePools.responder
    def list_pools(self, call: Call, request: remote.ConnectListAllStoragePools) -> remote.PoolList:
        """Ours."""
        return remote.PoolList((POOL,), 1)

    @remote.StoragePoolLookupByName.responder
    @remote.StoragePoolLookupByUUID.responder
    @remote.StoragePoolLookupByVolume.responder
    @remote.StoragePoolCreateXML.responder
    @remote.StoragePoolDefineXML.responder
    def pool(self, call: Call, request: Any) -> PoolHandle:
        """Ours."""
        self._note(request)
        if getattr(request, "name", "p") != "p":
            raise remote.NoStoragePool("no pool")
        return POOL

    @remote.StoragePoolGetInfo.responder
    def pool_info(self, call: Call, request: remote.StoragePoolGetInfo) -> remote.PoolInfo:
        """Numbers."""
        return remote.PoolInfo(2, 100, 60, 40)

    @remote.StoragePoolIsActive.responder
    def pool_is_active(self, call: Call, request: remote.StoragePoolIsActive) -> bool:
        """Yes."""
        return True

    @remote.StoragePoolGetXMLDesc.responder
    @remote.StorageVolGetXMLDesc.responder
    @remote.StorageVolGetPath.responder
    def text(self, call: Call, request: Any) -> str:
        """The name of the procedure."""
        return type(request).__name__

    @remote.StoragePoolBuild.responder
    @remote.StoragePoolCreate.responder
    @remote.StoragePoolRefresh.responder
    @remote.StoragePoolDestroy.responder
    @remote.StoragePoolDelete.responder
    @remote.StoragePoolUndefine.responder
    @remote.StorageVolWipe.responder
    @remote.StorageVolResize.responder
    def change_storage(self, call: Call, request: Any) -> None:
        """Noted only."""
        flags = getattr(request, "flags", 0)
        self.called.append(f"{type(request).__name__} {flags}" if flags else type(request).__name__)

    @remote.StoragePoolListAllVolumes.responder
    def list_volumes(self, call: Call, request: remote.StoragePoolListAllVolumes) -> remote.VolumeList:
        """All."""
        return remote.VolumeList(tuple(map(self._volume, self.volumes)), len(self.volumes))

    @staticmethod
    def _volume(name: str) -> VolumeHandle:
        return VolumeHandle("p", name, f"/p/{name}")

    @remote.StorageVolLookupByName.responder
    def volume_by_name(self, call: Call, request: remote.StorageVolLookupByName) -> VolumeHandle:
        """By name."""
        if request.name not in self.volumes:
            raise remote.NoVolume("no volume")
        return self._volume(request.name)

    @remote.StorageVolLookupByKey.responder
    @remote.StorageVolLookupByPath.responder
    def volume_by_path(self, call: Call, request: Any) -> VolumeHandle:
        """By its last part."""
        return self._volume(request.__getnewargs__()[0].rpartition("/")[2])

    @remote.StorageVolGetInfo.responder
    def volume_info(self, call: Call, request: remote.StorageVolGetInfo) -> remote.VolumeInfo:
        """Sizes."""
        size = len(self.volumes[request.volume.name])
        return remote.VolumeInfo(0, size, size)

    @remote.StorageVolCreateXML.responder
    def create_volume(self, call: Call, request: remote.StorageVolCreateXML) -> VolumeHandle:
        """Named as in the XML."""
        self.called.append(request.xml)
        name = request.xml.partition("<name>")[2].partition("</name>")[0]
        if name in self.volumes:
            raise remote.VolumeExists("exists")
        self.volumes[name] = bytearray()
        return self._volume(name)

    @remote.StorageVolDelete.responder
    def delete_volume(self, call: Call, request: remote.StorageVolDelete) -> None:
        """Gone."""
        del self.volumes[request.volume.name]

    def _content(self, name: str) -> bytearray:
        if name not in self.volumes:
            raise remote.NoVolume("no volume")
        return self.volumes[name]

    @remote.StorageVolUpload.responder
    async def upload(self, call: UploadCall[None], request: remote.StorageVolUpload) -> None:
        """Into C{volumes}."""
        self.called.append(f"upload {request.offset} {request.length} {request.flags}")
        content = self._content(request.volume.name)
        offset = request.offset
        async for piece in call.accept(None, sparse=bool(request.flags)).pieces():
            data = bytes(piece.length) if isinstance(piece, Hole) else piece
            content[offset : offset + len(data)] = data
            offset += len(data)

    @remote.StorageVolDownload.responder
    async def download(self, call: DownloadCall[None], request: remote.StorageVolDownload) -> None:
        """From C{volumes}, and C{extra} behind it; 4 KiB of zeros are a hole."""
        self._note(request)
        content = self._content(request.volume.name)[request.offset :]
        data = bytes(content[: request.length] if request.length else content) + self.extra
        stream = call.accept(None, sparse=bool(request.flags))
        for offset in range(0, len(data), 4096):
            part = data[offset : offset + 4096]
            if request.flags and not any(part):
                await stream.send_hole(len(part))
            else:
                await stream.send(part)


class DaemonCase(SynchronousTestCase):
    """Tests with a daemon and a network to it."""

    limits: Limits = DEFAULT_LIMITS

    def setUp(self) -> None:
        self.daemon = Daemon()
        self.network = Network(self.daemon)

    def connect(self, uri: str = "test+unix:///default?socket=/s", **options: Any) -> libvirt.Connection:
        """A connection to the daemon."""
        options.setdefault("endpoint", self.network)
        options.setdefault("runner", self.network.runner)
        opening = libvirt.connect(uri, reactor=self.network.clock, limits=self.limits, **options)
        return self.network.result_of(opening)

    def result_of(self, deferred: Deferred[Any]) -> Any:
        """See L{Network.result_of}."""
        return self.network.result_of(deferred)

    def error_of(self, kind: type[Exception], deferred: Deferred[Any]) -> Any:
        """The exception that C{deferred} must fail with."""
        return self.assertRaises(kind, self.network.result_of, deferred)
