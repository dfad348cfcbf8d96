"""
libvirt URIs, and where user and password come from.
"""

from __future__ import annotations

from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from rpcstream.errors import ConfigurationError
from rpcstream.libvirt.credentials import Credentials, find_credentials
from rpcstream.libvirt.uri import LibvirtURI, VolumeName, looks_like_uri, parse_uri, split_volume


def fields(uri: LibvirtURI) -> tuple[str, str, str, int, str]:
    """What matters for connecting."""
    return uri.driver, uri.transport, uri.host, uri.port, uri.name


class URITests(SynchronousTestCase):
    """Text to fields."""

    def test_forms(self) -> None:
        """Transports, default ports, and what CONNECT_OPEN is given."""
        for text, expected in (
            ("qemu+tls://host/system", ("qemu", "tls", "host", 16514, "qemu:///system")),
            ("qemu://host/system", ("qemu", "tls", "host", 16514, "qemu:///system")),
            ("qemu+tcp://host/system", ("qemu", "tcp", "host", 16509, "qemu:///system")),
            ("qemu+tcp://host:1/system", ("qemu", "tcp", "host", 1, "qemu:///system")),
            ("qemu+tls://[::1]:2/system", ("qemu", "tls", "::1", 2, "qemu:///system")),
            ("qemu+tls://[::1]/system", ("qemu", "tls", "::1", 16514, "qemu:///system")),
            ("qemu+tls:///system", ("qemu", "tls", "localhost", 16514, "qemu:///system")),
            ("qemu:///system", ("qemu", "unix", "", 0, "qemu:///system")),
            ("qemu+unix:///session?socket=/s", ("qemu", "unix", "", 0, "qemu:///session")),
            ("TEST:///default", ("test", "unix", "", 0, "test:///default")),
            ("remote+tls://host/", ("remote", "tls", "host", 16514, "")),
            ("xen+tls://host", ("xen", "tls", "host", 16514, "xen://")),
        ):
            self.assertEqual(expected, fields(parse_uri(text)), text)

    def test_parameters(self) -> None:
        """Those of the client are eaten, the others handed on as they were."""
        uri = parse_uri(
            "esx+tls://u%20x@host/dc?pkipath=/p%20q&no_sanity=1&auto=a%20b&auth=sasl&flag&authfile=/f"
        )
        self.assertEqual("esx:///dc?auto=a%20b&flag", uri.name)
        self.assertEqual(("/p q", "sasl", "/f", "u x"), (uri.pkipath, uri.auth, uri.authfile, uri.username))
        self.assertEqual("any:///thing", parse_uri("qemu+tls://host/system?name=any:///thing").name)
        self.assertEqual(
            b"/s\xff",
            parse_uri("qemu:///system?socket=/s%ff").socket_path().encode("utf-8", "surrogateescape"),
        )
        self.assertEqual("", parse_uri("qemu://h/system?no_verify=0").auth)

    def test_refused(self) -> None:
        """Each with what to write instead."""
        for text, why in (
            ("qemu", "must look like"),
            ("://host", "must look like"),
            ("qemu+://host", "must look like"),
            ("qemu+ssh://host/system", "ssh -L"),
            ("qemu+carrier://host/system", "+tls, +tcp or +unix"),
            ("qemu+unix://host/system", "?socket=PATH"),
            ("qemu+tls://ho st/system", "not a host name"),
            ("qemu+tls://host:0/system", "port"),
            ("qemu+tls://host/system#p/v", "#"),
            ("qemu+tls://host/system\n", "control character"),
            ("qemu+tls://host/system?no_verify=1", "always verified"),
            ("qemu+tls://host/system?tls_priority=NORMAL", "GnuTLS"),
            ("qemu:///system?command=/bin/nc", "no program"),
            ("qemu:///system?mode=maybe", "auto, direct, legacy"),
            ("qemu:///system?socket=%00", "%00"),
        ):
            error = self.assertRaises(ConfigurationError, parse_uri, text)
            self.assertIn(why, str(error))

    def test_volume(self) -> None:
        """#POOL/VOLUME, percent-encoded; the volume's name may contain slashes."""
        self.assertEqual(("a:///b", None), split_volume("a:///b"))
        self.assertEqual(("a:///b?c", VolumeName("p#", "v/w")), split_volume("a:///b?c#p%23/v/w"))
        for text in ("a:///b#", "a:///b#p", "a:///b#p/", "a:///b#/v"):
            self.assertIn("#POOL/VOLUME", str(self.assertRaises(ConfigurationError, split_volume, text)))

    def test_looks_like_uri(self) -> None:
        """rpcstream's own are not libvirt's."""
        self.assertEqual(
            [True, False, False],
            [looks_like_uri(text) for text in ("qemu:///system", "rpcstream+tls://h/n", "rpctls:h:1")],
        )

    def test_socket(self) -> None:
        """The daemon of the machine or of the user, one for all or one for the driver."""

        def path(text: str, *, there: str = "", uid: int = 0, **options: bool) -> str:
            environ = {"XDG_RUNTIME_DIR": "/run/me"}
            return parse_uri(text).socket_path(
                environ=environ, user_id=uid, exists=lambda it: it == there, **options
            )

        legacy, direct = "/var/run/libvirt/libvirt-sock", "/var/run/libvirt/virtqemud-sock"
        self.assertEqual(legacy, path("qemu:///system"))
        self.assertEqual(legacy, path("qemu:///system", there=legacy))
        self.assertEqual(direct, path("qemu:///system", there=direct))
        self.assertEqual(legacy, path("qemu:///system?mode=legacy", there=direct))
        self.assertEqual(direct, path("qemu:///system?mode=direct"))
        self.assertEqual(legacy + "-ro", path("qemu:///system", read_only=True))
        self.assertEqual("/run/me/libvirt/libvirt-sock", path("qemu:///session", read_only=True))
        self.assertEqual("/run/me/libvirt/libvirt-sock", path("test:///default", uid=1000))
        self.assertEqual(legacy, path("test:///default"))
        nowhere = parse_uri("qemu:///session").socket_path(environ={}, user_id=7)
        self.assertEqual("/run/user/7/libvirt/libvirt-sock", nowhere)
        self.assertEqual("/s", parse_uri("qemu:///system?socket=/s").address().socket)
        self.assertEqual("/p", parse_uri("qemu://h/system?pkipath=/p").address().pkipath)


