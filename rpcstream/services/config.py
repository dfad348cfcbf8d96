"""
The configuration file of the services (C{--config FILE.toml}), read strictly::

    [store]                     # the pool called default, that of --store
    mode = "0640"               # of published files; default "0600"
    quota = "500G"

    [pool.backups]              # further pools
    directory = "/srv/backups"
    mode = "0600"
    quota = "2T"

    [device.disk1]              # block devices that may be written, by name
    path = "/dev/vg0/disk1"

    [[rule]]                    # the first that matches decides; default deny
    principals = ["*.example.org"]
    permissions = ["transfer.*"]
    pools = ["backups"]         # default ["*"], and so are names
    names = ["nightly-*"]
    deny = false
    reason = ""

    [limits]                    # fields of rpcstream.limits.Limits
    connections = 200
    sync_bytes = "16M"

    [libvirt]                   # virsh and its like: storage+tls://HOST/system
    enabled = true

    [sasl]                      # those have to give user and password, too
    file = "/etc/rpcstream/passwd"   # made by: rpcstream passwd FILE USER

With neither C{[policy]} nor any C{[[rule]]} every authenticated peer may do
everything, and a warning says so; an empty C{[policy]} alone means nobody.
"""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import attrs

from rpcstream.errors import ConfigurationError, NameRefused
from rpcstream.limits import DEFAULT_LIMITS, MESSAGE_BYTES, Limits
from rpcstream.services.config_table import ConfigTable, read_toml
from rpcstream.services.policy import AllowAll, Policy, Rule, RulePolicy, any_authenticated
from rpcstream.storage.names import check_name
from rpcstream.units import parse_size

__all__ = [
    "DEFAULT_MODE",
    "Config",
    "DeviceConfig",
    "LibvirtConfig",
    "PoolConfig",
    "StoreConfig",
    "load_config",
]

DEFAULT_MODE = 0o600
"""Of a published file, unless the sender or the pool says otherwise."""

_POOL_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,63}")
_MODE = re.compile(r"(0o)?[0-7]{3,4}")
_RULE_KEYS = ("principals", "permissions", "pools", "names", "deny", "reason")
_REASON_CHARACTERS = 500
# What the wire itself bounds.
_LARGEST = {"packet_bytes": MESSAGE_BYTES - 28, "anonymous_message_bytes": MESSAGE_BYTES}


@attrs.frozen
class StoreConfig:
    """
    The default pool's settings; its directory is C{--store}.

    @ivar mode: permission bits of published files.
    @ivar quota_bytes: what the pool may hold, L{None} for no limit.
    """

    mode: int = DEFAULT_MODE
    quota_bytes: int | None = None


@attrs.frozen
class PoolConfig:
    """A further pool; the fields as in L{StoreConfig}."""

    name: str
    directory: Path
    mode: int = DEFAULT_MODE
    quota_bytes: int | None = None


@attrs.frozen
class DeviceConfig:
    """A block device that may be read and written under a name of the default pool."""

    name: str
    path: Path


@attrs.frozen
class LibvirtConfig:
    """
    How libvirt's clients are served.

    @ivar enabled: whether they are.
    @ivar key_file: keys of users, one of whom they have to be; L{None}: any certificate will do.
    """

    enabled: bool = True
    key_file: Path | None = None


@attrs.frozen
class Config:
    """
    What the file says, checked; the defaults are those without a file.

    @ivar warnings: sentences for the log at start.
    """

    store: StoreConfig = StoreConfig()
    pools: Mapping[str, PoolConfig] = attrs.field(factory=dict)
    devices: Mapping[str, DeviceConfig] = attrs.field(factory=dict)
    policy: Policy = any_authenticated
    limits: Limits = DEFAULT_LIMITS
    libvirt: LibvirtConfig = LibvirtConfig()
    warnings: tuple[str, ...] = ()


def load_config(path: Path | None, *, insecure: bool = False) -> Config:
    """
    Read the file; blocks.

    @param path: the file; L{None} for none.
    @param insecure: whether peers without authentication are served at all
        (C{--insecure}): without rules they may then do everything, too.
    @raise ConfigurationError: it cannot be used; the text names file and key.
    """
    if path is None:
        return Config(policy=AllowAll(insecure), warnings=(_allow_all_warning(None, insecure),))
    known = ("store", "pool", "device", "policy", "rule", "limits", "libvirt", "sasl")
    root = ConfigTable(path, "", read_toml(path), known)
    policy, warnings = _policy(path, root, insecure)
    pools = {name: _pool(path, name, values) for name, values in root.subtables("pool").items()}
    if len({pool.directory for pool in pools.values()}) < len(pools):
        # Each pool believes that it alone writes to its directory.
        root.refuse("pool", "two pools have the same directory")
    return Config(
        store=_store(path, root),
        pools=pools,
        devices={name: _device(path, name, values) for name, values in root.subtables("device").items()},
        policy=policy,
        limits=_limits(path, root),
        libvirt=_libvirt(path, root),
        warnings=warnings,
    )


def _store(path: Path, root: ConfigTable) -> StoreConfig:
    table = ConfigTable(path, "[store]", root.value("store", dict, default={}), ("mode", "quota"))
    return StoreConfig(_mode(table), _size(table, "quota"))


