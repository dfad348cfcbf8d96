"""
Builds the API pages with pydoctor; a warning is an error.

The documents of other projects need not be at hand to check our links: what a
module imports or uses of another project, and every builtin, is a legal target.

    api_pages.py DIRECTORY
"""

from __future__ import annotations

import ast
import builtins
import sys
import tempfile
import zlib
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

from pydoctor.driver import main as pydoctor

ROOT = Path(__file__).resolve().parent.parent
HEADER = (
    b"# Sphinx inventory version 2\n# Project: %s\n# Version: \n"
    b"# The remainder of this file is compressed using zlib.\n"
)


def names_of_others(tree: ast.AST) -> Iterator[str]:
    """Dotted names that a module imports, and those it reaches through them (C{os.urandom})."""
    known: dict[str, str] = {}
    for node in ast.walk(tree):
        if isinstance(node, ast.Import):
            for alias in node.names:
                yield alias.name
                known[alias.asname or alias.name] = alias.name
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield node.module
            for alias in node.names:
                yield f"{node.module}.{alias.name}"
                known[alias.asname or alias.name] = f"{node.module}.{alias.name}"
    for node in ast.walk(tree):
        if isinstance(node, ast.Attribute):
            first, _, rest = ast.unparse(node).partition(".")
            if first in known:
                yield f"{known[first]}.{rest}"


def page_of(project: str, name: str) -> tuple[str, str]:
    """Base address of a project's documents, and the page of one name in them."""
    if project == "python":
        return "https://docs.python.org/3/library", f"{name.rpartition('.')[0] or 'functions'}.html"
    if project == "twisted":
        return "https://docs.twisted.org/en/stable/api", f"{name}.html"
    return f"https://pypi.org/project/{project}", "index.html"


def write_inventories(directory: Path) -> Iterator[str]:
    """One inventory for each project; yields the options that name them."""
    projects: dict[str, set[str]] = defaultdict(set)
    projects["python"] = {name for name in dir(builtins) if not name.startswith("_")}
    for path in sorted((ROOT / "rpcstream").rglob("*.py")):
        for name in names_of_others(ast.parse(path.read_text(encoding="utf-8"))):
            top = name.split(".")[0]
            if top != "rpcstream":
                projects["python" if top in sys.stdlib_module_names else top].add(name)
    for project, names in sorted(projects.items()):
        lines = "".join(
            f"{name} py:class 1 {page_of(project, name)[1]} -\n"
            for name in sorted(names)
            if name.isprintable()
        )
        path = directory / f"{project}.inv"
        path.write_bytes(HEADER % project.encode() + zlib.compress(lines.encode()))
        yield f"--intersphinx-file={path}::{page_of(project, '')[0]}"


def main(target: Path) -> int:
    """@return: the exit status."""
    with tempfile.TemporaryDirectory() as folder:
        options = list(write_inventories(Path(folder)))
        return pydoctor([f"--html-output={target}", "--quiet", *options])


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
