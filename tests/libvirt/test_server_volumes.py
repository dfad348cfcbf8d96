"""The libvirt server: volumes, and their XML."""

from __future__ import annotations

import os
from typing import Any

from defusedxml.ElementTree import fromstring

from rpcstream.errors import AccessDenied, InvalidArgument, RemoteError, SystemCallFailed
from rpcstream.libvirt.server_xml import NewVolume, parse_volume
from rpcstream.programs import remote
from rpcstream.programs import remote_storage_names as names
from rpcstream.programs.remote import VolumeHandle, VolumeInfo
from rpcstream.services.policy import Rule, RulePolicy
from rpcstream.storage.extents import LARGEST_BYTES
from tests.libvirt.server_case import URI, ServerCase


class LookupTests(ServerCase):
    """Finding and describing."""

    def setUp(self) -> None:
        super().setUp()
        self.disk = self.volume(content=b"x" * 5000)

    def test_list(self) -> None:
        """What is served, and nothing else."""
        (self.store / "link").symlink_to("/etc/passwd")
        (self.store / ".hidden").write_bytes(b"")
        (self.store / "directory").mkdir()
        self.volume("other", b"")
        found = self.call(remote.StoragePoolListAllVolumes(self.pool, 1, 0))
        self.assertEqual([volume.name for volume in found.volumes], ["disk", "other"])
        self.assertEqual(found.volumes[0], self.disk)
        count_only = self.call(remote.StoragePoolListAllVolumes(self.pool, 0, 0))
        self.assertEqual(count_only, remote.VolumeList((), 2))
        self.assertEqual(self.call(names.StoragePoolNumOfVolumes(self.pool)), 2)
        self.assertEqual(self.call(names.StoragePoolListVolumes(self.pool, 1)), ("disk",))
        self.refused(remote.StoragePoolListAllVolumes(self.pool, 1, 8), InvalidArgument)

    def test_lookup(self) -> None:
        """By name, key and path."""
        self.assertEqual(self.call(remote.StorageVolLookupByName(self.pool, "disk")), self.disk)
        self.assertEqual(self.call(remote.StorageVolLookupByKey(self.disk.key)), self.disk)
        self.assertEqual(self.call(remote.StorageVolLookupByPath(f"{self.store}//disk")), self.disk)

    def test_missing(self) -> None:
        """In libvirt's words; names that cannot be names are missing, too."""
        for name in ("x", "", ".", "../disk", "a\nb", "x" * 256, "\udcff"):
            error = self.refused(remote.StorageVolLookupByName(self.pool, name), remote.NoVolume)
            self.assertEqual((error.code, error.domain), (50, 18))
        self.assertEqual(
            self.refused(remote.StorageVolLookupByName(self.pool, "x")).message,
            "Storage volume not found: no storage vol with matching name 'x'",
        )
        error = self.refused(remote.StorageVolLookupByKey("k"), remote.NoVolume)
        self.assertEqual(error.str2, "no storage vol with matching key k")
        for path in ("/etc/passwd", str(self.store), f"{self.store}/", f"{self.store}/none", "disk", ""):
            error = self.refused(remote.StorageVolLookupByPath(path), remote.NoVolume)
            self.assertEqual(error.str2, f"no storage vol with matching path '{path}'")
        for request in (remote.StorageVolGetInfo, remote.StorageVolGetXMLDesc, remote.StorageVolGetPath):
            self.refused(request(self.volume("none")), remote.NoVolume)
            self.refused(request(VolumeHandle("none", "disk", "")), remote.NoStoragePool)

    def test_links(self) -> None:
        """A link is not followed, whoever names it."""
        (self.store / "link").symlink_to(self.store / "disk")
        for request in (
            remote.StorageVolLookupByName(self.pool, "link"),
            remote.StorageVolLookupByPath(f"{self.store}/link"),
            remote.StorageVolGetInfo(self.volume("link")),
            remote.StorageVolUpload(self.volume("link")),
            remote.StorageVolDownload(self.volume("link")),
        ):
            self.refused(request, remote.NoVolume)

    def test_info(self) -> None:
        """Sizes."""
        self.assertEqual(self.call(remote.StorageVolGetInfo(self.disk)), VolumeInfo(0, 5000, 8192))
        self.assertEqual(self.call(remote.StorageVolGetInfoFlags(self.disk, 1)), VolumeInfo(0, 5000, 5000))
        self.assertEqual(self.call(remote.StorageVolGetInfoFlags(self.disk, 0)), VolumeInfo(0, 5000, 8192))
        self.refused(remote.StorageVolGetInfoFlags(self.disk, 2), InvalidArgument)
        self.assertEqual(self.call(remote.StorageVolGetPath(self.disk)), self.disk.key)

    def test_xml(self) -> None:
        """The description, which can be given back to make another one like it."""
        text = self.call(remote.StorageVolGetXMLDesc(self.disk))
        root = fromstring(text)
        self.assertEqual((root.tag, root.get("type")), ("volume", "file"))
        self.assertEqual(root.findtext("key"), self.disk.key)
        self.assertEqual(root.findtext("target/permissions/mode"), "0600")
        self.assertEqual(root.find("target/format").get("type"), "raw")
        self.assertEqual(parse_volume(text), NewVolume("disk", 5000, 8192, 0o600))
        self.refused(remote.StorageVolGetXMLDesc(self.disk, 1), InvalidArgument)

    def test_device(self) -> None:
        """A declared device is a volume of type block."""
        device = self.directory / "device"
        device.write_bytes(b"d" * 4096)
        self.add_pool("devices", self.directory / "devices", devices={"sda": device})
        volume = VolumeHandle("devices", "sda", "")
        self.assertEqual(self.call(remote.StorageVolGetInfo(volume)), VolumeInfo(1, 4096, 4096))
        self.assertEqual(fromstring(self.call(remote.StorageVolGetXMLDesc(volume))).get("type"), "block")
        self.upload(volume, [b"new"])
        self.assertEqual(device.read_bytes(), b"new" + b"d" * 4093)
        self.refused(remote.StorageVolDelete(volume), remote.NoVolume)

    def test_policy(self) -> None:
        """Names that a caller may not use are not shown and are refused."""
        policy = RulePolicy(
            [
                Rule(["*"], ["libvirt.*"]),
                Rule(["*"], ["storage.read"], names=["other"]),
                Rule(["*"], ["storage.write"], names=["mine-*"]),
            ]
        )
        self.volume("other", b"")
        self.pair = self.connect(policy=policy)
        self.call(remote.ConnectOpen(URI))
        found = self.call(remote.StoragePoolListAllVolumes(self.pool, 1, 0))
        self.assertEqual([volume.name for volume in found.volumes], ["other"])
        self.refused(remote.StorageVolLookupByName(self.pool, "disk"), AccessDenied)
        self.refused(remote.StorageVolLookupByPath(self.disk.key), remote.NoVolume)
        for request in (
            remote.StorageVolGetInfo,
            remote.StorageVolDelete,
            remote.StorageVolUpload,
            remote.StorageVolDownload,
        ):
            self.refused(request(self.disk), AccessDenied)
        self.refused(remote.StorageVolCreateXML(self.pool, description("x")), AccessDenied)
        self.call(remote.StorageVolCreateXML(self.pool, description("mine-1")))


