"""Boots what the session asks for, and ends it with one table: scenarios by hosts."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.real.outside.real_host import Run, runs, scenarios, start

HERE = Path(__file__).parent
CELLS = {
    "passed": "ok",
    "failed": "FAILED",
    "skipped": "n/a",
    "missing": "MISSING",
    "elsewhere": ".",
}
LEGEND = """\
ok passed; n/a not applicable to that host, for the reason at the end of the line; . not run there:
another has it, as it takes long and asks nothing of the version of Xen, or is about that host."""


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """The first test that needs a host has all of them started, side by side."""
    if wanted(item):
        start({host for other in item.session.items if (host := wanted(other))})


def wanted(item: pytest.Item) -> str | None:
    """The real host that this test asks for. Tests elsewhere have hosts of other kinds."""
    if item.path.parent != HERE or not isinstance(item, pytest.Function):
        return None
    return str(item.callspec.params["host"]) if "host" in item.fixturenames else None


def pytest_terminal_summary(terminalreporter: pytest.TerminalReporter) -> None:
    """Print what the real hosts said, if any was asked."""
    if hosts := runs():
        terminalreporter.section("real Xen hosts")
        for line in table(hosts):
            terminalreporter.write_line(line)


def table(hosts: list[Run]) -> list[str]:
    """A row for each scenario, a column for each host; then why a cell is not applicable."""
    rows = [
        (name, [CELLS[run.outcome(test)] for run in hosts], {run.why(test) for run in hosts})
        for name, test in scenarios(hosts).items()
    ]
    contract = [
        [outcome for test, outcome in run.outcomes().items() if "/contract/" in test]
        for run in hosts
    ]
    counts = [f"{told.count('passed')} ok" for told in contract]
    failed = [f"{told.count('failed')}" for told in contract]
    rows.append(("contract of the ports: passed", counts, set()))
    rows.append(("contract of the ports: failed", failed, set()))
    wide = max(len(name) for name, _, _ in rows)
    widths = [max(8, len(run.host) + 2) for run in hosts]
    head = f"{'':<{wide}} " + _row([run.host for run in hosts], widths)
    lines = [head]
    for name, cells, reasons in rows:
        why = "; ".join(sorted(reason for reason in reasons if reason))
        lines.append(f"{name:<{wide}} " + _row(cells, widths) + (f"  {why}" if why else ""))
    return [*lines, *LEGEND.splitlines(), *(f"{run.host}: {run.times}" for run in hosts)]


def _row(cells: list[str], widths: list[int]) -> str:
    return "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))
