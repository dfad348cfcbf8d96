"""
A real guest, under software emulation: started, looked into, talked to.

Its disk is one sector of code that says hello on the serial line and then repeats what it hears.
"""

from __future__ import annotations

import os
from pathlib import Path

from rpcstream import libvirt
from tests.interop.libvirt_case import LibvirtCase, asynchronous
from tests.interop.libvirtd import shared_libvirtd
from tests.peers import require_program

GREETING = b"hello from the guest\r\n"
LOAD_ADDRESS = 0x7C00
"""Where a BIOS puts the first sector."""

CODE = bytes.fromhex(
    "fa 31c0 8ed8 be327c"  # cli; ax = ds = 0; si = the greeting
    "ac 84c0 7405 e81300 ebf6"  # each byte of it: put
    "bafd03 ec a801 74f8"  # wait until the serial port has a byte
    "baf803 ec e80200 ebef"  # take it; put; again
    "50 bafd03 ec a820 74fb"  # put: wait until the port takes one
    "58 baf803 ee c3"  # give it; return
)

DOMAIN = """
<domain type='qemu'>
  <name>guest</name><memory unit='MiB'>32</memory><vcpu>1</vcpu>
  <os><type arch='x86_64' machine='pc'>hvm</type><boot dev='hd'/></os>
  <devices>
    <emulator>{emulator}</emulator>
    <disk type='file' device='disk'>
      <driver name='qemu' type='raw'/><source file='{disk}'/><target dev='hda' bus='ide'/>
    </disk>
    <serial type='pty'/><console type='pty'/>
    <video><model type='vga'/></video><graphics type='vnc' socket='{folder}/vnc'/>
  </devices>
</domain>
"""


def boot_sector() -> bytes:
    """The disk of the guest."""
    return (CODE + GREETING + b"\0").ljust(510, b"\0") + b"\x55\xaa"


class GuestTests(LibvirtCase):
    """A domain of the QEMU driver."""

    def _disk(self, folder: Path) -> Path:
        disk = folder / "disk"
        disk.write_bytes(boot_sector().ljust(1 << 20, b"\0"))
        # QEMU runs as the daemon's user.
        owner = folder.stat()
        os.chown(disk, owner.st_uid, owner.st_gid)
        return disk

    @asynchronous
    async def test_guest(self) -> None:
        """Start it, read its console and write to it, peek its memory and disk, take its picture."""
        emulator = require_program("qemu-system-x86_64")
        daemon = shared_libvirtd()
        disk = self._disk(daemon.folder)
        host = await self.connected(daemon.uri("qemu", "/session", "tls"))
        self.assertEqual("QEMU", await host.type())
        xml = DOMAIN.format(emulator=emulator, disk=disk, folder=daemon.folder)
        domain = await (await host.define_domain(xml, validate=True)).start(paused=True)
        try:
            self.assertEqual(libvirt.DomainState.PAUSED, (await domain.state()).state)
            async with host.domain_events(domain) as events, domain.console() as console:
                await domain.resume()
                self.assertEqual(libvirt.Lifecycle.RESUMED, (await anext(events)).event)
                heard = b""
                while GREETING not in heard:
                    heard += await anext(console)
                await console.send(b"are you there?")
                while b"are you there?" not in heard:
                    heard += await anext(console)
            sector = boot_sector()
            self.assertEqual(sector, await domain.peek_memory(LOAD_ADDRESS, 512, physical=True))
            self.assertEqual(5 << 20, len(await domain.peek_memory(0, 5 << 20, physical=True)))
            self.assertEqual(sector, await domain.peek_block("hda", 0, 512))
            picture = await domain.screenshot()
            self.assertIn(picture.mime, ("image/png", "image/x-portable-pixmap"))
            self.assertGreater(len(picture.data), 1000)
        finally:
            await domain.destroy()
            await domain.undefine()
        self.assertNotIn(domain, await host.domains())