class CredentialsTests(SynchronousTestCase):
    """User and password."""

    def setUp(self) -> None:
        self.folder = Path(self.mktemp())
        self.folder.mkdir()
        self.environ = {"HOME": str(self.folder)}

    def _find(self, uri: str = "qemu+tls://host/system", **given: str) -> Credentials | None:
        return find_credentials(parse_uri(uri), environ=self.environ, **given)

    def _file(self, text: str) -> Path:
        path = self.folder / ".config/libvirt/auth.conf"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(text)
        return path

    def test_given(self) -> None:
        """By the program; the user also by the URI; the password is never shown."""
        self.assertEqual(Credentials("u", "p"), self._find(username="u", password="p"))
        self.assertEqual(Credentials("me", "p"), self._find("qemu+tls://me@host/system", password="p"))
        self.assertNotIn("geheim", repr(Credentials("u", "geheim")))
        self.assertIn("user name", str(self.assertRaises(ConfigurationError, self._find, password="p")))
        self.assertIsNone(self._find())

    def test_file(self) -> None:
        """libvirt's own, for a host or for all; only for the user that was asked for."""
        path = self._file(
            "[credentials-a]\nauthname=fred\npassword=1%2\n[credentials-b]\nusername=joe\npassword=2\n"
            "[auth-libvirt-host]\ncredentials=a\n[auth-libvirt-default]\ncredentials=b\n"
        )
        self.assertEqual(Credentials("fred", "1%2"), self._find())
        self.assertEqual(Credentials("joe", "2"), self._find("qemu+tls://other/system"))
        self.assertEqual(Credentials("joe", "2"), self._find("qemu:///system"))
        self.assertIsNone(self._find(username="somebody"))
        elsewhere = path.rename(self.folder / "elsewhere")
        self.assertIsNone(self._find())
        self.environ["LIBVIRT_AUTH_FILE"] = str(elsewhere)
        self.assertEqual(Credentials("fred", "1%2"), self._find())
        self.environ = {"XDG_CONFIG_HOME": "/nowhere"}
        self.assertEqual(
            Credentials("fred", "1%2"), self._find(f"qemu+tls://host/system?authfile={elsewhere}")
        )

    def test_bad_file(self) -> None:
        """One line that names the file."""
        self._file("[auth-libvirt-elsewhere]\ncredentials=a\n")
        self.assertIsNone(self._find())
        for text in ("no section\n", "[auth-libvirt-host]\ncredentials=none\n"):
            path = self._file(text)
            self.assertIn(str(path), str(self.assertRaises(ConfigurationError, self._find)))
        path.write_bytes(b"\xff")
        self.assertIn("cannot be used", str(self.assertRaises(ConfigurationError, self._find)))
        missing = "qemu+tls://host/system?authfile=/nowhere"
        self.assertIn("/nowhere", str(self.assertRaises(ConfigurationError, self._find, missing)))
