"""
A domain: a virtual machine or container of a host.
"""

from __future__ import annotations

import uuid
from pathlib import Path
from typing import Any, NamedTuple

from twisted.internet.defer import Deferred

from rpcstream.errors import BadValue, ProtocolViolation
from rpcstream.libvirt.handles import Bound
from rpcstream.limits import MIB
from rpcstream.net.duplex import DuplexStream
from rpcstream.net.opening import Opening
from rpcstream.programs import remote
from rpcstream.programs.base import Procedure
from rpcstream.programs.remote import PEEK_BYTES, DomainHandle, DomainState

__all__ = ["Domain", "DomainInfo", "Screenshot", "StateReason"]

SCREENSHOT_BYTES = 256 * MIB
"""Longest screenshot taken into memory: 8K in 32 bits is 128 MiB."""


class DomainInfo(NamedTuple):
    """
    @ivar state: a number if it is newer than this library.
    @ivar max_memory_kib: in units of 1024 bytes, as C{memory_kib}.
    @ivar cpu_time_ns: processor time used.
    """

    state: DomainState | int
    max_memory_kib: int
    memory_kib: int
    vcpu_count: int
    cpu_time_ns: int


class StateReason(NamedTuple):
    """
    @ivar reason: how it came to it; what the number means depends on the state.
    """

    state: DomainState | int
    reason: int


class Screenshot(NamedTuple):
    """
    @ivar mime: what the data is: C{image/png}, C{image/x-portable-pixmap}; C{""} if unknown.
    """

    mime: str
    data: bytes


def _state(number: int) -> DomainState | int:
    return DomainState(number) if number in DomainState._value2member_map_ else number


