"""
C{rpcstream bench} as a command, its picture, and what it says when there is none to be had.
"""

from __future__ import annotations

import importlib.util
import json
import subprocess
import sys
from io import StringIO
from pathlib import Path
from types import ModuleType, SimpleNamespace
from typing import Any
from unittest import skipUnless

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from rpcstream.bench.picture import check_plotting, draw
from rpcstream.bench.plan import QUICK
from rpcstream.cli import bench as command
from rpcstream.cli.options import Settings
from rpcstream.cli.output import Output
from rpcstream.errors import ConfigurationError
from tests.bench.support import results
from tests.cli.support import COMMAND_SECONDS, environment

_PROGRAM = """
import dataclasses, sys
from rpcstream.cli import bench
bench.QUICK = dataclasses.replace(
    bench.QUICK, round_trips_ms=(0,), packet_sizes=(65536,), move_seconds=0.01, call_seconds=0.05,
    in_flight=4, stream_count=1, share_seconds=(60, -1, 60, -1),
)
from rpcstream.cli.main import main
sys.exit(main(sys.argv[1:]))
"""


class _Anything:
    """Takes every call, and keeps the names of all."""

    def __init__(self, names: list[str]) -> None:
        self._names = names

    def __getattr__(self, name: str) -> Any:
        self._names.append(name)
        return self

    def __call__(self, *arguments: Any, **options: Any) -> Any:
        return self

    def __getitem__(self, index: Any) -> Any:
        return self


class _Terminal(StringIO):
    def isatty(self) -> bool:
        return True


class PictureTests(SynchronousTestCase):
    def test_drawn(self) -> None:
        """All panels are drawn, with whatever draws."""
        names: list[str] = []
        module: Any = ModuleType("matplotlib.figure")
        module.Figure = _Anything(names)
        module.FormatStrFormatter = _Anything(names)
        names_of_modules = ("matplotlib", "matplotlib.figure", "matplotlib.ticker")
        self.patch(sys, "modules", {**sys.modules, **dict.fromkeys(names_of_modules, module)})
        check_plotting(Path("x.png"))
        draw(results(), Path("x.png"))
        self.assertLessEqual({"subplots", "plot", "barh", "bar", "savefig"}, set(names))

    @skipUnless(importlib.util.find_spec("matplotlib"), "matplotlib is not installed")
    def test_matplotlib(self) -> None:
        """The real one makes a file of it."""
        path = Path(self.mktemp() + ".png").absolute()
        draw(results(), path)
        self.assertTrue(path.read_bytes().startswith(b"\x89PNG"))

    def test_missing(self) -> None:
        """Without matplotlib, a line that says what to install."""
        self.patch(sys, "modules", {**sys.modules, "matplotlib.figure": None})
        error = self.assertRaises(ConfigurationError, check_plotting, Path("x.png"))
        self.assertIn("pip install 'rpcstream[plot]'", str(error))

    def test_bad_path(self) -> None:
        """What cannot be written is found out before the measuring."""
        for path, text in (("x.txt", "ends in .png"), ("nowhere/x.png", "no directory")):
            self.assertIn(text, str(self.assertRaises(ConfigurationError, check_plotting, Path(path))))


class CommandTests(SynchronousTestCase):
    def command(self, *words: str) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [sys.executable, "-P", "-c", _PROGRAM, "bench", "--quick", *words],
            env=environment(),
            capture_output=True,
            text=True,
            timeout=4 * COMMAND_SECONDS,
            check=False,
        )

    def test_json(self) -> None:
        """One object a line; the last one holds everything."""
        done = self.command("--json")
        self.assertEqual((done.returncode, done.stderr), (0, ""))
        objects = [json.loads(line) for line in done.stdout.splitlines()]
        self.assertEqual({each["event"] for each in objects}, {"mode", "calls", "holds", "note", "done"})
        last = objects[-1]
        self.assertEqual((last["event"], last["plan"]), ("done", "quick"))
        self.assertEqual({"machine", "modes", "costs", "calls", "memory", "seconds"} - set(last), set())

    def test_terminal(self) -> None:
        """Tables, the method of each, what was left out, and the machine in the last line."""
        terminal, errors = _Terminal(), StringIO()
        drawn: list[Any] = []

        async def measured(reactor: Any, runner: Any, plan: Any, begun: Any, done: Any) -> dict[str, Any]:
            found = results()
            for name in ("modes", "costs", "calls", "memory"):
                begun(name)
                done(name, found[name])
            return found

        self.patch(command, "measure", measured)
        self.patch(command, "draw", lambda found, path: drawn.append(path))
        self.patch(sys, "stdout", terminal)
        output = Output(terminal, errors)
        runner = SimpleNamespace(run=lambda function, *arguments: succeed(function(*arguments)))
        session: Any = SimpleNamespace(reactor=Clock(), runner=runner, output=output)
        measuring = command._Measuring(Settings(output), QUICK, Path("x.png"))
        self.successResultOf(Deferred.fromCoroutine(measuring.run(session)))
        for text in ("WHERE THE TIME GOES", "STREAMS KEEP", "ROUND TRIP"):
            self.assertIn(text, terminal.getvalue())
        self.assertIn("(tiny)", terminal.getvalue().splitlines()[-1])
        for text in ("measuring: memory", "method: m", "left out: x"):
            self.assertIn(text, errors.getvalue())
        self.assertEqual(drawn, [Path("x.png")])

    def test_plot(self) -> None:
        """What cannot be drawn is an error before anything is measured."""
        self.patch(sys, "modules", {**sys.modules, "matplotlib.figure": None})
        error = self.assertRaises(
            ConfigurationError, command.bench.main, ["--plot", "x.png"], standalone_mode=False
        )
        self.assertIn("matplotlib", str(error))
        self.assertIn("ends in .png", self.command("--plot", "x.txt").stderr)
