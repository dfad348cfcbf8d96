"""
What Wireshark's dissector for libvirt makes of our client's talk with the real libvirtd.
"""

from __future__ import annotations

from typing import Any

from twisted.internet import reactor
from twisted.internet.task import deferLater
from twisted.internet.threads import deferToThread

from rpcstream import libvirt
from rpcstream.limits import MIB
from tests.interop.harness import random_file
from tests.interop.libvirt_case import LibvirtCase, asynchronous
from tests.interop.libvirtd import shared_libvirtd
from tests.interop.test_dissector import Capture, dissecting_tshark

EXPECTED = (
    ("AUTH_LIST", "CALL"),
    ("AUTH_LIST", "REPLY"),
    ("CONNECT_SUPPORTS_FEATURE", "CALL"),
    ("CONNECT_OPEN", "CALL"),
    ("CONNECT_REGISTER_CLOSE_CALLBACK", "CALL"),
    ("CONNECT_LIST_ALL_DOMAINS", "CALL"),
    ("CONNECT_DOMAIN_EVENT_CALLBACK_REGISTER_ANY", "CALL"),
    ("DOMAIN_EVENT_CALLBACK_LIFECYCLE", "MESSAGE"),
    ("DOMAIN_GET_INFO", "REPLY"),
    ("DOMAIN_MEMORY_PEEK", "CALL"),
    ("DOMAIN_SCREENSHOT", "STREAM"),
    ("STORAGE_VOL_CREATE_XML", "CALL"),
    ("STORAGE_VOL_UPLOAD", "CALL"),
    ("STORAGE_VOL_UPLOAD", "STREAM"),
    ("STORAGE_VOL_DOWNLOAD", "STREAM"),
    ("CONNECT_CLOSE", "CALL"),
)


class DissectorTests(LibvirtCase):
    """Our client in plain TCP, captured and dissected."""

    @asynchronous
    async def test_client(self) -> None:
        """No malformed packet, and each procedure has its name."""
        tshark = dissecting_tshark()
        daemon = shared_libvirtd()
        capture = Capture(tshark, self.folder.absolute(), daemon.tcp_port)
        self.addCleanup(capture.stop)
        await deferToThread(capture.wait_until_running)
        await self._talk(daemon)
        texts: list[str] = []
        for _ in range(100):
            rows = await deferToThread(capture.read, "libvirt", "_ws.col.Info")
            texts = [text for (text,) in rows]
            # What has passed is not at once in the file.
            if sum("CONNECT_CLOSE Type=REPLY" in text for text in texts) >= 5:
                break
            await deferLater(reactor, 0.2)  # type: ignore[arg-type]
        capture.stop()
        # Of what libvirtd sends in a download it finds some malformed, also when virsh asks for it.
        ours = f"_ws.malformed && tcp.dstport == {daemon.tcp_port}"
        self.assertEqual([], capture.read(ours, "frame.number", "_ws.col.Info"))
        for name, kind in EXPECTED:
            wanted = f"Prog=REMOTE Proc={name} Type={kind} "
            self.assertTrue(any(wanted in text for text in texts), (wanted, texts))
        # The column shows the last message of a TCP segment, and a hole may share one with what follows.
        upload_holes = "libvirt.type == 6 && libvirt.procedure == 208"
        self.assertNotEqual([], capture.read(upload_holes, "frame.number"))

    async def _talk(self, daemon: Any) -> None:
        """A bit of everything."""
        async with libvirt.connect(daemon.uri(kind="tcp")) as host:
            (domain,) = await host.domains()
            async with host.domain_events() as events:
                await domain.suspend()
                await anext(events)
                await domain.resume()
            await domain.info()
            await domain.peek_memory(0, 16)
            await domain.screenshot()
        source = random_file(self.folder / "source", MIB)
        with source.open("r+b") as file:
            file.truncate(8 * MIB)
        async with libvirt.connect(daemon.uri("storage", "/session", "tcp")) as host:
            volume = await (await host.pool("p")).create_volume("dissected", capacity_bytes=8 * MIB)
            await volume.upload(source, sparse=True)
            await volume.download(self.folder / "copy", sparse=True)
            await volume.delete()
