"""
A real libvirtd for tests, private in everything: configuration, sockets, state, ports.

It runs in session mode, as the user C{nobody} when the tests run as root, so that it shares
nothing with a daemon of the machine.  It listens on a UNIX socket, and on 127.0.0.1 with and
without TLS; storage pools of type C{dir}, the test driver and QEMU without KVM work.
"""

from __future__ import annotations

import atexit
import functools
import os
import pwd
import shutil
import socket
import subprocess
import tempfile
import time
from pathlib import Path

from rpcstream.net import pki
from tests.interop.harness import free_port
from tests.peers import require_program

__all__ = ["PASSWORD", "USERNAME", "Libvirtd", "require_libvirtd", "shared_libvirtd"]

START_SECONDS = 60
"""On a machine with much to do."""
USERNAME, PASSWORD = "fred", "correct horse"


def require_libvirtd() -> None:
    """
    @raise SkipTest: libvirtd or virsh is not installed.
    """
    require_program("libvirtd")
    require_program("virsh")


@functools.cache
def shared_libvirtd() -> Libvirtd:
    """
    One for all tests of this process, with a pool C{p}; it ends with the process.

    @raise SkipTest: libvirtd is not installed.
    """
    require_libvirtd()
    daemon = Libvirtd()
    atexit.register(daemon.close)
    daemon.start()
    daemon.make_pool("p")
    return daemon


def _end(process: subprocess.Popen[bytes]) -> None:
    """SIGTERM, and SIGKILL when that does not end it."""
    if process.poll() is None:
        process.terminate()
        try:
            process.wait(20)
        except subprocess.TimeoutExpired:
            process.kill()
            process.wait()


