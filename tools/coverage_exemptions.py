"""
Prints what coverage leaves out: every C{pragma: no cover} and every line of an exclude rule.

    coverage_exemptions.py CHECKOUT
"""

from __future__ import annotations

import re
import sys
import tomllib
from pathlib import Path

PRAGMA = r"#\s*pragma: no (cover|branch)"


def main(checkout: Path) -> None:
    """Counts each rule, and shows each line that a comment exempts."""
    settings = tomllib.loads((checkout / "pyproject.toml").read_text())["tool"]["coverage"]
    rules = [PRAGMA, *settings["report"].get("exclude_also", [])]
    counts = dict.fromkeys(rules, 0)
    print("Exempt from coverage:")
    for omitted in settings["run"].get("omit", []):
        print(f"  whole files: {omitted}")
    for path in sorted((checkout / "rpcstream").rglob("*.py")):
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1):
            for rule in rules:
                if re.search(rule, line):
                    counts[rule] += 1
                    if rule == PRAGMA:
                        print(f"  {path.relative_to(checkout)}:{number}: {line.strip()}")
    for rule, count in counts.items():
        print(f"  {count:4} lines match {rule}")


if __name__ == "__main__":
    main(Path(sys.argv[1]))
