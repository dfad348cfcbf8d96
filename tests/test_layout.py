"""
The shape of the source: layers, module length, docstrings, what each module exports.

Looks at the package that is installed, so that it also holds for the wheel.
"""

from __future__ import annotations

import ast
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple
from unittest import TestCase

import rpcstream

PACKAGE = Path(rpcstream.__file__).parent

LARGEST_LINE_COUNT = 400

LAYERS = (
    ("errors", "limits", "units"),
    ("wire",),
    ("programs",),
    ("core",),
    ("storage",),
    ("net",),
    ("libvirt",),
    ("services",),
    ("bench", "cli", "tap", "testing"),
)
"""Each imports only from its own line and those above it."""

FORBIDDEN = {"storage": frozenset({"core", "programs", "wire"})}
"""Further rules: where bytes rest nothing is known of the network."""

LIBRARIES = {
    "errors": set(),
    "limits": set(),
    "units": set(),
    "wire": {"construct", "typing_extensions"},
    "programs": {"lark"},
    "core": set(),
    "storage": {"blake3"},
}
"""What a layer without Twisted may import beside the standard library."""

STANDARD = sys.stdlib_module_names | {"annotationlib"}
"""Of newer Pythons than this one, too."""


class Import(NamedTuple):
    """An import that happens at run time."""

    importer: str
    imported: str
    line: int

    def __str__(self) -> str:
        return f"{self.importer}:{self.line} imports {self.imported}"


def modules() -> Iterator[tuple[str, Path]]:
    """Dotted name and file of every module of the package."""
    for path in sorted(PACKAGE.rglob("*.py")):
        parts = ["rpcstream", *path.relative_to(PACKAGE).with_suffix("").parts]
        if parts[-1] == "__init__":
            parts.pop()
        yield ".".join(parts), path


def tree_of(path: Path) -> ast.Module:
    """The syntax tree of one file."""
    return ast.parse(path.read_text(encoding="utf-8"), str(path))


def is_for_types(node: ast.AST) -> bool:
    """Whether this is C{if TYPE_CHECKING:}, whose body never runs."""
    if not isinstance(node, ast.If):
        return False
    test = node.test
    name = test.attr if isinstance(test, ast.Attribute) else getattr(test, "id", "")
    return name == "TYPE_CHECKING"


def run_time_nodes(node: ast.AST) -> Iterator[ast.AST]:
    """All nodes but those that only the type checker sees."""
    yield node
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.If) and is_for_types(child):
            for other in child.orelse:
                yield from run_time_nodes(other)
        else:
            yield from run_time_nodes(child)


def imports() -> Iterator[Import]:
    """Every run-time import of the package, also those inside functions."""
    for name, path in modules():
        package = name if path.name == "__init__.py" else name.rpartition(".")[0]
        for node in run_time_nodes(tree_of(path)):
            if isinstance(node, ast.Import):
                for alias in node.names:
                    yield Import(name, alias.name, node.lineno)
            elif isinstance(node, ast.ImportFrom):
                base = node.module or ""
                if node.level:
                    above = package.split(".")[: len(package.split(".")) - node.level + 1]
                    base = ".".join([*above, *([base] if base else [])])
                for alias in node.names:
                    # "from rpcstream import errors" imports a layer, not a name.
                    yield Import(name, f"{base}.{alias.name}" if base == "rpcstream" else base, node.lineno)


def layer_of(dotted: str) -> str:
    """First part below C{rpcstream}; empty for the package itself."""
    return dotted.split(".")[1] if dotted.count(".") else ""


def rank_of(layer: str) -> int:
    """How far from the bottom."""
    for rank, names in enumerate(LAYERS):
        if layer in names:
            return rank
    raise AssertionError(f"rpcstream/{layer} is in no layer: add it to LAYERS in {__file__}")


