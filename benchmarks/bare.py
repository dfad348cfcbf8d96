"""
Bare loops: what the libraries below us can do.
"""

from __future__ import annotations

from typing import Any

from benchmarks.work import Contestant, Sample

__all__ = ["BARE"]


class _Bare(Contestant):
    kind = "tls"

    def serve(self, target: str = "", sync: str = "") -> None:
        """Start the receiving end."""
        place = self.place
        self.port = place.serve_python(
            self.stack, "benchmarks.bare_end", "serve", self.kind, str(place.pki), target, sync
        )["port"]

    def send(self, path: str = "") -> Sample:
        """Run the sending end."""
        place = self.place
        words = ("send", self.kind, str(self.port), str(place.size), str(place.pki), path)
        wall, told = place.timed_python("benchmarks.bare_end", *words)
        return Sample(told["amount"], told["seconds"], wall)


class TLSLoop(_Bare):
    name = "bare pyOpenSSL loop"
    groups = ("memory-worker",)
    note = "no framing; blocking socket, 256 KiB a write"

    def prepare(self) -> None:
        self.serve()

    def run(self) -> Sample:
        return self.send()


class TLSFiles(_Bare):
    name = "bare pyOpenSSL loop, files"
    groups = ("files-tls",)
    note = "no digest, no journal; one fsync at the end"
    sync = "sync"

    def prepare(self) -> None:
        self.target = self.place.folder / f"bare-{self.kind}-{self.sync}"
        self.serve(str(self.target), self.sync)

    def run(self) -> Sample:
        sample = self.send(str(self.place.source))
        self.place.check(self.target)
        return sample


class TLSFilesUnsynced(TLSFiles):
    name = "bare pyOpenSSL loop, files, no fsync"
    note = "no digest, no journal, no fsync"
    sync = ""


class TLSFilesDigested(TLSFiles):
    name = "bare loop in memory, files, digest"
    kind = "tls-memory"
    note = "one thread an end: 256 KiB read, digested, encrypted, sent; no journal; one fsync at the end"


class SendFile(_Bare):
    name = "os.sendfile"
    groups = ("file-sink",)
    kind = "sendfile"

    def prepare(self) -> None:
        self.serve()

    def run(self) -> Sample:
        return self.send(str(self.place.source))


class SendFileUnix(_Bare):
    name = "os.sendfile"
    groups = ("file-sink-unix",)
    kind = "sendfile-unix"

    def prepare(self) -> None:
        self.serve(str(self.place.folder / "sendfile"))

    def run(self) -> Sample:
        return self.send(str(self.place.source))


class TwistedTLS(Contestant):
    name = "bare Twisted TLS"
    groups = ("memory-shared",)
    note = "no framing; 256 KiB a write, a push producer"

    def prepare(self) -> None:
        ready: dict[str, Any] = self.place.serve_python(
            self.stack, "benchmarks.twisted_end", "serve", str(self.place.pki)
        )
        self.port = ready["port"]

    def run(self) -> Sample:
        words = ("send", str(self.place.pki), str(self.port), str(self.place.size))
        wall, told = self.place.timed_python("benchmarks.twisted_end", *words)
        return Sample(told["amount"], told["seconds"], wall)


BARE: tuple[type[Contestant], ...] = (
    TLSLoop, TwistedTLS, TLSFiles, TLSFilesUnsynced, TLSFilesDigested, SendFile, SendFileUnix,
)  # fmt: skip
