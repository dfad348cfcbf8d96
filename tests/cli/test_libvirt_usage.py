"""
Wrong uses of the commands for libvirt: found before anything is connected.
"""

from __future__ import annotations

from pathlib import Path
from unittest import mock

import click
from twisted.trial.unittest import SynchronousTestCase

from rpcstream.cli.libvirt_uris import PLACE, VolumePlace, pki_for_libvirt
from rpcstream.cli.main import cli
from rpcstream.cli.options import Settings
from rpcstream.cli.output import Output
from rpcstream.net.urls import Url

URI = "qemu+tls://host/system"
VOLUME = f"{URI}#pool/volume"


class UsageTests(SynchronousTestCase):
    """One line each, which says what to write instead."""

    def test_wrong_uses(self) -> None:
        """Exit status 2 comes from click's usage errors."""
        here = self.mktemp()
        Path(here).mkdir()
        for line, words in (
            ("#POOL/VOLUME", ("receive", URI, here)),
            ("ssh -L", ("send", "/etc/hosts", "qemu+ssh://h/system#p/v")),
            ("name it", ("receive", VOLUME, "-")),
            ("name the target", ("receive", f"{URI}#p/v%2Fw", here)),
            ("not a regular file", ("receive", VOLUME, "/dev/null")),
            ("--mode", ("send", "--mode", "600", "/etc/hosts", VOLUME)),
            ("give --size", ("send", "-", VOLUME)),
            ("--size is for", ("send", "--size", "1", "/etc/hosts", VOLUME)),
            ("--retry", ("send", "--size", "1", "--retry", "1", "-", VOLUME)),
            ("must look like", ("events", "nonsense")),
            ("no procedure", ("call", URI, "nosuch")),
            ("any other of libvirt's is called with --interface", ("call", URI, "nosuch")),
            ("opens a stream", ("call", URI, "DomainScreenshot")),
            ("is an event", ("call", URI, "DomainEventLifecycle")),
            ("nam: unknown", ("call", URI, "DomainLookupByName", '{"nam": "x"}')),
            ("arguments of", ("call", URI, "DomainLookupByName", "{")),
            ("no procedure", ("call", "rpcstream+unix:///?socket=/s", "DomainGetInfo")),
        ):
            error = self.assertRaises(click.UsageError, cli.main, list(words), standalone_mode=False)
            self.assertIn(line, error.format_message(), words)

    def test_places(self) -> None:
        """rpcstream's URLs and libvirt's URIs are told apart; a value that is parsed already stays."""
        place = PLACE.convert(VOLUME, None, None)
        self.assertEqual(VolumePlace(URI, "pool", "volume"), place)
        self.assertIs(place, PLACE.convert(place, None, None))
        self.assertIsInstance(PLACE.convert("rpcstream+tls://host/name", None, None), Url)

    def test_certificates(self) -> None:
        """Ours count only where there are any, so that libvirt's own places are looked at."""
        folder = Path(self.mktemp())
        folder.mkdir()
        settings = Settings(mock.Mock(Output), folder)
        self.assertIsNone(pki_for_libvirt(settings))
        (folder / "cacert.pem").touch()
        self.assertEqual(folder, pki_for_libvirt(settings))
        self.assertIsNone(pki_for_libvirt(Settings(mock.Mock(Output))))
