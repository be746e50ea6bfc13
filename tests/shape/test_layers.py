"""The layers: the pure core does no I/O, imports point down, one file each for pyxs and cffi."""

from __future__ import annotations

import ast
import os
import subprocess
import sys
from pathlib import Path

import pytest

import domindex

PACKAGE = Path(domindex.__file__).parent
MODULES = sorted(
    ".".join(path.relative_to(PACKAGE).with_suffix("").parts) for path in PACKAGE.rglob("*.py")
)

PURE = {
    *("domain", "errors", "keys", "stats", "options", "events", "ports", "answers"),
    *(module for module in MODULES if module.startswith(("core.", "listening."))),
} - {"listening.dispatch"}  # it has a descriptor to poll

ALLOWED = {
    *("__future__", "typing", "collections", "dataclasses", "types"),
    *("enum", "re", "uuid", "math", "bisect", "itertools", "operator", "sortedcontainers"),
}
"""What a pure module may import from elsewhere. None of it asks the world anything."""

ALLOWED_ONLY_IN = {
    "errors": {"os"},  # os.strerror, see below
    "listening.callbacks": {"inspect"},
    "listening.hub": {"threading", "time"},
    "listening.mailbox": {"contextlib", "itertools", "threading", "time"},
    "listening.runner": {"threading"},
    "listening.stream": {"itertools", "time", "weakref"},
    "listening.subscription": {"contextlib", "logging"},
    "listening.waiter": {"threading", "time"},
    "listening.wanted": {"contextlib", "logging"},
    "listening.waiting": {"contextlib", "functools", "threading", "time"},
    "listening.watch": {"contextlib", "logging", "sys", "threading"},
    "core.ended": {"time"},
    "core.grouping": {"contextlib", "logging"},
    "answers": {"abc", "contextlib", "fnmatch", "threading"},
}

LAYERS: tuple[tuple[str, ...], ...] = (
    ("domain", "stats", "options", "forking"),  # values
    ("errors",),
    ("keys",),
    ("events", "ports"),  # shapes
    (
        "core.grouping",
        "core.listed",
        "core.lives",
        "core.nodes",
        "core.ended",
        "core.key",
        "core.scope",
    ),  # pure core
    ("core.table",),
    ("core.snapshot", "core.reconcile"),
    ("listening.callbacks", "listening.reboots", "listening.waiting"),
    ("listening.mailbox", "listening.wanted"),
    ("listening.waiter",),
    ("listening.runner", "listening.stream"),
    ("listening.dispatch", "listening.subscription", "listening.watch"),
    ("listening.hub",),
    ("answers",),
    ("xen._privcmd", "xen._pyxs", "xen.layouts", "xen.packets", "xen.polling"),
    ("xen.listing", "xen.readers"),
    ("xen.hypercall", "xen.xenstore"),  # the outside
    ("complaints", "picture"),
    ("following",),
    ("watcher",),  # the thread
    ("waits",),
    ("index",),
    ("connect",),  # joining
    ("direct", "testing", "aio", "prometheus"),
    ("cli", "__init__"),  # people and programs
    ("__main__",),
)
"""From the bottom to the top; a module may import from its own layer and from those below."""

FACES = {"__init__", "core.__init__", "listening.__init__", "xen.__init__"}
"""What a folder says of itself; only the first gives names out."""

OUTSIDE = {module for module in MODULES if module.startswith("xen.")} - FACES
MAY_KNOW_THE_OUTSIDE = OUTSIDE | {"connect"}


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
        ("prometheus_client", {"prometheus"}),
    ],
)
def test_each_foreign_library_has_one_file(library: str, only: set[str]) -> None:
    """Whoever replaces it looks in one place."""
    assert {module for module in MODULES if library in foreign(module)} == only


@pytest.mark.parametrize("module", MODULES)
def test_imports_point_down(module: str) -> None:
    """As LAYERS has it; a new module needs a place there."""
    upwards = {name for name in ours(module) if layer(name) > layer(module)}
    if module == "connect":
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
