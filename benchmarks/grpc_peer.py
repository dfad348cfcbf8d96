"""
gRPC: streaming of 1 MiB messages over mutual TLS, and calls by grpc.aio.
"""

from __future__ import annotations

from benchmarks.our_end import IN_FLIGHT
from benchmarks.work import Contestant, Sample, needs

__all__ = ["GRPC"]


class _GRPC(Contestant):
    def missing(self) -> str | None:
        return needs("python:grpc")

    def prepare(self) -> None:
        self.target = self.place.folder / f"grpc-{self.group}"
        words = ("serve", str(self.place.pki), str(self.target))
        self.ports = self.place.serve_python(self.stack, "benchmarks.grpc_end", *words)

    def _end(self, *words: str) -> Sample:
        wall, told = self.place.timed_python("benchmarks.grpc_end", *words)
        return Sample(told["amount"], told["seconds"], wall)


class Streaming(_GRPC):
    name = "gRPC streaming"
    groups = ("memory-worker", "memory-shared")
    note = "1 MiB messages, bytes as they are; synchronous client, grpc.aio server"

    def run(self) -> Sample:
        return self._end("stream", str(self.ports["tls"]), str(self.place.size), str(self.place.pki))


class Files(_GRPC):
    name = "gRPC streaming"
    groups = ("files-tls",)
    note = "1 MiB messages; no digest, no fsync"

    def run(self) -> Sample:
        words = ("file", str(self.ports["tls"]), str(self.place.source), str(self.place.pki))
        sample = self._end(*words)
        self.place.check(self.target)
        return sample


class Calls(_GRPC):
    name = "grpc.aio"
    groups = ("calls-one", "calls-many")
    note = "8 bytes each way, no protobuf"

    def run(self) -> Sample:
        in_flight = str(1 if self.group == "calls-one" else IN_FLIGHT)
        return self._end("calls", str(self.ports["tcp"]), str(self.place.call_count), in_flight)


GRPC: tuple[type[Contestant], ...] = (Streaming, Files, Calls)
