"""
The protocol without I/O: framing, states, calls, streams, credit.

Nothing in here imports Twisted, opens anything or waits.
"""

from rpcstream.core.connection import Connection
from rpcstream.core.framing import END, Framer
from rpcstream.core.states import ConnectionState, StreamState
from rpcstream.core.streams import Stream, StreamKey

__all__ = ["END", "Connection", "ConnectionState", "Framer", "Stream", "StreamKey", "StreamState"]