class ImportRuleTests(TestCase):
    """Each layer imports only from those above it in the list."""

    def test_every_module_is_in_a_layer(self) -> None:
        """A new top-level module must be given its place."""
        for name, _ in modules():
            if layer_of(name):
                rank_of(layer_of(name))

    def test_layers(self) -> None:
        """No import goes upwards."""
        wrong = []
        for found in imports():
            here, there = layer_of(found.importer), layer_of(found.imported)
            if found.imported.split(".")[0] != "rpcstream" or not here:
                continue
            if not there:
                # It re-exports what the layers up to services offer.
                if rank_of(here) < len(LAYERS) - 1:
                    wrong.append(f"{found}: the package re-exports the upper layers")
            elif rank_of(there) > rank_of(here) or there in FORBIDDEN.get(here, ()):
                wrong.append(str(found))
        self.assertEqual([], wrong)

    def test_package_imports_lazily(self) -> None:
        """C{import rpcstream} itself must not pull Twisted in."""
        wrong = [str(found) for found in imports() if found.importer == "rpcstream" and self._is_eager(found)]
        self.assertEqual([], wrong)

    @staticmethod
    def _is_eager(found: Import) -> bool:
        return found.imported.split(".")[0] not in STANDARD

    def test_libraries(self) -> None:
        """The layers without Twisted use the standard library and what is listed for them."""
        wrong = []
        for found in imports():
            top = found.imported.split(".")[0]
            allowed = LIBRARIES.get(layer_of(found.importer))
            if allowed is None or top in allowed or top == "rpcstream" or top in STANDARD:
                continue
            wrong.append(str(found))
        self.assertEqual([], wrong)

    def test_lower_layers_without_twisted(self) -> None:
        """They import, and every class in them is made, where there is no Twisted."""
        names = [name for name, _ in modules() if layer_of(name) in LIBRARIES]
        program = (
            "import importlib, sys\n"
            "class NoTwisted:\n"
            "    def find_spec(self, name, path=None, target=None):\n"
            "        if name.split('.')[0] in ('twisted', 'zope'):\n"
            "            raise ImportError(name + ' is blocked')\n"
            "sys.meta_path.insert(0, NoTwisted())\n"
            "for name in sys.argv[1:]:\n"
            "    importlib.import_module(name)\n"
        )
        ended = subprocess.run(
            [sys.executable, "-c", program, *names],
            cwd=PACKAGE.parent,
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        self.assertEqual((0, ""), (ended.returncode, ended.stderr))


class ModuleTests(TestCase):
    """What every single module must have."""

    def test_length(self) -> None:
        """A file per idea: none grows past the limit."""
        long = {}
        for name, path in modules():
            count = len(path.read_text(encoding="utf-8").splitlines())
            if count > LARGEST_LINE_COUNT:
                long[name] = count
        self.assertEqual({}, long)

    def test_docstring(self) -> None:
        """Every module says what lives in it."""
        self.assertEqual([], [name for name, path in modules() if not ast.get_docstring(tree_of(path))])

    def test_exports(self) -> None:
        """Every module that defines anything says what of it is public."""
        missing = []
        for name, path in modules():
            body = tree_of(path).body
            names = {
                target.id for node in body for target in self._targets(node) if isinstance(target, ast.Name)
            }
            # A package's __init__ that holds a docstring only exports nothing.
            if len(body) > 1 and "__all__" not in names:
                missing.append(name)
        self.assertEqual([], missing)

    @staticmethod
    def _targets(node: ast.stmt) -> list[ast.expr]:
        if isinstance(node, ast.Assign):
            return node.targets
        return [node.target] if isinstance(node, (ast.AnnAssign, ast.AugAssign)) else []

    def test_exports_exist(self) -> None:
        """C{__all__} names what the module really defines or imports."""
        wrong = []
        for name, path in modules():
            tree = tree_of(path)
            if name == "rpcstream" or not tree.body:
                continue
            exported = next(
                (
                    [one.value for one in node.value.elts if isinstance(one, ast.Constant)]
                    for node in tree.body
                    if isinstance(node, ast.Assign)
                    and any(isinstance(t, ast.Name) and t.id == "__all__" for t in node.targets)
                    and isinstance(node.value, (ast.List, ast.Tuple))
                ),
                [],
            )
            bound = self._bound_names(tree)
            wrong += [f"{name}.{one}" for one in exported if one not in bound]
        self.assertEqual([], wrong)

    @staticmethod
    def _bound_names(tree: ast.Module) -> set[str]:
        bound: set[str] = set()
        for node in ast.walk(tree):
            if isinstance(node, (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)):
                bound.add(node.name)
            elif isinstance(node, (ast.Import, ast.ImportFrom)):
                bound.update((alias.asname or alias.name).split(".")[0] for alias in node.names)
            elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
                bound.add(node.id)
        return bound

    def test_no_assert(self) -> None:
        """What a peer can influence is checked with C{-O} too; so nothing is asserted."""
        found = [
            f"{name}:{node.lineno}"
            for name, path in modules()
            for node in ast.walk(tree_of(path))
            if isinstance(node, ast.Assert)
        ]
        self.assertEqual([], found)

    def test_typed(self) -> None:
        """The package tells type checkers that it is typed, and carries no tests."""
        self.assertTrue((PACKAGE / "py.typed").is_file())
        self.assertEqual([], [name for name, _ in modules() if ".tests" in name])
