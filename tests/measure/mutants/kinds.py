"""Which faults are made: each a small change of one place in a module's syntax tree.

Read first in this folder; next children.py.
"""

from __future__ import annotations

import ast
import copy
import difflib
import hashlib
import re
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final, NamedTuple

PROJECT: Final = Path(__file__).parents[3]


NO_FAULT: Final = "none"


class Mutant(NamedTuple):
    """One fault. file: from the checkout. where: the function. diff: of the statement.

    nth: of those of the same text in that function.
    """

    file: str
    line: int
    where: str
    kind: str
    diff: str
    nth: int

    @property
    def key(self) -> str:
        """The same for the same fault, although lines above it have changed."""
        return "\n".join((self.file, self.where, self.kind, self.diff, str(self.nth)))


Replacement = tuple[str, ast.AST]
"""What is changed, in a word, and the node that stands there instead."""

_COMPARISONS: Final[dict[type[ast.cmpop], ast.cmpop]] = {
    ast.Lt: ast.LtE(),
    ast.LtE: ast.Lt(),
    ast.Gt: ast.GtE(),
    ast.GtE: ast.Gt(),
    ast.Eq: ast.NotEq(),
    ast.NotEq: ast.Eq(),
    ast.Is: ast.IsNot(),
    ast.IsNot: ast.Is(),
    ast.In: ast.NotIn(),
    ast.NotIn: ast.In(),
}
_OPERATORS: Final[dict[type[ast.operator], ast.operator]] = {
    ast.Add: ast.Sub(),
    ast.Sub: ast.Add(),
    ast.Mult: ast.Add(),
    ast.BitOr: ast.BitAnd(),
    ast.BitAnd: ast.BitOr(),
}
_REVERSED: Final[dict[type[ast.cmpop], ast.cmpop]] = {
    ast.Lt: ast.Gt(),
    ast.LtE: ast.Gt(),
    ast.Gt: ast.Lt(),
    ast.GtE: ast.Lt(),
}
_CLOCK: Final = re.compile(r"\b(now|left|due|until|deadline|timeout|limit|monotonic|seconds)\b")
"""In a comparison of these a moment more or less is nothing: it is turned round."""

_FUNCTIONS: Final = {"min": "max", "max": "min", "any": "all", "all": "any"}

_NOT_LOOKED_AT: Final = {"annotation", "returns", "decorator_list", "type_params", "bases"}
"""Fields of nodes that say nothing of what a program does, or are checked by mypy."""


def mutants(file: str) -> list[Mutant]:
    """All that can be made of that file, in the order of its lines."""
    return [mutant for mutant, _ in _made(file)]


def changed(mutant: Mutant) -> ast.Module:
    """The tree of that file with the fault in it."""
    if mutant.kind == NO_FAULT:
        return _tree(mutant.file)
    for made, tree in _made(mutant.file):
        if made.key == mutant.key:
            return ast.fix_missing_locations(copy.deepcopy(tree))
    raise LookupError(f"{mutant.file} has changed: {mutant.key}")


def sample(mutants: list[Mutant], count: int, seed: int) -> list[Mutant]:
    """So many of them at random. For the same seed each has the same place in the order, also when
    others have come or gone: so a sample stays nearly what it was while the code changes."""

    def place(mutant: Mutant) -> bytes:
        return hashlib.sha256(f"{seed}\n{mutant.key}".encode()).digest()

    return sorted(mutants, key=place)[:count]


def control(mutant: Mutant) -> Mutant:
    """None at the same place: tests that notice it fail by themselves."""
    return mutant._replace(kind=NO_FAULT, diff="", nth=1)


