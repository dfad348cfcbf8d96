"""
The text of one C{.x} file: what is grammar, what are comments, what is for C alone.

Comments and the lines that begin with C{%} are taken out before the grammar sees
the text, and are replaced by blanks so that every position stays what it was.
Comments are kept: annotations stand in them.
"""

from __future__ import annotations

import bisect
import re
from pathlib import Path
from typing import NamedTuple

from rpcstream.programs.xdrfile.errors import BadXDRFile

__all__ = ["Comment", "Source", "read_source"]

# In this order: a % in a comment is comment, a comment in a % line is C.
_NO_GRAMMAR = re.compile(
    r"(?P<c>^%[^\n]*)|(?P<comment>/\*.*?\*/|//[^\n]*)|(?P<open>/\*)|(?P<cpp>^\#)", re.M | re.S
)
_INCLUDE = re.compile(r'%\s*#\s*include\s*"([^"]+)"')
_ANNOTATION = re.compile(r"^[\s/*]*@(\w+)\s*:\s*(.*?)\s*(?:\*/)?$", re.M)
_NOT_NEWLINE = re.compile(r"[^\n]")


class Comment(NamedTuple):
    """
    @ivar start: offset of its first character.
    @ivar end: offset behind its last one.
    """

    start: int
    end: int
    text: str

    def annotations(self) -> dict[str, tuple[str, ...]]:
        """The values of each C{@name: value}, which begins a line of the comment; one may be repeated."""
        found: dict[str, tuple[str, ...]] = {}
        for name, value in _ANNOTATION.findall(self.text):
            found[name] = (*found.get(name, ()), value)
        return found


class Source:
    """
    @ivar name: of the file, for errors.
    @ivar text: all of it.
    @ivar grammar: the text with blanks for what is not grammar.
    @ivar includes: names of the headers that C would include.
    """

    def __init__(self, name: str, text: str) -> None:
        """@raise BadXDRFile: a comment is not closed; there are lines for the preprocessor."""
        self.name = name
        self.text = text
        self.includes: list[str] = []
        self._line_starts = [0, *(match.end() for match in re.finditer("\n", text))]
        self._comments: list[Comment] = []
        self.grammar = _NO_GRAMMAR.sub(self._take, text)

    def _take(self, match: re.Match[str]) -> str:
        found = match.group()
        if match["open"]:
            raise self.error(match.start(), "this comment is not closed")
        if match["cpp"]:
            raise self.error(
                match.start(), "a line for the C preprocessor; run the file through cpp -P first"
            )
        if match["c"]:
            self.includes += _INCLUDE.findall(found)
        else:
            self._comments.append(Comment(match.start(), match.end(), found))
        return _NOT_NEWLINE.sub(" ", found)

    def place(self, offset: int) -> tuple[int, int]:
        """Line and column, both from 1."""
        line = bisect.bisect_right(self._line_starts, offset)
        return line, offset - self._line_starts[line - 1] + 1

    def error(self, offset: int, reason: str) -> BadXDRFile:
        """The error for what stands at C{offset}."""
        return BadXDRFile(self.name, *self.place(offset), reason)

    def annotations_before(self, offset: int) -> dict[str, tuple[str, ...]]:
        """
        The annotations of the last comment before C{offset}, if nothing but white
        space is between them and it does not trail something else in its line.
        """
        index = bisect.bisect_left(self._comments, (offset,)) - 1
        if index < 0:
            return {}
        comment = self._comments[index]
        line_start = self._line_starts[self.place(comment.start)[0] - 1]
        if self.text[comment.end : offset].strip() or self.grammar[line_start : comment.start].strip():
            return {}
        return comment.annotations()


def read_source(path: Path) -> Source:
    """
    Read a file; what is not UTF-8 in it can be in comments only, and is replaced.

    @raise OSError: it cannot be read.
    @raise BadXDRFile: see L{Source}.
    """
    return Source(str(path), path.read_bytes().decode("utf-8-sig", "replace").replace("\r\n", "\n"))
