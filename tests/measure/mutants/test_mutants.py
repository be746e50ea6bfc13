"""The faults that are made, and the processes that try them."""

from __future__ import annotations

import ast
import os
import signal
import time
from collections import deque
from pathlib import Path

import pytest

from tests.measure.mutants import children
from tests.measure.mutants.__main__ import FILES
from tests.measure.mutants.children import Job, run
from tests.measure.mutants.equivalent import out_of_date, why_equivalent
from tests.measure.mutants.kinds import PROJECT, Mutant, changed, control, mutants, sample
from tests.measure.mutants.report import report
from tests.measure.mutants.trial import Outcome, verdict

TWO = ("domindex/listening/mailbox.py", "domindex/core/table.py")


def test_each_fault_is_another_program() -> None:
    """It can be compiled, differs, and is found again by its key; a control is the program."""
    for file in TWO:
        made = mutants(file)
        original = ast.unparse(changed(control(made[0])))
        assert len({mutant.key for mutant in made}) == len(made) > 50
        for mutant in sample(made, 15, seed=1):
            tree = changed(mutant)
            compile(tree, file, "exec")
            assert ast.unparse(tree) != original, mutant


def test_a_sample_stays_when_others_come_and_go() -> None:
    """So that its figures can be compared, and a run goes on after new tests."""
    made = mutants(TWO[1])
    taken = sample(made, 20, seed=1)
    assert taken != sample(made, 20, seed=2)
    others = [mutant for mutant in made if mutant not in taken]
    assert sample([*reversed(taken), *others[::2]], 20, seed=1) == taken


def test_what_no_test_is_to_notice_is_left_alone() -> None:
    """Logs, texts of errors and types."""
    diffs = [mutant.diff for file in TWO for mutant in mutants(file)]
    changes = [line for diff in diffs for line in diff.splitlines() if line.startswith("+")]
    assert not any("TypeVar" in change or "log.exception" in change for change in changes)


def test_what_counts_as_equivalent_is_still_a_fault_that_would_be_made() -> None:
    """Where that code has changed, somebody has to look at the new one."""
    files = {str(p.relative_to(PROJECT)) for glob in FILES for p in PROJECT.glob(glob)}
    made = [mutant for file in files for mutant in mutants(file)]
    assert not out_of_date(made)
    assert any(why_equivalent(mutant) for mutant in made)


@pytest.mark.filterwarnings("ignore:This process .* is multi-threaded:DeprecationWarning")
def test_children_end_by_themselves_or_at_their_limit(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What they print is kept; a job that is added meanwhile is done, too."""
    monkeypatch.setattr(children, "BUILD", tmp_path)

    def says() -> int:
        os.write(1, b"said")
        return 3

    def hangs() -> int:
        time.sleep(60.0)
        return 0

    def killed() -> int:
        os.kill(os.getpid(), signal.SIGTERM)
        return 0

    jobs = deque([Job("hangs", hangs, 0.2), Job("says", says, 30.0)])
    ended: dict[str, tuple[int | None, str]] = {}
    for done in run(jobs, 2):
        ended[done.about] = done.status, done.printed
        if done.about == "says":
            jobs.append(Job("killed", killed, 30.0))
    assert ended == {"says": (3, "said"), "hangs": (None, ""), "killed": (-15, "")}


@pytest.mark.parametrize(
    ("status", "printed", "noticed"),
    [
        (1, "FAILED tests/core/test_table.py::test_put - assert 1 == 2\n", "tests/core/test_table"),
        (2, "ERROR tests/core/test_table.py - IndexError\n", "tests/core/test_table.py"),
        (None, "", "the tests hung"),
        (-9, "", "signal 9"),
        (4, "ImportError while loading conftest '/x/conftest.py'.\n", "could not be imported"),
        (71, "Traceback ...\npytest.PytestUnraisableExceptionWarning: x\n", "Unraisable"),
    ],
)
def test_whatever_ends_the_tests_has_noticed_the_fault(
    status: int | None, printed: str, noticed: str
) -> None:
    """A test that fails, hangs or is killed, and a package that cannot be imported."""
    how, error = verdict(status, printed)
    assert how is not None
    assert noticed in how
    assert error is None


def test_a_fault_of_the_tool_is_no_fault_that_was_noticed() -> None:
    """A trial that never began says nothing of the tests; the others go on."""
    assert verdict(0, "3 passed") == verdict(5, "3 deselected") == (None, None)
    assert verdict(70, "LookupError") == (None, "LookupError")
    assert verdict(4, "no such option") == (None, "no such option")


def test_the_report_counts_what_was_noticed() -> None:
    """Errors count for neither side, and places without a fault are counted apart."""
    mutant = Mutant("domindex/x.py", 3, "f", "removed", "-a()\n+pass", 1)
    known = [
        Outcome(mutant, "the tests hung", 5, 9, ()),
        Outcome(mutant._replace(nth=2), "tests/a.py::b", 5, 9, ()),
        Outcome(mutant._replace(nth=3), None, 5, 9, ("tests/a.py::b",)),
        Outcome(mutant._replace(nth=4), None, 5, 9, (), "LookupError"),
        Outcome(control(mutant), None, 9, 9, ()),
    ]
    lines = report(known).splitlines()
    assert "| all | 4 | 2 (66.7%) | 1 | 1 |" in lines
    assert "- 1 noticed: a test failed" in lines
    assert "- Of 1 places without a fault, tests failed at 0." in lines
    assert sum(line.startswith("`domindex/x.py:3` f") for line in lines) == 1
