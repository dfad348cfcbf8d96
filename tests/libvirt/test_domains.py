"""
Domains: finding, changing, peeking, streams.
"""

from __future__ import annotations

from pathlib import Path

from rpcstream import libvirt
from rpcstream.errors import BadValue, NameExists, ProtocolViolation
from rpcstream.limits import MIB
from rpcstream.programs import remote
from tests.libvirt.daemon import DOMAIN, DaemonCase


class DomainTests(DaemonCase):
    """One domain."""

    def setUp(self) -> None:
        super().setUp()
        self.host = self.connect()
        self.domain = self.result_of(self.host.domain("vm"))
        self.daemon.called.clear()

    def test_finding(self) -> None:
        """Each way gives an equal value; a name that is not UTF-8 fails no list."""
        found = self.result_of(self.host.domains(libvirt.DomainFilter.ACTIVE))
        self.assertEqual(["vm", "caf\udce9"], [domain.name for domain in found])
        uuid = str(self.domain.uuid)
        for each in (
            found[0],
            self.result_of(self.host.domain_by_uuid(uuid)),
            self.result_of(self.host.domain_by_uuid(self.domain.uuid)),
            self.result_of(self.host.domain_by_id(1)),
        ):
            self.assertEqual((self.domain, hash(self.domain)), (each, hash(each)))
        self.assertNotEqual(found[0], found[1])
        self.assertNotEqual(found[0], DOMAIN)
        self.assertEqual("<Domain 'vm'>", repr(self.domain))
        error = self.error_of(libvirt.NoDomain, self.host.domain("other"))
        self.assertEqual(
            (42, 12, 2, "Domain not found"), (error.code, error.domain, error.level, error.message)
        )

    def test_looking(self) -> None:
        """States as names, also one that is newer than we are."""
        self.assertEqual(
            (libvirt.DomainState.RUNNING, 8388608, 2097152, 2, 5), self.result_of(self.domain.info())
        )
        self.assertEqual((libvirt.DomainState.RUNNING, 3), self.result_of(self.domain.state()))
        self.daemon.domain_state = 99
        self.assertEqual(99, self.result_of(self.domain.info()).state)
        self.assertEqual(99, self.result_of(self.domain.state()).state)
        self.assertTrue(self.result_of(self.domain.is_active()))
        self.assertEqual("<domain flags='0'/>", self.result_of(self.domain.xml()))
        self.assertEqual("<domain flags='3'/>", self.result_of(self.domain.xml(secure=True, inactive=True)))
        self.assertEqual(1, self.domain.id)

    def test_changing(self) -> None:
        """Each verb calls its procedure."""
        domain = self.domain
        for start, name in (
            (lambda: domain.start(paused=True), "DomainCreateWithFlags"),
            (lambda: domain.shutdown(), "DomainShutdown"),
            (lambda: domain.destroy(), "DomainDestroy"),
            (lambda: domain.destroy(graceful=True), "DomainDestroyFlags"),
            (lambda: domain.reboot(), "DomainReboot"),
            (lambda: domain.reset(), "DomainReset"),
            (lambda: domain.suspend(), "DomainSuspend"),
            (lambda: domain.resume(), "DomainResume"),
            (lambda: domain.undefine(), "DomainUndefine"),
            (lambda: domain.undefine(4), "DomainUndefineFlags"),
            (lambda: self.host.create_domain("<domain/>"), "DomainCreateXML"),
            (lambda: self.host.define_domain("<domain/>"), "DomainDefineXML"),
            (lambda: self.host.define_domain("<domain/>", validate=True), "DomainDefineXMLFlags"),
        ):
            self.result_of(start())
            self.assertEqual(name, self.daemon.called[-1])

    def test_no_deadline_for_long_calls(self) -> None:
        """What a hypervisor does may take longer than other calls."""
        from twisted.internet.defer import Deferred

        self.daemon.waiting = Deferred()
        suspending, looking = self.domain.suspend(), self.host.hostname()
        self.network.advance(70, 10)
        self.failureResultOf(looking)
        self.assertNoResult(suspending)
        self.daemon.waiting.callback(None)
        self.result_of(suspending)

    def test_peeking(self) -> None:
        """In calls of at most 4 MiB, of exactly the size that was asked for."""
        self.assertEqual(bytes(range(10, 20)), self.result_of(self.domain.peek_memory(10, 10)))
        self.assertEqual(b"", self.result_of(self.domain.peek_memory(0, 0)))
        data = self.result_of(self.domain.peek_memory(0, 9 * MIB, physical=True))
        self.assertEqual(bytes(range(256)) * (9 * MIB // 256), data)
        self.assertEqual(4, len(self.result_of(self.domain.peek_block("vda", 8 * MIB, 4))))
        expected = [
            "peek 10 10 1",
            f"peek 0 {4 * MIB} 2",
            f"peek {4 * MIB} {4 * MIB} 2",
            f"peek {8 * MIB} {MIB} 2",
        ]
        self.assertEqual([*expected, f"peek {8 * MIB} 4 0"], self.daemon.called)

    def test_bad_peeks(self) -> None:
        """Less than nothing; a daemon that gives less."""
        for offset, length in ((-1, 1), (0, -1)):
            self.error_of(BadValue, self.domain.peek_memory(offset, length))
        self.daemon.peek_short = 1
        self.error_of(ProtocolViolation, self.domain.peek_memory(0, 16))

    def test_screenshot(self) -> None:
        """In memory and in a file; on a connection of its own, or on the shared one."""
        self.assertEqual(("image/png", b"picture"), self.result_of(self.domain.screenshot()))
        self.assertEqual(("", b"picture"), self.result_of(self.domain.screenshot(1, shared=True)))
        self.assertEqual(2, len(self.network.connections))
        self.assertFalse(self.network.connections[1].link.is_connected)
        path = Path(self.mktemp())
        self.assertEqual("image/png", self.result_of(self.domain.save_screenshot(path)))
        self.assertEqual(b"picture", path.read_bytes())
        self.error_of(NameExists, self.domain.save_screenshot(path))
        self.assertEqual("", self.result_of(self.domain.save_screenshot(path, 1, replace=True)))

    def test_console(self) -> None:
        """Both ways, flags as asked for; leaving finishes the stream and closes its connection."""

        async def talk() -> bytes:
            async with self.domain.console(force=True, safe=True) as console:
                await console.send(b"hello")
                heard = await anext(console)
            async with self.domain.channel("org.example", shared=True) as channel:
                await channel.send(b"!")
                return heard + await anext(channel)

        self.assertEqual(b"hello!", self.network.run(talk()))
        self.assertIn("DomainOpenConsole 3", self.daemon.called)
        self.network.pump()
        self.assertEqual([True, False], [each.link.is_connected for each in self.network.connections])

    def test_stream_refused(self) -> None:
        """The connection made for a stream that is refused is closed."""
        request = remote.StorageVolDownload(remote.VolumeHandle("p", "nosuch", "k"))
        opening = self.host.open(request)
        self.network.pump()
        self.failureResultOf(opening, libvirt.NoVolume)
        self.assertFalse(self.network.connections[1].link.is_connected)

    def test_closing_ends_streams(self) -> None:
        """Streams end with the connection that they were asked of, also those being opened."""
        stream = self.result_of(self.domain.console())
        opening = self.domain.console()
        closing = self.host.close()
        self.network.pump()
        self.successResultOf(closing)
        self.failureResultOf(opening)
        self.assertTrue(stream.is_closed)
        self.assertFalse(any(each.link.is_connected for each in self.network.connections))
        self.failureResultOf(self.domain.console())
