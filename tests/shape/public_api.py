"""The public interface as text, a line a thing: `python -m tests.shape.public_api` prints it.

tests/shape/public_api.txt is what it was when somebody last meant to change it.
"""

from __future__ import annotations

import ast
import dataclasses
import enum
import inspect
import textwrap
from collections.abc import Iterator
from types import ModuleType

import domindex
import domindex.aio
import domindex.direct
import domindex.fleet
import domindex.fleet.aio
import domindex.prometheus
import domindex.testing

MODULES = (
    *(domindex, domindex.direct, domindex.testing, domindex.aio, domindex.prometheus),
    *(domindex.fleet, domindex.fleet.aio),
)


def lines() -> Iterator[str]:
    """Each public name of each module, with its arguments or fields."""
    for module in MODULES:
        for name, thing in sorted(vars(module).items()):
            if is_public(module, name, thing):
                yield from of(f"{module.__name__}.{name}", thing)


def is_public(module: ModuleType, name: str, thing: object) -> bool:
    """Without an underscore, and made there: what a submodule imports is not its own."""
    if name.startswith("_") or isinstance(thing, ModuleType):
        return False
    if module in (domindex, domindex.fleet) or (module, name) == (domindex.testing, "QUICK"):
        return True
    made = inspect.isroutine(thing) or inspect.isclass(thing)
    return made and getattr(thing, "__module__", "") == module.__name__


def of(name: str, thing: object) -> Iterator[str]:
    """A thing, and what is in it."""
    if not inspect.isclass(thing):
        # An alias can be called too, and Python 3.14 gives it a signature.
        yield f"{name}{signature(thing)}" if inspect.isroutine(thing) else name
        return
    if issubclass(thing, BaseException):
        bases = ", ".join(base.__name__ for base in thing.__bases__)
        yield f"{name}: {bases}"
        return
    yield f"{name}{'' if issubclass(thing, enum.Enum) else signature(thing)}"
    for member in sorted(members(thing)):
        found = inspect.getattr_static(thing, member, None)
        if isinstance(found, (classmethod, staticmethod)):
            found = found.__func__
        yield f"{name}.{member}{signature(found) if inspect.isfunction(found) else ''}"


def members(kind: type) -> set[str]:
    """What a class and its bases in the package declare."""
    names: set[str] = set()
    for base in kind.__mro__:
        if base.__module__.startswith("domindex"):
            names |= {*vars(base), *vars(base).get("__annotations__", ())}
            if "__init__" in vars(base):
                names |= attributes(base)
    if dataclasses.is_dataclass(kind):
        names -= {field.name for field in dataclasses.fields(kind)}  # they are arguments
    elif issubclass(kind, tuple):
        names -= set(getattr(kind, "_fields", ()))
    return {name for name in names if not name.startswith("_")}


def attributes(kind: type) -> set[str]:
    """What its __init__ sets."""
    try:
        tree = ast.parse(textwrap.dedent(inspect.getsource(kind)))
    except OSError:  # made by the interpreter: a named tuple
        return set()
    return {
        node.attr
        for function in ast.walk(tree)
        if isinstance(function, ast.FunctionDef) and function.name == "__init__"
        for node in ast.walk(function)
        if isinstance(node, ast.Attribute)
        and isinstance(node.ctx, ast.Store)
        and ast.unparse(node.value) == "self"
    }


def signature(call: object) -> str:
    """The arguments without their types."""
    assert callable(call)
    try:
        found = inspect.signature(call)
    except ValueError:
        return ""
    bare = [p.replace(annotation=inspect.Parameter.empty) for p in found.parameters.values()]
    text = str(inspect.Signature(bare))
    return text.replace("(self, ", "(").replace("(self)", "()")


if __name__ == "__main__":
    print("\n".join(lines()))
