"""
Every limit of rpcstream, with its unit in the name and where it comes from.

Bytes are bytes, seconds are seconds.  Nothing here imports anything of the
project.
"""

from __future__ import annotations

from dataclasses import dataclass

__all__ = [
    "DEFAULT_LIMITS",
    "DESCRIPTOR_COUNT",
    "DIGEST_BYTES",
    "ERROR_TEXT_BYTES",
    "EXTENT_BYTES",
    "GIB",
    "KIB",
    "LEGACY_PAYLOAD_BYTES",
    "MESSAGE_BYTES",
    "MIB",
    "NAME_BYTES",
    "STRING_BYTES",
    "XDR_DEPTH",
    "XDR_ELEMENT_COUNT",
    "Limits",
]

KIB = 1024
MIB = 1024 * KIB
GIB = 1024 * MIB

# --- fixed by the wire ------------------------------------------------------------

MESSAGE_BYTES = 32 * MIB + 4
"""Largest value of the length word, itself included (libvirt 9: 32 MiB + 4)."""
LEGACY_PAYLOAD_BYTES = 256 * KIB - 24
"""Largest stream payload sent to a stock libvirt peer (its legacy limit)."""
STRING_BYTES = 4 * MIB
"""Longest string (virnetprotocol.x)."""
DESCRIPTOR_COUNT = 32
"""File descriptors in one message, UNIX sockets only (virnetprotocol.x)."""
XDR_DEPTH = 32
"""Nesting of XDR values: a chain of optionals must not reach Python's recursion limit."""
XDR_ELEMENT_COUNT = 262_144
"""Array elements of one message, in all (libvirt's largest list)."""
EXTENT_BYTES = 4 * MIB
"""Content is digested, journaled and resumed in aligned extents of this size."""
DIGEST_BYTES = 32
"""A BLAKE3 digest."""
NAME_BYTES = 255
"""A name in a pool, one path component (Linux NAME_MAX)."""
ERROR_TEXT_BYTES = 4 * KIB
"""Longest error text sent; what a peer sends is cut to it for logs and terminals."""


@dataclass(frozen=True, slots=True)
class Limits:
    """What one connection, stream or process may use; each can be configured."""

    handshake_seconds: float = 10.0
    """TLS handshake, from accept to the confirmation (sshd: 120, libvirtd: none)."""
    first_message_seconds: float = 10.0
    """From the end of the handshake to the first valid message."""
    message_seconds: float = 30.0
    """A whole CALL, REPLY or MESSAGE once begun, while we read; a stream body without a byte."""
    call_seconds: float = 60.0
    """Default deadline of a call of ours."""
    close_seconds: float = 5.0
    """From an orderly close to the abort."""
    drain_seconds: float = 10.0
    """From stopping a service to aborting what still runs."""
    keepalive_seconds: float = 5.0
    """Silence after which a PING is sent (libvirtd: 5)."""
    keepalive_count: int = 5
    """Unanswered PINGs after which the connection is closed (libvirtd: 5)."""
    ping_burst_count: int = 20
    """PINGs of the peer in one second that count as a strike; three strikes close (gRPC)."""
    anonymous_message_bytes: int = 64 * KIB
    """Largest message before the peer is authenticated."""
    running_calls: int = 32
    """Calls of one connection executed at once (libvirt: 5)."""
    parked_calls: int = 1024
    """Further calls held, while what comes behind them is served."""
    parked_bytes: int = 1 * MIB
    """Arguments of parked calls; past it reading pauses."""
    streams: int = 16
    """Open streams of one connection."""
    process_streams: int = 256
    """Open streams of one process."""
    control_queue_bytes: int = 256 * KIB
    """Unsent replies and messages of one connection; past it reading stops."""
    control_queue_count: int = 512
    """The same, counted."""
    control_stuck_seconds: float = 30.0
    """A control queue that full for this long closes the connection."""
    spool_high_bytes: int = 4 * MIB
    """Received bytes a stream holds for its consumer before the sender must wait."""
    spool_low_bytes: int = 1 * MIB
    """... and goes on."""
    initial_credit_bytes: int = 4 * MIB
    """Credit of a new stream between rpcstream peers."""
    largest_credit_bytes: int = 12 * MIB
    """What a stream's credit may grow to, by measured round trip (Chromium's QUIC: 16 MiB); a consumer that
    stops has at most so much waiting for it."""
    credit_budget_bytes: int = 512 * MIB
    """Credit of all streams of one process together: past it none grows; its first each has always."""
    send_high_bytes: int = 256 * KIB
    """C{send()} waits above it."""
    write_high_bytes: int = 4 * MIB
    """C{write()}, which cannot wait, raises L{rpcstream.errors.BufferFull} above it."""
    packet_bytes: int = 256 * KIB - 28
    """
    Payload of a stream packet between rpcstream peers on the shared lane: with its header
    16 full TLS records; 28 bytes more would cost a record of their own.
    """
    exclusive_lanes: int = 64
    """Connections of one process that a worker may have taken over, two threads each; 0: none ever."""
    exclusive_packet_bytes: int = 1 * MIB
    """Payload of a stream packet on such a connection, up to 4 MiB."""
    exclusive_least_bytes: int = 4 * MIB
    """Content shorter than this is not worth a worker."""
    connection_bytes: int = 256 * GIB
    """Data in one direction of one TLS connection, after which a transfer goes on over a fresh one: AES-GCM
    wears its key out at about 350 GiB (2^24.5 records of 16 KiB, RFC 8446 section 5.5)."""
    not_sent_bytes: int = 128 * KIB
    """TCP_NOTSENT_LOWAT: keeps calls from queueing behind bulk in the kernel."""
    stall_seconds: float = 3600.0
    """No byte moved on a stream: it is aborted with the cause."""
    ended_stream_seconds: float = 60.0
    """How long messages for a stream that we ended are dropped in silence."""
    ended_streams: int = 1024
    """How many of them, and of refused calls, are remembered for that."""
    dropped_messages: int = 100
    """Messages that are dropped and counted, before the connection is closed."""
    assembly_budget_bytes: int = 512 * MIB
    """Bodies being assembled, in the whole process."""
    assembly_free_bytes: int = 1 * MIB
    """A body up to this size needs no budget."""
    connections: int = 1000
    """Connections of one service."""
    connections_per_principal: int = 256
    """... of one identity."""
    handshakes: int = 128
    """Connections not yet authenticated, in all."""
    handshakes_per_address: int = 64
    """... and from one address."""
    event_queue: int = 1024
    """Events held for a slow subscriber before it is told that some are lost."""
    sync_bytes: int = 8 * MIB
    """Data between two fdatasyncs of a partial; what a crash may make cross the wire again."""
    partial_seconds: float = 7 * 86400.0
    """Age at which an abandoned partial is removed, and a finished transfer forgotten."""


DEFAULT_LIMITS = Limits()
