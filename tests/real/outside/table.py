"""One table at the end of a test run: scenarios by real hosts, and which hosts were left out.

It is made from pytest's reports, which come from all processes of a run. Read after
`real_host.py`; next `conftest.py`, which prints it.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable
from dataclasses import dataclass, field

import pytest

from tests.real.build.host import RELEASES
from tests.real.outside.real_host import NOT_APPLICABLE, runs_on

CELLS = {"passed": "ok", "failed": "FAILED", "skipped": "n/a", "elsewhere": "."}
LEGEND = """\
ok passed; n/a not applicable to that host, for the reason at the end of the line; . not run there:
another has it, as it takes long and asks nothing of the version of Xen, or is about that host."""

SCENARIOS = {
    "PV by xl create": "real/inside/test_xl_lives.py::test_xl_create_and_destroy[real-pv]",
    "PVH by xl create": "real/inside/test_xl_lives.py::test_xl_create_and_destroy[real-pvh]",
    "HVM by xl create": "real/inside/test_xl_lives.py::test_xl_create_and_destroy[real-hvm]",
    "rename by xl": "real/inside/test_xl_lives.py::test_xl_rename[real]",
    "pause and unpause: no event, info right": (
        "real/inside/test_xl_lives.py::test_xl_pause_and_unpause[real]"
    ),
    "guest crash": "real/inside/test_xl_lives.py::test_guest_crash[real]",
    "xl destroy, then create of the same name": (
        "real/inside/test_xl_lives.py::test_xl_destroy_and_create_of_the_same_name[real]"
    ),
    "preserve": "real/inside/test_xl_lives.py::test_preserve[real]",
    "two domains with one uuid": "both/scenarios/test_lives.py::test_two_with_one_uuid[real]",
    "two domains with one name": "both/scenarios/test_lives.py::test_two_with_one_name[real]",
    "a left-over /local/domain/N": "both/scenarios/test_lives.py::test_left_over_node[real]",
    "300 domains in a burst, look-ups in four threads": (
        "both/scenarios/test_hard_crowds.py::test_burst[real]"
    ),
    "xenbus as transport": "real/inside/test_lines.py::test_xenbus_as_transport",
    "privileges dropped to nobody": (
        "real/inside/test_lines.py::test_privileges_dropped_after_connect"
    ),
}
"""The scenarios that were asked for first, by name. The table adds every other one."""


@dataclass
class Column:
    """What was reported of one host: the outcome of each of its tests, and why it was skipped."""

    host: str
    times: str = ""
    outcomes: dict[str, str] = field(default_factory=dict)
    reasons: dict[str, str] = field(default_factory=dict)

    def cell(self, test: str) -> str:
        return CELLS[self.outcomes.get(test, "failed" if runs_on(self.host, test) else "elsewhere")]

    def of_the_contract(self, outcome: str) -> int:
        """How many of the contract's tests ended so."""
        return sum(
            ended == outcome for test, ended in self.outcomes.items() if "/contract/" in test
        )


def columns(reports: Iterable[pytest.TestReport]) -> list[Column]:
    """A column for each host that was booted, in the order of the releases."""
    found: dict[str, Column] = {}
    for report in reports:
        match dict(report.user_properties):
            case {"host": str(host), "test": str(test), "times": str(times)}:
                column = found.setdefault(host, Column(host, times))
                column.outcomes[test] = report.outcome
                if isinstance(report.longrepr, tuple):
                    column.reasons[test] = report.longrepr[2].partition(NOT_APPLICABLE)[2]
    return [found[host] for host in RELEASES if host in found]


def table(hosts: list[Column]) -> list[str]:
    """A row for each scenario, a column for each host; then why a cell is not applicable."""
    rows = [
        (name, [host.cell(test) for host in hosts], {host.reasons.get(test, "") for host in hosts})
        for name, test in _scenarios(hosts).items()
    ]
    passed = [f"{host.of_the_contract('passed')} ok" for host in hosts]
    failed = [f"{host.of_the_contract('failed')}" for host in hosts]
    rows.append(("contract of the ports: passed", passed, set()))
    rows.append(("contract of the ports: failed", failed, set()))
    wide = max(len(name) for name, _, _ in rows)
    widths = [max(8, len(host.host) + 2) for host in hosts]
    lines = [f"{'':<{wide}} " + _row([host.host for host in hosts], widths)]
    for name, cells, reasons in rows:
        why = "; ".join(sorted(filter(None, reasons)))
        lines.append(f"{name:<{wide}} " + _row(cells, widths) + (f"  {why}" if why else ""))
    return [*lines, *LEGEND.splitlines(), *(f"{host.host}: {host.times}" for host in hosts)]


def left_out(booted: Collection[str]) -> str:
    """Which hosts there are besides, and how they are tested; nothing if that was all."""
    others = [host for host in RELEASES if host not in booted]
    if not others:
        return ""
    return (
        f"not booted: {', '.join(others)}\n"
        f'`make test HOSTS=all` boots all {len(RELEASES)}, `make test HOSTS="{others[0]}"` that one'
    )


def _scenarios(hosts: list[Column]) -> dict[str, str]:
    """Every scenario by its name: those of the list, then the others by their test's."""
    named = {name: f"tests/{test}" for name, test in SCENARIOS.items()}
    known = set(named.values())
    for host in hosts:
        for test in host.outcomes:
            if test not in known and "/contract/" not in test:
                named[test.partition("::")[2]] = test
    return named


def _row(cells: list[str], widths: list[int]) -> str:
    return "".join(f"{cell:>{width}}" for cell, width in zip(cells, widths, strict=True))
