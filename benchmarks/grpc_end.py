"""
gRPC's two ends: C{python -m benchmarks.grpc_end ROLE ...}, with the roles C{serve PKI TARGET},
C{stream PORT SIZE PKI}, C{file PORT PATH PKI} and C{calls PORT COUNT IN_FLIGHT}.

No generated code: messages are bytes as they are, which is the least that gRPC can do.
"""

from __future__ import annotations

import asyncio
import json
import os
import struct
import sys
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import grpc

MESSAGE_BYTES = 1 << 20
_PAIR = struct.Struct(">ii")


def _read(pki: str, *names: str) -> tuple[bytes, ...]:
    return tuple(Path(pki, f"{name}.pem").read_bytes() for name in names)


async def _sink(messages: AsyncIterator[bytes], context: Any) -> bytes:
    count = 0
    async for message in messages:
        count += len(message)
    return count.to_bytes(8, "big")


def _storing(target: str) -> Any:
    """A method that writes what comes to a file."""

    async def store(messages: AsyncIterator[bytes], context: Any) -> bytes:
        count = 0
        with open(target, "wb", buffering=0) as file:
            async for message in messages:
                count += file.write(message)
        return count.to_bytes(8, "big")

    return store


async def _sum(message: bytes, context: Any) -> bytes:
    a, b = _PAIR.unpack(message)
    return _PAIR.pack(a + b, 0)


async def serve(pki: str, target: str) -> None:
    """Until the process is ended."""
    server = grpc.aio.server()
    handlers = {
        "Sink": grpc.stream_unary_rpc_method_handler(_sink),
        "Store": grpc.stream_unary_rpc_method_handler(_storing(target)),
        "Sum": grpc.unary_unary_rpc_method_handler(_sum),
    }
    server.add_generic_rpc_handlers((grpc.method_handlers_generic_handler("Bench", handlers),))
    key, certificate, authority = _read(pki, "serverkey", "servercert", "cacert")
    credentials = grpc.ssl_server_credentials([(key, certificate)], authority, True)
    tls = server.add_secure_port("127.0.0.1:0", credentials)
    tcp = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    print(json.dumps({"tls": tls, "tcp": tcp}), flush=True)
    await server.wait_for_termination()


async def stream(port: str, size: str, pki: str) -> None:
    """Stream once; the synchronous client, whose iterator runs in a thread of its own."""
    pool = [os.urandom(MESSAGE_BYTES) for _ in range(8)]

    def messages() -> Iterator[bytes]:
        left, number = int(size), 0
        while left:
            piece = pool[number % 8][:left]
            number += 1
            left -= len(piece)
            yield piece

    _pour(port, pki, "Sink", messages())


def _pour(port: str, pki: str, method: str, messages: Iterator[bytes]) -> None:
    authority, key, certificate = _read(pki, "cacert", "clientkey", "clientcert")
    credentials = grpc.ssl_channel_credentials(authority, key, certificate)
    with grpc.secure_channel(f"127.0.0.1:{port}", credentials) as channel:
        grpc.channel_ready_future(channel).result(30)
        started = time.perf_counter()
        answer = channel.stream_unary(f"/Bench/{method}")(messages)
        seconds = time.perf_counter() - started
    print(json.dumps({"amount": int.from_bytes(answer, "big"), "seconds": seconds}))


async def send_file(port: str, path: str, pki: str) -> None:
    """Stream a file once."""
    with open(path, "rb", buffering=0) as file:
        _pour(port, pki, "Store", iter(lambda: file.read(MESSAGE_BYTES), b""))


async def calls(port: str, count: str, in_flight: str) -> None:
    """Call, and print how long it took."""
    async with grpc.aio.insecure_channel(f"127.0.0.1:{port}") as channel:
        call = channel.unary_unary("/Bench/Sum")
        await call(_PAIR.pack(1, 2))
        numbers = iter(range(int(count)))

        async def some() -> None:
            for number in numbers:
                if _PAIR.unpack(await call(_PAIR.pack(number, 1)))[0] != number + 1:
                    raise ValueError("a wrong sum")

        started = time.perf_counter()
        await asyncio.gather(*(some() for _ in range(int(in_flight))))
        seconds = time.perf_counter() - started
    print(json.dumps({"amount": int(count), "seconds": seconds}))


if __name__ == "__main__":
    role: Any = {"serve": serve, "stream": stream, "file": send_file, "calls": calls}[sys.argv[1]]
    asyncio.run(role(*sys.argv[2:]))
