"""
Every exception of rpcstream, in one tree.

Three parents tell whose fault it was: L{LocalError} (this side, or its
caller), L{PeerError} (the peer broke the protocol) and L{RemoteError} (the
peer answered with an error, as the protocol provides for).  Fields come first;
the text is made from them.  Nothing here imports anything but the standard
library.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, ClassVar, Protocol

__all__ = [
    "COMMON_ERRORS",
    "AccessDenied",
    "BadSchema",
    "BadState",
    "BadValue",
    "BufferFull",
    "CallCancelled",
    "ConfigurationError",
    "ConnectRefused",
    "ConnectionClosed",
    "DeadlineExceeded",
    "DecodeError",
    "DigestMismatch",
    "EventsLost",
    "InternalError",
    "InvalidArgument",
    "LocalError",
    "NameBusy",
    "NameExists",
    "NameNotFound",
    "NameRefused",
    "NotRegular",
    "OperationAborted",
    "OperationFailed",
    "PeerError",
    "ProtocolViolation",
    "QuotaExceeded",
    "RPCFailed",
    "RPCStreamError",
    "RemoteError",
    "ResourceBusy",
    "SizeMismatch",
    "SourceChanged",
    "StorageError",
    "StreamAborted",
    "StreamStalled",
    "SystemCallFailed",
    "TransferFenced",
    "Unsupported",
]

if TYPE_CHECKING:

    class _HasErrors(Protocol):
        errors: dict[int, type[RemoteError]]


class RPCStreamError(Exception):
    """The root: C{except RPCStreamError} catches all that rpcstream raises."""


# --- this side --------------------------------------------------------------


class LocalError(RPCStreamError):
    """This side, or the code that calls rpcstream, made the mistake."""


class ConfigurationError(LocalError):
    """A setting, file or option cannot be used; the text names the remedy."""


class BadState(LocalError):
    """The operation is not allowed in the present state of its object."""


class BadValue(LocalError):
    """
    A value does not fit its declared layout.

    @ivar field: dotted name of the field, C{""} for the value as a whole.
    @ivar reason: why it does not fit.
    """

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}" if field else reason)
        self.field = field
        self.reason = reason


class BadSchema(LocalError):
    """A layout cannot be declared so; raised when the class is created."""


class BufferFull(LocalError):
    """
    C{write()} was called past the stream's high-water mark without waiting.

    @ivar limit_bytes: the mark.
    """

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(f"more than {limit_bytes} bytes are waiting to be sent; wait for send()")
        self.limit_bytes = limit_bytes


class DeadlineExceeded(LocalError):
    """
    No answer came in time.

    @ivar seconds: the limit that passed.
    """

    def __init__(self, what: str, seconds: float) -> None:
        super().__init__(f"{what}: no answer within {seconds:g} s")
        self.seconds = seconds


class CallCancelled(LocalError):
    """The call was cancelled on this side before its reply came."""


class EventsLost(LocalError):
    """
    The queue of a subscription overflowed.

    @ivar count: how many events were dropped.
    """

    def __init__(self, count: int) -> None:
        super().__init__(f"{count} events were lost: the consumer was too slow")
        self.count = count


# --- the connection and its streams -----------------------------------------


class ConnectionClosed(RPCStreamError):
    """
    The connection ended before the answer came.

    @ivar reason: short text of the cause.
    @ivar may_have_run: whether the peer may have executed the call.
    """

    def __init__(self, reason: str, may_have_run: bool = False) -> None:
        super().__init__(reason)
        self.reason = reason
        self.may_have_run = may_have_run


class ConnectRefused(ConnectionClosed):
    """No usable connection came about: TCP, TLS, certificates or HELLO."""


class StreamAborted(RPCStreamError):
    """
    The stream ended before its end.

    @ivar reason: the text of whoever aborted it, C{""} if none was given.
    @ivar by: C{"local"} or C{"peer"}.
    """

    def __init__(self, reason: str, by: str) -> None:
        super().__init__(f"stream aborted by {by}: {reason}" if reason else f"stream aborted by {by}")
        self.reason = reason
        self.by = by


class StreamStalled(RPCStreamError):
    """
    No byte moved for too long.

    @ivar cause: C{"peer socket"}, C{"local disk"}, C{"rate limit"} or
        C{"paused consumer"}.
    """

    def __init__(self, cause: str, seconds: float) -> None:
        super().__init__(f"no byte moved for {seconds:g} s: {cause}")
        self.cause = cause
        self.seconds = seconds


# --- the peer -----------------------------------------------------------------


class PeerError(RPCStreamError):
    """The peer sent what the protocol does not allow."""


class DecodeError(PeerError):
    """
    Received bytes do not fit the declared layout.

    @ivar field: dotted name of the field, C{""} if unknown.
    @ivar reason: why they do not fit.
    """

    def __init__(self, field: str, reason: str) -> None:
        super().__init__(f"{field}: {reason}" if field else reason)
        self.field = field
        self.reason = reason


class ProtocolViolation(PeerError):
    """
    The connection cannot go on.

    @ivar code: one of the short reason codes (C{"len-short"}, C{"flood"}, ...).
    @ivar detail: a sentence for the log.
    """

    def __init__(self, code: str, detail: str) -> None:
        super().__init__(f"{code}: {detail}")
        self.code = code
        self.detail = detail


class RemoteError(RPCStreamError):
    """
    The peer answered with an error (REPLY/ERROR or STREAM/ERROR).

    Subclasses name one code of one program::

        class NoSuchFile(RemoteError, program=FILES, code=1001): ...

    Codes below 1000 are libvirt's, for every program; a program's own begin
    at 1000.  A responder raises a subclass to send that error.

    @ivar code: number of the error.
    @ivar message: its text.
    @ivar domain: which part raised it (7 = RPC).
    @ivar level: 0 none, 1 warning, 2 error.
    @ivar str1: extra text; so are C{str2} and C{str3}.
    @ivar int1: errno for code 38, otherwise -1 when unused; C{int2} likewise.
    """

    default_code: ClassVar[int] = 1

    def __init_subclass__(
        cls, *, program: _HasErrors | None = None, code: int | None = None, **kwargs: Any
    ) -> None:
        super().__init_subclass__(**kwargs)
        if code is None:
            return
        cls.default_code = code
        if program is None:
            return
        if code < 1000:
            raise BadSchema(f"{cls.__name__}: codes below 1000 are libvirt's; take 1000 or more")
        known = program.errors.setdefault(code, cls)
        if known is not cls:
            raise BadSchema(f"{cls.__name__}: code {code} already is {known.__name__}")

    def __init__(
        self,
        message: str = "",
        *,
        code: int | None = None,
        domain: int = 7,
        level: int = 2,
        str1: str | None = None,
        str2: str | None = None,
        str3: str | None = None,
        int1: int = -1,
        int2: int = -1,
    ) -> None:
        self.code = self.default_code if code is None else code
        self.message = message or type(self).__name__
        self.domain = domain
        self.level = level
        self.str1, self.str2, self.str3 = str1, str2, str3
        self.int1, self.int2 = int1, int2
        super().__init__(self.message)

    def __str__(self) -> str:
        return f"{self.message} (code {self.code})"


class InternalError(RemoteError, code=1):
    """libvirt code 1: the peer failed for a reason of its own."""


class Unsupported(RemoteError, code=3):
    """libvirt code 3: the peer does not have this procedure or feature."""


class InvalidArgument(RemoteError, code=8):
    """libvirt code 8."""


class OperationFailed(RemoteError, code=9):
    """libvirt code 9."""


class SystemCallFailed(RemoteError, code=38):
    """libvirt code 38: a system call failed; C{int1} holds its errno."""


class RPCFailed(RemoteError, code=39):
    """libvirt code 39: the call could not be understood."""


class OperationAborted(RemoteError, code=78):
    """libvirt code 78: the peer ended the operation."""


class ResourceBusy(RemoteError, code=87):
    """libvirt code 87: too many calls or streams; try later."""


class AccessDenied(RemoteError, code=88):
    """libvirt code 88: the caller may not do this."""


COMMON_ERRORS: dict[int, type[RemoteError]] = {
    error.default_code: error
    for error in (
        InternalError, Unsupported, InvalidArgument, OperationFailed, SystemCallFailed,
        RPCFailed, OperationAborted, ResourceBusy, AccessDenied,
    )
}  # fmt: skip


# --- storage --------------------------------------------------------------------


class StorageError(LocalError):
    """
    The store refuses or fails; nothing was published.

    @ivar name: the name in the pool that this is about, C{""} if none.
    """

    def __init__(self, message: str, name: str = "") -> None:
        super().__init__(message)
        self.name = name


class NameRefused(StorageError):
    """Not a plain name: one path component, no leading dot, no control characters."""


class NameNotFound(StorageError):
    """There is no such name in the pool."""


class NameExists(StorageError):
    """The name exists and replacing it was not asked for."""


class NameBusy(StorageError):
    """Another writer holds the name."""


class NotRegular(StorageError):
    """The name is a link, a directory or something else that is not served."""


class SizeMismatch(StorageError):
    """More or fewer bytes came than were declared."""


class SourceChanged(StorageError):
    """The source file was changed while it was read."""


class DigestMismatch(StorageError):
    """The content digests of the two ends differ."""


class QuotaExceeded(StorageError):
    """The pool's quota would be exceeded."""


class TransferFenced(StorageError):
    """A newer stream of the same transfer took over."""
