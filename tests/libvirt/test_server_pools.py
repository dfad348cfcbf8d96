"""The libvirt server: pools."""

from __future__ import annotations

from uuid import UUID

from defusedxml.ElementTree import fromstring

from rpcstream.errors import AccessDenied, InvalidArgument
from rpcstream.programs import remote
from rpcstream.programs import remote_storage_names as names
from rpcstream.programs.remote import PoolFilter, PoolHandle, VolumeHandle
from rpcstream.services.policy import Rule, RulePolicy
from tests.libvirt.server_case import URI, ServerCase


class PoolTests(ServerCase):
    """Two pools."""

    def setUp(self) -> None:
        super().setUp()
        self.add_pool("backups", self.directory / "backups", quota_bytes=1 << 20)

    def pool_names(self, flags: int = 0) -> list[str]:
        """Of the list."""
        found = self.call(remote.ConnectListAllStoragePools(1, flags))
        self.assertEqual(found.count, len(found.pools))
        return [pool.name for pool in found.pools]

    def test_list(self) -> None:
        """All, by name; with filters as libvirt groups them."""
        self.assertEqual(self.pool_names(), ["backups", "default"])
        self.assertEqual(self.pool_names(PoolFilter.ACTIVE | PoolFilter.INACTIVE), ["backups", "default"])
        self.assertEqual(
            self.pool_names(PoolFilter.ACTIVE | PoolFilter.PERSISTENT | 64), ["backups", "default"]
        )
        for flags in (PoolFilter.INACTIVE, PoolFilter.TRANSIENT, PoolFilter.NO_AUTOSTART, 128):
            self.assertEqual(self.pool_names(flags), [])
        self.assertEqual(self.call(remote.ConnectListAllStoragePools(0, 0)), remote.PoolList((), 2))

    def test_flags(self) -> None:
        """Unknown flags are refused as libvirt refuses them."""
        error = self.refused(remote.ConnectListAllStoragePools(1, 1 << 30), InvalidArgument)
        self.assertEqual(
            (error.message, error.domain, error.str1, error.str2, error.int1),
            (
                "unsupported flags (0x40000000) in function storageConnectListAllStoragePools",
                18, "storageConnectListAllStoragePools", "flags", 0,
            ),
        )  # fmt: skip

    def test_old_lists(self) -> None:
        """What old clients ask."""
        self.assertEqual(self.call(names.ConnectNumOfStoragePools()), 2)
        self.assertEqual(self.call(names.ConnectListStoragePools(1)), ("backups",))
        self.assertEqual(self.call(names.ConnectListStoragePools(-1)), ())
        self.assertEqual(self.call(names.ConnectNumOfDefinedStoragePools()), 0)
        self.assertEqual(self.call(names.ConnectListDefinedStoragePools(9)), ())

    def test_lookups(self) -> None:
        """By name, UUID, volume and path; the UUID does not change."""
        pool = self.pool
        self.assertEqual(self.call(remote.StoragePoolLookupByUUID(pool.uuid)), pool)
        self.assertEqual(self.call(remote.StoragePoolLookupByVolume(VolumeHandle("default", "?", "?"))), pool)
        self.assertEqual(self.call(names.StoragePoolLookupByTargetPath(f"{self.store}/")), pool)
        self.pair = self.connect()
        self.call(remote.ConnectOpen(URI))
        self.assertEqual(self.pool, pool)

    def test_missing(self) -> None:
        """In libvirt's words."""
        error = self.refused(remote.StoragePoolLookupByName("x"), remote.NoStoragePool)
        self.assertEqual(error.message, "Storage pool not found: no storage pool with matching name 'x'")
        self.assertEqual((error.code, error.domain, error.str1), (49, 18, "Storage pool not found: %s"))
        uuid = UUID(int=7)
        error = self.refused(remote.StoragePoolLookupByUUID(uuid.bytes), remote.NoStoragePool)
        self.assertEqual(error.str2, f"no storage pool with matching uuid '{uuid}'")
        error = self.refused(remote.StoragePoolGetInfo(PoolHandle("p", uuid.bytes)), remote.NoStoragePool)
        self.assertEqual(error.str2, f"no storage pool with matching uuid '{uuid}' (p)")
        self.refused(names.StoragePoolLookupByTargetPath("/nosuch"), remote.NoStoragePool)

    def test_states(self) -> None:
        """Active, persistent, with autostart; refreshing changes nothing."""
        for request in (
            remote.StoragePoolGetAutostart, remote.StoragePoolIsActive, remote.StoragePoolIsPersistent,
        ):  # fmt: skip
            self.assertTrue(self.call(request(self.pool)))
            self.refused(request(PoolHandle("x", bytes(16))), remote.NoStoragePool)
        self.call(remote.StoragePoolRefresh(self.pool))
        self.refused(remote.StoragePoolRefresh(self.pool, 1), InvalidArgument)

    def test_info(self) -> None:
        """Space of the file system, or of the quota."""
        info = self.call(remote.StoragePoolGetInfo(self.pool))
        self.assertEqual(info.state, 2)
        self.assertEqual(info.capacity_bytes, info.allocation_bytes + info.available_bytes)
        backups = self.call(remote.StoragePoolLookupByName("backups"))
        self.assertEqual(self.call(remote.StoragePoolGetInfo(backups)).capacity_bytes, 1 << 20)

    def test_xml(self) -> None:
        """The description of a directory."""
        root = fromstring(self.call(remote.StoragePoolGetXMLDesc(self.pool)))
        self.assertEqual((root.tag, root.get("type")), ("pool", "dir"))
        self.assertEqual(root.findtext("uuid"), str(UUID(bytes=self.pool.uuid)))
        self.assertEqual(root.findtext("target/path"), str(self.store))
        self.assertEqual(root.findtext("target/permissions/mode"), "0755")
        self.refused(remote.StoragePoolGetXMLDesc(self.pool, 2), InvalidArgument)

    def test_policy(self) -> None:
        """A pool that a caller may not use is not listed, and is refused."""
        policy = RulePolicy([Rule(["*"], ["libvirt.*"]), Rule(["*"], ["storage.*"], pools=["backups"])])
        self.pair = self.connect(policy=policy)
        self.call(remote.ConnectOpen(URI))
        self.assertEqual(self.pool_names(), ["backups"])
        self.refused(remote.StoragePoolLookupByName("default"), AccessDenied)
