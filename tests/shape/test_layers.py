"""The layers: the pure core does no I/O, imports point down, one file each for pyxs and cffi."""

from __future__ import annotations

import ast
import os
import re
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import TypeGuard

import pytest

import domindex

PACKAGE = Path(domindex.__file__).parent
MODULES = sorted(
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts) for path in PACKAGE.rglob("*.py")
)

PURE = {
    *("domain", "infos", "errors", "keys", "limits", "stats", "options", "events", "ports"),
    *("liveness", "picture", "requests", "lookups", "conditions", "facts"),
    *("staleness", "matching"),
    *(module for module in MODULES if module.startswith(("core.", "listening."))),
} - {"listening.dispatch", "listening.async_stream"}  # a descriptor to poll, a loop

ALLOWED = {
    *("__future__", "typing", "collections", "dataclasses", "types"),
    *("enum", "re", "uuid", "math", "bisect", "itertools", "operator", "sortedcontainers"),
}
"""What a pure module may import from elsewhere. None of it asks the world anything."""

ALLOWED_ONLY_IN = {
    "errors": {"os"},  # os.strerror, see below
    "listening.callbacks": {"inspect"},
    "listening.hub": {"time"},
    "listening.listeners": {"contextlib", "logging", "threading", "time"},
    "listening.mailbox": {"contextlib", "itertools", "threading", "time"},
    "listening.runner": {"threading"},
    "listening.stream": {"itertools", "time", "weakref"},
    "listening.subscription": {"contextlib", "logging"},
    "keys": {"contextlib"},
    "limits": {"threading"},
    "listening.waiter": {"threading", "time"},
    "listening.wanted": {"contextlib", "logging"},
    "listening.signal": {"contextlib", "functools", "threading", "time"},
    "listening.watch": {"contextlib", "logging", "sys", "threading"},
    "core.ended": {"time"},
    "core.grouping": {"contextlib", "logging"},
    "core.key": {"functools"},
    "conditions": {"threading", "time"},
    "facts": {"errno", "time"},
    "matching": {"fnmatch"},
    "liveness": {"threading", "time"},
    "picture": {"time"},
}

LAYERS: tuple[tuple[str, ...], ...] = (
    ("domain", "infos", "stats", "options", "forking"),  # values
    ("errors",),
    ("keys", "limits"),
    ("events", "ports"),  # shapes
    ("core.ended", "core.grouping", "core.key", "core.scope"),  # pure core
    ("core.table",),
    ("core.listed", "core.nodes", "core.snapshot"),
    ("core.lives",),
    ("core.reconcile",),
    ("listening.callbacks", "listening.mailbox", "listening.reboots", "listening.signal"),
    ("listening.waiter", "listening.wanted"),
    ("listening.runner", "listening.stream"),
    ("listening.dispatch", "listening.subscription", "listening.watch"),
    ("listening.listeners",),
    ("listening.async_stream", "listening.hub", "liveness", "requests"),
    ("picture", "matching", "staleness"),
    ("conditions", "facts", "lookups"),
    ("xen._privcmd", "xen._pyxs", "xen.layouts", "xen.polling"),  # the outside
    ("xen.calls", "xen.listing", "xen.packets"),
    ("xen.watches",),
    ("xen.line", "xen.probe"),
    ("xen.hypercall", "xen.xenstore"),
    ("complaints",),
    ("looks",),
    ("following",),
    ("watcher",),  # the thread
    ("body",),
    ("index",),
    ("opening",),  # joining
    ("direct", "testing", "aio"),
    ("fleet.errors",),  # many hosts
    ("fleet.layout",),
    ("fleet.ports",),
    ("fleet.memory_server", "fleet.url"),
    ("fleet.memory",),
    ("fleet.etcd.versions", "fleet.etcd.wire"),
    ("fleet.etcd.greeting",),
    ("fleet.etcd.members",),
    ("fleet.etcd.claim", "fleet.etcd.stream"),
    ("fleet.etcd.feed",),
    ("fleet.etcd.engine",),
    ("fleet.opening",),
    ("fleet.states",),  # the reader
    ("fleet.answers", "fleet.events", "fleet.records"),
    ("fleet.host_table", "fleet.moves"),
    ("fleet.picture", "fleet.wanted"),
    ("fleet.lookups", "fleet.reconcile"),
    ("fleet.conditions", "fleet.following"),
    ("fleet.body",),
    ("fleet.fleet",),
    ("fleet.machine", "fleet.publishing"),  # the publisher
    ("fleet.publisher",),
    ("fleet.joining",),
    ("fleet.aio", "fleet.prometheus", "fleet.__init__"),
    ("prometheus",),
    ("cli.arguments", "cli.as_json", "cli.as_text", "cli.demo"),  # people and programs
    ("cli.checking", "cli.getting", "cli.listing", "cli.waiting", "cli.watching"),
    ("cli.fleet.commands",),
    ("cli.fleet.forms", "cli.fleet.demo"),
    ("cli.fleet.opening",),
    ("cli.fleet.asking", "cli.fleet.following", "cli.fleet.ruling"),
    ("cli.fleet.publishing", "cli.fleet.checking"),
    ("cli.parser",),
    ("cli.program",),
    ("cli.__init__", "cli.fleet.__init__", "exporter", "__init__"),
    ("__main__",),
)
"""From the bottom to the top; a module may import from its own layer and from those below."""

