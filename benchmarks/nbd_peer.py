"""
nbdcopy from libnbd to the file plugin of nbdkit, over TLS and over TCP.
"""

from __future__ import annotations

from benchmarks.work import Contestant, Sample, find_program, needs

__all__ = ["NBD"]


class NBDCopy(Contestant):
    name = "nbdcopy to nbdkit"
    groups = ("files-tls", "files-tcp")
    note = "no digest; flushed at the end (--flush); the target file is there before"

    def missing(self) -> str | None:
        return needs("nbdcopy", "nbdkit")

    def prepare(self) -> None:
        place = self.place
        folder = place.folder / f"nbd-{self.group}"
        folder.mkdir()
        for theirs, ours in (
            ("ca-cert.pem", "cacert.pem"), ("server-cert.pem", "servercert.pem"),
            ("server-key.pem", "serverkey.pem"), ("client-cert.pem", "clientcert.pem"),
            ("client-key.pem", "clientkey.pem"),
        ):  # fmt: skip
            (folder / theirs).symlink_to(place.pki / ours)
        self.target = folder / "target"
        self._empty()
        port = place.free_port()
        is_tls = self.group == "files-tls"
        tls = (f"--tls-certificates={folder}", "--tls=require", "--tls-verify-peer")
        nbdkit = find_program("nbdkit") or ""
        place.serve(
            self.stack, nbdkit, "-f", "-i", "127.0.0.1", "-p", str(port), *(tls if is_tls else ()),
            "file", str(self.target),
        )  # fmt: skip
        place.wait_for_port(port)
        where = f"127.0.0.1:{port}/"
        self.url = f"nbds://{where}?tls-certificates={folder}" if is_tls else f"nbd://{where}"

    def _empty(self) -> None:
        with self.target.open("wb") as file:
            file.truncate(self.place.size)

    def run(self) -> Sample:
        self._empty()
        wall, _ = self.place.timed(("nbdcopy", "--flush", str(self.place.source), self.url))
        self.place.check(self.target)
        return Sample(self.place.size, None, wall)


NBD: tuple[type[Contestant], ...] = (NBDCopy,)