def description(name: str = "new", body: str = "<capacity>4096</capacity>") -> str:
    """XML of a volume."""
    return f"<volume><name>{name}</name>{body}</volume>"


class ChangeTests(ServerCase):
    """Making and deleting."""

    def create(self, text: str, flags: int = 0) -> Any:
        """A new volume's handle."""
        return self.call(remote.StorageVolCreateXML(self.pool, text, flags))

    def test_create(self) -> None:
        """A file of zeros, allocated unless it says otherwise."""
        self.assertEqual(self.create(description()), self.volume("new"))
        self.assertEqual((self.store / "new").read_bytes(), bytes(4096))
        self.create(description("sparse", "<capacity unit='MiB'>1</capacity><allocation>0</allocation>"))
        self.assertEqual(
            self.call(remote.StorageVolGetInfo(self.volume("sparse"))), VolumeInfo(0, 1 << 20, 0)
        )

    def test_taken(self) -> None:
        """A name is taken once."""
        self.create(description())
        error = self.refused(remote.StorageVolCreateXML(self.pool, description()), remote.VolumeExists)
        self.assertEqual(error.message, "storage volume 'new' exists already")
        self.assertEqual((error.code, error.str2), (90, "'new'"))

    def test_refused(self) -> None:
        """Names, sizes and flags that cannot be."""
        large = f"<capacity>{LARGEST_BYTES + 1}</capacity>"
        for text, kind, words in (
            (description("a/b"), remote.OperationInvalid, "volume name 'a/b' cannot contain '/'"),
            (description(".new"), InvalidArgument, "must not start with a dot"),
            (description("new", large), SystemCallFailed, f"in file '{self.store}/new': File too large"),
        ):
            error = self.refused(remote.StorageVolCreateXML(self.pool, text), kind)
            self.assertIn(words, error.message)
        self.refused(remote.StorageVolCreateXML(self.pool, description(), 8), InvalidArgument)
        self.assertEqual(self.refused(remote.StorageVolCreateXML(self.pool, description(), 1)).code, 67)
        self.assertEqual(os.listdir(self.store), [".rpcstream"])

    def test_no_space(self) -> None:
        """A quota that is used up is told with its errno."""
        self.add_pool("small", self.directory / "small", quota_bytes=1 << 16)
        small = self.call(remote.StoragePoolLookupByName("small"))
        text = description("new", "<capacity>1000000</capacity>")
        error = self.refused(remote.StorageVolCreateXML(small, text), SystemCallFailed)
        self.assertIn("Disk quota exceeded", error.message)
        self.assertEqual(error.int1, 122)

    def test_delete(self) -> None:
        """It is gone; again it is not found."""
        disk = self.volume(content=b"x")
        self.refused(remote.StorageVolDelete(disk, 1), InvalidArgument)
        self.call(remote.StorageVolDelete(disk))
        self.assertFalse((self.store / "disk").exists())
        self.refused(remote.StorageVolDelete(disk), remote.NoVolume)


