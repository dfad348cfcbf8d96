"""The destination's libvirt server: its switch, its keys, and both programs side by side."""

from __future__ import annotations

from rpcstream.errors import ConfigurationError, RPCFailed, Unsupported
from rpcstream.libvirt.server_keys import set_password
from rpcstream.programs import remote, transfer
from rpcstream.services.config import Config, LibvirtConfig, load_config
from rpcstream.services.destination import destination_service
from tests.services.service_case import ServiceCase


class LibvirtServiceTests(ServiceCase):
    """A destination on a UNIX socket."""

    def config(self, text: str) -> Config:
        """A configuration from its file."""
        path = self.folder / "config.toml"
        path.write_text(text)
        path.chmod(0o600)
        return load_config(path)

    async def test_side_by_side(self) -> None:
        """What an upload in place has left is seen by the transfer program."""
        self.destination()
        (self.store / "disk").write_bytes(b"o" * 100)
        async with self.connection("d.sock") as connection:
            await connection.call(remote.ConnectOpen("storage:///system"))
            pool = await connection.call(remote.StoragePoolLookupByName("default"))
            volume = await connection.call(remote.StorageVolLookupByName(pool, "disk"))
            stream = await connection.open(remote.StorageVolUpload(volume))
            await stream.send(b"n")
            while not (await connection.call(transfer.Stat("disk", ""))).incomplete:
                await self.pause(0.01)
            await stream.finish()
            self.assertFalse((await connection.call(transfer.Stat("disk", ""))).incomplete)

    async def test_switched_off(self) -> None:
        """Then it is an unknown program."""
        self.destination(config=self.config("[libvirt]\nenabled = false\n"))
        error = await self.refused(RPCFailed, self.ask(remote.AuthList(), "d.sock"))
        self.assertIn("Cannot find program", str(error))
        self.assertNotIsInstance(error, Unsupported)

    def test_configuration(self) -> None:
        """Keys of the two tables."""
        self.assertEqual(self.config("").libvirt, LibvirtConfig(True, None))
        keys = self.folder / "keys"
        self.assertEqual(self.config(f'[sasl]\nfile = "{keys}"\n').libvirt, LibvirtConfig(True, keys))
        for text in (
            "[sasl]\n",
            '[sasl]\nfile = "relative"\n',
            "[libvirt]\nenabled = 1\n",
            "[libvirt]\nx = 1\n",
        ):
            self.assertRaises(ConfigurationError, self.config, text)

    async def test_keys(self) -> None:
        """A file that cannot be used stops the start; one that can makes clients authenticate."""
        keys = self.folder / "keys"
        config = self.config(f'[sasl]\nfile = "{keys}"\n')
        with self.assertRaises(ConfigurationError):
            destination_service(f"unix:{self.folder}/d.sock", self.store, config=config)
        set_password(keys, "alice", "secret")
        self.destination(config=config)
        self.assertEqual(await self.ask(remote.AuthList(), "d.sock"), (1,))
        await self.refused(RPCFailed, self.ask(remote.ConnectOpen(None), "d.sock"))
