"""
Can the tests of core and storage fail?

Takes a deterministic sample of small faults (a comparison turned, a constant
off by one, C{and} for C{or}, a lost C{not}, a result replaced by C{None}, a
statement removed), puts each into a copy of the tree and runs that layer's own
tests there.  A fault that no test notices is printed.  It ends with 1 when fewer
than C{--required} are caught.

    mutation.py [--seed N] [--count N] [--required N] [--layer NAME]... [--list]
"""

from __future__ import annotations

import argparse
import ast
import os
import random
import resource
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from queue import SimpleQueue
from typing import NamedTuple

ROOT = Path(__file__).resolve().parent.parent

COMPARISONS: dict[type[ast.cmpop], type[ast.cmpop]] = {
    ast.Lt: ast.LtE,
    ast.LtE: ast.Lt,
    ast.Gt: ast.GtE,
    ast.GtE: ast.Gt,
    ast.Eq: ast.NotEq,
    ast.NotEq: ast.Eq,
    ast.Is: ast.IsNot,
    ast.IsNot: ast.Is,
    ast.In: ast.NotIn,
    ast.NotIn: ast.In,
}
# What they do is for people who read logs and debuggers, not for tests.
NOT_TESTED = ("__repr__", "__str__")
# Path below rpcstream/, line, replacement: what changes nothing that anybody could see, and why.
EQUIVALENT = {
    # bytearray.find from the place of a flag of the other kind: behind it or -1, never 0.
    ("storage/extent_map.py", "stop = len(self.flags) if stop < 0 else stop", "stop <= 0"),
    ("storage/extent_map.py", "stop = len(self.flags) if stop < 0 else stop", "1"),
    ("storage/extents.py", "if stop < 0 or stop > count:", "stop <= 0"),
    ("storage/extents.py", "if stop < 0 or stop > count:", "1"),
    # At the very end a range of no bytes would be zeroed.
    ("storage/inplace.py", "if self.position < size:", "self.position <= size"),
    # Inside "if rest": it is not 0.
    ("core/credit.py", "if not unread or rest < 0:", "rest <= 0"),
    ("core/credit.py", "if not unread or rest < 0:", "1"),
}
LEAST_SECONDS = 60.0
LARGEST_MEMORY = 8 << 30


class Mutant(NamedTuple):
    """One fault: C{old} at this place of the file becomes C{new}."""

    layer: str
    path: Path
    line: int
    start: int
    end: int
    old: str
    new: str
    kind: str

    def __str__(self) -> str:
        old, new = (" ".join(text.split())[:70] for text in (self.old, self.new))
        return f"{self.path}:{self.line}: {self.kind}: {old}  ->  {new}"


class Finder(ast.NodeVisitor):
    """
    Collects the possible faults of one module: those inside functions.

    @ivar found: replaced node, its replacement as source, kind.
    """

    def __init__(self) -> None:
        self.found: list[tuple[ast.AST, str, str]] = []
        self._depth = 0

    def add(self, node: ast.AST, new: ast.AST | str, kind: str) -> None:
        if self._depth:
            self.found.append((node, new if isinstance(new, str) else ast.unparse(new), kind))

    def visit_FunctionDef(self, node: ast.FunctionDef | ast.AsyncFunctionDef) -> None:
        if node.name in NOT_TESTED:
            return
        self._depth += 1
        # Neither decorators nor annotations.
        for default in (*node.args.defaults, *node.args.kw_defaults, *node.body):
            if default is not None:
                self.visit(default)
        self._depth -= 1

    def visit_AsyncFunctionDef(self, node: ast.AsyncFunctionDef) -> None:
        self.visit_FunctionDef(node)

    def visit_AnnAssign(self, node: ast.AnnAssign) -> None:
        if node.value is not None:
            self.visit(node.value)

    def visit_If(self, node: ast.If) -> None:
        if getattr(node.test, "id", "") != "TYPE_CHECKING":
            self.generic_visit(node)

    def visit_Compare(self, node: ast.Compare) -> None:
        turned = COMPARISONS[type(node.ops[0])]()
        self.add(node, ast.Compare(node.left, [turned, *node.ops[1:]], node.comparators), "comparison")
        self.generic_visit(node)

    def visit_BoolOp(self, node: ast.BoolOp) -> None:
        operator = ast.Or() if isinstance(node.op, ast.And) else ast.And()
        # In parentheses, since it binds differently.
        self.add(node, f"({ast.unparse(ast.BoolOp(operator, node.values))})", "and/or")
        self.generic_visit(node)

    def visit_UnaryOp(self, node: ast.UnaryOp) -> None:
        if isinstance(node.op, ast.Not):
            self.add(node, f"bool({ast.unparse(node.operand)})", "lost not")
        self.generic_visit(node)

    def visit_Constant(self, node: ast.Constant) -> None:
        if type(node.value) is int:
            self.add(node, str(node.value + 1), "off by one")

    def visit_JoinedStr(self, node: ast.JoinedStr) -> None:
        """Texts are for people."""

    def visit_Return(self, node: ast.Return) -> None:
        if node.value is not None and getattr(node.value, "value", ...) is not None:
            self.add(node, "return None", "no result")
        self.generic_visit(node)

    def visit_Expr(self, node: ast.Expr) -> None:
        if isinstance(node.value, ast.Constant):
            return
        if isinstance(node.value, ast.Call):
            self.add(node, "pass", "removed")
        self.generic_visit(node)

    def visit_AugAssign(self, node: ast.AugAssign) -> None:
        self.add(node, "pass", "removed")
        self.generic_visit(node)

    def visit_Assign(self, node: ast.Assign) -> None:
        if all(isinstance(target, ast.Attribute) for target in node.targets):
            self.add(node, "pass", "removed")
        self.generic_visit(node)


