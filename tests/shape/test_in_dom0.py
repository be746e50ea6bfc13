"""What is brought into dom0 for the tests there: all that it imports, too."""

from __future__ import annotations

import ast
from pathlib import Path

from tests.real.outside.real_host import PROJECT, brought


def imported(path: Path) -> set[str]:
    """The modules of the tests that a file imports before any function of it is called."""
    found: set[str] = set()
    for node in ast.parse(path.read_text(encoding="utf-8")).body:
        if isinstance(node, ast.ImportFrom) and (node.module or "").startswith("tests"):
            found |= {node.module or "", *(f"{node.module}.{name.name}" for name in node.names)}
    return found


def test_each_module_of_the_tests_that_is_needed_in_dom0_is_there() -> None:
    """Else not a single test of a real host runs, and one has to boot one to see it."""
    there = {
        ".".join(path.relative_to(PROJECT).with_suffix("").parts).removesuffix(".__init__")
        for path in brought()
    }
    known = {
        ".".join(path.relative_to(PROJECT).with_suffix("").parts).removesuffix(".__init__")
        for path in (PROJECT / "tests").rglob("*.py")
    }
    hosts = ("bench/on_hosts", "measure/figures/__main__")  # these run outside and boot hosts
    missing = {
        (str(path.relative_to(PROJECT)), name)
        for path in brought()
        if not any(part in str(path) for part in hosts)
        for name in imported(path) & known - there
    }
    assert not missing
