"""
The keepalive program: two messages without payload (wire-protocol.md section 6).

They are MESSAGEs, never calls, so there is nothing to declare but numbers.
"""

from __future__ import annotations

__all__ = ["PING", "PONG", "PROGRAM", "VERSION"]

PROGRAM = 0x6B656570
"""C{keep}."""
VERSION = 1
PING = 1
PONG = 2
