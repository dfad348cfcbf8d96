"""
The C{.x} files of libvirt 9.0, out of Debian's source package; none of them is in this repository.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import tarfile
import tempfile
from pathlib import Path
from unittest import SkipTest

from tests.peers import REQUIRE_PEERS, require_program

__all__ = ["X_FILES", "libvirt_source"]

X_FILES = (
    "remote/remote_protocol.x",
    "remote/qemu_protocol.x",
    "remote/lxc_protocol.x",
    "rpc/virnetprotocol.x",
    "rpc/virkeepaliveprotocol.x",
    "admin/admin_protocol.x",
    "locking/lock_protocol.x",
    "logging/log_protocol.x",
    "lxc/lxc_monitor_protocol.x",
)
"""All that libvirt has, below C{src}."""

_SECONDS = 240


_fetched: list[tempfile.TemporaryDirectory[str] | Exception] = []


def libvirt_source() -> Path:
    """
    The directory C{src} of libvirt with these files, fetched once in a process, also if that fails.

    The lists and the cache of apt are private to it: nothing of the system changes.

    @raise SkipTest: they cannot be fetched; AssertionError where C{RPCSTREAM_REQUIRE_PEERS=1}.
    """
    if not _fetched:
        try:
            _fetched.append(_fetch())
        except (SkipTest, AssertionError) as error:
            _fetched.append(error)
    (found,) = _fetched
    if isinstance(found, Exception):
        raise found
    return Path(found.name) / "src"


def _fetch() -> tempfile.TemporaryDirectory[str]:
    apt = require_program("apt-get")
    folder = tempfile.TemporaryDirectory(prefix="rpcstream-libvirt-source-")
    root = Path(folder.name)
    for name in ("parts", "lists/partial", "cache/archives/partial"):
        (root / name).mkdir(parents=True)
    if not _write_sources(root / "parts"):
        _unavailable("no source of Debian packages is configured")
    options = ["-q"]
    for name, value in (
        ("Dir::Etc::SourceList", "/dev/null"),
        ("Dir::Etc::SourceParts", root / "parts"),
        ("Dir::State::Lists", root / "lists"),
        ("Dir::Cache", root / "cache"),
        # The private directory is not for others to read.
        ("APT::Sandbox::User", "root"),
    ):
        options += ["-o", f"{name}={value}"]
    _run(root, apt, *options, "update")
    _run(root, apt, *options, "source", "--download-only", "libvirt")
    archives = list(root.glob("libvirt_9.0.*.orig.tar.xz"))
    if not archives:
        _unavailable(f"no archive of libvirt 9.0 came: {sorted(path.name for path in root.iterdir())}")
    with tarfile.open(archives[0]) as archive:
        for member in archive:
            parts = Path(member.name).parts
            if member.isfile() and parts[1:2] == ("src",) and member.name.endswith((".x", "-structs")):
                target = root.joinpath(*parts[1:])
                target.parent.mkdir(parents=True, exist_ok=True)
                content = archive.extractfile(member)
                if content is not None:
                    target.write_bytes(content.read())
    shutil.rmtree(root / "lists")
    return folder


def _write_sources(parts: Path) -> bool:
    """The system's own Debian sources, as sources of source packages."""
    for path in Path("/etc/apt/sources.list.d").glob("*.sources"):
        text = path.read_text(errors="replace")
        if "debian" in text:
            (parts / path.name).write_text(re.sub(r"(?m)^Types:.*$", "Types: deb-src", text))
    one_line = Path("/etc/apt/sources.list")
    if one_line.is_file():
        found = re.findall(r"(?m)^deb (.*debian.*)$", one_line.read_text(errors="replace"))
        if found:
            (parts / "debian.list").write_text("".join(f"deb-src {line}\n" for line in found))
    return any(parts.iterdir())


def _run(root: Path, *words: str) -> None:
    try:
        done = subprocess.run(
            words, cwd=root, stdin=subprocess.DEVNULL, capture_output=True, text=True,
            timeout=_SECONDS, env={**os.environ, "LC_ALL": "C"}, check=False,
        )  # fmt: skip
    except subprocess.TimeoutExpired:
        _unavailable(f"{words[-1]} took more than {_SECONDS} s")
    if done.returncode:
        _unavailable(f"apt-get failed: {done.stderr.strip()[-500:]}")


def _unavailable(reason: str) -> None:
    if os.environ.get(REQUIRE_PEERS) == "1":
        raise AssertionError(f"libvirt's source: {reason}, but {REQUIRE_PEERS}=1 requires it")
    raise SkipTest(f"libvirt's source: {reason}")
