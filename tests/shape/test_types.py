"""What type checkers are told to find is marked, line by line. `make check` runs both of them."""

from __future__ import annotations

import ast
from pathlib import Path

WRONG = Path(__file__).with_name("wrong_uses.py").read_text(encoding="utf-8")


def test_each_wrong_use_is_one_to_both_checkers() -> None:
    """A mark on a line without a mistake is an error to them; a line without a mark is one here."""
    lines = WRONG.splitlines()
    tried = 0
    for function in ast.parse(WRONG).body:
        if isinstance(function, (ast.FunctionDef, ast.AsyncFunctionDef)):
            for statement in function.body[1:]:
                line = lines[statement.lineno - 1]
                assert "# type: ignore[" in line, line
                assert "# pyright: ignore[" in line, line
                tried += 1
    assert tried > 25