class XMLTests(ServerCase):
    """Descriptions of volumes."""

    def error(self, text: str) -> RemoteError:
        """What is wrong with it."""
        with self.assertRaises(RemoteError) as caught:
            parse_volume(text)
        return caught.exception

    def test_whole(self) -> None:
        """All that counts."""
        text = (
            "<volume type='file'><name>n</name><key>/k</key><source/><capacity unit='KB'>2</capacity>"
            "<allocation unit='bytes'>7</allocation><physical>9</physical>"
            "<target><path>/p</path><format type='raw'/><permissions><mode>640</mode><owner>5</owner>"
            "</permissions><timestamps/></target></volume>"
        )
        self.assertEqual(parse_volume(text), NewVolume("n", 2000, 7, 0o640))
        self.assertEqual(
            parse_volume(description("n", "<capacity> 1 </capacity><target><permissions/></target>")),
            NewVolume("n", 1, 1, None),
        )

    def test_wrong(self) -> None:
        """What libvirt says of the same."""
        capacity = "<capacity>1</capacity>"
        for text, code, words in (
            ("<vol/>", 27, "XML error: expecting root element of 'volume', not 'vol'"),
            ("<volume><capacity>1</capacity></volume>", 27, "XML error: missing volume name element"),
            (description("", capacity), 27, "XML error: missing volume name element"),
            (description("n", ""), 27, "XML error: missing capacity element"),
            (description("n", "<capacity>x</capacity>"), 27, "XML error: malformed capacity element"),
            (description("n", "<capacity>-1</capacity>"), 27, "XML error: malformed capacity element"),
            (description("n", "<capacity/>"), 27, "XML error: malformed capacity element"),
            (
                description("n", "<capacity unit='frob'>1</capacity>"),
                8,
                "invalid argument: unknown suffix 'frob'",
            ),
            (
                description("n", "<capacity unit='EiB'>8</capacity>"),
                8,
                "invalid argument: capacity is too large",
            ),
            (description("n", capacity * 2), 27, "XML error: more than one capacity element"),
            (description("n", capacity + "<backingStore/>"), 67, "unsupported configuration: element"),
            (description("n", capacity + "<target><encryption/></target>"), 67, "unsupported configuration"),
            (description("n", capacity + "<target><format type='qcow2'/></target>"), 67, "format 'qcow2'"),
            ("<volume type='dir'/>", 67, "unsupported configuration: volumes of type 'dir'"),
            (
                description("n", capacity + "<target><permissions><mode>9</mode></permissions></target>"),
                27,
                "XML error: malformed octal mode",
            ),
            (
                description("n", capacity + "<target><permissions><mode>4755</mode></permissions></target>"),
                27,
                "XML error: malformed octal mode",
            ),
        ):
            error = self.error(text)
            self.assertEqual(error.code, code, text)
            self.assertIn(words, error.message)

    def test_hostile(self) -> None:
        """What is not XML, or would be too much of it."""
        bomb = '<!DOCTYPE v [<!ENTITY a "aaaa"><!ENTITY b "&a;&a;">]><volume><name>&b;</name></volume>'
        external = '<!DOCTYPE v [<!ENTITY a SYSTEM "file:///etc/passwd">]><volume><name>&a;</name></volume>'
        for text in ("", "<volume", "\0", "\udcff", bomb, external, "<volume>" + " " * 100_000 + "</volume>",
                     "<?xml version='1.0' encoding='nosuch'?><volume/>"):  # fmt: skip
            error = self.error(text)
            self.assertIn(error.code, (35, 27), text[:40])
            self.assertEqual(error.domain, 18)