def mutants(layer: str) -> Iterator[Mutant]:
    """All possible faults of a layer, in the order of the source."""
    for path in sorted((ROOT / "rpcstream" / layer).rglob("*.py")):
        source = path.read_bytes()
        lines = source.splitlines(keepends=True)
        starts = [0]
        for line in lines:
            starts.append(starts[-1] + len(line))
        name = path.relative_to(ROOT / "rpcstream").as_posix()
        finder = Finder()
        finder.visit(ast.parse(source))
        for node, new, kind in finder.found:
            text = lines[node.lineno - 1].decode().strip()  # type: ignore[attr-defined]
            if (name, text, new) in EQUIVALENT:
                continue
            start = starts[node.lineno - 1] + node.col_offset  # type: ignore[attr-defined]
            end = starts[node.end_lineno - 1] + node.end_col_offset  # type: ignore[attr-defined]
            yield Mutant(
                layer,
                path.relative_to(ROOT),
                node.lineno,  # type: ignore[attr-defined]
                start,
                end,
                source[start:end].decode(),
                new,
                kind,
            )


def sample(layers: list[str], count: int, seed: int) -> list[Mutant]:
    """As many from each layer, the same for the same seed and source."""
    chosen: list[Mutant] = []
    for index, layer in enumerate(layers):
        share = (count + len(layers) - 1 - index) // len(layers)
        everything = list(mutants(layer))
        picked = random.Random(f"{seed} {layer}").sample(everything, min(share, len(everything)))
        chosen += sorted(picked)
    return chosen


class Tree:
    """
    A copy of the source and its tests, for one mutant at a time.

    @ivar output: what the last tests printed.
    """

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.output = directory.with_suffix(".log")
        ignored = shutil.ignore_patterns("__pycache__", "*.pyc")
        for part in ("rpcstream", "tests", "twisted"):
            if (ROOT / part).exists():
                shutil.copytree(ROOT / part, directory / part, ignore=ignored)

    def passes(self, layer: str, seconds: float) -> bool:
        """Run a layer's tests; too slow counts as failed."""
        environment = {**os.environ, "PYTHONDONTWRITEBYTECODE": "1", "PYTHONWARNINGS": "ignore"}
        command = [
            sys.executable,
            "-m",
            "twisted.trial",
            "--exitfirst",
            "--reporter=text",
            f"tests.{layer}",
        ]
        with (
            self.output.open("wb") as output,
            subprocess.Popen(
                command,
                cwd=self.directory,
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                start_new_session=True,
            ) as tests,
        ):
            # A fault may make a loop endless that collects.
            resource.prlimit(tests.pid, resource.RLIMIT_AS, (LARGEST_MEMORY, LARGEST_MEMORY))
            try:
                return tests.wait(seconds) == 0
            except subprocess.TimeoutExpired:
                os.killpg(tests.pid, 9)
                return False

    def is_caught(self, mutant: Mutant, seconds: float) -> bool:
        """Put the fault in, run the tests, take it out."""
        path = self.directory / mutant.path
        source = path.read_bytes()
        try:
            path.write_bytes(source[: mutant.start] + mutant.new.encode() + source[mutant.end :])
            return not self.passes(mutant.layer, seconds)
        finally:
            path.write_bytes(source)


def main() -> int:
    """As the module says; the exit status."""
    parser = argparse.ArgumentParser(description="Mutation tests of a sample.")
    parser.add_argument("--seed", type=int, default=2009)
    parser.add_argument("--count", type=int, default=30)
    parser.add_argument("--required", type=int)
    parser.add_argument("--layer", action="append", choices=("core", "storage", "wire"))
    parser.add_argument("--list", action="store_true", help="print the sample and run nothing")
    options = parser.parse_args()
    layers = options.layer or ["core", "storage"]
    chosen = sample(layers, options.count, options.seed)
    required = len(chosen) * 9 // 10 if options.required is None else options.required
    if options.list:
        print(*chosen, sep="\n")
        return 0
    with tempfile.TemporaryDirectory(prefix="mutation-") as folder:
        worker_count = min(os.cpu_count() or 1, 4)
        trees: SimpleQueue[Tree] = SimpleQueue()
        for number in range(worker_count):
            trees.put(Tree(Path(folder) / str(number)))
        first = trees.get()
        limits = {}
        for layer in layers:
            began = time.monotonic()
            if not first.passes(layer, 600):
                print(first.output.read_text(errors="replace")[-4000:], file=sys.stderr)
                print(f"tests.{layer} fail without any mutation", file=sys.stderr)
                return 1
            # The others run at the same time.
            limits[layer] = max(LEAST_SECONDS, 5 * (time.monotonic() - began))
        trees.put(first)

        def run(mutant: Mutant) -> bool:
            tree = trees.get()
            try:
                return tree.is_caught(mutant, limits[mutant.layer])
            finally:
                trees.put(tree)

        with ThreadPoolExecutor(worker_count) as pool:
            caught = list(pool.map(run, chosen))
    for mutant, is_caught in zip(chosen, caught, strict=True):
        if not is_caught:
            print(f"survived: {mutant}")
    print(f"mutation: {sum(caught)} of {len(chosen)} caught, {required} required (seed {options.seed})")
    return 0 if sum(caught) >= required else 1


if __name__ == "__main__":
    sys.exit(main())