class Libvirtd:
    """
    One daemon.

    @ivar folder: everything of it is in here; others may enter.
    @ivar pki: certificates of server and client, as C{pkipath=} wants them.
    @ivar socket: its UNIX socket.
    """

    def __init__(self, *, sasl: str = "", settings: dict[str, str | int] | None = None) -> None:
        """
        @param sasl: TLS clients must authenticate by one of these mechanisms.
        @param settings: further lines of libvirtd.conf.
        """
        # Paths of sockets must be short.
        self.folder = Path(tempfile.mkdtemp(prefix="lv-"))
        self.log = self.folder / "libvirtd.log"
        self.socket = self.folder / "run/libvirt/libvirt-sock"
        self.pki = self.folder / "pki"
        self.tcp_port, self.tls_port = free_port(), free_port()
        self.process: subprocess.Popen[bytes] | None = None
        for name in ("run", "config/libvirt", "cache", "home", "sasl", "pools"):
            (self.folder / name).mkdir(parents=True)
        pki.initialise(self.pki, ["127.0.0.1", "localhost"], ["tester"])
        # A daemon for consoles would outlive this one.
        (self.folder / "config/libvirt/qemu.conf").write_text('stdio_handler = "file"\n')
        if sasl:
            self._configure_sasl(sasl)
        self._configure("sasl" if sasl else "none", settings or {})
        self._user = pwd.getpwnam("nobody") if os.geteuid() == 0 else None
        self._give_away()

    def _configure(self, auth_tls: str, settings: dict[str, str | int]) -> None:
        values: dict[str, str | int] = {
            "listen_tls": 1,
            "listen_tcp": 1,
            "listen_addr": "127.0.0.1",
            "tcp_port": str(self.tcp_port),
            "tls_port": str(self.tls_port),
            "auth_tcp": "none",
            "auth_tls": auth_tls,
            "auth_unix_rw": "none",
            "key_file": str(self.pki / "serverkey.pem"),
            "cert_file": str(self.pki / "servercert.pem"),
            "ca_file": str(self.pki / "cacert.pem"),
            "log_outputs": f"2:file:{self.log}",
            "log_filters": "3:*",
            **settings,
        }
        lines = [
            f'{key} = "{each}"' if isinstance(each, str) else f"{key} = {each}"
            for key, each in values.items()
        ]
        (self.folder / "libvirtd.conf").write_text("\n".join(lines) + "\n")

    def _configure_sasl(self, mechanisms: str) -> None:
        """
        @raise SkipTest: Cyrus SASL cannot do it here.
        """
        program = require_program("saslpasswd2")
        database = self.folder / "sasl/db"
        (self.folder / "sasl/libvirt.conf").write_text(f"mech_list: {mechanisms}\nsasldb_path: {database}\n")
        subprocess.run(
            [program, "-p", "-f", str(database), "-a", "libvirt", "-c", USERNAME],
            input=PASSWORD.encode(),
            check=True,
            timeout=30,
        )

    def _give_away(self) -> None:
        """Everything to the daemon's user; tests as root can read it all the same."""
        if self._user is None:
            return
        for path in (self.folder, *self.folder.rglob("*")):
            os.chown(path, self._user.pw_uid, self._user.pw_gid)
        self.folder.chmod(0o755)

    # --- its life --------------------------------------------------------------------------

    def start(self) -> None:
        """Start it and wait until it answers; again after L{stop}."""
        user = self._user
        with (self.folder / "output").open("ab") as output:
            self.process = subprocess.Popen(
                [
                    require_program("libvirtd"), "-f", str(self.folder / "libvirtd.conf"), "--listen",
                    "-p", str(self.folder / "pid"),
                ],
                cwd="/",
                env={
                    # Whoever counts what tests leave behind goes by it.
                    **{key: each for key, each in os.environ.items() if key == "RPCSTREAM_CI_RUN"},
                    "PATH": os.environ["PATH"],
                    "HOME": str(self.folder / "home"),
                    "XDG_RUNTIME_DIR": str(self.folder / "run"),
                    "XDG_CONFIG_HOME": str(self.folder / "config"),
                    "XDG_CACHE_HOME": str(self.folder / "cache"),
                    "SASL_CONF_PATH": str(self.folder / "sasl"),
                },
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                user=None if user is None else user.pw_uid,
                group=None if user is None else user.pw_gid,
                extra_groups=None if user is None else [],
            )  # fmt: skip
        deadline = time.monotonic() + START_SECONDS
        while not self._answers():
            if self.process.poll() is not None or time.monotonic() > deadline:
                raise AssertionError(
                    f"libvirtd does not start: {(self.folder / 'output').read_text()[-2000:]}"
                )
            time.sleep(0.05)

    def _answers(self) -> bool:
        for port in (self.tcp_port, self.tls_port):
            try:
                socket.create_connection(("127.0.0.1", port), 5).close()
            except OSError:
                return False
        return self.virsh("hostname", check=False).returncode == 0

    def stop(self) -> None:
        """End it; harmless when it has ended."""
        if self.process is not None:
            _end(self.process)

    def cut(self) -> None:
        """SIGKILL."""
        if self.process is not None:
            self.process.kill()
            self.process.wait()

    def close(self) -> None:
        """End it and remove all that is left of it."""
        self.stop()
        shutil.rmtree(self.folder, ignore_errors=True)

    # --- using it --------------------------------------------------------------------------

    def uri(self, driver: str = "test", path: str = "/default", kind: str = "unix", more: str = "") -> str:
        """
        @param kind: C{unix}, C{tcp} or C{tls}.
        @param more: further parameters, C{&key=value}.
        """
        if kind == "unix":
            return f"{driver}+unix://{path}?socket={self.socket}{more}"
        port = self.tcp_port if kind == "tcp" else self.tls_port
        query = f"?pkipath={self.pki}{more}" if kind == "tls" else more.replace("&", "?", 1)
        return f"{driver}+{kind}://127.0.0.1:{port}{path}{query}"

    def virsh(
        self, *commands: str, driver: str = "test", path: str = "/default", check: bool = True
    ) -> subprocess.CompletedProcess[str]:
        """Run virsh by the UNIX socket."""
        return subprocess.run(
            ["virsh", "-q", "-c", self.uri(driver, path), *commands],
            capture_output=True,
            text=True,
            timeout=120,
            check=check,
        )

    def make_pool(self, name: str) -> Path:
        """A storage pool that is a directory; volumes are files in it."""
        directory = self.folder / "pools" / name
        self.virsh(
            "pool-create-as",
            name,
            "dir",
            "--target",
            str(directory),
            "--build",
            driver="storage",
            path="/session",
        )
        return directory
