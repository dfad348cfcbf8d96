"""The real virsh and libvirt-python on our destination."""

from __future__ import annotations

import filecmp
import os
import re
import signal
import socket
import subprocess
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any
from xml.etree.ElementTree import Element, fromstring

from tests.interop.harness import random_file, rpcstream_run
from tests.interop.libvirtd import require_libvirtd, shared_libvirtd
from tests.interop.virsh_case import VirshCase

MIB = 1 << 20


def wait_until(holds: Callable[[], bool], seconds: float = 60) -> None:
    """Until it holds."""
    deadline = time.monotonic() + seconds
    while not holds():
        if time.monotonic() > deadline:
            raise AssertionError("it does not come about")
        time.sleep(0.02)


class CommandTests(VirshCase):
    """Each command that the storage driver has."""

    def whole_life(self, kind: str) -> None:
        """Everything with one volume, by one transport."""

        def run(*command: str) -> str:
            return self.virsh(*command, kind=kind)

        path = str(self.store / "v")
        self.assertIn("default   active   yes", run("pool-list"))
        self.assertRegex(run("pool-info", "default"), r"State: +running\nPersistent: +yes\nAutostart: +yes\n")
        self.assertIn("default", run("pool-list", "--all", "--details"))
        self.assertEqual(run("vol-list", "default"), "")
        run("vol-create-as", "default", "v", "1M", "--format", "raw")
        self.assertRegex(run("vol-list", "default", "--details"), rf"v +{path} +file +1.00 MiB +1.00 MiB")
        self.assertRegex(run("vol-info", "v", "default"), r"Type: +file\nCapacity: +1.00 MiB\n")
        self.assertEqual(run("vol-path", "v", "default"), path)
        self.assertEqual(run("vol-key", "v", "default"), path)
        self.assertEqual(run("vol-name", path), "v")
        self.assertEqual(run("vol-pool", path), "default")
        self.assertEqual(fromstring(run("vol-dumpxml", "v", "default")).findtext("name"), "v")
        self.assertEqual(fromstring(run("pool-dumpxml", "default")).findtext("name"), "default")
        self.assertEqual(run("hostname"), socket.gethostname())
        self.assertEqual(run("uri"), self.uri(kind))
        self.assertIn("Running hypervisor: storage 9.0.0", run("version"))
        self.assertIn("Running against daemon: 9.0.0", run("version", "--daemon"))
        run("pool-refresh", "default")

        content = random_file(self.folder / "content", 64 * MIB)
        run("vol-upload", "v", str(content), "default")
        self.assertTrue(filecmp.cmp(content, path, shallow=False))
        run("vol-download", "v", f"{self.folder}/back", "default")
        self.assertTrue(filecmp.cmp(content, self.folder / "back", shallow=False))
        run("vol-delete", "v", "default")
        self.assertEqual(run("vol-list", "default"), "")

    def test_tls(self) -> None:
        """By TLS."""
        self.whole_life("tls")

    def test_tcp(self) -> None:
        """By TCP."""
        self.whole_life("tcp")

    def test_unix(self) -> None:
        """By a UNIX socket."""
        self.whole_life("unix")

    def test_sparse(self) -> None:
        """Holes stay holes, both ways."""
        source = self.folder / "sparse"
        with source.open("wb") as file:
            file.truncate(64 * MIB)
            for offset in (0, 20 * MIB, 63 * MIB):
                file.seek(offset)
                file.write(os.urandom(300_000))
        self.virsh("vol-create-as", "default", "sparse", "1M", "--allocation", "0")
        self.virsh("vol-upload", "--sparse", "sparse", str(source), "default")
        published = self.store / "sparse"
        self.assertTrue(filecmp.cmp(source, published, shallow=False))
        self.assertLessEqual(published.stat().st_blocks, source.stat().st_blocks + 16)
        # Without keepalive: nothing comes later that would wake a virsh that overlooked something.
        download = ("vol-download", "--sparse", "sparse", f"{self.folder}/back", "default")
        self.virsh(*download, options=("-q", "-k", "0"))
        back = self.folder / "back"
        self.assertTrue(filecmp.cmp(source, back, shallow=False))
        self.assertLessEqual(back.stat().st_blocks, source.stat().st_blocks + 16)
        self.virsh("vol-delete", "sparse", "default")

    def test_window(self) -> None:
        """Offset and length."""
        content = random_file(self.folder / "window", 3 * MIB)
        data = content.read_bytes()
        self.virsh("vol-create-as", "default", "window", "8M")
        self.virsh(
            "vol-upload", "window", str(content), "default", "--offset", "1000", "--length", str(3 * MIB)
        )
        published = (self.store / "window").read_bytes()
        self.assertEqual(published, bytes(1000) + data + bytes(5 * MIB - 1000))
        back = self.folder / "back"
        self.virsh("vol-download", "window", str(back), "default", "--offset", "5000", "--length", "70000")
        self.assertEqual(back.read_bytes(), published[5000:75000])
        self.virsh("vol-download", "window", str(back), "default", "--offset", "99999999")
        self.assertEqual(back.read_bytes(), b"")
        self.virsh("vol-delete", "window", "default")

    def test_sizes(self) -> None:
        """Volumes around the sizes of packets."""
        for size in (0, 1, 262_119, 262_120, 262_121):
            content = random_file(self.folder / "size", size)
            self.virsh("vol-create-as", "default", "size", str(size))
            self.virsh("vol-upload", "size", str(content), "default")
            self.virsh("vol-download", "size", f"{self.folder}/back", "default")
            self.assertEqual((self.folder / "back").read_bytes(), content.read_bytes())
            self.virsh("vol-delete", "size", "default")

    def test_keepalive(self) -> None:
        """virsh pings, and we do; neither gives up.  It would after eight seconds of silence."""
        self.virsh("pool-list", options=("-k", "1", "-K", "30"))
        script = (
            "import time\nlibvirt.virEventRegisterDefaultImpl()\nimport threading\n"
            "def turn():\n    while True:\n        libvirt.virEventRunDefaultImpl()\n"
            "threading.Thread(target=turn, daemon=True).start()\n"
            "c = libvirt.open(uri)\nc.setKeepAlive(2, 3)\ntime.sleep(10)\n"
            "print(c.isAlive(), c.getHostname(), flush=True)\n"
            "import os\nos._exit(0)\n"
        )
        self.assertEqual(self.python(script), f"1 {socket.gethostname()}\n")