FACES = {
    *("__init__", "core.__init__", "listening.__init__", "xen.__init__"),
    *("fleet.__init__", "fleet.etcd.__init__", "cli.fleet.__init__"),
}
"""What a folder says of itself; only the first gives names out."""

OUTSIDE = {module for module in MODULES if module.startswith("xen.")} - FACES
MAY_KNOW_THE_OUTSIDE = OUTSIDE | {"opening"}


DEFINITIONS = (ast.FunctionDef, ast.AsyncFunctionDef, ast.ClassDef)
FOREIGN = {"_asdict", "_make", "_is_owned"}  # of a NamedTuple, and of locks: the language's own


def is_stored(node: ast.AST) -> TypeGuard[ast.Attribute]:
    return isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store)


def is_declared(node: ast.AST) -> TypeGuard[ast.Name]:
    return isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store)


def tree(module: str) -> ast.Module:
    path = PACKAGE.joinpath(*module.split(".")).with_suffix(".py")
    return ast.parse(path.read_text(encoding="utf-8"))


def imports(module: str, *, typing_only: bool = False) -> set[str]:
    """Full names of what a module imports anywhere in it, as it runs (or only for types)."""
    whole = tree(module)
    for_types = {
        id(inner)
        for node in ast.walk(whole)
        if isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
        for inner in ast.walk(node)
    }
    found: set[str] = set()
    for node in ast.walk(whole):
        if (id(node) in for_types) is not typing_only:
            continue
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{module} imports relatively"
            assert node.module is not None
            found.add(node.module)
            found |= {f"{node.module}.{alias.name}" for alias in node.names}
    return found


def foreign(module: str) -> set[str]:
    return {name.partition(".")[0] for name in imports(module)} - {"domindex"}


def ours(module: str) -> set[str]:
    return {name.removeprefix("domindex.") for name in imports(module)} & set(MODULES)


def layer(module: str) -> int:
    (number,) = [number for number, modules in enumerate(LAYERS) if module in modules]
    return number


@pytest.mark.parametrize("module", sorted(PURE))
def test_the_pure_core_does_no_input_or_output(module: str) -> None:
    """Values, shapes and the core are tried without a host because they cannot ask for one."""
    assert foreign(module) <= ALLOWED | ALLOWED_ONLY_IN.get(module, set())


def test_errors_use_only_strerror_of_os() -> None:
    """Words for an errno: a table, no call to the system."""
    used = {
        node.attr
        for node in ast.walk(tree("errors"))
        if isinstance(node, ast.Attribute) and ast.unparse(node.value) == "os"
    }
    assert used == {"strerror"}


@pytest.mark.parametrize("module", sorted(PURE))
def test_the_pure_core_opens_nothing_and_prints_nothing(module: str) -> None:
    """Builtins need no import."""
    called = {
        node.func.id
        for node in ast.walk(tree(module))
        if isinstance(node, ast.Call) and isinstance(node.func, ast.Name)
    }
    assert not called & {"open", "print", "input", "exec", "eval", "__import__", "breakpoint"}


@pytest.mark.parametrize(
    ("library", "only"),
    [
        ("pyxs", {"xen._pyxs"}),
        ("cffi", {"xen._privcmd"}),
        ("prometheus_client", {"exporter", "prometheus", "fleet.prometheus"}),
        ("grpc", {"fleet.etcd.wire"}),
        ("aetcd", {"fleet.etcd.wire"}),
    ],
)
def test_each_foreign_library_has_one_file(library: str, only: set[str]) -> None:
    """Whoever replaces it looks in one place."""
    assert {module for module in MODULES if library in foreign(module)} == only


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_down(module: str) -> None:
    """As LAYERS has it; a new module needs a place there."""
    upwards = {name for name in ours(module) if layer(name) > layer(module)}
    if module == "opening":
        assert "testing" not in ours(module)
    assert not upwards


@pytest.mark.parametrize("module", MODULES)
def test_only_the_joining_file_knows_the_real_outside(module: str) -> None:
    """All else speaks to the ports, so that it runs on the simulated host too."""
    if module not in MAY_KNOW_THE_OUTSIDE:
        assert not ours(module) & OUTSIDE


def test_types_are_no_way_up() -> None:
    """An import for the type checker alone obeys the layers too."""
    up = {
        (module, name)
        for module in MODULES
        for name in imports(module, typing_only=True)
        if (above := name.removeprefix("domindex.")) in MODULES and layer(above) >= layer(module)
    }
    assert not up


