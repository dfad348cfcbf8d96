"""
What single steps cost, each alone in this process: framing, digest, a context switch.

Processor time of this thread per GiB, or wall time per switch; the best of a
few repetitions, since whatever disturbs only adds.
"""

from __future__ import annotations

import os
import threading
import time
from collections.abc import Callable
from typing import Any

from rpcstream.bench.program import Sink
from rpcstream.core.connection import Connection
from rpcstream.core.events import CallReceived, StreamData
from rpcstream.limits import EXTENT_BYTES, GIB, KIB, MIB
from rpcstream.storage.extents import extent_digest

__all__ = ["digest_seconds", "framing_seconds", "switch_seconds"]

RECORD_BYTES = 16 * KIB
"""What TLS hands over at a time."""
REPETITIONS = 3


def _best(once: Callable[[], float]) -> float:
    return min(once() for _ in range(REPETITIONS))


def _connected() -> tuple[Connection, Any, Connection, Any]:
    """Two ends of the protocol, without a network, and one stream between them."""
    near, far = Connection(opener=True), Connection(opener=False)
    procedure = Sink.__procedure__
    program = procedure.program
    serial, frame = near.call(
        program.number,
        program.version,
        procedure.number,
        procedure.arguments.encode(Sink(0)),
        opens_stream=True,
    )
    received = next(event for event in far.receive(frame) if isinstance(event, CallReceived))
    accepted, reply = far.accept(received.header, procedure.result.encode(0))
    near.receive(reply)
    return near, near.streams[serial], far, accepted


def framing_seconds(packet_bytes: int, byte_count: int = 64 * MIB, *, is_joined: bool = True) -> float:
    """
    Processor time per GiB of making frames at one end and taking them apart at the
    other, credit and states included.

    @param is_joined: header and data become one object, as on the shared lane; else
        the data is not touched, as on the exclusive one.
    """
    near, sending, far, receiving = _connected()
    data = os.urandom(packet_bytes)

    def once() -> float:
        spent = 0.0
        count = max(1, byte_count // packet_bytes)
        for _ in range(count):
            started = time.thread_time()
            if is_joined:
                frame = near.send_data(sending, data)
            else:
                header = near.data_header(sending, packet_bytes)
            spent += time.thread_time() - started
            if not is_joined:
                frame = header + data
            # Cutting the frame as TLS does is not framing.
            records = [frame[at : at + RECORD_BYTES] for at in range(0, len(frame), RECORD_BYTES)]
            started = time.thread_time()
            for record in records:
                for event in far.receive(record):
                    if isinstance(event, StreamData):
                        far.consumed(receiving, len(event.data))
            spent += time.thread_time() - started
        return spent / (count * packet_bytes) * GIB

    return _best(once)


def digest_seconds(byte_count: int = 64 * MIB) -> float:
    """Processor time per GiB of digesting extents at one end."""
    extent = os.urandom(EXTENT_BYTES)

    def once() -> float:
        count = max(1, byte_count // EXTENT_BYTES)
        started = time.thread_time()
        for _ in range(count):
            extent_digest(extent)
        return (time.thread_time() - started) / (count * EXTENT_BYTES) * GIB

    return _best(once)


def switch_seconds(count: int = 2000) -> float:
    """
    Wall time from one thread to another that sleeps in read(2): system call, scheduler
    and interpreter lock included, so rather too much than too little.
    """
    there, back = os.pipe(), os.pipe()

    def echo() -> None:
        for _ in range(count * REPETITIONS):
            os.write(back[1], os.read(there[0], 1))

    thread = threading.Thread(target=echo)
    thread.start()

    def once() -> float:
        started = time.perf_counter()
        for _ in range(count):
            os.write(there[1], b"x")
            os.read(back[0], 1)
        return (time.perf_counter() - started) / (2 * count)

    try:
        return _best(once)
    finally:
        thread.join()
        for fd in (*there, *back):
            os.close(fd)