class MisuseTests(VirshCase):
    """What goes wrong is told in a sentence, in libvirt's words."""

    def test_misuse(self) -> None:
        """At least ten of them."""
        small = random_file(self.folder / "small", MIB)
        self.virsh("vol-create-as", "default", "v", "1M")
        (self.store / "link").symlink_to("/etc/passwd")
        unsupported = "this function is not supported by the connection driver: "
        for command, words in (
            (("pool-info", "none"), "Storage pool not found: no storage pool with matching name 'none'"),
            (
                ("vol-info", "none", "default"),
                "Storage volume not found: no storage vol with matching path 'none'",
            ),
            (("vol-upload", "none", str(small), "default"), "Storage volume not found"),
            (("vol-create-as", "default", "v", "1M"), "storage volume 'v' exists already"),
            (("vol-create-as", "default", "../x", "1M"), "volume name '../x' cannot contain '/'"),
            (("vol-create-as", "default", ".x", "1M"), "invalid argument: a name must not start with a dot"),
            (("vol-create-as", "default", "x", "1M", "--format", "qcow2"), "unsupported configuration"),
            (("vol-create-as", "default", "x", "100000T"), "File too large"),
            (
                ("vol-upload", "v", str(small), "default", "--length", "100"),
                "cannot write to stream: No space left",
            ),
            (
                ("vol-upload", "v", str(small), "default", "--offset", str(1 << 63)),
                f"to {1 << 63}: Invalid argument",
            ),
            (("vol-upload", "link", str(small), "default"), "Storage volume not found"),
            (("vol-download", "link", "/dev/null", "default"), "Storage volume not found"),
            (("vol-delete", "none", "default"), "Storage volume not found"),
            (("vol-resize", "v", "2M", "default"), unsupported + "virStorageVolResize"),
            (("vol-wipe", "v", "default"), unsupported + "virStorageVolWipe"),
            (("vol-clone", "v", "w", "default"), unsupported + "virStorageVolCreateXMLFrom"),
            (("pool-destroy", "default"), unsupported + "virStoragePoolDestroy"),
            (("list", "--all"), unsupported + "virConnectNumOfDomains"),
            (("nodeinfo",), unsupported + "virNodeGetInfo"),
            (("net-list",), unsupported + "virConnectNumOfNetworks"),
        ):
            self.assertIn(words, self.virsh_fails(*command), command)
        self.assertIn(
            "read only access prevents virStorageVolDelete",
            self.virsh_fails("vol-delete", "v", "default", options=("-r",)),
        )
        self.assertEqual(sorted(os.listdir(self.store)), [".rpcstream", "link", "v"])

    def test_other_drivers(self) -> None:
        """Only storage can be opened."""
        uri = self.uri().replace("storage+", "qemu+")
        done = subprocess.run(["virsh", "-c", uri, "list"], capture_output=True, text=True, check=False)
        self.assertIn("no connection driver available for qemu:///system", done.stderr)

    def test_raw_misuse(self) -> None:
        """What virsh itself would not send."""
        script = (
            "libvirt.registerErrorHandler(lambda *a: None, None)\n"
            "c = libvirt.open(uri)\np = c.storagePoolLookupByName('default')\n"
            "def t(f):\n"
            "    try:\n        f()\n"
            "    except libvirt.libvirtError as e:\n"
            "        print(e.get_error_code(), e.get_error_domain(), e)\n"
            "    else:\n        print('done')\n"
            "t(lambda: p.createXML('<vol'))\n"
            "t(lambda: p.createXML('<volume><capacity>1</capacity></volume>'))\n"
            "t(lambda: p.createXML('<volume><name>n</name></volume>'))\n"
            "t(lambda: p.createXML('<volume><name>n</name><capacity>1</capacity></volume>', 8))\n"
            "t(lambda: p.listAllVolumes(8))\n"
            "t(lambda: c.storagePoolLookupByUUIDString('910ba64f-12ae-4a02-b31b-8d08351ba830'))\n"
            "t(lambda: c.storageVolLookupByKey('x'))\n"
            "t(lambda: c.lookupByName('x'))\n"
            "t(lambda: c.domainEventRegisterAny(None, 0, lambda *a: None, None))\n"
        )
        lines = self.python("libvirt.virEventRegisterDefaultImpl()\n" + script).splitlines()
        expected = [
            "35 18 (storage_volume_definition)", "27 18 XML error: missing volume name element",
            "27 18 XML error: missing capacity element",
            "8 18 unsupported flags (0x8) in function storageVolCreateXML",
            "8 18 unsupported flags (0x8) in function storagePoolListAllVolumes",
            "49 18 Storage pool not found: no storage pool with matching uuid",
            "50 18 Storage volume not found: no storage vol with matching key x",
            "3 20 this function is not supported by the connection driver: virDomainLookupByName",
            "3 20 this function is not supported by the connection driver: virConnectDomainEventRegisterAny",
        ]  # fmt: skip
        for line, words in zip(lines, expected, strict=True):
            self.assertTrue(line.startswith(words), (line, words))


