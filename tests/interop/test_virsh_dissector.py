"""What Wireshark's dissector for libvirt makes of our server's talk with the real virsh."""

from __future__ import annotations

import time

from tests.interop.harness import random_file
from tests.interop.test_dissector import Capture, dissecting_tshark
from tests.interop.virsh_case import VirshCase

EXPECTED = (
    ("AUTH_LIST", "REPLY"),
    ("CONNECT_SUPPORTS_FEATURE", "REPLY"),
    ("CONNECT_OPEN", "REPLY"),
    ("CONNECT_LIST_ALL_STORAGE_POOLS", "REPLY"),
    ("STORAGE_POOL_GET_INFO", "REPLY"),
    ("STORAGE_POOL_LIST_ALL_VOLUMES", "REPLY"),
    ("STORAGE_VOL_CREATE_XML", "REPLY"),
    ("STORAGE_VOL_GET_INFO", "REPLY"),
    ("STORAGE_VOL_GET_XML_DESC", "REPLY"),
    ("STORAGE_VOL_LOOKUP_BY_NAME", "REPLY"),
    ("STORAGE_VOL_UPLOAD", "STREAM"),
    ("STORAGE_VOL_DOWNLOAD", "REPLY"),
    ("STORAGE_VOL_DOWNLOAD", "STREAM"),
    ("CONNECT_LIST_ALL_DOMAINS", "REPLY"),
    ("CONNECT_CLOSE", "REPLY"),
)


class DissectorTests(VirshCase):
    """Our server in plain TCP, captured and dissected."""

    def test_server(self) -> None:
        """No malformed packet, and each procedure has its name."""
        tshark = dissecting_tshark()
        capture = Capture(tshark, self.folder, self.tcp_port)
        self.addCleanup(capture.stop)
        capture.wait_until_running()
        source = self.folder / "source"
        with source.open("wb") as file:
            # A hole first: of messages in one segment only one is named.
            file.seek(1 << 20)
            file.write(random_file(self.folder / "data", 100_000).read_bytes())
        for command in (
            ("pool-list", "--all", "--details"),
            ("vol-create-as", "default", "v", "1M"),
            ("vol-list", "default", "--details"),
            ("vol-dumpxml", "v", "default"),
            ("vol-upload", "--sparse", "v", str(source), "default"),
            ("vol-download", "v", f"{self.folder}/back", "default"),
        ):
            self.virsh(*command, kind="tcp")
        self.virsh_fails("list", kind="tcp")
        self.virsh_fails("vol-info", "none", "default", kind="tcp")
        texts: list[str] = []
        deadline = time.monotonic() + 60
        while sum("CONNECT_CLOSE Type=REPLY" in text for text in texts) < 8 and time.monotonic() < deadline:
            time.sleep(0.2)
            texts = [text for (text,) in capture.read("libvirt", "_ws.col.Info")]
        capture.stop()
        self.assertEqual([], capture.read("_ws.malformed", "frame.number", "_ws.col.Info"))
        for name, kind in EXPECTED:
            wanted = f"Prog=REMOTE Proc={name} Type={kind} "
            self.assertTrue(any(wanted in text for text in texts), (wanted, texts))
        # The column shows the last message of a TCP segment, and a hole may share one with what follows.
        upload_holes = "libvirt.type == 6 && libvirt.procedure == 208"
        self.assertNotEqual([], capture.read(upload_holes, "frame.number"))
