"""Which tests reach which lines, and how long each takes: recorded once, by `coverage`.

Each test module is recorded by itself, again when its text has changed or the package has other
files. Lines that have moved since are found by comparing a file with what it was. Read after
children.py; next trial.py.
"""

from __future__ import annotations

import difflib
import functools
import hashlib
import json
import os
import sys
from collections import defaultdict, deque
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from tests.measure.mutants.children import BUILD, OPTIONS, Job, run
from tests.measure.mutants.kinds import PROJECT

_SIGNATURES: Final = "tests/shape/test_public_names.py"
"""Looks at what an import has made of each `def`: it reaches defaults, and no other line."""

NATIVE: Final = (
    *("core", "listening", "whole", "orders", "both"),
    *("wire/test_index_on_the_wire.py", "shape/test_arguments.py", "shape/test_public_names.py"),
)
"""The tests that need no host."""

_UNSEEN: Final = "tests/listening/test_interleavings.py"
"""Its threads have a tracer of their own, which hides them from coverage: it counts for each line
of the files that it reaches."""

_RECORDS: Final = BUILD / "reach"


class Reach:
    """Who reaches a line. Sets of tests are numbers here, with a bit for each test."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._tests: list[str] = []
        self._lines: dict[str, dict[int, int]] = defaultdict(lambda: defaultdict(int))
        self._breadth: list[int] = []  # how many lines a test reaches

    def add(self, record: dict[str, Any]) -> None:
        """What was recorded of one test module."""
        first = len(self._tests)
        self._tests += record["tests"]
        self._breadth += record["breadth"]
        self.seconds |= dict(zip(record["tests"], record["seconds"], strict=True))
        for file, lines in record["lines"].items():
            if (PROJECT / file).exists():
                moved = _moved(record["texts"][file], file)
                for line, tests in lines.items():
                    if int(line) < len(moved):  # the tracer mixes files up amid some coroutines
                        self._lines[file][moved[int(line)]] |= int(tests, 16) << first

    def tests(self, file: str, line: int) -> list[str]:
        """Those that reach it, quick and narrow ones first."""
        lines = self._lines[file]
        anywhere = functools.reduce(int.__or__, lines.values(), 0)
        # A constant of the module is reached by its import, before any test.
        by_import = not lines.get(line)
        reach = anywhere if by_import else lines[line]
        found = [
            number
            for number, test in enumerate(self._tests)
            if (anywhere if test.startswith(_UNSEEN) else reach) >> number & 1
            or (by_import and test.startswith(_SIGNATURES))
        ]
        found.sort(key=lambda number: self.seconds[self._tests[number]] * self._breadth[number])
        return [self._tests[number] for number in found]


def recorded(at_once: int) -> Reach:
    """What is recorded, after what is not yet, or has changed, was."""
    modules = list(_modules())
    known = {
        module: json.loads(_path(module).read_text())
        for module in modules
        if _path(module).exists()
    }
    took = {module: sum(record["seconds"]) for module, record in known.items()}
    jobs = deque(
        Job(module, functools.partial(_record, module), 1800.0)
        for module in sorted(modules, key=lambda module: -took.get(module, 0.0))  # longest first
        if module not in known or known[module]["of"] != _of(module)
    )
    if jobs:
        print(f"recording what {len(jobs)} test modules reach", file=sys.stderr)
    for done in run(jobs, at_once):
        if done.status not in (0, 1):  # a test that fails under the tracer has reached its lines
            print(f"not recorded: {done.about}: {done.status}", file=sys.stderr)
            print(done.printed[-2000:], file=sys.stderr)
    reach = Reach()
    for module in modules:
        if _path(module).exists():
            reach.add(json.loads(_path(module).read_text()))
    return reach


def _modules() -> Iterator[str]:
    for name in NATIVE:
        path = PROJECT / "tests" / name
        for module in [path] if path.suffix else sorted(path.rglob("test_*.py")):
            yield str(module.relative_to(PROJECT))


def _path(module: str) -> Path:
    return _RECORDS / f"{module.replace('/', '+')}.json"


def _of(module: str) -> str:
    """What a record is of: if it changes, the record is out of date."""
    files = sorted(str(path) for path in (PROJECT / "domindex").rglob("*.py"))
    text = (PROJECT / module).read_text(encoding="utf-8")
    return hashlib.sha256("\n".join([*files, text]).encode()).hexdigest()


def _record(module: str) -> int:
    """In a child: run a module's tests, and write down what they reach."""
    os.environ["COVERAGE_CORE"] = "ctrace"  # the others cannot tell one test from the next
    import coverage
    import pytest

    watched = coverage.Coverage(data_file=None, config_file=False, include=["domindex/*"])
    seconds: dict[str, float] = defaultdict(float)

    class Plugin:
        def pytest_runtest_logstart(self, nodeid: str) -> None:
            watched.switch_context(nodeid)

        def pytest_runtest_logreport(self, report: pytest.TestReport) -> None:
            seconds[report.nodeid] += report.duration

        def pytest_runtest_logfinish(self) -> None:
            watched.switch_context("")

    watched.start()
    status = pytest.main([module, *OPTIONS], plugins=[Plugin()])
    watched.stop()

    data = watched.get_data()
    tests = list(seconds)
    number = {test: number for number, test in enumerate(tests)}
    breadth = [0] * len(tests)
    lines: dict[str, dict[int, str]] = defaultdict(dict)
    texts: dict[str, str] = {}
    for path in data.measured_files():
        file = str(Path(path).relative_to(PROJECT))
        texts[file] = _kept(Path(path).read_text(encoding="utf-8"))
        for line, reached_by in data.contexts_by_lineno(path).items():
            numbers = {number[test] for test in reached_by if test in number}
            lines[file][line] = hex(sum(1 << n for n in numbers))
            for n in numbers:
                breadth[n] += 1
    record = {
        "of": _of(module),
        "tests": tests,
        "seconds": list(seconds.values()),
        "breadth": breadth,
        "lines": lines,
        "texts": texts,
    }
    _RECORDS.mkdir(parents=True, exist_ok=True)
    _path(module).write_text(json.dumps(record), encoding="utf-8")
    return int(status)


def _kept(text: str) -> str:
    """The name of a text, under which it is kept."""
    name = hashlib.sha256(text.encode()).hexdigest()[:16]
    (BUILD / "texts").mkdir(parents=True, exist_ok=True)
    (BUILD / "texts" / name).write_text(text, encoding="utf-8")
    return name


@functools.cache
def _moved(name: str, file: str) -> Sequence[int]:
    """For each line of a kept text, the one that it is in the file now, or the nearest above."""
    was = (BUILD / "texts" / name).read_text(encoding="utf-8").splitlines()
    now = (PROJECT / file).read_text(encoding="utf-8").splitlines()
    lines = [1] * (len(was) + 1)
    for old, new, size in difflib.SequenceMatcher(None, was, now, False).get_matching_blocks():
        lines[old + 1 : old + size + 1] = range(new + 1, new + size + 1)
    for at in range(1, len(lines)):
        lines[at] = max(lines[at], lines[at - 1])
    return lines