class StreamTests(VirshCase):
    """Several at once, cut short, killed."""

    def is_incomplete(self, name: str) -> bool:
        """What our own client sees."""
        url = f"rpcstream+tls://127.0.0.1:{self.destination.port}/{name}"
        status, lines, error = rpcstream_run("stat", url, pki_folder=self.pki)
        self.assertEqual(status, 0, error)
        return bool(next(line["incomplete"] for line in lines if "incomplete" in line))

    def test_several(self) -> None:
        """Eight uploads and downloads over one connection of libvirt-python, calls in between."""
        for kind in ("tls", "tcp", "unix"):
            self.several(kind)

    def several(self, kind: str) -> None:
        """By one transport."""
        script = f"""
import os
c = libvirt.open(uri)
p = c.storagePoolLookupByName('default')
names = [f'several-{{n}}' for n in range(8)]
volumes = [p.createXML(f'<volume><name>{{n}}</name><capacity>{2 * MIB}</capacity></volume>') for n in names]
data = [os.urandom({2 * MIB}) for _ in names]
streams = []
for volume in volumes:
    stream = c.newStream()
    volume.upload(stream, 0, 0, 0)
    streams.append(stream)
for start in range(0, {2 * MIB}, 131072):
    for stream, content in zip(streams, data):
        part = content[start:start + 131072]
        while part:
            part = part[stream.send(part):]
    assert volumes[0].info()[1] == {2 * MIB}
for stream in streams:
    stream.finish()
back = [b''] * 8
for n, volume in enumerate(volumes):
    streams[n] = c.newStream()
    volume.download(streams[n], 0, 0, 0)
left = set(range(8))
while left:
    for n in sorted(left):
        part = streams[n].recv(100000)
        back[n] += part
        if not part:
            streams[n].finish()
            left.remove(n)
    assert len(p.listVolumes()) == 8
assert back == data
for volume in volumes:
    volume.delete(0)
print(len(p.listVolumes()))
"""
        self.assertEqual(self.python(script, kind), "0\n")

    def fed(self, name: str) -> tuple[subprocess.Popen[str], Any]:
        """A virsh that uploads what is written into a pipe."""
        self.virsh("vol-create-as", "default", name, "32M")
        pipe = self.folder / f"{name}.pipe"
        os.mkfifo(pipe)
        process = self.start("vol-upload", name, str(pipe), "default")
        return process, pipe.open("wb", buffering=0)

    def cut_short(self, name: str, number: signal.Signals) -> None:
        """Half an upload, then a signal: marked, free at once, and mended by a whole one."""
        process, pipe = self.fed(name)
        pipe.write(b"n" * 8 * MIB)
        wait_until(lambda: (self.store / name).read_bytes()[: 4 * MIB] == b"n" * 4 * MIB)
        self.assertTrue(self.is_incomplete(name))
        other = random_file(self.folder / "other", MIB)
        self.assertIn(
            "Requested operation is not valid", self.virsh_fails("vol-upload", name, str(other), "default")
        )
        self.interrupted(process, number)
        pipe.close()
        wait_until(
            lambda: b"incomplete" in self.virsh_fails("vol-download", name, "/dev/null", "default").encode()
        )
        self.assertTrue(self.is_incomplete(name))
        content = random_file(self.folder / "content", 32 * MIB)
        self.virsh("vol-upload", name, str(content), "default")
        self.assertFalse(self.is_incomplete(name))
        self.assertTrue(filecmp.cmp(content, self.store / name, shallow=False))
        self.virsh("vol-delete", name, "default")

    def test_interrupted(self) -> None:
        """Ctrl-C."""
        self.cut_short("interrupted", signal.SIGINT)

    def test_killed(self) -> None:
        """kill -9."""
        self.cut_short("killed", signal.SIGKILL)

    def test_download_interrupted(self) -> None:
        """A reader that goes away leaves nothing open."""
        random_file(self.store / "large", 32 * MIB).chmod(0o600)
        process = self.destination.process
        assert process is not None
        self.virsh("pool-list")
        descriptors = Path(f"/proc/{process.pid}/fd")
        before = len(os.listdir(descriptors))
        pipe = self.folder / "large.pipe"
        os.mkfifo(pipe)
        for number in (signal.SIGINT, signal.SIGKILL):
            virsh = self.start("vol-download", "large", str(pipe), "default")
            with pipe.open("rb", buffering=0) as reader:
                self.assertTrue(reader.read(MIB))
                self.interrupted(virsh, number)
            wait_until(lambda: len(os.listdir(descriptors)) <= before)
        self.virsh("vol-delete", "large", "default")

    def test_aborted(self) -> None:
        """A stream that libvirt-python aborts; the connection goes on."""
        script = f"""
libvirt.registerErrorHandler(lambda *a: None, None)
c = libvirt.open(uri)
p = c.storagePoolLookupByName('default')
v = p.createXML('<volume><name>aborted</name><capacity>{MIB}</capacity></volume>')
s = c.newStream()
v.upload(s, 0, 0, 0)
s.send(b'x' * 1000)
s.abort()
try:
    v.download(c.newStream(), 0, 0, 0)
except libvirt.libvirtError as e:
    print(e.get_error_code())
s = c.newStream()
v.upload(s, 0, 0, 0)
s.send(b'y' * 1000)
s.finish()
s = c.newStream()
v.download(s, 0, 5, 0)
print(s.recv(10))
s.abort()
v.delete(0)
"""
        self.assertEqual(self.python(script), "55\nb'yyyyy'\n")


