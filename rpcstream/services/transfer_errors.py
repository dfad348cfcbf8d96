"""
Storage errors as the transfer program tells them, and back.
"""

from __future__ import annotations

from rpcstream import errors
from rpcstream.errors import RemoteError, StorageError
from rpcstream.programs import transfer

__all__ = ["as_transfer_error"]

_ANSWERS: tuple[tuple[type[StorageError], type[RemoteError]], ...] = (
    (errors.NameRefused, transfer.BadName),
    (errors.NameNotFound, transfer.NoSuchName),
    (errors.NameExists, transfer.NameTaken),
    (errors.NameBusy, transfer.Busy),
    (errors.NotRegular, transfer.NotServed),
    (errors.SizeMismatch, transfer.Short),
    (errors.SourceChanged, transfer.Changed),
    (errors.DigestMismatch, transfer.DigestDiffers),
    (errors.QuotaExceeded, transfer.TooLarge),
    (errors.TransferFenced, transfer.Fenced),
)


def as_transfer_error(error: StorageError) -> RemoteError:
    """The transfer program's error for a storage error; its text is kept."""
    for storage_error, answer in _ANSWERS:
        if isinstance(error, storage_error):
            return answer(str(error))
    return errors.OperationFailed(str(error))