class Domain(Bound[DomainHandle]):
    """
    A domain.  It is found by its UUID, so it stays the same when it is started anew.
    """

    __slots__ = ()

    @property
    def uuid(self) -> uuid.UUID:
        """What names it everywhere."""
        return uuid.UUID(bytes=self.wire.uuid)

    @property
    def id(self) -> int:
        """Its number when this value was made, -1 when it did not run."""
        return self.wire.id

    def _identity(self) -> object:
        return self.wire.uuid

    # --- looking ---------------------------------------------------------------------------

    def info(self) -> Deferred[DomainInfo]:
        """State, memory, processors."""

        def plain(info: remote.DomainInfo) -> DomainInfo:
            return DomainInfo(
                _state(info.state), info.max_memory_kib, info.memory_kib, info.vcpu_count, info.cpu_time_ns
            )

        return self.host.call(remote.DomainGetInfo(self.wire)).addCallback(plain)

    def state(self) -> Deferred[StateReason]:
        """State, and how it came to it."""
        called = self.host.call(remote.DomainGetState(self.wire))
        return called.addCallback(lambda reply: StateReason(_state(reply.state), reply.reason))

    def is_active(self) -> Deferred[bool]:
        """Whether it runs."""
        return self.host.call(remote.DomainIsActive(self.wire))

    def xml(self, *, secure: bool = False, inactive: bool = False) -> Deferred[str]:
        """
        Its description.

        @param secure: with passwords.
        @param inactive: as at its next start.
        """
        return self.host.call(remote.DomainGetXMLDesc(self.wire, secure | inactive << 1))

    # --- changing --------------------------------------------------------------------------

    def start(self, *, paused: bool = False) -> Deferred[Domain]:
        """Start it; fires with it, its new C{id} known."""
        return self._long(remote.DomainCreateWithFlags(self.wire, int(paused))).addCallback(
            self.host.bind_domain
        )

    def shutdown(self) -> Deferred[None]:
        """Press the power button: the guest may take its time, or not react."""
        return self._long(remote.DomainShutdown(self.wire))

    def destroy(self, *, graceful: bool = False) -> Deferred[None]:
        """
        Pull the plug.

        @param graceful: fail rather than kill a hypervisor that does not end.
        """
        if graceful:
            return self._long(remote.DomainDestroyFlags(self.wire, 1))
        return self._long(remote.DomainDestroy(self.wire))

    def reboot(self) -> Deferred[None]:
        """Ask the guest to start again."""
        return self._long(remote.DomainReboot(self.wire))

    def reset(self) -> Deferred[None]:
        """Press the reset button."""
        return self._long(remote.DomainReset(self.wire))

    def suspend(self) -> Deferred[None]:
        """Stop its processors."""
        return self._long(remote.DomainSuspend(self.wire))

    def resume(self) -> Deferred[None]:
        """Let them go on."""
        return self._long(remote.DomainResume(self.wire))

    def undefine(self, flags: int = 0) -> Deferred[None]:
        """
        Forget its definition.

        @param flags: of L{remote.DomainUndefineFlags}.
        """
        if flags:
            return self._long(remote.DomainUndefineFlags(self.wire, flags))
        return self._long(remote.DomainUndefine(self.wire))

    def _long(self, request: Procedure[Any]) -> Deferred[Any]:
        """What a hypervisor does takes as long as it takes; keepalive watches the daemon."""
        return self.host.call(request, timeout_seconds=None)

    # --- memory and disks ------------------------------------------------------------------

    def peek_memory(self, offset: int, length: int, *, physical: bool = False) -> Deferred[bytes]:
        """
        Read its memory, 4 MiB a call; a running guest changes it meanwhile.

        @param physical: C{offset} is a physical address, not a virtual one.
        """

        def request(at: int, size: int) -> Procedure[bytes]:
            return remote.DomainMemoryPeek(self.wire, at, size, 2 if physical else 1)

        return Deferred.fromCoroutine(self._peek(request, offset, length))

    def peek_block(self, path: str, offset: int, length: int) -> Deferred[bytes]:
        """
        Read one of its disks, 4 MiB a call.

        @param path: the image's path, or the name of the disk (C{vda}).
        """

        def request(at: int, size: int) -> Procedure[bytes]:
            return remote.DomainBlockPeek(self.wire, path, at, size)

        return Deferred.fromCoroutine(self._peek(request, offset, length))

    async def _peek(self, request: Any, offset: int, length: int) -> bytes:
        if offset < 0 or length < 0:
            raise BadValue("length" if offset >= 0 else "offset", "less than nothing")
        parts = []
        while length > 0:
            size = min(length, PEEK_BYTES)
            data: bytes = await self.host.call(request(offset, size))
            if len(data) != size:
                raise ProtocolViolation("short-peek", f"{len(data)} bytes came for a peek of {size}")
            parts.append(data)
            offset, length = offset + size, length - size
        return b"".join(parts)

    # --- streams ---------------------------------------------------------------------------

    def screenshot(self, screen: int = 0, *, shared: bool = False) -> Deferred[Screenshot]:
        """
        What a screen shows, taken into memory; at most L{SCREENSHOT_BYTES}.

        @param shared: see L{Host.open<rpcstream.libvirt.host.Host.open>}; so of the others.
        """
        return Deferred.fromCoroutine(self._screenshot(screen, shared))

    async def _screenshot(self, screen: int, shared: bool) -> Screenshot:
        async with self.host.open(remote.DomainScreenshot(self.wire, screen), shared=shared) as stream:
            data = await stream.read(limit_bytes=SCREENSHOT_BYTES)
            return Screenshot(stream.reply or "", data)

    def save_screenshot(
        self, path: Path, screen: int = 0, *, replace: bool = False, shared: bool = False
    ) -> Deferred[str]:
        """
        What a screen shows, into a file that appears when it is complete.

        @return: fires with the MIME type.
        @raise NameExists: the file exists and C{replace} is false.
        """

        async def save() -> str:
            request = remote.DomainScreenshot(self.wire, screen)
            async with self.host.open(request, shared=shared) as stream:
                await stream.save_to(path, replace=replace)
                return stream.reply or ""

        return Deferred.fromCoroutine(save())

    def console(
        self, device: str | None = None, *, force: bool = False, safe: bool = False, shared: bool = False
    ) -> Opening[DuplexStream[None]]:
        """
        A serial console; fires with a stream both ways.

        @param device: alias of the console, C{None} for the first.
        @param force: throw out who has it.
        @param safe: refuse where the driver cannot keep two apart.
        """
        request = remote.DomainOpenConsole(self.wire, device, force | safe << 1)
        return self.host.open(request, shared=shared)

    def channel(self, name: str | None = None, *, shared: bool = False) -> Opening[DuplexStream[None]]:
        """A virtio channel, as L{console}."""
        return self.host.open(remote.DomainOpenChannel(self.wire, name), shared=shared)
