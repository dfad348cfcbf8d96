"""
Authentication: none, SASL, polkit, and what is refused.
"""

from __future__ import annotations

from typing import Any

from rpcstream import libvirt
from rpcstream.errors import ConfigurationError, ConnectRefused, DecodeError
from rpcstream.programs import remote
from rpcstream.programs.remote import AuthType
from tests.libvirt.daemon import PASSWORD, USERNAME, DaemonCase


class ChoiceTests(DaemonCase):
    """What the daemon offers and what the URI allows."""

    def test_nothing_offered(self) -> None:
        """An empty list means that there is nothing to do."""
        self.daemon.auth = ()
        self.assertIs(AuthType.NONE, self.connect().authentication)

    def test_wrong_options(self) -> None:
        """The URI asks for what there is not."""
        for auth, why in (("kerberos", "none, sasl"), ("sasl.plain", "SCRAM"), ("none.x", "SCRAM")):
            uri = f"test+unix:///?socket=/s&auth={auth}"
            self.assertIn(why, str(self.assertRaises(ConfigurationError, self.connect, uri)))

    def test_not_allowed(self) -> None:
        """A client set to SCRAM takes nothing else, also not nothing."""
        uri = "test+unix:///?socket=/s&auth=sasl.SCRAM-SHA-256"
        for offered, name in (((0,), "none"), ((2,), "polkit"), ((), "none"), ((99,), "?")):
            self.daemon.auth = offered
            error = self.assertRaises(ConnectRefused, self.connect, uri, username="u", password="p")
            self.assertIn(f"by {name}, and the URI allows only sasl", str(error))

    def test_unknown_way(self) -> None:
        """A daemon of the future."""
        self.daemon.auth = (77,)
        self.assertIn("(77,)", str(self.assertRaises(ConnectRefused, self.connect)))


class PolkitTests(DaemonCase):
    """polkit decides at the daemon's side."""

    def setUp(self) -> None:
        super().setUp()
        self.daemon.auth = (2,)

    def test_let_in(self) -> None:
        """Yes."""
        self.assertIs(AuthType.POLKIT, self.connect().authentication)

    def test_refused(self) -> None:
        """No, as an answer or as an error, with what to do about it."""
        for answer, code in ((False, 45), (remote.AuthenticationUnavailable("no agent", domain=60), 94)):
            self.daemon.polkit = answer
            error = self.assertRaises(libvirt.AuthenticationFailed, self.connect)
            self.assertEqual(code, error.code)
            self.assertIn("pkttyagent", error.message)


class ScramTests(DaemonCase):
    """SASL with SCRAM-SHA-256."""

    def setUp(self) -> None:
        super().setUp()
        self.daemon.auth = (1,)

    def _connect(self, password: str = PASSWORD, **options: Any) -> libvirt.Connection:
        return self.connect(username=USERNAME, password=password, **options)

    def test_right_password(self) -> None:
        """Also for the connection of a stream."""
        host = self._connect()
        self.assertIs(AuthType.SASL, host.authentication)
        domain = self.result_of(host.domain("vm"))
        self.assertEqual(b"picture", self.result_of(domain.screenshot()).data)
        self.assertEqual(2, self.daemon.called.count("AuthSaslStart"))

    def test_wrong_password(self) -> None:
        """The daemon's error."""
        error = self.assertRaises(libvirt.AuthenticationFailed, self._connect, "wrong")
        self.assertEqual(45, error.code)

    def test_no_password(self) -> None:
        """Nobody named one."""
        error = self.assertRaises(
            ConfigurationError, self.connect, "test+unix:///?socket=/s&authfile=/dev/null"
        )
        self.assertIn("password", str(error))

    def test_plain_tcp(self) -> None:
        """Without TLS there would be no protection."""
        error = self.assertRaises(ConfigurationError, self._connect, uri="test+tcp://localhost/default")
        self.assertIn("+tls", str(error))

    def test_other_mechanisms(self) -> None:
        """SCRAM-SHA-256 or nothing."""
        for offered in ("DIGEST-MD5,PLAIN", ""):
            self.daemon.mechanisms = offered
            error = self.assertRaises(ConnectRefused, self._connect)
            self.assertIn(offered or "nothing", str(error))

    def test_server_that_does_not_know_the_password(self) -> None:
        """The server must prove it, too."""
        self.daemon.auth = (1,)
        original = self.daemon.sasl_step

        def lying(call: Any, request: Any) -> remote.SaslReply:
            reply = original(call, request)
            return remote.SaslReply(True, False, reply.data[:-8] + b"AAAAAAA=")

        self._replace("AuthSaslStep", lying)
        self.assertIn("failed", str(self.assertRaises(ConnectRefused, self._connect)))

    def _replace(self, name: str, method: Any) -> None:
        table = self.network.serving._responders
        for key, responder in list(table.items()):
            if responder.procedure.name == name:
                table[key] = responder._replace(method=method)

    def test_bad_first_message(self) -> None:
        """What is not SCRAM, or not even text."""
        for data, kind in ((b"nonsense", ConnectRefused), (b"\xff\xfe", DecodeError)):
            self.daemon.sasl_data = data
            self.assertRaises(kind, self._connect)

    def test_further_steps(self) -> None:
        """A server may want an empty step or two at the end, not more."""
        self.daemon.steps_needed = 2
        self.assertIs(AuthType.SASL, self._connect().authentication)
        self.daemon.steps_needed = 9
        self.assertIn("to an end", str(self.assertRaises(ConnectRefused, self._connect)))
