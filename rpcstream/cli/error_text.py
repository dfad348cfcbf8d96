"""
An error as a person or a script sees it: one safe line, a code, an exit status.

Text of the peer is in most errors.  Nothing of it reaches a terminal or a log
but printable characters.
"""

from __future__ import annotations

import errno
import re
import signal

import click

from rpcstream import errors
from rpcstream.limits import ERROR_TEXT_BYTES
from rpcstream.programs import jobs, transfer

__all__ = ["ERRNO_REMEDIES", "REMEDIES", "Interrupted", "error_code", "exit_status", "one_line", "printable"]

_AGAIN = "run the same command again: it goes on where it stopped"
_LATER = "try again later, or use --retry N"
_REPLACE = "use --replace to replace it"
_NAME = "take a plain name: no /, no leading dot, no control characters, at most 255 bytes"
_LIST = "see what is there with: rpcstream list URL"
_KIND = "only regular files and declared block devices are served"
_CHANGED = "send it again when nothing writes to it"
_DIFFERS = "run the same command again: what differs is sent again; if it persists, check memory and disks"
_SPACE = "make room in the pool or have its quota raised"
_FENCED = "the same transfer runs elsewhere: leave that one alone, or stop it first"
_RULE = "ask the operator of the other side for a rule that allows it"

REMEDIES: dict[type[BaseException], str] = {
    # "" keeps a parent's remedy away: these texts name their own.
    errors.ConfigurationError: "",
    errors.ConnectRefused: "",
    errors.ConnectionClosed: _AGAIN,
    errors.StreamStalled: _AGAIN,
    errors.DeadlineExceeded: "see whether the other side answers: rpcstream ping URL",
    errors.PeerError: "check that rpcstream or libvirt listens on that port",
    errors.Unsupported: "the other side cannot do it: it is older, or of another kind",
    errors.ResourceBusy: _LATER,
    errors.AccessDenied: _RULE,
    errors.OperationAborted: _AGAIN,
    errors.NameRefused: _NAME,
    errors.NameNotFound: "check the name",
    errors.NameExists: _REPLACE,
    errors.NameBusy: _LATER,
    errors.NotRegular: _KIND,
    errors.SourceChanged: _CHANGED,
    errors.SizeMismatch: "check --size",
    errors.DigestMismatch: _DIFFERS,
    errors.QuotaExceeded: _SPACE,
    errors.TransferFenced: _FENCED,
    transfer.Denied: _RULE,
    transfer.BadName: _NAME,
    transfer.NoSuchName: _LIST,
    transfer.NameTaken: _REPLACE,
    transfer.Busy: _LATER,
    transfer.Short: "check --size",
    transfer.DigestDiffers: _DIFFERS,
    transfer.TooLarge: f"check --size; or {_SPACE}",
    transfer.Changed: _CHANGED,
    transfer.NotServed: _KIND,
    transfer.NoSuchTransfer: _AGAIN,
    transfer.Fenced: _FENCED,
    jobs.NoSuchJob: "see them with: rpcstream jobs --via unix:PATH",
    jobs.SourceRefused: "take an absolute path of a file under a --root of the source service",
    jobs.JobEnded: "see how with: rpcstream jobs --via unix:PATH",
}
"""What to do about it; the most specific class counts."""

ERRNO_REMEDIES = {
    errno.ENOSPC: "make room and run the same command again: it goes on where it stopped",
    errno.EDQUOT: "make room and run the same command again: it goes on where it stopped",
    errno.EACCES: "check the permissions",
    errno.EPERM: "check the permissions",
    errno.ENOENT: "check the path",
    errno.EMFILE: "raise the limit of open files: ulimit -n",
}
"""Of an OSError here, and of a SystemCallFailed (C{int1}) of the peer."""

_WORD_STARTS = re.compile(r"(?<=[a-z0-9])(?=[A-Z])|(?<=[A-Z])(?=[A-Z][a-z])")


class Interrupted(errors.RPCStreamError):
    """
    A signal ended the command.

    @ivar signal_number: which one.
    """

    def __init__(self, signal_number: int = signal.SIGINT, remedy: str = _AGAIN) -> None:
        text = f"interrupted by {signal.Signals(signal_number).name}"
        super().__init__(f"{text}; {remedy}" if remedy else text)
        self.signal_number = signal_number


def printable(text: str, limit_bytes: int = ERROR_TEXT_BYTES) -> str:
    """
    Text that is safe on a terminal and in one line.

    Whatever is not printable is escaped: control characters and with them
    terminal escapes, line separators, marks that change the direction of
    writing, lone surrogates.

    @param limit_bytes: the result is cut to so many bytes of UTF-8, and then ends with C{...}.
    """
    # An escaped character is never shorter than the character: what is cut off
    # here would be cut off below.
    text, is_cut = text[: limit_bytes + 1], len(text) > limit_bytes + 1
    escaped = text if text.isprintable() else "".join(map(_escaped, text))
    encoded = escaped.encode()
    if not is_cut and len(encoded) <= limit_bytes:
        return escaped
    return encoded[: max(limit_bytes - 3, 0)].decode("utf-8", "ignore") + "..."


def one_line(error: BaseException) -> str:
    """
    What went wrong and what to do about it, in one printable line without
    C{error:} before it.
    """
    text, remedy = printable(_text(error)), _remedy(error)
    return f"{text}; {remedy}" if remedy else text


def error_code(error: BaseException) -> str:
    """
    A short word for scripts: C{name-taken}, C{connect-refused}, C{len-short},
    C{enospc}; made from the class, so that it stays the same.
    """
    if isinstance(error, errors.ProtocolViolation):
        return printable(error.code)
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    number = _errno(error)
    if number in errno.errorcode:
        return errno.errorcode[number].lower()
    return _WORD_STARTS.sub("-", type(error).__name__).lower()


def exit_status(error: BaseException | None) -> int:
    """
    0 for no error, 2 for a wrong usage, 128 + signal for an interrupted command
    (130 SIGINT, 143 SIGTERM), else 1.
    """
    if error is None:
        return 0
    if isinstance(error, Interrupted):
        return 128 + error.signal_number
    if isinstance(error, KeyboardInterrupt):
        return 128 + signal.SIGINT
    if isinstance(error, click.ClickException):
        return error.exit_code
    return 1


def _escaped(character: str) -> str:
    if character.isprintable():
        return character
    number = ord(character)
    if number <= 0xFF:
        return f"\\x{number:02x}"
    return f"\\u{number:04x}" if number <= 0xFFFF else f"\\U{number:08x}"


def _text(error: BaseException) -> str:
    if isinstance(error, KeyboardInterrupt):
        return "interrupted"
    if isinstance(error, click.ClickException):
        return error.format_message()
    if isinstance(error, OSError) and error.strerror:
        return f"{error.filename}: {error.strerror}" if error.filename is not None else error.strerror
    if isinstance(error, (errors.RPCStreamError, OSError)):
        return str(error) or type(error).__name__
    # A mistake in rpcstream: the type says more than the text.
    return f"internal error: {type(error).__name__}: {error}"


def _errno(error: BaseException) -> int:
    if isinstance(error, errors.SystemCallFailed):
        return error.int1
    return (error.errno or 0) if isinstance(error, OSError) else 0


def _remedy(error: BaseException) -> str:
    number = _errno(error)
    if number in ERRNO_REMEDIES:
        return ERRNO_REMEDIES[number]
    if isinstance(error, errors.StreamAborted):
        return _AGAIN if error.by == "peer" else ""
    for each in type(error).__mro__:
        if each in REMEDIES:
            return REMEDIES[each]
    return ""