def _made(file: str) -> Iterator[tuple[Mutant, ast.Module]]:
    """Each fault with the tree that has it, until the next is asked for."""
    tree = _tree(file)
    texts: Counter[tuple[str, ...]] = Counter()
    for site, where, statement, kind, node in _sites(tree):
        before = ast.unparse(statement.get())
        old = site.get()
        line = getattr(old, "lineno", None) or statement.get().lineno
        site.set(node)
        after = ast.unparse(statement.get())
        diff = "\n".join([*difflib.unified_diff(before.split("\n"), after.split("\n"), n=1)][3:])
        if diff:  # else it is the same program: two arguments that are the same, swapped
            texts[where, kind, diff] += 1
            yield Mutant(file, line, where, kind, diff, texts[where, kind, diff]), tree
        site.set(old)


def _tree(file: str) -> ast.Module:
    return ast.parse((PROJECT / file).read_text(encoding="utf-8"))


class _Site(NamedTuple):
    """Where a node hangs in the tree."""

    parent: ast.AST
    field: str
    at: int | None

    def get(self) -> Any:
        value = getattr(self.parent, self.field)
        return value if self.at is None else value[self.at]

    def set(self, node: ast.AST) -> None:
        if self.at is None:
            setattr(self.parent, self.field, node)
        else:
            getattr(self.parent, self.field)[self.at] = node


_Found = tuple[_Site, str, _Site, str, ast.AST]
"""Where it is, in which function, in which statement, what is changed, and into what."""


def _sites(tree: ast.Module) -> Iterator[_Found]:
    """Every node that can be changed, and each of its changes."""
    yield from _below(tree, "", None)


def _below(parent: ast.AST, where: str, around: _Site | None) -> Iterator[_Found]:
    for field, value in ast.iter_fields(parent):
        if field in _NOT_LOOKED_AT:
            continue
        nodes = [(None, value)] if isinstance(value, ast.AST) else []
        if isinstance(value, list):
            nodes = list(enumerate(value))  # type: ignore[arg-type]
        for index, node in nodes:
            if not isinstance(node, ast.AST) or _is_sure_to_be_equivalent(node):
                continue
            site = _Site(parent, field, index)
            inside, shown = where, around
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
                inside = f"{where}.{node.name}" if where else node.name
            if isinstance(node, ast.stmt):
                shown = site
            if shown is not None:
                for kind, changed in _changes(node):
                    yield site, inside, shown, kind, ast.copy_location(changed, node)
            yield from _below(node, inside, shown)


def _is_sure_to_be_equivalent(node: ast.AST) -> bool:
    """What no test is to notice: texts, logs, checks of our own mistakes, what mypy reads."""
    match node:
        case ast.Import() | ast.ImportFrom() | ast.JoinedStr() | ast.Assert():
            return True
        case ast.AnnAssign(annotation=annotation):
            return "TypeAlias" in ast.unparse(annotation)
        case ast.Assign(targets=[ast.Name(id=name)]):
            return name == "__slots__" or (name.isupper() and len(name) == 1)  # a TypeVar
        case ast.Expr(value=ast.Constant()):
            return True  # a docstring, or `...`
        case ast.FunctionDef(name="__repr__"):
            return True
        case ast.Call(func=ast.Attribute(value=ast.Name(id="log"))):
            return True
        case ast.Expr(value=ast.Call(func=ast.Attribute(value=ast.Name(id="log")))):
            return True
        case ast.Call(func=ast.Name(id="TypeVar" | "ParamSpec" | "cast")):
            return True
        case ast.If(test=ast.Name(id="TYPE_CHECKING")):
            return True
        case ast.Raise(exc=ast.Name(id="NotImplementedError")):
            return True
    return False


