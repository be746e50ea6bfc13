"""The pages of docs/, the README, and what the source says that they have to name."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

import domindex

PROJECT = Path(__file__).resolve().parents[2]
DOCS = PROJECT / "docs"
README = (PROJECT / "README.md").read_text(encoding="utf-8")
PAGES = sorted(DOCS.rglob("*.md"))
BLOCK = re.compile(r"^```(\w+(?: before)?)\n(.*?)^```$", re.MULTILINE | re.DOTALL)
_PACKAGE = Path(domindex.__file__).parent


class Call(NamedTuple):
    """A call in the source of the package, with its constant text: "" for what is filled in."""

    function: str
    parts: tuple[str, ...]
    place: str


def read(page: str) -> str:
    """One page, by its path below docs/."""
    return (DOCS / page).read_text(encoding="utf-8")


def heading_slugs(text: str) -> set[str]:
    """The anchors of a page, as GitHub and MyST make them."""
    without_code = re.sub(r"^```.*?^```$", "", text, flags=re.MULTILINE | re.DOTALL)
    titles = re.findall(r"^#+ (.+)$", without_code, re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", title.lower()).replace(" ", "-") for title in titles}


def calls() -> Iterator[Call]:
    """Every call in the package whose first argument is a text. Not those of the simulated host."""
    for path in sorted(_PACKAGE.rglob("*.py")):
        if path.name == "testing.py" or "cli" in path.parts:
            continue
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Call) and node.args and (parts := _constants(node.args[0])):
                place = f"{path.relative_to(_PACKAGE)}:{node.lineno}"
                yield Call(ast.unparse(node.func), parts, place)


def _constants(argument: ast.expr) -> tuple[str, ...]:
    pieces = argument.values if isinstance(argument, ast.JoinedStr) else [argument]
    return tuple(
        piece.value
        for piece in pieces
        if isinstance(piece, ast.Constant) and isinstance(piece.value, str)
    )
