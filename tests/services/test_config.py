"""The configuration file, read strictly."""

from __future__ import annotations

import os
from pathlib import Path

from twisted.trial.unittest import TestCase

from rpcstream.errors import ConfigurationError
from rpcstream.limits import DEFAULT_LIMITS
from rpcstream.services.config import Config, DeviceConfig, PoolConfig, StoreConfig, load_config
from rpcstream.services.policy import AllowAll, Rule, RulePolicy, any_authenticated

FULL = """
[store]
mode = "0640"
quota = "500G"
[pool.backups]
directory = "/srv/backups"
mode = "0o600"
quota = 4096
[pool.other]
directory = "/srv/other"
[device.disk1]
path = "/dev/vg0/disk1"
[[rule]]
principals = ["bob"]
permissions = ["transfer.remove"]
deny = true
reason = "bob removed too much"
[[rule]]
principals = ["*.example.org"]
permissions = ["transfer.*"]
pools = ["backups"]
names = ["nightly-*"]
[limits]
connections = 200
sync_bytes = "16M"
spool_low_bytes = 1024
call_seconds = 30
keepalive_seconds = 2.5
"""


class ConfigCase(TestCase):
    """Files with a given text."""

    def write(self, text: str | bytes, mode: int = 0o600) -> Path:
        """A configuration file."""
        path = Path(self.mktemp())
        path.write_bytes(text.encode() if isinstance(text, str) else text)
        path.chmod(mode)
        return path

    def load(self, text: str) -> Config:
        """What the text says."""
        return load_config(self.write(text))

    def refused(self, text: str | bytes, mode: int = 0o600) -> str:
        """The refusal, which names the file."""
        path = self.write(text, mode)
        message = str(self.assertRaises(ConfigurationError, load_config, path))
        self.assertTrue(message.startswith(f"{path}: "), message)
        self.assertTrue(message.isprintable(), message)
        return message.removeprefix(f"{path}: ")


class MeaningTests(ConfigCase):
    """What a good file says."""

    def test_full(self) -> None:
        """Every table."""
        config = self.load(FULL)
        self.assertEqual(config.store, StoreConfig(0o640, 500 << 30))
        self.assertEqual(
            config.pools,
            {
                "backups": PoolConfig("backups", Path("/srv/backups"), 0o600, 4096),
                "other": PoolConfig("other", Path("/srv/other")),
            },
        )
        self.assertEqual(config.devices, {"disk1": DeviceConfig("disk1", Path("/dev/vg0/disk1"))})
        self.assertEqual(
            config.policy,
            RulePolicy(
                [
                    Rule(["bob"], ["transfer.remove"], deny=True, reason="bob removed too much"),
                    Rule(["*.example.org"], ["transfer.*"], ["backups"], ["nightly-*"]),
                ]
            ),
        )
        limits = config.limits
        self.assertEqual(
            (limits.connections, limits.sync_bytes, limits.spool_low_bytes), (200, 16 << 20, 1024)
        )
        self.assertEqual((limits.call_seconds, limits.keepalive_seconds), (30.0, 2.5))
        self.assertEqual(limits.streams, DEFAULT_LIMITS.streams)
        self.assertEqual(config.warnings, ())

    def test_without_lanes(self) -> None:
        """Lanes can be switched off, by a 0."""
        self.assertEqual(self.load("[limits]\nexclusive_lanes = 0").limits.exclusive_lanes, 0)

    def test_empty(self) -> None:
        """Nothing said: the defaults, and a warning that everybody may do everything."""
        path = self.write("")
        config = load_config(path)
        self.assertEqual(attrs_without_warnings(config), attrs_without_warnings(Config()))
        self.assertIs(config.policy.decide("alice", "transfer.remove", "disk").allowed, True)
        self.assertIn(f"{path} has no [[rule]]", config.warnings[0])
        self.assertIn("certificate of the configured CA", config.warnings[0])

    def test_no_file(self) -> None:
        """As with an empty one."""
        config = load_config(None)
        self.assertEqual(config.policy, any_authenticated)
        self.assertIn("no --config", config.warnings[0])

    def test_insecure(self) -> None:
        """Without rules the anonymous are served only where the operator accepted them."""
        for path in (None, self.write("")):
            config = load_config(path, insecure=True)
            self.assertEqual(config.policy, AllowAll(anonymous=True))
            self.assertIn("everyone who can connect", config.warnings[0])
        self.assertEqual(load_config(self.write("[policy]"), insecure=True).policy, RulePolicy())

    def test_nobody(self) -> None:
        """A policy without rules: nobody, and no warning."""
        for text in ("[policy]", "rule = []"):
            config = self.load(text)
            self.assertEqual((config.policy, config.warnings), (RulePolicy(), ()))