def _pool(path: Path, name: str, values: dict[str, Any]) -> PoolConfig:
    table = ConfigTable(path, f"[pool.{ascii(name)[1:-1]}]", values, ("directory", "mode", "quota"))
    if name == "default":
        table.refuse("directory", "the pool called default is --store; its settings belong in [store]")
    if not _POOL_NAME.fullmatch(name):
        table.refuse("directory", "a pool's name has 1 to 64 letters, digits, dots, hyphens or underscores")
    return PoolConfig(name, _absolute(table, "directory"), _mode(table), _size(table, "quota"))


def _device(path: Path, name: str, values: dict[str, Any]) -> DeviceConfig:
    table = ConfigTable(path, f"[device.{ascii(name)[1:-1]}]", values, ("path",))
    try:
        check_name(name)
    except NameRefused as error:
        table.refuse("path", str(error))
    return DeviceConfig(name, _absolute(table, "path"))


def _policy(path: Path, root: ConfigTable, insecure: bool) -> tuple[Policy, tuple[str, ...]]:
    ConfigTable(path, "[policy]", root.value("policy", dict, default={}), ())
    tables = root.table_list("rule")
    if tables or "policy" in root or "rule" in root:
        return RulePolicy(_rule(path, number, values) for number, values in enumerate(tables, 1)), ()
    return AllowAll(insecure), (_allow_all_warning(path, insecure),)


def _rule(path: Path, number: int, values: dict[str, Any]) -> Rule:
    table = ConfigTable(path, f"[[rule]] {number}", values, _RULE_KEYS)
    reason: str = table.value("reason", str, default="")
    if not reason.isprintable() or len(reason) > _REASON_CHARACTERS:
        # It goes to peers' terminals and into logs.
        table.refuse("reason", f"must be one line of at most {_REASON_CHARACTERS} printable characters")
    return Rule(
        principals=table.strings("principals"),
        permissions=table.strings("permissions"),
        pools=table.strings("pools", ["*"]),
        names=table.strings("names", ["*"]),
        deny=table.value("deny", bool, default=False),
        reason=reason,
    )


_MAY_BE_ZERO = ("exclusive_lanes", "exclusive_least_bytes")
"""Limits for which 0 means something: no lanes, and lanes for everything."""


def _limits(path: Path, root: ConfigTable) -> Limits:
    known = [field.name for field in fields(Limits)]
    table = ConfigTable(path, "[limits]", root.value("limits", dict, default={}), known)
    given = {name: _limit(table, name) for name in known if name in table}
    limits = replace(DEFAULT_LIMITS, **given)
    for low, high in (
        ("spool_low_bytes", "spool_high_bytes"),
        ("initial_credit_bytes", "largest_credit_bytes"),
        ("send_high_bytes", "write_high_bytes"),
    ):
        if getattr(limits, low) > getattr(limits, high):
            table.refuse(low, f"must not be more than {high}, which is {getattr(limits, high)}")
    return limits


def _limit(table: ConfigTable, name: str) -> Any:
    if name.endswith("_bytes"):
        value: int | float | None = _size(table, name)
    elif name.endswith("_seconds"):
        value = float(table.value(name, int, float))
    else:
        value = table.value(name, int)
    if value is None or not (0 < value < math.inf or (value == 0 and name in _MAY_BE_ZERO)):
        table.refuse(name, "must be more than 0")
    if value > _LARGEST.get(name, 2**62):
        table.refuse(name, f"must not be more than {_LARGEST.get(name, 2**62)}")
    return value


def _size(table: ConfigTable, key: str) -> int | None:
    value: int | str | None = table.value(key, int, str, default=None)
    if value is None:
        return None
    if isinstance(value, int) and value < 0:
        table.refuse(key, "must not be negative")
    try:
        return parse_size(str(value), "value")
    except ConfigurationError as error:
        table.refuse(key, str(error).removeprefix("value: "))


def _libvirt(path: Path, root: ConfigTable) -> LibvirtConfig:
    table = ConfigTable(path, "[libvirt]", root.value("libvirt", dict, default={}), ("enabled",))
    sasl = ConfigTable(path, "[sasl]", root.value("sasl", dict, default={}), ("file",))
    key_file = _absolute(sasl, "file") if "sasl" in root else None
    return LibvirtConfig(table.value("enabled", bool, default=True), key_file)


def _mode(table: ConfigTable) -> int:
    text: str | int | None = table.value("mode", str, int, default=None)
    if text is None:
        return DEFAULT_MODE
    # A number is refused: 640 and 0o640 are both numbers, and mean different modes.
    if not isinstance(text, str) or not _MODE.fullmatch(text) or int(text, 8) > 0o777:
        table.refuse("mode", 'must be permission bits as an octal string, for example "0640"')
    return int(text, 8)


def _absolute(table: ConfigTable, key: str) -> Path:
    text: str = table.value(key, str)
    if not text.startswith("/") or "\0" in text:
        # twistd changes the directory, so that a relative path would mean another place.
        table.refuse(key, "must be an absolute path")
    return Path(text)


def _allow_all_warning(path: Path | None, insecure: bool) -> str:
    who = "everyone who can connect" if insecure else "every peer with a certificate of the configured CA"
    where = f"{path} has no [[rule]]" if path else "no --config"
    return f"{where}: {who} may read, replace and remove everything in this store"
