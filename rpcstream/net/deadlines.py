"""
How long a peer may take for one message.

Rows F06, F12 and F13 of the catalogue of bad inputs.  Time is injected; who
asks closes the connection.
"""

from __future__ import annotations

from rpcstream.core.connection import Connection
from rpcstream.limits import Limits

__all__ = ["MessageDeadline"]


class MessageDeadline:
    """
    Watches the message being received.

    A CALL, REPLY or MESSAGE once begun must be whole within
    C{limits.message_seconds}; a stream packet, cut through as it comes, must
    only move.  The clock runs only while we read.

    @param made_at: when the connection was made, by the clock of L{late}.
    @param step_seconds: how often L{late} is asked.
    """

    def __init__(self, core: Connection, limits: Limits, made_at: float, step_seconds: float) -> None:
        self._core = core
        self._limits = limits
        self._made_at = made_at
        self._step_seconds = step_seconds
        self._number = 0
        self._begun_at = made_at
        self._received_bytes = 0

    def late(self, now: float, received_bytes: int, is_reading: bool) -> tuple[str, str] | None:
        """
        @param received_bytes: all that came so far.
        @return: reason code and a sentence if the peer took too long.
        """
        core, limits = self._core, self._limits
        moved = received_bytes != self._received_bytes
        self._received_bytes = received_bytes
        if not core.message_count and now - self._made_at >= limits.first_message_seconds:
            return "idle", f"no message within {limits.first_message_seconds:g} s"
        pending = core.pending
        number = core.message_number if pending is not None else 0
        if not number or number != self._number or (core.is_within_stream_data and moved):
            self._number = number
            # It began after the last look: the deadline shall not be late for it.
            self._begun_at = now - self._step_seconds
        elif not is_reading:
            self._begun_at += self._step_seconds
        elif now - self._begun_at >= limits.message_seconds:
            code = "idle" if pending == "length" else "too-slow" if moved else "msg-timeout"
            return code, f"a message was not completed within {limits.message_seconds:g} s"
        return None
