"""A pytest plugin for dom0: a line for each test as it ends, for `tests/real/outside` to read."""

from __future__ import annotations

import json

import pytest

MARK = "RESULT "


def pytest_runtest_logreport(report: pytest.TestReport) -> None:
    """Passed is told of the call, failed and skipped of whichever phase it was."""
    if report.when != "call" and report.outcome == "passed":
        return
    reason = ""
    if report.skipped and isinstance(report.longrepr, tuple):
        reason = report.longrepr[2].removeprefix("Skipped: ")
    elif report.failed:
        reason = report.longreprtext
    told = {"test": report.nodeid, "outcome": report.outcome, "reason": reason}
    print(f"\n{MARK}{json.dumps(told)}", flush=True)
