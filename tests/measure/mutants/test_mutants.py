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
from tests.measure.mutants.children import Job, run
from tests.measure.mutants.kinds import changed, control, mutants, sample

FILES = ("domindex/listening/mailbox.py", "domindex/core/table.py")


def test_each_fault_is_another_program() -> None:
    """It can be compiled, differs, and is found again by its key; a control is the program."""
    for file in FILES:
        made = mutants(file)
        original = ast.unparse(changed(control(made[0])))
        assert len({mutant.key for mutant in made}) == len(made) > 50
        for mutant in sample(made, 15, seed=1):
            tree = changed(mutant)
            compile(tree, file, "exec")
            assert ast.unparse(tree) != original, mutant


def test_what_no_test_is_to_notice_is_left_alone() -> None:
    """Logs, texts of errors and types."""
    diffs = [mutant.diff for file in FILES for mutant in mutants(file)]
    changes = [line for diff in diffs for line in diff.splitlines() if line.startswith("+")]
    assert not any("TypeVar" in change or "log.exception" in change for change in changes)


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
