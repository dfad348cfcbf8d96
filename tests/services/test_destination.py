"""The destination service: its pools, policy and upkeep."""

from __future__ import annotations

import os
from dataclasses import replace
from pathlib import Path
from typing import Any

from twisted.logger import globalLogPublisher

from rpcstream.errors import AccessDenied, ConfigurationError
from rpcstream.limits import DEFAULT_LIMITS, EXTENT_BYTES
from rpcstream.net.pki import initialise
from rpcstream.net.threads import InlineRunner
from rpcstream.programs import transfer
from rpcstream.services.config import Config, PoolConfig, load_config
from rpcstream.services.destination import destination_service
from rpcstream.services.sending import SendOptions, send
from rpcstream.storage.pool import Pool
from rpcstream.storage.sources import open_path
from tests.services.service_case import ServiceCase


class DestinationTests(ServiceCase):
    """A destination on a UNIX socket."""

    def setUp(self) -> None:
        super().setUp()
        self.lines: list[str] = []
        globalLogPublisher.addObserver(self.observe)
        self.addCleanup(globalLogPublisher.removeObserver, self.observe)

    def observe(self, event: Any) -> None:
        """Keep the lines of the log."""
        if event.get("log_format"):
            self.lines.append(event["log_format"].format(**event))

    def config(self, text: str) -> Config:
        """A configuration from its file."""
        path = self.folder / "config.toml"
        path.write_text(text)
        path.chmod(0o600)
        return load_config(path)

    async def store_file(self, name: str, pool: str = "") -> None:
        """Send a small file."""
        path = self.root / "f"
        path.write_bytes(b"content")
        with open_path(path) as source:
            async with self.connection("d.sock") as connection:
                options = SendOptions(name, os.urandom(16), pool=pool)
                await send(connection, source, options, InlineRunner())

    async def test_pools(self) -> None:
        """Further pools are served under their names, each with its mode; all are closed at the end."""
        backups = self.folder / "backups"
        backups.mkdir()
        service = self.destination(
            config=self.config(f'[store]\nmode = "0640"\n[pool.backups]\ndirectory = "{backups}"\n')
        )
        self.assertEqual(set(service.pools), {"default", "backups"})
        await self.store_file("one")
        await self.store_file("two", "backups")
        self.assertEqual((self.store / "one").stat().st_mode & 0o777, 0o640)
        self.assertEqual((backups / "two").stat().st_mode & 0o777, 0o600)
        await self.refused(transfer.NoSuchName, self.ask(transfer.Stat("one", "none"), "d.sock"))
        await self.stop(service)
        self.assertEqual(service.pools, {})

    async def test_one_warning(self) -> None:
        """Without rules everybody of the CA may do everything, and that is said once."""
        self.destination()
        warnings = [line for line in self.lines if "may read, replace and remove" in line]
        self.assertEqual(len(warnings), 1)
        await self.store_file("one")
        await self.ask(transfer.Remove("one", ""), "d.sock")

    async def test_rules(self) -> None:
        """With rules what is not allowed is denied, and nobody is warned."""
        self.destination(
            config=self.config(
                '[[rule]]\nprincipals = ["*"]\npermissions = ["transfer.write", "transfer.commit"]\n'
                'names = ["in-*"]\n'
            )
        )
        self.assertFalse([line for line in self.lines if "may read, replace and remove" in line])
        await self.store_file("in-1")
        await self.refused(AccessDenied, self.store_file("out-1"))
        await self.refused(AccessDenied, self.ask(transfer.Remove("in-1", ""), "d.sock"))

    async def test_rules_of_pools(self) -> None:
        """A rule for one pool does not open another."""
        backups = self.folder / "backups"
        backups.mkdir()
        self.destination(
            config=self.config(
                f'[pool.backups]\ndirectory = "{backups}"\n'
                '[[rule]]\nprincipals = ["*"]\npermissions = ["transfer.*"]\npools = ["backups"]\n'
            )
        )
        await self.store_file("one", "backups")
        await self.refused(AccessDenied, self.store_file("one"))

    async def test_expires_at_start(self) -> None:
        """Partials that nobody came back for go, others stay."""
        with_old = Pool(self.store)
        for name in ("old", "new"):
            receiving = with_old.begin(
                name, size_bytes=2 * EXTENT_BYTES, sparse=True, replace=False, mode=None, owner="x",
                transfer_id=os.urandom(16),
            )  # fmt: skip
            receiving.write(bytes(EXTENT_BYTES))
            receiving.abandon()
        with_old.close()
        os.utime(self.store / ".rpcstream" / "journals" / "old", (1, 1))
        service = self.destination()
        await self.pause(0.05)
        self.assertEqual([partial.name for partial in service.pools["default"].partials()], ["new"])
        self.assertIn("removed the abandoned partial of old in default", self.lines)

    async def test_stops_with_open_transfer(self) -> None:
        """What is durable of a transfer that runs stays when the service stops."""
        service = self.destination(config=Config(limits=replace(DEFAULT_LIMITS, sync_bytes=EXTENT_BYTES)))
        connection = await self.opened()
        request = transfer.Incoming(
            "n", "", transfer.SourceKind.FILE, 2 * EXTENT_BYTES, True, False, None, b"i" * 16, b""
        )
        stream = await connection.open(request)
        await stream.send(os.urandom(EXTENT_BYTES))
        while not service.pools["default"].partials()[0].held_bytes:
            await self.pause(0.01)
        await self.stop(service)
        await connection.when_closed()
        pool = Pool(self.store)
        self.assertEqual([partial.held_bytes for partial in pool.partials()], [EXTENT_BYTES])
        pool.close()

    async def test_cancel_of_what_was_left(self) -> None:
        """A partial of an earlier connection is removed by its owner's Cancel, and no other's."""
        self.destination(config=Config(limits=replace(DEFAULT_LIMITS, sync_bytes=EXTENT_BYTES)))
        connection = await self.opened()
        request = transfer.Incoming(
            "n", "", transfer.SourceKind.FILE, 2 * EXTENT_BYTES, True, False, None, b"i" * 16, b""
        )
        stream = await connection.open(request)
        await stream.send(os.urandom(EXTENT_BYTES))
        while not (await self.ask(transfer.Partials(""), "d.sock"))[0].held_bytes:
            await self.pause(0.01)
        await connection.close()
        while (await self.ask(transfer.Partials(""), "d.sock"))[0].active:
            await self.pause(0.01)
        self.assertFalse(await self.ask(transfer.Cancel(b"j" * 16), "d.sock"))
        self.assertTrue(await self.ask(transfer.Cancel(b"i" * 16), "d.sock"))
        self.assertEqual(await self.ask(transfer.Partials(""), "d.sock"), ())

    def refusal(self, **changes: Any) -> str:
        """The text of the error."""
        given = {"listen": f"unix:{self.folder}/d.sock", "store": self.store, **changes}
        with self.assertRaises(ConfigurationError) as caught:
            destination_service(**given)
        return str(caught.exception)

    def test_arguments(self) -> None:
        """What cannot be meant is refused before anything starts, with its remedy."""
        self.assertIn("--listen", self.refusal(listen=[]))
        self.assertIn("--insecure", self.refusal(listen="tcp:0"))
        self.assertIn("pki init", self.refusal(listen="rpctls:0", pki=self.folder / "none"))
        self.assertIn(f"mkdir {self.folder}/none", self.refusal(store=self.folder / "none"))
        same = Config(pools={"p": PoolConfig("p", Path(f"{self.folder}/root/../store"))})
        self.assertIn("same directory", self.refusal(config=same))

    def test_pool_that_cannot_be_used(self) -> None:
        """A pool that fails stops the start; those that were opened are closed."""
        (self.root / ".rpcstream").write_bytes(b"in the way")
        config = Config(pools={"p": PoolConfig("p", self.root)})
        service = destination_service(f"unix:{self.folder}/d.sock", self.store, config=config)
        before = len(os.listdir("/proc/self/fd"))
        self.assertRaises(ConfigurationError, service.startService)
        self.assertEqual(len(os.listdir("/proc/self/fd")), before)

    def test_certificate_that_clients_refuse(self) -> None:
        """A certificate of another authority is said at the start."""
        initialise(self.folder / "pki", ["localhost"], [])
        initialise(self.folder / "other", [], [])
        (self.folder / "pki" / "cacert.pem").write_bytes((self.folder / "other" / "cacert.pem").read_bytes())
        self.destination(pki=self.folder / "pki")
        self.assertTrue([line for line in self.lines if "was not issued by" in line])