def _changes(node: ast.AST) -> Iterator[Replacement]:
    """The faults that can be made of this node."""
    match node:
        case ast.Compare(ops=[op]):
            of_times = type(op) in _REVERSED and _CLOCK.search(ast.unparse(node))
            other = (_REVERSED if of_times else _COMPARISONS)[type(op)]
            yield "comparison", _with(node, ops=[other])
        case ast.BoolOp(op=op):
            yield "and/or", _with(node, op=ast.Or() if isinstance(op, ast.And) else ast.And())
        case ast.UnaryOp(op=ast.Not(), operand=operand):
            yield "not", operand
        case ast.BinOp(op=op) | ast.AugAssign(op=op) if type(op) in _OPERATORS:
            yield "operator", _with(node, op=_OPERATORS[type(op)])
        case ast.Constant(value=bool() as value):
            yield "constant", ast.Constant(not value)
        case ast.Constant(value=int() | float() as value):
            yield "constant", ast.Constant(value + 1)
        case ast.If(test=test) | ast.IfExp(test=test) | ast.While(test=test):
            if not isinstance(test, ast.UnaryOp | ast.Compare | ast.Constant):
                yield "condition", _with(node, test=_negated(test))
        case ast.comprehension(ifs=[_, *_]):
            yield "filter", _with(node, ifs=[])
    yield from _changes_of_calls(node)
    yield from _changes_of_statements(node)


def _changes_of_calls(node: ast.AST) -> Iterator[Replacement]:
    match node:
        case ast.Call(func=ast.Name(id=name)) if name in _FUNCTIONS:
            yield "function", _with(node, func=ast.Name(_FUNCTIONS[name], ast.Load()))
    match node:
        case ast.Call(args=[first, second, *rest]) if not isinstance(first, ast.Starred):
            symmetrical = ast.unparse(node.func) in _FUNCTIONS
            if not isinstance(second, ast.Starred) and not symmetrical:
                yield "arguments", _with(node, args=[second, first, *rest])
    match node:
        case ast.Call(keywords=keywords):
            for keyword in keywords:
                if keyword.arg != "strict":  # of zip: it finds mistakes of our own
                    left = [other for other in keywords if other is not keyword]
                    yield "keyword", _with(node, keywords=left)


def _changes_of_statements(node: ast.AST) -> Iterator[Replacement]:
    match node:
        case ast.Expr(value=ast.Call() | ast.Await() | ast.Yield() | ast.YieldFrom()):
            yield "removed", ast.Pass()
        case ast.Assign(targets=[ast.Attribute() | ast.Subscript() | ast.Tuple(), *_]):
            yield "removed", ast.Pass()
        case ast.AugAssign() | ast.Delete() | ast.Raise() | ast.Break() | ast.Nonlocal():
            yield "removed", ast.Pass()
        case ast.Continue():
            yield "continue", ast.Break()
        case ast.Return(value=ast.expr() as value):
            if not isinstance(value, ast.Constant):  # it is changed as such
                yield "return", _with(node, value=ast.Constant(None))
        case ast.Return(value=None):
            yield "removed", ast.Pass()
        case ast.With(items=items, body=body) | ast.AsyncWith(items=items, body=body):
            for item in items:
                left = [other for other in items if other is not item]
                if item.optional_vars is None:
                    bare = ast.If(ast.Constant(True), body, [])
                    yield "with", _with(node, items=left) if left else bare
        case ast.ExceptHandler(body=body):
            if not isinstance(body[-1], ast.Raise):
                yield "except", _with(node, body=[ast.copy_location(ast.Raise(), node)])
            if not isinstance(body[0], ast.Pass):
                yield "except", _with(node, body=[ast.copy_location(ast.Pass(), node)])
        case ast.Try(finalbody=[_, *_], handlers=[]):
            bare = ast.If(ast.Constant(True), node.body, [])
            yield "finally", bare
        case ast.Try(finalbody=[first, *_]):
            yield "finally", _with(node, finalbody=[ast.copy_location(ast.Pass(), first)])


def _negated(test: ast.expr) -> ast.expr:
    return ast.UnaryOp(ast.Not(), test)


def _with(node: ast.AST, **fields: object) -> ast.AST:
    """The same node, but for these fields."""
    changed = copy.copy(node)
    for name, value in fields.items():
        setattr(changed, name, value)
    return changed
