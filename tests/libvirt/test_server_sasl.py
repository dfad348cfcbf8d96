"""The libvirt server: users and passwords."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from twisted.internet.defer import Deferred

from rpcstream.errors import AccessDenied, ConfigurationError, ConnectionClosed, RPCFailed
from rpcstream.libvirt.credentials import Credentials
from rpcstream.libvirt.scram import authenticate_by_scram
from rpcstream.libvirt.server import libvirt_responders
from rpcstream.libvirt.server_keys import KeyFile, set_password
from rpcstream.libvirt.server_sasl import AUTHENTICATION_SECONDS
from rpcstream.net.threads import InlineRunner
from rpcstream.programs import remote
from rpcstream.services.policy import AllowAll, allow
from rpcstream.testing import ConnectedPair
from tests.libvirt.server_case import URI, ServerCase


class SaslCase(ServerCase):
    """A server that wants a password."""

    is_open = False

    def setUp(self) -> None:
        super().setUp()
        self.path = self.directory / "passwd"
        set_password(self.path, "fred", "correct horse")
        self.pair = self.connect()

    def connect(self, **options: Any) -> ConnectedPair:
        """One more client."""
        keys = KeyFile(self.path) if hasattr(self, "path") else None
        responders = libvirt_responders(self.pools, InlineRunner(), keys)
        return ConnectedPair(*responders, greet=False, **options)

    def authenticate(self, user: str = "fred", password: str = "correct horse") -> None:
        """As our own client does it."""
        awaitable = authenticate_by_scram(self.pair.client, Credentials(user, password), InlineRunner())
        self.pair.result_of(Deferred.fromCoroutine(awaitable))


class PasswordTests(SaslCase):
    """SCRAM-SHA-256."""

    def test_right(self) -> None:
        """The user is the principal from then on."""
        self.assertEqual(self.call(remote.AuthList()), (1,))
        self.authenticate()
        self.call(remote.ConnectOpen(URI))
        self.assertEqual(self.pair.server.principal.name, "fred")
        self.assertEqual(self.pair.serving._per_principal, {"fred": 1})
        self.pair.clock.advance(AUTHENTICATION_SECONDS + 1)
        self.assertEqual(self.call(remote.ConnectGetURI()), URI)
        self.pair.cut()
        self.assertEqual(self.pair.serving._per_principal, {})

    def test_before(self) -> None:
        """Nothing else is answered before; and only what is not known is told apart."""
        for request in (remote.ConnectOpen(URI), remote.ConnectClose(), remote.ConnectSupportsFeature(10)):
            error = self.refused(request, RPCFailed)
            self.assertEqual((error.message, error.code, error.domain), ("authentication required", 39, 7))

    def test_wrong(self) -> None:
        """One text for every kind of failure; after three the connection ends."""
        for user, password in (("fred", "wrong"), ("nobody", "correct horse"), ("fred", "Correct horse")):
            with self.assertRaises(remote.AuthenticationFailed) as caught:
                self.authenticate(user, password)
            error = caught.exception
            self.assertEqual(
                (error.code, error.message), (45, "authentication failed: authentication failed")
            )
        self.pair.pump()
        self.assertRaises(ConnectionClosed, self.call, remote.AuthList())

    def test_order(self) -> None:
        """Start comes after init, and a step after the start."""
        failed = remote.AuthenticationFailed
        self.refused(remote.AuthSaslStart("SCRAM-SHA-256", False, b"n,,n=fred,r=abc"), failed)
        self.assertEqual(self.call(remote.AuthSaslInit()), "SCRAM-SHA-256")
        self.refused(remote.AuthSaslStep(False, b"c=biws"), failed)

    def test_malformed(self) -> None:
        """Messages that are none, other mechanisms, acting for others."""
        for mechanism, data in (
            ("PLAIN", b"\0fred\0x"), ("SCRAM-SHA-256", b"\xff"), ("SCRAM-SHA-256", b""),
            ("SCRAM-SHA-256", b"n,a=root,n=fred,r=abc"), ("SCRAM-SHA-256", b"p=tls-unique,,n=fred,r=abc"),
        ):  # fmt: skip
            self.pair = self.connect()
            self.call(remote.AuthSaslInit())
            self.refused(remote.AuthSaslStart(mechanism, False, data), remote.AuthenticationFailed)
            self.refused(remote.AuthSaslStep(False, b""), remote.AuthenticationFailed)

    def test_malformed_step(self) -> None:
        """A proof that is none."""
        self.call(remote.AuthSaslInit())
        reply = self.call(remote.AuthSaslStart("SCRAM-SHA-256", False, b"n,,n=fred,r=abc"))
        self.assertFalse(reply.complete)
        self.refused(remote.AuthSaslStep(False, b"\xff"), remote.AuthenticationFailed)

    def test_late(self) -> None:
        """Who does not come to an end is thrown out."""
        self.call(remote.AuthList())
        self.pair.clock.advance(AUTHENTICATION_SECONDS + 1)
        self.pair.pump()
        self.assertRaises(ConnectionClosed, self.call, remote.AuthList())

    def test_twice(self) -> None:
        """Once is enough."""
        self.authenticate()
        self.refused(remote.AuthSaslInit(), remote.AuthenticationFailed)

    def test_rules(self) -> None:
        """Rules are for the user, once it is known."""
        self.pair = self.connect(policy=allow(tester={"libvirt.connect"}, fred={"libvirt.*"}))
        self.authenticate()
        self.call(remote.ConnectOpen(URI))
        self.pair = self.connect(policy=allow(tester={"libvirt.connect"}))
        self.authenticate()
        self.refused(remote.ConnectOpen(URI), AccessDenied)

    def test_anonymous(self) -> None:
        """Whoever comes in the clear is not asked for a password, and not served."""
        self.pair = self.connect(policy=AllowAll(anonymous=True))
        principal = self.pair.server.principal._replace(name="anonymous", kind="anonymous")
        self.pair.server.principal = principal
        error = self.refused(remote.AuthList(), remote.AuthenticationFailed)
        self.assertIn("inside TLS or on a UNIX socket only", error.message)
        self.refused(remote.AuthSaslInit(), remote.AuthenticationFailed)

    def test_not_asked(self) -> None:
        """Without keys there is no SASL."""
        del self.path
        self.pair = self.connect()
        self.assertEqual(self.call(remote.AuthList()), (0,))
        self.refused(remote.AuthSaslInit(), remote.AuthenticationFailed)
        self.refused(remote.AuthSaslStart("SCRAM-SHA-256", False, b""), remote.AuthenticationFailed)

    def test_new_password(self) -> None:
        """A changed file counts at once; one that cannot be read changes nothing."""
        set_password(self.path, "fred", "battery staple")
        self.authenticate(password="battery staple")
        self.path.chmod(0o644)
        self.pair = self.connect()
        self.path.chmod(0o600)
        self.call(remote.AuthSaslInit())
        self.path.write_text("nonsense")
        self.authenticate(password="battery staple")


class KeyFileTests(ServerCase):
    """The file."""

    def setUp(self) -> None:
        super().setUp()
        self.path = self.directory / "passwd"

    def error(self, content: bytes, mode: int = 0o600) -> str:
        """Why it is refused."""
        self.path.write_bytes(content)
        self.path.chmod(mode)
        return str(self.assertRaises(ConfigurationError, KeyFile(self.path).load))

    def test_set(self) -> None:
        """Users are added and changed; no password is in it, and nobody else can read it."""
        self.assertTrue(set_password(self.path, "b", "secret-b"))
        self.assertTrue(set_password(self.path, "a", "secret-a"))
        before = KeyFile(self.path).load()
        self.assertFalse(set_password(self.path, "b", "other"))
        after = KeyFile(self.path).load()
        self.assertEqual(sorted(after), ["a", "b"])
        self.assertEqual(before["a"], after["a"])
        self.assertNotEqual(before["b"], after["b"])
        self.assertNotIn("secret", self.path.read_text())
        self.assertEqual(self.path.stat().st_mode & 0o777, 0o600)

    def test_refused_users(self) -> None:
        """Names that would not survive, and no password."""
        for user in ("", "a:b", "a b", "a,b", "a=b", "#a", "a\n", "x" * 256, "\x1b"):
            self.assertRaises(ConfigurationError, set_password, self.path, user, "p")
        for password in ("", "\0"):
            self.assertRaises(ConfigurationError, set_password, self.path, "a", password)
        self.assertFalse(self.path.exists())

    def test_unusable(self) -> None:
        """A file that cannot be meant."""
        set_password(self.path, "a", "p")
        line = self.path.read_bytes()
        self.assertIn("chmod 600", self.error(line, 0o640))
        self.assertIn("line 2 is not one of", self.error(line + b"x"))
        self.assertIn("line 1", self.error(line.replace(b"$4096:", b"$4096:?")))
        self.assertIn("line 1", self.error(b"a:SCRAM-SHA-256$4096:QQ==$QQ==:QQ==\n"))
        self.assertIn("not UTF-8 at byte 0", self.error(b"\xff"))
        self.path.unlink()
        self.assertIn("No such file", str(self.assertRaises(ConfigurationError, KeyFile(self.path).load)))
        self.assertIn(
            "not a regular", str(self.assertRaises(ConfigurationError, KeyFile(Path("/dev/null")).load))
        )

    def test_comments(self) -> None:
        """Empty lines and comments are none of its business."""
        set_password(self.path, "a", "p")
        self.path.write_bytes(b"# users\n\n" + self.path.read_bytes())
        self.assertEqual(list(KeyFile(self.path).load()), ["a"])

    def test_unknown_user(self) -> None:
        """Looks like any other, every time."""
        set_password(self.path, "a", "p")
        keys = KeyFile(self.path)
        keys.load()
        self.assertEqual(keys.keys_of("x").salt, keys.keys_of("x").salt)
        self.assertNotEqual(keys.keys_of("x").salt, keys.keys_of("y").salt)
        self.assertEqual(len(keys.keys_of("x").salt), len(keys.keys_of("a").salt))
