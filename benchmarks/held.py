"""
A command of ours whose reactor is looked at: C{python -m benchmarks.held REPORT rpcstream|twistd WORD...}.

The same program; when its reactor stops, REPORT tells how long it was held.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

from rpcstream.bench.holds import Holds, holds_wanted


def _look(report: Path) -> None:
    from twisted.internet import reactor

    running: Any = reactor
    holds = Holds(running)

    def end() -> None:
        holds.stop()
        holds.write(report)

    running.callWhenRunning(holds.start)
    running.addSystemEventTrigger("before", "shutdown", end)


def main(report: str, program: str, *words: str) -> Any:
    """@return: the exit status."""
    sys.argv = [program, *words]
    if holds_wanted():
        _look(Path(report))
    if program == "twistd":
        from twisted.scripts.twistd import run

        return run()
    from rpcstream.cli.main import main as command

    return command()


if __name__ == "__main__":
    sys.exit(main(*sys.argv[1:]))
