"""
What a command prints, and where.

Results go to stdout, everything else to stderr, so that a pipe gets results
only.  Three forms: a terminal (progress bar, tables), a pipe (lines), and
C{--json} (one object a line on stdout, the last of which has C{"event"}
C{"done"} or C{"error"}).
"""

from __future__ import annotations

import json
from collections.abc import Iterable
from typing import Any, TextIO

from rich.console import Console

from rpcstream.cli.error_text import error_code, exit_status, one_line, printable
from rpcstream.cli.progress_bar import ProgressBar, RateWindow, Snapshot
from rpcstream.cli.tables import Table
from rpcstream.errors import RemoteError

__all__ = ["JsonOutput", "Output", "TerminalOutput", "exit_status", "make_output", "one_line"]


class Output:
    """
    Lines for a pipe; the base of the other forms.

    @param stdout: for results.
    @param stderr: for everything else.
    """

    def __init__(self, stdout: TextIO, stderr: TextIO) -> None:
        self._stdout = stdout
        self._stderr = stderr

    def started(self, what: str, total_bytes: int | None = None, resumed_bytes: int = 0) -> None:
        """
        A transfer was granted; progress may follow.

        @param what: its name.
        @param total_bytes: size of the content, L{None} if not known.
        @param resumed_bytes: what does not have to be sent again.
        """

    def progress(self, snapshot: Snapshot) -> None:
        """It has come that far; to be called about twice a second, also while it stalls."""

    def note(self, text: str) -> None:
        """Something to know that is no result."""
        _write(self._stderr, printable(text))

    def table(self, table: Table, records: Iterable[object]) -> None:
        """
        A list of records.

        @param records: see L{Table.row}.
        """
        if self._stdout.isatty():
            console = Console(file=self._stdout, highlight=False)
            with console.capture() as drawn:
                console.print(table.rich([table.row(each) for each in records]))
            _write(self._stdout, drawn.get().rstrip("\n"))
            return
        for each in records:
            _write(self._stdout, table.line(table.row(each)))

    def drawing(self, text: str) -> None:
        """A result of several lines that was laid out already; not for C{--json}."""
        self.close()
        for line in text.splitlines():
            _write(self._stdout, printable(line))

    def done(self, text: str = "", **fields: Any) -> None:
        """
        The command has succeeded: the last word.

        @param text: the result for a person; none for C{""}.
        @param fields: the result for C{--json}.
        """
        self.close()
        if text:
            _write(self._stdout, printable(text))

    def failed(self, error: BaseException) -> int:
        """
        The command has failed: one line on stderr.

        @return: the exit status.
        """
        self.close()
        _write(self._stderr, f"error: {one_line(error)}")
        return exit_status(error)

    def close(self) -> None:
        """Take away whatever is drawn; again is harmless."""


class TerminalOutput(Output):
    """A progress bar on stderr, which is a terminal."""

    _bar: ProgressBar | None = None

    def started(self, what: str, total_bytes: int | None = None, resumed_bytes: int = 0) -> None:
        """See L{Output.started}; a bar that was there goes."""
        self.close()
        self._bar = ProgressBar(self._stderr, what, total_bytes, resumed_bytes)

    def progress(self, snapshot: Snapshot) -> None:
        """See L{Output.progress}."""
        if self._bar is not None:
            self._bar.update(snapshot)

    def note(self, text: str) -> None:
        """See L{Output.note}."""
        if self._bar is None:
            super().note(text)
        else:
            self._bar.write(printable(text))

    def table(self, table: Table, records: Iterable[object]) -> None:
        """See L{Output.table}."""
        self.close()
        super().table(table, records)

    def close(self) -> None:
        """See L{Output.close}."""
        if self._bar is not None:
            self._bar.close()
            self._bar = None


class JsonOutput(Output):
    """
    One JSON object a line on stdout, each with C{event}: C{started}, C{progress},
    C{note}, a table's own, and at last C{done} or C{error}.  Pure ASCII, so that
    no text of a peer can harm a terminal.

    @param shows_progress: whether C{progress} objects are wanted.
    """

    def __init__(self, stdout: TextIO, stderr: TextIO, shows_progress: bool = True) -> None:
        super().__init__(stdout, stderr)
        self._shows_progress = shows_progress
        self._rates = RateWindow()
        self._resumed_bytes = 0
        self._has_ended = False

    def started(self, what: str, total_bytes: int | None = None, resumed_bytes: int = 0) -> None:
        """See L{Output.started}."""
        self._rates = RateWindow()
        self._resumed_bytes = resumed_bytes
        self._event("started", name=what, total_bytes=total_bytes, resumed_from=resumed_bytes)

    def progress(self, snapshot: Snapshot) -> None:
        """See L{Output.progress}."""
        moved = snapshot.byte_count + snapshot.hole_bytes
        rate = self._rates.add(snapshot.seconds, moved)
        if self._shows_progress:
            self._event(
                "progress",
                bytes=moved + self._resumed_bytes,
                seconds=round(snapshot.seconds, 3),
                bytes_per_second=round(rate),
                stalled_by=snapshot.stalled_by,
                lane=snapshot.lane,
            )

    def note(self, text: str) -> None:
        """See L{Output.note}."""
        self._event("note", message=printable(text))

    def table(self, table: Table, records: Iterable[object]) -> None:
        """See L{Output.table}."""
        for each in records:
            self._event(table.event, **table.row(each))

    def drawing(self, text: str) -> None:
        """See L{Output.drawing}."""

    def done(self, text: str = "", **fields: Any) -> None:
        """See L{Output.done}."""
        self._event("done", **fields)
        self._has_ended = True

    def failed(self, error: BaseException) -> int:
        """See L{Output.failed}; C{number} is the code of the peer's error."""
        fields: dict[str, Any] = {"code": error_code(error), "message": one_line(error)}
        if isinstance(error, RemoteError):
            fields["number"] = error.code
        self._event("error", **fields)
        self._has_ended = True
        return super().failed(error)

    def _event(self, event: str, **fields: Any) -> None:
        # What still comes after the last word (an error while closing, a late
        # progress) must not become the last line.
        if not self._has_ended:
            _write(self._stdout, json.dumps({"event": event, **fields}, default=_json_value))


def make_output(
    stdout: TextIO, stderr: TextIO, *, as_json: bool = False, shows_progress: bool = True
) -> Output:
    """
    The form for these options and these files.

    @param as_json: C{--json}.
    @param shows_progress: not C{--no-progress}.
    """
    if as_json:
        return JsonOutput(stdout, stderr, shows_progress)
    if shows_progress and stderr.isatty():
        return TerminalOutput(stdout, stderr)
    return Output(stdout, stderr)


def _write(stream: TextIO, line: str) -> None:
    # A terminal in the C locale knows ASCII only.
    encoding = getattr(stream, "encoding", None) or "utf-8"
    stream.write(line.encode(encoding, "backslashreplace").decode(encoding) + "\n")
    # Whoever reads the pipe wants each line when it happens.
    stream.flush()


def _json_value(value: Any) -> str:
    return value.hex() if isinstance(value, (bytes, bytearray)) else str(value)