class FullDiskTests(VirshCase):
    """A pool on a small file system."""

    config = '[pool.small]\ndirectory = "FOLDER/small"\n'

    def prepare(self) -> None:
        """Mount it."""
        small = self.folder / "small"
        small.mkdir()
        mounted = subprocess.run(["mount", "-t", "tmpfs", "-o", "size=4m", "none", str(small)], check=False)
        if mounted.returncode:
            self.skipTest("nothing can be mounted here")
        self.addCleanup(subprocess.run, ["umount", "-l", str(small)], check=True)

    def test_full_disk(self) -> None:
        """It is told, never confirmed."""
        content = random_file(self.folder / "content", 8 * MIB)
        self.virsh("vol-create-as", "small", "v", "0")
        for _ in range(5):
            output = self.virsh_fails("vol-upload", "v", str(content), "small")
            self.assertIn("cannot write to stream: No space left on device", output)


class SameAsLibvirtdTests(VirshCase):
    """Our output and that of libvirtd, for the same content."""

    def test_same(self) -> None:
        """Command by command; what differs of itself is left out."""
        require_libvirtd()
        daemon = shared_libvirtd()
        theirs = daemon.make_pool("same")
        content = random_file(self.folder / "content", MIB)

        def both(*command: str) -> tuple[str, str]:
            ours = self.run_virsh(*command, options=())[1]
            done = subprocess.run(
                ["virsh", "-c", daemon.uri("storage", "/session"),
                 *("same" if word == "default" else word for word in command)],
                capture_output=True, text=True, timeout=60, check=False,
            )  # fmt: skip
            return normal(ours, self.store, "default"), normal(done.stdout + done.stderr, theirs, "same")

        self.addCleanup(both, "vol-delete", "v", "default")
        for command in (
            ("vol-create-as", "default", "v", "1M"),
            ("vol-upload", "v", str(content), "default"),
            ("vol-create-as", "default", "v", "1M"),
            ("vol-create-as", "default", "a/b", "1M"),
            ("vol-list", "default"),
            ("vol-list", "default", "--details"),
            ("vol-info", "v", "default"),
            ("vol-info", "v", "default", "--bytes", "--physical"),
            ("vol-path", "v", "default"),
            ("vol-key", "v", "default"),
            ("vol-info", "none", "default"),
            ("vol-info", "v", "none"),
            ("vol-upload", "v", str(content), "default", "--offset", str(1 << 63)),
            ("vol-upload", "v", str(content), "default", "--offset", "10"),
            ("vol-upload", "v", "/nosuch", "default"),
            ("vol-upload", "--sparse", "v", str(content), "default"),
            ("vol-download", "v", f"{self.folder}/back", "default"),
            ("vol-download", "--sparse", "v", f"{self.folder}/back", "default"),
            ("vol-download", "v", f"{self.folder}/back", "default", "--offset", "10", "--length", "20"),
            ("vol-download", "none", f"{self.folder}/back", "default"),
            ("vol-delete", "none", "default"),
            ("pool-info", "none"),
            ("pool-refresh", "default"),
            ("nodeinfo",),
            ("list", "--all"),
            ("sysinfo",),
            ("maxvcpus",),
            ("net-list",),
            ("secret-list",),
            ("iface-list",),
            ("nwfilter-list",),
        ):
            ours, expected = both(*command)
            self.assertEqual(ours, expected, command)
        for command in (("vol-dumpxml", "v", "default"), ("pool-dumpxml", "default")):
            ours, expected = both(*command)
            self.assertEqual(facts(ours), facts(expected), command)
        # Sizes, the UUID and how a pool came to be are each one's own.
        ours, expected = both("pool-info", "default")
        self.assertEqual(*(re.findall(r"^([A-Z]\w+):", text, re.M) for text in (ours, expected)))
        self.assertEqual(*(re.findall(r"State: (.*)", text) for text in (ours, expected)))
        self.assertEqual(*both("vol-delete", "v", "default"))


def normal(output: str, directory: Path, pool: str) -> str:
    """Without what differs of itself: paths, names of pools, the width of columns."""
    text = output.replace(str(directory), "DIRECTORY").replace(pool, "POOL")
    return re.sub(r"[ -]*\n[ \n-]*", "\n", re.sub(r" +", " ", text)).strip()


def facts(text: str) -> list[tuple[str, dict[str, str], str]]:
    """Elements of XML in order, without what differs of itself."""
    found: list[tuple[str, dict[str, str], str]] = []

    def walk(element: Element) -> None:
        if element.tag in ("timestamps", "uuid", "permissions", "available", "allocation"):
            return
        found.append((element.tag, dict(element.attrib), (element.text or "").strip()))
        for child in element:
            walk(child)

    walk(fromstring(text))
    return found
