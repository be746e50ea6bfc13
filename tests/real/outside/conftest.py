"""Ends a run that booted real hosts with what they said."""

from __future__ import annotations

import pytest

from tests.real.outside.table import columns, left_out, table


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print the table, if any host was booted."""
    reports = [
        report
        for outcome in ("passed", "failed", "skipped")
        for report in terminalreporter.stats.get(outcome, [])
        if isinstance(report, pytest.TestReport)
    ]
    if hosts := columns(reports):
        terminalreporter.section("real Xen hosts")
        for line in table(hosts):
            terminalreporter.write_line(line)
        for line in left_out({host.host for host in hosts}).splitlines():
            terminalreporter.write_line(line)