ALONE = """
import sys, types
package = types.ModuleType("domindex")
package.__path__ = [{path!r}]
sys.modules["domindex"] = package
import domindex.{module}
"""


def run(code: str) -> str:
    environment = {**os.environ, "PYTHONPATH": str(PACKAGE.parent)}
    done = subprocess.run(
        [sys.executable, "-W", "error", "-c", code],
        env=environment,
        capture_output=True,
        text=True,
        check=False,
        timeout=30,
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


@pytest.mark.parametrize("module", [m for m in MODULES if m not in FACES | {"__main__"}])
def test_each_module_imports_alone(module: str) -> None:
    """In a fresh interpreter, without what __init__ imports before it: so nothing is circular."""
    run(ALONE.format(path=str(PACKAGE), module=module))


@pytest.mark.parametrize(
    "module", ["domindex", "domindex.testing", "domindex.direct", "domindex.aio"]
)
def test_nothing_foreign_is_imported_before_a_real_host_is_opened(module: str) -> None:
    """A program tested on the simulated host needs neither pyxs nor cffi to start."""
    loaded = run(f"import sys, {module}; print(*sys.modules)").split()
    assert not {"pyxs", "cffi", "_cffi_backend", "prometheus_client"} & set(loaded)
    assert not any(name.startswith("pyxs.") for name in loaded)


@pytest.mark.parametrize("module", ["domindex", "domindex.testing", "domindex.cli"])
def test_asyncio_is_only_imported_by_who_asks_for_it(module: str) -> None:
    """It is heavy, and a program with threads has no use for it."""
    assert "asyncio" not in run(f"import sys, {module}; print(*sys.modules)").split()


def test_importing_starts_no_thread() -> None:
    """A library that is only imported does nothing."""
    assert run("import threading, domindex; print(threading.active_count())").strip() == "1"


def private_uses(module: str) -> Iterator[str]:
    """Where a module uses `thing._private` of an object that another file defines."""
    whole = tree(module)
    own = {
        *(node.attr for node in ast.walk(whole) if is_stored(node)),
        *(node.name for node in ast.walk(whole) if isinstance(node, DEFINITIONS)),
        *(node.id for node in ast.walk(whole) if is_declared(node)),
    }
    for node in ast.walk(whole):
        if isinstance(node, ast.Attribute) and re.match(r"_[^_]", node.attr):
            holder = ast.unparse(node.value)
            if holder not in ("self", "cls") and node.attr not in own | FOREIGN:
                yield f"{module}:{node.lineno}: {holder}.{node.attr}"


def test_no_object_reaches_into_another_one() -> None:
    """Each state has one owner: what another file needs of an object is public there."""
    assert not [use for module in MODULES if module != "testing" for use in private_uses(module)]


CODE = {"cli": 1_900, "fleet": 4_650, "": 7_450}
"""The most lines of code (neither blank, comment nor docstring) that each part of the package may
have: the command line with its help, the fleet, and the index with all that it needs."""
TOLD = 0.25
"""The least part of all lines that are comments and docstrings."""
LONG = {
    "aio": "one class, and much of it is what its docstrings say",
    "direct": "one class, and most of it is what its docstrings say",
    "testing": "a whole host, in one file to copy or to read",
    "index": "one class, and most of it is what its docstrings say",
    "lookups": "one class, and most of it is what its docstrings say",
}
"""Files of more than 400 lines, and why."""


def lines_of(module: str) -> tuple[int, int, int]:
    """Of a module all lines, those of code, and those that tell: comments and docstrings."""
    path = PACKAGE.joinpath(*module.split(".")).with_suffix(".py")
    source = path.read_text(encoding="utf-8")
    told = {
        line
        for node in ast.walk(ast.parse(source))
        if isinstance(node, ast.Expr) and isinstance(node.value, ast.Constant)
        if isinstance(node.value.value, str)
        for line in range(node.lineno, (node.end_lineno or node.lineno) + 1)
    }
    lines = source.splitlines()
    blank = {n for n, line in enumerate(lines, 1) if not line.strip() and n not in told}
    alone = {n for n, line in enumerate(lines, 1) if line.strip().startswith("#")} - told
    return len(lines), len(lines) - len(told) - len(blank) - len(alone), len(told) + len(alone)


def part_of(module: str) -> str:
    """The part of the package that a module belongs to."""
    folder = module.partition(".")[0]
    return folder if folder in CODE else ""


def test_the_package_stays_small_and_told() -> None:
    """It is read before it is trusted."""
    code: Counter[str] = Counter()
    lines = told = 0
    for module in MODULES:
        of_it, of_code, that_tell = lines_of(module)
        code[part_of(module)] += of_code
        lines, told = lines + of_it, told + that_tell
    assert {part for part in code if code[part] > CODE[part]} == set()
    assert told >= TOLD * lines


def test_files_stay_short() -> None:
    """One idea a file; one that is longer says why."""
    assert {module for module in MODULES if lines_of(module)[0] > 400} <= LONG.keys()
