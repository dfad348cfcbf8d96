"""
What can be wrong with a C{.x} file: always told with file, line and column.
"""

from __future__ import annotations

from rpcstream.errors import BadSchema

__all__ = ["BadXDRFile"]


class BadXDRFile(BadSchema):
    """
    A C{.x} file cannot be used.

    @ivar file: its name, as it was given.
    @ivar line: from 1; 0 when the file as a whole is meant.
    @ivar column: from 1, in characters; 0 likewise.
    @ivar reason: what is wrong there.
    """

    def __init__(self, file: str, line: int, column: int, reason: str) -> None:
        super().__init__(f"{file}:{line}:{column}: {reason}" if line else f"{file}: {reason}")
        self.file = file
        self.line = line
        self.column = column
        self.reason = reason

    def __reduce__(self) -> tuple[type[BadXDRFile], tuple[str, int, int, str]]:
        return type(self), (self.file, self.line, self.column, self.reason)
