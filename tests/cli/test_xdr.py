"""C{rpcstream xdr}: tables, objects, layouts and errors."""

from __future__ import annotations

import json
from pathlib import Path

from click.testing import CliRunner, Result
from twisted.trial.unittest import SynchronousTestCase

from rpcstream.cli.main import cli
from rpcstream.programs.xdrfile import BadXDRFile

FILES = Path(__file__).parent.parent / "programs" / "xdr_files"


def invoke(*arguments: str) -> Result:
    """Run the command."""
    return CliRunner().invoke(cli, ("xdr", *arguments))


class XDRTests(SynchronousTestCase):
    def done(self, *arguments: str) -> str:
        result = invoke(*arguments)
        self.assertEqual((result.exit_code, result.exception), (0, None), result.output)
        return result.stdout

    def test_table(self) -> None:
        """A line for each procedure: number, name, kind, arguments, result."""
        lines = self.done(str(FILES / "shelf_protocol.x")).splitlines()
        self.assertEqual(len(lines), 10)
        self.assertEqual(lines[0], "1\tOpen\tcall\tname: string<64>*, flags: unsigned int\tvoid")
        self.assertEqual(
            lines[6].split("\t")[2:], ["download", "thing: ThingsNonnullThing", "mime: string<64>*"]
        )
        self.assertEqual(
            lines[8].split("\t")[2:], ["event", "callbackID: int, thing: ThingsNonnullThing", "-"]
        )
        self.assertEqual(lines[9], "10\tClose2\tcall\tvoid\tvoid")

    def test_versions(self) -> None:
        """Where there are several programs each line says which."""
        lines = [line.split("\t") for line in self.done(str(FILES / "weather.x")).splitlines()]
        self.assertEqual([line[:2] + line[5:] for line in lines[1:4]], [
            ["1", "WeatherRead", "weather", "1", "WEATHER_READ"],
            ["2", "WeatherFollow", "weather", "1", "WEATHER_FOLLOW"],
            ["1", "WeatherRead", "weather", "2", "WEATHER_READ"],
        ])  # fmt: skip

    def test_json(self) -> None:
        """An object for each, with C's name and the program."""
        lines = self.done(str(FILES / "shelf_protocol.x"), "--json").splitlines()
        objects = [json.loads(line) for line in lines]
        self.assertEqual(objects[0]["message"], "program shelf 0x2f5e11f0 version 1")
        self.assertEqual(
            objects[9],
            {
                "event": "procedure", "number": 9, "name": "EventMoved", "kind": "event",
                "arguments": "callbackID: int, thing: ThingsNonnullThing", "result": None,
                "program": "shelf", "version": 1, "c_name": "SHELF_PROC_EVENT_MOVED",
            },
        )  # fmt: skip
        self.assertEqual(objects[-1], {"event": "done", "count": 10})

    def test_types_only(self) -> None:
        """A file without procedures is told to be one."""
        result = invoke(str(FILES / "things_protocol.x"))
        self.assertEqual((result.exit_code, result.stdout), (0, ""))
        self.assertIn("declares no procedures", result.stderr)

    def test_describe(self) -> None:
        """All layouts, fit for a golden file; also of a file without a program."""
        for name in ("shelf_protocol", "things_protocol"):
            text = (FILES / f"{name}.txt").read_text()
            self.assertEqual(self.done(str(FILES / f"{name}.x"), "--describe"), text)
            (last,) = self.done(str(FILES / f"{name}.x"), "--describe", "--json").splitlines()
            self.assertEqual(json.loads(last), {"event": "done", "layouts": text})

    def test_include(self) -> None:
        """Types of a file elsewhere."""
        path = Path(self.mktemp())
        path.write_text("const A_PROGRAM = 5; const A_VERSION = 1; enum e { A_PROC_X = 1 };"
                        "struct a_x_args { things_uuid id; };")  # fmt: skip
        self.assertIsInstance(invoke(str(path)).exception, BadXDRFile)
        found = self.done(str(path), "--include", str(FILES / "things_protocol.x"))
        self.assertEqual(found, "1\tX\tcall\tid: opaque[16]\tvoid\n")

    def test_errors(self) -> None:
        """What is wrong with the file is the error; so is a file that is not there."""
        path = Path(self.mktemp())
        path.write_text("struct a { int x }")
        self.assertIn(":1:18: ", str(invoke(str(path)).exception))
        self.assertIsInstance(invoke("none.x").exception, FileNotFoundError)
        self.assertEqual(invoke().exit_code, 2)
