"""The report at the end of a run: each scenario on the real host, and how it ended."""

from __future__ import annotations

import pytest

from tests.xen.real_host import Run, runs


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what the real hosts said, if any was asked."""
    for run in runs():
        terminalreporter.section(f"real host: {run.title}")
        for line in report(run):
            terminalreporter.write_line(line)


def report(run: Run) -> list[str]:
    """A line for each scenario, and the counts of the contract tests."""
    lines = [
        f"{run.outcome(node):<8} {name}{'  (' + why + ')' if (why := run.why(node)) else ''}"
        for name, node in run.named().items()
    ]
    contract = [outcome for node, outcome in run.outcomes().items() if "/contract/" in node]
    counts = ", ".join(
        f"{contract.count(outcome)} {outcome}" for outcome in ("passed", "failed", "skipped")
    )
    return [*lines, f"contract of the ports: {counts}", run.times]
