"""
What a lane reads and writes: a non-blocking socket, with TLS or without.

The plain one is here; TLS's, which needs to know pyOpenSSL's insides, is
L{rpcstream.net.lane.takeover.TLSChannel}.
"""

from __future__ import annotations

import contextlib
import os
import socket
from abc import ABC, abstractmethod
from typing import Final

from rpcstream.errors import BadState
from rpcstream.storage.file_part import FilePart

__all__ = ["WANT_READ", "WANT_WRITE", "Channel", "ChannelLost", "PlainChannel"]

WANT_READ: Final = -1
"""Nothing can be done before the descriptor is readable."""
WANT_WRITE: Final = -2
"""... before it is writable."""


UNIX_BUFFER_BYTES = 4 * 1024 * 1024


class ChannelLost(Exception):
    """
    Nothing more can be read or written.

    @ivar in_order: whether the peer has said so (TLS: close_notify), rather than vanished.
    """

    def __init__(self, text: str, *, in_order: bool = False) -> None:
        super().__init__(text or "the peer closed the connection")
        self.in_order = in_order


class Channel(ABC):
    """
    Used by one thread; only L{break_off} may come from another.

    @ivar fileno: what to poll.
    """

    def __init__(self, handle: socket.socket) -> None:
        self._handle = handle
        self.fileno = handle.fileno()

    @abstractmethod
    def read(self, view: memoryview) -> tuple[int, int]:
        """
        Read all that is there, as far as it fits.

        @return: how many bytes, and what to wait for (0 if C{view} is full).
        @raise ChannelLost: nothing more will come; never when bytes were read.
        """

    @abstractmethod
    def write(self, view: memoryview, goes_on: bool = False) -> int:
        """
        Write some of C{view}.  If it must wait it is to be called with the same bytes again.

        @param goes_on: more follows at once: this may wait for it.
        @return: how many bytes; or what to wait for.
        @raise ChannelLost: the peer takes no more.
        """

    def flush(self) -> int:
        """
        Send what is left behind by L{read} (answers to a peer that asks for new keys).

        @return: 0, or what to wait for.
        @raise ChannelLost: the peer takes no more.
        """
        return 0

    def write_file(self, part: FilePart) -> int:
        """
        Have the kernel write some of a file.

        @return: how many bytes; what to wait for; or 0: not possible, read it and use L{write}.
        """
        return 0

    @abstractmethod
    def end(self) -> int:
        """
        Tell the peer that this was all.

        @return: 0, or what to wait for: then call it again.
        @raise ChannelLost: it cannot be told.
        """

    def _receive_some(self, buffer: memoryview | bytearray) -> int:
        """
        @return: how many bytes, 0 at their end; or C{WANT_READ}.
        """
        try:
            return self._handle.recv_into(buffer)
        except BlockingIOError:
            return WANT_READ
        except OSError as error:
            raise ChannelLost(os.strerror(error.errno or 0)) from None

    def _send_some(self, view: memoryview, flags: int = 0) -> int:
        """
        @return: how many bytes; or C{WANT_WRITE}.
        """
        try:
            return self._handle.send(view, flags)
        except BlockingIOError:
            return WANT_WRITE
        except OSError as error:
            raise ChannelLost(os.strerror(error.errno or 0)) from None

    def break_off(self) -> None:
        """Make all that is under way end with L{ChannelLost}, from any thread."""
        with contextlib.suppress(OSError):  # it is broken off already
            self._handle.shutdown(socket.SHUT_RDWR)


class PlainChannel(Channel):
    """TCP or UNIX without TLS."""

    def __init__(self, handle: socket.socket) -> None:
        super().__init__(handle)
        self._is_full = False
        if handle.family == socket.AF_UNIX:
            # As much as the system allows: with the default each end waits for the other.
            handle.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, UNIX_BUFFER_BYTES)

    def read(self, view: memoryview) -> tuple[int, int]:
        count = self._receive_some(view)
        if count == WANT_READ:
            return 0, WANT_READ
        if not count:
            raise ChannelLost("", in_order=True)
        # Less than asked for was all there is: polling is no dearer than asking once more.
        return count, 0 if count == len(view) else WANT_READ

    def write(self, view: memoryview, goes_on: bool = False) -> int:
        return self._send_some(view, socket.MSG_MORE if goes_on else 0)

    def write_file(self, part: FilePart) -> int:
        if self._is_full:
            self._is_full = False
            return WANT_WRITE
        try:
            count = part.send_to(self.fileno)
            self._is_full = 0 < count < len(part)
            return count
        except BlockingIOError:
            return WANT_WRITE
        except (OSError, BadState):
            # The file's or the socket's: reading and writing will tell.
            return 0

    def end(self) -> int:
        try:
            self._handle.shutdown(socket.SHUT_WR)
        except OSError as error:
            raise ChannelLost(os.strerror(error.errno or 0)) from None
        return 0
