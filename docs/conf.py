"""
Sphinx settings of the manual; the API pages beside it come from pydoctor (see tox.ini).

The tables of procedures, errors and limits are made from the source, so that they cannot differ from it.
"""

from __future__ import annotations

import ast
import itertools
import sys
from collections.abc import Iterator
from importlib import import_module
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sphinx.application import Sphinx

ROOT = Path(__file__).resolve().parent.parent
sys.path.insert(0, str(ROOT))

project = "rpcstream"
project_copyright = "2026, the rpcstream authors"
version = release = "0.1.0"
extensions: list[str] = []
exclude_patterns = ["build"]
html_theme = "furo"
html_title = "rpcstream"
nitpicky = True
pygments_style = "friendly"


def first_line(docstring: str | None) -> str:
    """The sentence that a docstring begins with, without epytext's marks."""
    text = (docstring or "").strip().split("\n\n")[0].replace("\n", " ")
    for mark in "CLIB":
        text = text.replace(f"{mark}{{", "{")
    return " ".join(text.replace("{", "").replace("}", "").split())


def table(widths: str, *rows: tuple[str, ...]) -> Iterator[str]:
    """A list-table, the first row being its head."""
    yield from (".. list-table::", "   :header-rows: 1", f"   :widths: {widths}", "")
    for row in rows:
        yield from (f"   {'* -' if index == 0 else '  -'} {cell}" for index, cell in enumerate(row))
    yield ""


def procedures_of(module: str, name: str) -> Iterator[str]:
    """Numbers, kinds, permissions and layouts of one program, then its errors."""
    program = getattr(import_module(module), name)
    rows = [("number", "procedure", "kind", "permission", "what it is")]
    for number, procedure in sorted(program.procedures.items()):
        info = procedure.__procedure__
        rows.append(
            (
                str(number),
                f"``{procedure.__name__}``",
                info.kind.name.lower(),
                f"``{info.permission}``",
                first_line(procedure.__doc__),
            )
        )
    yield from table("8 18 12 22 40", *rows)
    path = "../" + module.replace(".", "/") + ".py"
    for _, procedure in sorted(program.procedures.items()):
        yield from (f".. literalinclude:: {path}", f"   :pyobject: {procedure.__name__}", "")
    if program.errors:
        errors = [
            (str(code), f"``{error.__name__}``", first_line(error.__doc__))
            for code, error in sorted(program.errors.items())
        ]
        yield from table("10 25 65", ("code", "error", "meaning"), *errors)


def limits() -> Iterator[str]:
    """Name, default and reason of each limit."""
    from rpcstream.limits import DEFAULT_LIMITS

    tree = ast.parse((ROOT / "rpcstream" / "limits.py").read_text(encoding="utf-8"))
    body = next(node.body for node in tree.body if isinstance(node, ast.ClassDef) and node.name == "Limits")
    rows = [("limit", "default", "what it bounds")]
    for field, text in itertools.pairwise(body):
        if isinstance(field, ast.AnnAssign) and isinstance(field.target, ast.Name):
            meaning = text.value.value if isinstance(text, ast.Expr) else ""  # type: ignore[attr-defined]
            value = getattr(DEFAULT_LIMITS, field.target.id)
            rows.append((f"``{field.target.id}``", f"{value:,}", first_line(meaning)))
    yield from table("34 16 50", *rows)


def expand(app: Sphinx, docname: str, source: list[str]) -> None:
    """Put the tables in place of the lines that ask for them."""
    lines: list[str] = []
    for line in source[0].split("\n"):
        words = line.strip("@ ").split()
        if line.startswith("@procedures "):
            lines += procedures_of(*words[1:])
        elif line.startswith("@limits"):
            lines += limits()
        else:
            lines.append(line)
    source[0] = "\n".join(lines)


def setup(app: Sphinx) -> None:
    """Called by Sphinx."""
    app.connect("source-read", expand)
