"""
Cutting a byte stream into messages, without putting bodies together.

The L{Framer} knows the length word and the header (C{wire-protocol.md}
section 1.1) and nothing of what they mean.  It is usable alone: the gateway
needs no more than header, fragments and end.
"""

from __future__ import annotations

from enum import Enum
from typing import Final, Literal, TypeAlias

from rpcstream.errors import ProtocolViolation
from rpcstream.limits import MESSAGE_BYTES
from rpcstream.wire.header import HEADER_BYTES, Header, decode_header

__all__ = ["END", "Fragment", "Framer", "Mark", "Pending", "Piece"]

LENGTH_BYTES = 4


class Mark(Enum):
    """Pieces that carry nothing but their being there."""

    END = "end"
    """The message whose header came last is complete."""


END: Final = Mark.END

Fragment: TypeAlias = bytes | memoryview
Piece: TypeAlias = Header | Fragment | Literal[Mark.END] | ProtocolViolation
Pending: TypeAlias = Literal["length", "body"] | None

_FOREIGN_STARTS = (
    (b"\x16\x03", "a TLS handshake"),
    (b"SSH-", "SSH"),
    *((start, "HTTP") for start in (b"GET ", b"POST", b"PUT ", b"HEAD", b"HTTP", b"OPTI", b"CONN", b"PRI ")),
)


class Framer:
    """
    Splits what is fed into headers, fragments of bodies, and ends.

    Fragments are handed on as they come: one slice of what was fed, or the
    very object that was fed if it lies within one body.  A header is parsed
    once, however many fragments follow.

    @ivar max_message_bytes: largest length word accepted, itself included; may
        be changed at any time and counts from the next length word on.
    """

    __slots__ = ("_body_left", "_failed", "_head", "max_message_bytes")

    def __init__(self, max_message_bytes: int = MESSAGE_BYTES) -> None:
        self.max_message_bytes = max_message_bytes
        self._head = b""  # bytes of an unfinished header
        self._body_left = 0  # bytes of the present body that have not come
        self._failed = False

    @property
    def pending(self) -> Pending:
        """
        What the peer owes: C{"length"} (some bytes of a length word came, not
        all), C{"body"} (the rest of a message whose length is known), or None
        between messages.  Deadlines hang on it.
        """
        if self._body_left:
            return "body"
        if not self._head:
            return None
        return "length" if len(self._head) < LENGTH_BYTES else "body"

    @property
    def is_between_messages(self) -> bool:
        """Whether the next byte is the first of a message."""
        return not (self._body_left or self._head or self._failed)

    def skip(self, byte_count: int) -> bool:
        """
        Take C{byte_count} bytes that lie within the present body, before its last one.

        @return: false, with nothing taken, if they do not.
        """
        left = self._body_left
        if left <= byte_count:
            return False
        self._body_left = left - byte_count
        return True

    def feed(self, data: Fragment) -> list[Piece]:
        """
        Take the next bytes; any bytes, cut anywhere.

        Never raises on them: a length word out of bounds gives a
        L{ProtocolViolation} as the last piece (codes C{len-short},
        C{len-long}), and the framer is of no use after it.

        @param data: bytes, or a memoryview: fragments then are views of the
            same buffer, to be used before it is written to again.
        @return: pieces in order: for each message its L{Header}, none or more
            non-empty fragments, L{END}.
        """
        size = len(data)
        left = self._body_left
        if left > size > 0:  # in the midst of a body: nothing to cut
            self._body_left = left - size
            return [data]
        if self._failed:
            return []
        pieces: list[Piece] = []
        offset = 0
        while True:
            left = self._body_left
            if left:
                end = offset + left
                if end > size:
                    if offset < size:
                        pieces.append(data[offset:])
                        self._body_left = end - size
                    return pieces
                pieces.append(data if left == size else data[offset:end])
                pieces.append(END)
                self._body_left = 0
                offset = end
            if offset == size:
                return pieces
            header: Header | None
            if not self._head and size - offset >= HEADER_BYTES:
                header = decode_header(data, offset)
                offset += HEADER_BYTES
                violation = self._violation(header.length, data, offset - HEADER_BYTES)
            else:
                header, offset, violation = self._collect(data, offset)
            if violation is not None:
                self._failed = True
                pieces.append(violation)
                return pieces
            if header is None:
                return pieces
            pieces.append(header)
            if header.length == HEADER_BYTES:
                pieces.append(END)
            else:
                self._body_left = header.length - HEADER_BYTES

    def _collect(self, data: Fragment, offset: int) -> tuple[Header | None, int, ProtocolViolation | None]:
        """Go on with a header that came in parts; the length word is judged as soon as it is there."""
        end = offset + HEADER_BYTES - len(self._head)
        head = self._head = self._head + bytes(data[offset:end])
        if len(head) >= LENGTH_BYTES:
            violation = self._violation(int.from_bytes(head[:LENGTH_BYTES], "big"), head, 0)
            if violation is not None:
                return None, end, violation
        if len(head) < HEADER_BYTES:
            return None, end, None
        self._head = b""
        return decode_header(head), end, None

    def _violation(self, length: int, data: Fragment, offset: int) -> ProtocolViolation | None:
        """Judge a length word (reliability F01 to F10, F18)."""
        if HEADER_BYTES <= length <= self.max_message_bytes:
            return None
        if length < HEADER_BYTES:
            return ProtocolViolation("len-short", f"length word {length} is less than a header")
        detail = f"length word {length} is more than {self.max_message_bytes}"
        start = bytes(data[offset : offset + LENGTH_BYTES])
        for prefix, what in _FOREIGN_STARTS:
            if start.startswith(prefix):
                detail += f"; not RPC: this looks like {what}"
        return ProtocolViolation("len-long", detail)
