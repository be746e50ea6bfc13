"""One fault and its tests: the nearest first, then the others, until one notices it.

Read after reach.py; next __main__.py.
"""

from __future__ import annotations

import functools
import os
import re
import sys
import types
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from typing import Final, NamedTuple

from tests.measure.mutants.children import OPTIONS, Done, Job, run
from tests.measure.mutants.kinds import PROJECT, Mutant, changed
from tests.measure.mutants.reach import Reach

_NEAREST_MODULES: Final = 3
_NEAREST_SECONDS: Final = 3.0
"""Tests of the first child: of few modules, as a child collects all of those, and for not longer
by the record."""

_EACH: Final = 20.0
"""Seconds after which a test hangs. Those that take more than half by the record are left out."""


class Outcome(NamedTuple):
    """What the tests said of a fault.

    noticed: by which test, or how; None if by none. ran, reached: how many of those that reach
    the line were run.
    """

    mutant: Mutant
    noticed: str | None
    ran: int
    reached: int
    tests: tuple[str, ...]


class _Trial(NamedTuple):
    """A child's task. before: tests that did not notice it. after: those to try then."""

    mutant: Mutant
    before: int
    tests: Sequence[str]
    after: Sequence[str]
    reached: Sequence[str]


def outcomes(
    mutants: Iterable[Mutant], reach: Reach, at_once: int, most_seconds: float
) -> Iterator[Outcome]:
    """What becomes of each, in the order in which they are done.

    most_seconds: of tests for one fault, by the record: what reaches most lines would else be
        tried by all tests there are.
    """
    jobs: deque[Job[_Trial]] = deque()
    for mutant in mutants:
        reached = reach.tests(mutant.file, mutant.line)
        modules = [*dict.fromkeys(test.partition("::")[0] for test in reached)][:_NEAREST_MODULES]
        near = [test for test in reached if test.startswith(tuple(modules))]
        first = _so_long(near, reach, _NEAREST_SECONDS)
        others = set(reached).difference(first)
        after = _so_long([test for test in reached if test in others], reach, most_seconds)
        jobs.append(_job(_Trial(mutant, 0, first, after, reached), reach))
    for done in run(jobs, at_once):
        trial = done.about
        noticed = _noticed(done)
        ran = trial.before + len(trial.tests)
        if noticed is None and trial.after:
            again = trial._replace(before=ran, tests=trial.after, after=())
            jobs.appendleft(_job(again, reach))
        else:
            by = tuple(trial.reached[:3])
            yield Outcome(trial.mutant, noticed, ran, len(trial.reached), by)


def _so_long(tests: Sequence[str], reach: Reach, seconds: float) -> list[str]:
    """As many of them as take so long together."""
    taken: list[str] = []
    for test in tests:
        if reach.seconds[test] > _EACH / 2:
            continue
        seconds -= reach.seconds[test]
        if seconds < 0:
            break
        taken.append(test)
    return taken


def _job(trial: _Trial, reach: Reach) -> Job[_Trial]:
    expected = sum(reach.seconds[test] for test in trial.tests)
    return Job(trial, functools.partial(_try, trial), 30.0 + 3 * expected)


def _noticed(done: Done[_Trial]) -> str | None:
    """Which test noticed it, or what happened instead; None if all passed."""
    match done.status:
        case 0 | 5:  # 5: no test reaches the line
            return None
        case None:
            return "the tests hung"
        case 1 if found := re.search(r"^(?:FAILED|ERROR) (tests/.*)", done.printed, re.MULTILINE):
            return found[1]
        case 4 | 70:  # pytest was given what it cannot run
            raise SystemExit(f"{done.about.mutant}\n{done.printed[-3000:]}")
        case status:
            return f"the tests ended with status {status}"


def _try(trial: _Trial) -> int:
    """In a child: import the fault, and run the tests until one fails."""
    import pytest

    order = {test: number for number, test in enumerate(trial.tests)}

    class Plugin:
        @pytest.hookimpl(trylast=True)
        def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
            items[:] = sorted(
                (item for item in items if item.nodeid in order), key=lambda i: order[i.nodeid]
            )

    os.environ["DOMINDEX_INTERLEAVINGS"] = "2"
    sys.meta_path.insert(0, _Finder(trial.mutant))
    modules = dict.fromkeys(test.partition("::")[0] for test in trial.tests)
    arguments = [*modules, *OPTIONS, "-x", f"--timeout={_EACH}"]
    return int(pytest.main(arguments, plugins=[Plugin()]))


class _Finder(MetaPathFinder):
    """Finds the changed module in place of the real one."""

    def __init__(self, mutant: Mutant) -> None:
        self._path = PROJECT / mutant.file
        self._module = ".".join(self._path.relative_to(PROJECT).with_suffix("").parts)
        self._tree = changed(mutant)

    def find_spec(
        self, name: str, path: Sequence[str] | None, target: types.ModuleType | None = None
    ) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path) if name == self._module else None
        if spec is not None:
            code = compile(self._tree, str(self._path), "exec")
            spec.loader = _Loader(name, str(self._path), code)
        return spec


class _Loader(SourceFileLoader):
    def __init__(self, name: str, path: str, code: types.CodeType) -> None:
        super().__init__(name, path)
        self._code = code

    def get_code(self, fullname: str) -> types.CodeType:
        return self._code
