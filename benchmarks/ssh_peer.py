"""
OpenSSH: C{ssh} with AES-GCM, and C{scp}, against a private sshd on 127.0.0.1.
"""

from __future__ import annotations

import getpass
import os
import subprocess
from pathlib import Path

from benchmarks.work import Contestant, Sample, find_program, needs

__all__ = ["SSH"]

PRIVILEGE_SEPARATION = Path("/run/sshd")


class _SSH(Contestant):
    groups = ("files-tls",)
    note = "no digest, no fsync; aes128-gcm@openssh.com"

    def missing(self) -> str | None:
        return needs("sshd", "ssh", "scp", "ssh-keygen")

    def prepare(self) -> None:
        place = self.place
        folder = place.folder / f"ssh-{type(self).__name__}"
        folder.mkdir(mode=0o700)
        for name in ("host", "user"):
            subprocess.run(
                ["ssh-keygen", "-q", "-t", "ed25519", "-N", "", "-f", str(folder / name)], check=True
            )
        self.port = place.free_port()
        (folder / "sshd_config").write_text(
            f"Port {self.port}\nListenAddress 127.0.0.1\nHostKey {folder / 'host'}\n"
            f"AuthorizedKeysFile {folder / 'user.pub'}\nStrictModes no\nUsePAM no\n"
            f"PidFile none\nPermitRootLogin prohibit-password\nPasswordAuthentication no\n"
            "Subsystem sftp internal-sftp\n"
        )
        if os.geteuid() == 0 and not PRIVILEGE_SEPARATION.is_dir():
            # sshd does not start as root without it.
            PRIVILEGE_SEPARATION.mkdir(mode=0o755)
            self.stack.callback(PRIVILEGE_SEPARATION.rmdir)
        sshd = find_program("sshd") or ""
        place.serve(self.stack, sshd, "-D", "-e", "-f", str(folder / "sshd_config"))
        place.wait_for_port(self.port)
        self.options = (
            "-F", "none", "-i", str(folder / "user"), "-c", "aes128-gcm@openssh.com",
            "-o", "StrictHostKeyChecking=no", "-o", "UserKnownHostsFile=/dev/null", "-o", "BatchMode=yes",
        )  # fmt: skip
        self.target = folder / "target"
        self.user = getpass.getuser()


class SSHCat(_SSH):
    name = "ssh host 'cat > file'"

    def run(self) -> Sample:
        command = ("ssh", *self.options, "-p", str(self.port), f"{self.user}@127.0.0.1")
        wall, _ = self.place.timed((*command, f"cat > {self.target}"), self.place.source)
        self.place.check(self.target)
        return Sample(self.place.size, None, wall)


class SCP(_SSH):
    name = "scp"

    def run(self) -> Sample:
        where = f"{self.user}@127.0.0.1:{self.target}"
        command = ("scp", "-q", *self.options, "-P", str(self.port), str(self.place.source), where)
        wall, _ = self.place.timed(command)
        self.place.check(self.target)
        return Sample(self.place.size, None, wall)


SSH: tuple[type[Contestant], ...] = (SSHCat, SCP)