class RefusalTests(ConfigCase):
    """What a bad file is told."""

    def test_unknown_keys(self) -> None:
        """Each unknown key is named, with those that are known."""
        for text, expected in [
            ("[stor]", "stor: unknown key; known are store, pool, device, policy, rule, limits"),
            ("x = 1", "x: unknown key"),
            ("[store]\nsize = 1", "[store]: size: unknown key; known are mode, quota"),
            ("[pool.a]\ndirectory = '/a'\npath = '/a'", "[pool.a]: path: unknown key; known are directory"),
            ("[device.a]\ndirectory = '/a'", "[device.a]: directory: unknown key; known are path"),
            ("[policy]\ndefault = 'allow'", "[policy]: default: unknown key"),
            ("[[rule]]\nprincipal = ['a']", "[[rule]] 1: principal: unknown key; known are principals, perm"),
            ("[limits]\nstream = 1", "[limits]: stream: unknown key; known are handshake_seconds, "),
            ('"a\\nb" = 1', "'a\\nb': unknown key"),
            (f"{'k' * 100} = 1", f"'{'k' * 80}': unknown key"),
        ]:
            self.assertTrue(self.refused(text).startswith(expected), self.refused(text))

    def test_values(self) -> None:
        """A value of a wrong type or range, with what it must be."""
        for text, expected in [
            ("store = 1", "store: must be a table"),
            ("pool = 1", "pool: must be a table"),
            ("pool.a = 1", "write [pool.NAME] tables; a is none"),
            ("rule = [1]", "must be written as [[rule]] tables"),
            ("rule = {}", "rule: must be a list"),
            ("[store]\nmode = 640", "octal string"),
            ("[store]\nmode = '4755'", "octal string"),
            ("[store]\nmode = '899'", "octal string"),
            ("[store]\nmode = '0640\\n'", "octal string"),
            ("[store]\nquota = '1X'", "[store]: quota: '1X' is not a number"),
            ("[store]\nquota = -1", "must not be negative"),
            ("[store]\nquota = true", "quota: must be a whole number or a string"),
            ("[store]\nquota = 1.5", "quota: must be a whole number or a string"),
            ("[pool.a]", "[pool.a]: directory: is required"),
            ("[pool.a]\ndirectory = 'a'", "absolute path"),
            ('[pool.a]\ndirectory = "/a\\u0000"', "absolute path"),
            ("[pool.default]\ndirectory = '/a'", "belong in [store]"),
            ("[pool.'a/b']\ndirectory = '/a'", "a pool's name"),
            ("[pool.'']\ndirectory = '/a'", "a pool's name"),
            ("[pool.a]\ndirectory = '/a'\n[pool.b]\ndirectory = '/a/'", "same directory"),
            ("[device.'.a']\npath = '/a'", "dot"),
            ('[device."a\\n"]\npath = "/a"', "control characters"),
            ("[device.a]\npath = ''", "absolute path"),
            ("[[rule]]\npermissions = ['a']", "[[rule]] 1: principals: is required"),
            ("[[rule]]\nprincipals = ['a']", "permissions: is required"),
            ("[[rule]]\nprincipals = []\npermissions = ['a']", "with at least one"),
            ("[[rule]]\nprincipals = 'a'\npermissions = ['a']", "principals: must be a list"),
            ("[[rule]]\nprincipals = ['a', 1]\npermissions = ['a']", "list of strings"),
            ("[[rule]]\nprincipals = ['a', '']\npermissions = ['a']", "none empty"),
            ("[[rule]]\nprincipals = ['a']\npermissions = ['a']\ndeny = 1", "deny: must be true or false"),
            ("[[rule]]\nprincipals = ['a']\npermissions = ['a']\nreason = '\x7f'", "not TOML"),
            ('[[rule]]\nprincipals = ["a"]\npermissions = ["a"]\nreason = "\\u001b[2J"', "one line"),
            ("[limits]\nstreams = 0", "streams: must be more than 0"),
            ("[limits]\nstreams = true", "streams: must be a whole number"),
            ("[limits]\nstreams = 1.5", "streams: must be a whole number"),
            ("[limits]\ncall_seconds = inf", "must be more than 0"),
            ("[limits]\ncall_seconds = nan", "must be more than 0"),
            ("[limits]\ncall_seconds = '1'", "must be a whole number or a number with a fraction"),
            ("[limits]\nsync_bytes = 0", "must be more than 0"),
            ("[limits]\npacket_bytes = '1G'", "must not be more than 33554408"),
            (f"[limits]\nstreams = {2**63}", "must not be more than"),
            ("[limits]\nspool_low_bytes = '8M'", "must not be more than spool_high_bytes, which is 4194304"),
        ]:
            self.assertIn(expected, self.refused(text), text)

    def test_not_toml(self) -> None:
        """Broken syntax, bytes and nesting."""
        self.assertIn("not TOML: ", self.refused("[store"))
        self.assertIn("not UTF-8 at byte 2", self.refused(b"a=\xff"))
        self.assertIn("nested too deeply", self.refused("a = " + "[" * 20000))
        self.assertIn("larger than 1 MiB", self.refused("#" * (2**20 + 1)))

    def test_open_to_others(self) -> None:
        """A file that others can write could be anybody's policy."""
        for mode in (0o620, 0o602, 0o666):
            self.assertIn("chmod go-w", self.refused("", mode))
        self.assertEqual(load_config(self.write("[policy]", 0o644)).policy, RulePolicy())

    def test_owner(self) -> None:
        """Only root's and one's own files count."""
        real = os.fstat

        def foreign(descriptor: int) -> os.stat_result:
            values = list(real(descriptor))
            values[4] = 4711
            return os.stat_result(values)

        path = self.write("")
        self.patch(os, "fstat", foreign)
        message = str(self.assertRaises(ConfigurationError, load_config, path))
        self.assertIn("belongs to another user", message)
        self.patch(os, "geteuid", lambda: 4711)
        self.assertEqual(load_config(path).limits, DEFAULT_LIMITS)

    def test_no_file(self) -> None:
        """Missing, a directory, a pipe: said at once."""
        for path, expected in [
            (Path(self.mktemp()), "No such file"),
            (Path("/"), "irectory"),
            (Path("/dev/null"), "not a regular file"),
        ]:
            self.assertIn(expected, str(self.assertRaises(ConfigurationError, load_config, path)))
        pipe = self.mktemp()
        os.mkfifo(pipe)
        self.assertIn(
            "not a regular file", str(self.assertRaises(ConfigurationError, load_config, Path(pipe)))
        )


def attrs_without_warnings(config: Config) -> tuple[object, ...]:
    """All but the warnings."""
    return (config.store, config.pools, config.devices, config.policy, config.limits)
