"""One fault and its tests: the nearest first, then the others, until one notices it.

Read after reach.py; next __main__.py.

A child that fails, hangs, is killed or cannot even import the package has noticed the fault. Only
what goes wrong in the work of these files is none of its doing: it is reported as an error of that
trial, and the others go on.
"""

from __future__ import annotations

import functools
import os
import re
import sys
import traceback
import types
from collections import deque
from collections.abc import Iterable, Iterator, Sequence
from importlib.abc import MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder, SourceFileLoader
from typing import Final, NamedTuple

from tests.measure.mutants.children import OPTIONS, RAISED, Job, run
from tests.measure.mutants.kinds import PROJECT, Mutant, changed
from tests.measure.mutants.reach import Reach

_NEAREST_MODULES: Final = 3
_NEAREST_SECONDS: Final = 3.0
"""Tests of the first child: of few modules, as a child collects all of those, and for not longer
by the record. It tries few examples of each property; the second child tries more of those too."""

_EACH: Final = 20.0
"""Seconds after which a test hangs. Those that take more than half by the record are left out."""

_ENDED: Final = 71
"""Status of a child in which the test runner itself was ended by an exception."""


class Outcome(NamedTuple):
    """What the tests said of a fault.

    noticed: by which test, or how; None if by none. ran, reached: how many of those that reach
    the line were run. tests: the nearest. error: why nothing can be said, if that is so.
    """

    mutant: Mutant
    noticed: str | None
    ran: int
    reached: int
    tests: Sequence[str]
    error: str | None = None

    @property
    def survived(self) -> bool:
        """It was tried, and no test noticed it."""
        return self.noticed is None and self.error is None


class _Trial(NamedTuple):
    """A child's task. before: tests that did not notice it. after: those to try then."""

    mutant: Mutant
    before: Sequence[str]
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
        modules = [*dict.fromkeys(map(_module, reached))][:_NEAREST_MODULES]
        near = [test for test in reached if _module(test) in modules]
        first = _so_long(near, reach, _NEAREST_SECONDS) or reached[:1]
        others = set(reached).difference(first)
        after = _so_long([test for test in reached if test in others], reach, most_seconds)
        if first:
            jobs.append(_job(_Trial(mutant, (), first, after, reached), reach))
        else:
            yield Outcome(mutant, None, 0, 0, ())
    for done in run(jobs, at_once):
        trial = done.about
        noticed, error = verdict(done.status, done.printed)
        ran = (*trial.before, *trial.tests)
        if noticed is error is None and not trial.before:
            again = trial._replace(before=ran, tests=trial.after, after=())
            jobs.appendleft(_job(again, reach))
        else:
            by = tuple(trial.reached[:3])
            yield Outcome(trial.mutant, noticed, len(ran), len(trial.reached), by, error)


def _module(test: str) -> str:
    return test.partition("::")[0]


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
    expected = sum(reach.seconds[test] for test in (*trial.before, *trial.tests))
    return Job(trial, functools.partial(_try, trial), 30.0 + 3 * expected)


def verdict(status: int | None, printed: str) -> tuple[str | None, str | None]:
    """From the end of a child: who noticed the fault, or how; and what went wrong with us.

    Both None if all tests passed.
    """
    found = re.search(r"^(?:FAILED|ERROR) (tests/.*)", printed, re.MULTILINE)
    if status in (0, 5):  # 5: no test is left to run
        return None, None
    if status is None:
        return "the tests hung", None
    if found:
        return found[1], None
    if status < 0:
        return f"the tests were ended by signal {-status}", None
    if status == 4 and "ImportError while loading conftest" in printed:
        return "the tests could not be imported", None
    if status in (4, RAISED):  # pytest was given what it cannot run, or was not reached
        return None, printed[-3000:] or "the child failed, and printed nothing"
    last = printed.strip().rpartition("\n")[2]
    return f"the tests ended with status {status}: {last[:200]}", None


def _try(trial: _Trial) -> int:
    """In a child: import the fault, and run the tests until one fails."""
    import pytest

    order = {test: number for number, test in enumerate(trial.tests)}
    again = set(trial.before)

    class Plugin:
        @pytest.hookimpl(trylast=True)
        def pytest_collection_modifyitems(self, items: list[pytest.Item]) -> None:
            mine = [item for item in items if item.nodeid in order]
            mine.sort(key=lambda item: order[item.nodeid])
            items[:] = mine + [
                item
                for item in items
                if item.nodeid in again and item.get_closest_marker("hypothesis")
            ]

    os.environ["DOMINDEX_INTERLEAVINGS"] = "2"
    os.environ["HYPOTHESIS_PROFILE"] = "daily" if trial.before else "few"
    sys.meta_path.insert(0, _Finder(trial.mutant))
    modules = dict.fromkeys(map(_module, (*trial.tests, *trial.before)))
    arguments = [*modules, *OPTIONS, "-x", f"--timeout={_EACH}"]
    try:
        return int(pytest.main(arguments, plugins=[Plugin()]))
    except BaseException:  # as a warning at its end: pytest does not make a failure of that
        traceback.print_exc()
        return _ENDED


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
