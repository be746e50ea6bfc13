"""The table of faults names tests that there are."""

from __future__ import annotations

import ast
import re
from pathlib import Path

ROOT = Path(__file__).parents[2]
TABLE = (ROOT / "tests" / "FAULTS.md").read_text()
ROW = re.compile(r"\| (.+) \| (.+) \| ([0-9a-f]{7,}) \| `(tests/\S+\.py)::(test_\w+)` \|")


def test_every_fault_of_the_table_has_its_test() -> None:
    """Each line names a file and a test in it; no fault is listed twice."""
    lines = [line for line in TABLE.splitlines() if line.startswith("|")]
    rows = [match.groups() for line in lines if (match := ROW.fullmatch(line))]
    sections = TABLE.count("\n## ")
    assert sections
    assert len(lines) - 2 * sections == len(rows), "a line that is no row of the table"
    assert len({what for what, *_ in rows}) == len(rows)
    for what, _, _, path, name in rows:
        tests = {
            node.name
            for node in ast.walk(ast.parse((ROOT / path).read_text()))
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        }
        assert name in tests, f"{what}: there is no {name} in {path}"
